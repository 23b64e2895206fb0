"""Small helpers, random state, files written whole, and how a program ends: its status and its one line."""
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ops.common import cli
from ops.common.device import git_commit, local_seed, mix_seeds, pick_device, pick_gpus, seed_everything
from ops.common.errors import UserError
from ops.common.files import CannotWrite, atomic_write, check_writable
from ops.common.meters import AverageMeter
from ops.training.run_log import RunLog, write_args
from ops.weights import save_checkpoint
from tests.conftest import ROOT


def test_average_meter_weighs_by_count():
    meter = AverageMeter()
    assert (meter.val, meter.avg, meter.sum, meter.count) == (0, 0, 0, 0)
    meter.update(2.0, 3)
    meter.update(10.0)
    assert (meter.val, meter.avg, meter.sum, meter.count) == (10.0, 4.0, 16.0, 4)
    meter.update(7.0, 0)
    assert (meter.val, meter.avg) == (7.0, 4.0)
    meter.reset()
    assert (meter.val, meter.avg, meter.sum, meter.count) == (0, 0, 0, 0)


# ---- randomness -----------------------------------------------------------------------------------------------

def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_seed_everything():
    seed_everything(7)
    first = draws()
    assert draws() != first
    seed_everything(7)
    assert draws() == first
    seed_everything(8)
    assert all(a != b for a, b in zip(draws(), first))


def test_large_seeds_are_seeds_too():
    for seed in (2 ** 32 - 1, 2 ** 32, mix_seeds(1, 2)):
        seed_everything(seed)


