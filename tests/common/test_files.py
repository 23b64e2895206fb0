"""Files and directories that appear whole, recorded settings, and the cache directory."""
import contextlib
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from ops.checkpoints.model_zoo import cached_file
from ops.common.errors import UserError
from ops.common.files import (
    CannotWrite,
    agree_on_settings,
    atomic_write,
    cache_directory,
    check_writable,
    put_in_place,
    remove_leftovers,
    remove_leftovers_of,
    temporary_directory,
    whole_file,
    write_lines,
)
from ops.training.run_log import RunLog, write_args
from ops.video.frame_index import frame_index
from ops.weights import save_checkpoint
from tests.conftest import ROOT
from tests.helpers.clips import clip


def leftovers(directory):
    return [path.name for path in directory.rglob(".*")]


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
        assert reader.read() == "older"  # the new file replaces the old one in one step
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
def test_what_cannot_be_written_is_a_user_error_of_one_line(way, name, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "directory" / "run" / "log.csv").mkdir(parents=True)
    with pytest.raises(CannotWrite) as info:
        WAYS_TO_WRITE[way](tmp_path / name)
    assert isinstance(info.value, UserError) and isinstance(info.value, OSError)
    assert str(info.value).startswith(f"cannot write {tmp_path}/") and "\n" not in str(info.value)
    assert str(info.value).endswith(f": {info.value.strerror}") and "Errno" not in str(info.value)
    assert not leftovers(tmp_path)


def test_a_full_disk_is_a_user_error(tmp_path, monkeypatch):
    with pytest.raises(CannotWrite, match="cannot write .*a.txt: No space left"), atomic_write(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")

    def fail(content, target):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nframe #0: ...")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CannotWrite, match="a.pth: .enforce fail at inline_container.cc:664. . unexpected pos 64 vs 0$"):
        save_checkpoint({}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_paths_that_cannot_be_written_are_refused_beforehand(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path, "it is a directory"), (tmp_path / "file" / "a" / "b", "file is not a directory")):
        with pytest.raises(CannotWrite, match=f"cannot write {path}: .*{reason}"):
            check_writable(path)
    check_writable(tmp_path / "new" / "directory" / "file")
    check_writable(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotWrite, match=f"nothing can be written into {tmp_path}"):
        check_writable(tmp_path / "new" / "file")


def test_lines_end_as_on_every_system(tmp_path):
    write_lines(tmp_path / "list.txt", ["a b 3 0", "手 4 1"])
    assert (tmp_path / "list.txt").read_bytes() == "a b 3 0\n手 4 1\n".encode()


def refuse_to_write(path):
    raise CannotWrite(path, "No space left on device")


def test_cannot_write_survives_pickling(tmp_path):
    error = pickle.loads(pickle.dumps(CannotWrite(tmp_path / "a b", "Permission denied")))
    assert type(error) is CannotWrite and str(error) == f"cannot write {tmp_path / 'a b'}: Permission denied"
    assert (error.path, error.strerror) == (tmp_path / "a b", "Permission denied")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(CannotWrite, match="gone: No space left"):
        pool.submit(refuse_to_write, Path("gone")).result()


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(CannotWrite, match="cannot write inner: full"), whole_file(tmp_path / "outer"):
        raise CannotWrite("inner", "full")


# ---- directories ----------------------------------------------------------------------------------------------

def test_a_directory_appears_when_it_is_complete(tmp_path):
    directory = tmp_path / "new" / ("name" * 60)
    with temporary_directory(directory) as temporary:
        (temporary / "a.txt").write_text("a")
        assert not directory.exists() and temporary.parent == directory.parent
        put_in_place(temporary, directory)
    assert (directory / "a.txt").read_text() == "a" and not leftovers(tmp_path)
    with pytest.raises(KeyError), temporary_directory(tmp_path / "other") as temporary:
        (temporary / "b.txt").write_text("b")
        raise KeyError
    assert not (tmp_path / "other").exists() and not leftovers(tmp_path)
    with temporary_directory(directory) as temporary, pytest.raises(UserError, match="was made by something else"):
        put_in_place(temporary, directory)
    assert os.listdir(directory) == ["a.txt"]


@pytest.mark.parametrize("recursive", [False, True])
def test_leftovers_of_killed_runs_are_removed(tmp_path, recursive):
    kept = {".hidden", "a.partial-0123abcd", ".a.partial-0123abc", "videos"}
    for directory in (tmp_path, tmp_path / "videos"):
        (directory / ".v\n.partial-0123abcd" / "frames").mkdir(parents=True)
        for name in (".v.mp4.partial-0123abcd", ".hidden", "a.partial-0123abcd", ".a.partial-0123abc"):
            (directory / name).touch()
    remove_leftovers(tmp_path, recursive)
    assert set(os.listdir(tmp_path)) == kept
    assert len(os.listdir(tmp_path / "videos")) == (3 if recursive else 5)
    remove_leftovers(tmp_path / "nowhere")


def test_leftovers_of_other_files_stay(tmp_path):
    """Names longer than 40 characters are shortened, and still differ."""
    paths = [tmp_path / name for name in ("v", "w", "x" * 50 + "1", "x" * 50 + "2")]
    with contextlib.ExitStack() as stack:
        directories = [stack.enter_context(temporary_directory(path)) for path in paths]
        (directories[0] / "000001.jpg").touch()
        remove_leftovers_of([paths[0], paths[2], tmp_path / "nowhere" / "v"])
        assert [directory.exists() for directory in directories] == [False, True, False, True]
    assert not os.listdir(tmp_path)


# ---- settings -------------------------------------------------------------------------------------------------

def test_settings_are_recorded_and_must_agree(tmp_path):
    record, settings = tmp_path / "new" / ".settings.json", {"height": 256, "size": (3, 4), "template": "{:06d}.jpg"}
    agree_on_settings(record, settings, content="frames")
    agree_on_settings(record, settings, content="frames", foreign="frames of 3 videos")
    assert json.loads(record.read_text()) == {**settings, "size": [3, 4]}
    with pytest.raises(UserError) as info:
        agree_on_settings(record, {**settings, "height": 128, "size": (3, 5)}, content="frames")
    assert str(info.value) == (f"{record.parent} holds frames made with other settings (height 256 there, 128 now, size"
                               " [3, 4] there, [3, 5] now): use the same settings, or name another directory")
    with pytest.raises(UserError, match="quality None there, 92 now"):
        agree_on_settings(record, {**settings, "quality": 92}, content="frames")


@pytest.mark.parametrize("content", ["{", "[1]", "null"])
def test_damaged_settings_are_refused(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(UserError, match="record.json is damaged"):
        agree_on_settings(tmp_path / "record.json", {"a": 1}, content="frames")


def test_content_without_settings_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"^{tmp_path} holds 3 videos, made by another program with unknown settings"):
        agree_on_settings(tmp_path / "record.json", {"a": 1}, content="videos", foreign="3 videos")
    assert not list(tmp_path.iterdir())


# ---- the cache ------------------------------------------------------------------------------------------------

def test_weights_and_frame_indices_share_one_cache_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TSM_CACHE", raising=False)
    assert cache_directory() == Path.home() / ".cache" / "tsm"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TSM_CACHE", "~/cache")
    assert cached_file("a.pth") == tmp_path / "cache" / "a.pth"
    frame_index(clip(tmp_path / "v.mp4", 3))
    assert list((tmp_path / "cache" / "frame_index").rglob("*.idx"))


def test_files_need_no_torch():
    code = "import sys, ops.common.files, ops.common.pool; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
