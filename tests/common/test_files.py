"""Files written whole."""
import os

import pytest
import torch

from ops.common.errors import UserError
from ops.common.files import CannotWrite, atomic_write, check_writable
from ops.training.run_log import RunLog, write_args
from ops.weights import save_checkpoint


@pytest.mark.parametrize("mode, content", [("w", "naïve\n手\n"), ("wb", b"\x00\xff\r\n")])
def test_atomic_write(mode, content, tmp_path):
    path = tmp_path / "new" / "file.txt"
    for _ in range(2):
        with atomic_write(path, mode) as f:
            f.write(content)
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_fails_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("older")
    with open(path) as reader:
        with atomic_write(path) as f:
            f.write("old")
        assert reader.read() == "older"  # the new file takes the place of the old one at once
    with pytest.raises(error), atomic_write(path) as f:
        f.write("half of")
        f.flush()
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


WAYS_TO_WRITE = {
    "text": lambda path: write_args(path, {"a": 1}), "checkpoint": lambda path: save_checkpoint({"epoch": 1}, path),
    "log": lambda path: RunLog(path.parent if path.name == "new" else path / "run").add({"epoch": 0}, 0.0),
}


@pytest.mark.parametrize("way", WAYS_TO_WRITE)
@pytest.mark.parametrize("name", ["file/new", "x" * 300, "directory"])
def test_what_the_disk_refuses_is_a_users_error_of_one_line(way, name, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "directory" / "run" / "log.csv").mkdir(parents=True)
    with pytest.raises(CannotWrite) as info:
        WAYS_TO_WRITE[way](tmp_path / name)
    assert isinstance(info.value, UserError) and isinstance(info.value, OSError)
    assert str(info.value).startswith(f"cannot write {tmp_path}/") and "\n" not in str(info.value)
    assert str(info.value).endswith(f": {info.value.strerror}") and "Errno" not in str(info.value)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_is_a_users_error(tmp_path, monkeypatch):
    with pytest.raises(CannotWrite, match="cannot write .*a.txt: No space left"), atomic_write(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")

    def fail(content, target):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nframe #0: ...")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CannotWrite, match="a.pth: .enforce fail at inline_container.cc:664. . unexpected pos 64 vs 0$"):
        save_checkpoint({}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_plainly_unwritable_places_are_known_beforehand(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path, "it is a directory"), (tmp_path / "file" / "a" / "b", "file is no directory")):
        with pytest.raises(CannotWrite, match=f"cannot write {path}: .*{reason}"):
            check_writable(path)
    check_writable(tmp_path / "new" / "directory" / "file")
    check_writable(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotWrite, match=f"nothing can be written into {tmp_path}"):
        check_writable(tmp_path / "new" / "file")