def test_local_seed_is_local():
    torch.manual_seed(0)
    wanted = torch.rand(4)
    torch.manual_seed(0)
    results = [torch.rand(1)]
    with local_seed(5):
        inner = torch.rand(3)
    results.append(torch.rand(1))
    with pytest.raises(KeyError), local_seed(6):
        torch.rand(10)
        raise KeyError
    results.append(torch.rand(2))
    assert torch.equal(torch.cat(results), wanted)
    assert torch.equal(inner, torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_mixed_seeds_differ_and_repeat():
    keys = [(seed, epoch, index) for seed in range(5) for epoch in range(10) for index in range(40)]
    seeds = [mix_seeds(*key) for key in keys]
    assert len(set(seeds)) == len(keys) and seeds == [mix_seeds(*key) for key in keys]
    assert all(0 <= seed < 2 ** 63 for seed in seeds)
    # Neighbours share no bits: half of the 63 differ on average.
    differing = [bin(a ^ b).count("1") for a, b in zip(seeds, seeds[1:])]
    assert 31 < sum(differing) / len(differing) < 32


def test_mixed_seeds_of_other_lengths_differ():
    """(seed, epoch) orders an epoch, (seed, epoch, 0) makes its first sample: they must not share a stream."""
    assert len({mix_seeds(3), mix_seeds(3, 0), mix_seeds(3, 0, 0)}) == 3
    assert len({mix_seeds(3, 7), mix_seeds(3, 7, 0), mix_seeds(7, 3), mix_seeds(7 << 32 | 3)}) == 4


# ---- device ---------------------------------------------------------------------------------------------------

def absent(monkeypatch, gpus=0):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_devices_without_gpus(monkeypatch):
    absent(monkeypatch)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:0", "mps", "gpu", "", "CPU"):
        with pytest.raises(UserError, match=f"--device '{name}'.*choose auto or one of cpu"):
            pick_device(name)
    with pytest.raises(UserError, match="--device 'cpu:1'") as info:
        pick_device("cpu:1")
    assert "cuda:-1" not in str(info.value)
    assert pick_gpus(None, torch.device("cpu")) == []
    with pytest.raises(UserError, match="--gpus 0 1: this run is on cpu with 0 GPUs"):
        pick_gpus([0, 1], torch.device("cpu"))


def test_devices_with_gpus(monkeypatch):
    absent(monkeypatch, gpus=2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:x", "cuda:-1"):
        with pytest.raises(UserError, match=f"--device '{name}': this machine's GPUs are cuda:0 to cuda:1"):
            pick_device(name)
    cuda = torch.device("cuda")
    assert pick_gpus(None, cuda) == [0] and pick_gpus(None, torch.device("cuda:1")) == [1]
    assert pick_gpus([1, 0], cuda) == [1, 0]
    with pytest.raises(UserError, match="--gpus 0 2: this run is on cuda with 2 GPUs"):
        pick_gpus([0, 2], cuda)
    with pytest.raises(UserError, match="on cpu"):
        pick_gpus([0], torch.device("cpu"))


# ---- files ----------------------------------------------------------------------------------------------------

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


def test_git_commit_is_one_word(monkeypatch):
    assert git_commit() and len(git_commit().split()) == 1
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"


# ---- errors ---------------------------------------------------------------------------------------------------

def test_user_error_is_a_value_error_with_its_text():
    assert issubclass(UserError, ValueError) and str(UserError("what to do")) == "what to do"


def test_user_error_finds_its_line_in_a_workers_report():
    report = ("Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
              "  File \"x.py\", line 1, in y\nops.common.errors.UserError: missing frame: a b/00001.jpg: do this\n")
    assert str(UserError(report)) == "missing frame: a b/00001.jpg: do this"


def ending(main, capsys):
    """(status, standard error) of `run(main)`."""
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error
    return main


def test_statuses(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/tool.py"])
    assert ending(lambda: None, capsys) == (0, "")
    assert ending(lambda: 3, capsys) == (3, "")
    assert ending(raising(UserError("choose a or b")), capsys) == (2, "tool.py: error: choose a or b\n")
    assert ending(raising(KeyboardInterrupt()), capsys) == (130, "tool.py: interrupted\n")


def test_a_loaders_process_that_dies_at_any_moment_is_one_line(monkeypatch, capsys):
    """PyTorch's signal handler raises where the program just is, which need not be in the loader."""
    def main():
        raise RuntimeError("DataLoader worker (pid 17569) is killed by signal: Killed. ")

    monkeypatch.setattr(sys, "argv", ["main.py"])
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("main.py: error: a worker process") and said.count("\n") == 1


def test_defects_keep_their_traceback():
    for error in (KeyError("x"), ValueError("y"), RuntimeError("z")):
        with pytest.raises(type(error)):
            cli.run(raising(error))


def test_parser_errors_are_one_line(capsys):
    parser = cli.Parser(prog="tool.py")
    parser.add_argument("--size", type=int)
    for argv, words in ((["--size", "x"], "argument --size: invalid int value: 'x'"),
                        (["--what"], "unrecognized arguments: --what")):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(argv)
        assert end.value.code == 2
        assert capsys.readouterr().err == f"tool.py: error: {words} (see tool.py --help)\n"


def test_progress_is_silent_where_nobody_watches(capsys):
    assert list(cli.progress(range(3), desc="x")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


# ---- whole programs -------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from ops.common.cli import run
{body}
if __name__ == "__main__":
    run(main)
"""

LOADING = """
import torch
from ops.common.errors import UserError

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == 5:
            raise UserError("missing frame: my video/00005.jpg: extract it again")
        return index

def main():
    for batch in torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2):
        print(batch.tolist())
"""

WAITING = """
import time

def main():
    print("ready", flush=True)
    time.sleep(60)
"""

COUNTING = """
def main():
    for i in range(300_000):
        print(i)
"""


@pytest.fixture
def program(tmp_path):
    """program(body): the command that runs it."""
    def write(body):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(root=str(ROOT), body=body))
        return [sys.executable, str(path)]
    return write


def test_an_error_in_a_worker_is_one_line_and_status_2(program):
    done = subprocess.run(program(LOADING), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == "[0, 1]\n[2, 3]\n"
    last = done.stderr.strip().splitlines()[-1]
    assert last == "program.py: error: missing frame: my video/00005.jpg: extract it again"
    assert "Traceback" not in done.stderr and "UserError" not in done.stderr


def test_interrupted_is_status_130(program):
    process = subprocess.Popen(program(WAITING), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "program.py: interrupted\n")
    assert time.monotonic() - start < 20


def test_a_reader_that_goes_away_is_no_error(program):
    process = subprocess.Popen(program(COUNTING), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 0
