"""The last copies of a run are made whatever ends it: signals, and other processes that fail."""
import json
import os
import signal
import time

import pytest

from ops.common.errors import UserError
from ops.training.run_copies import check_apart, check_new, copied_out, fetch_back
from ops.training.state import LAST
from tests.helpers.processes import finish, start, torchrun

PROGRAM = """
import os, pathlib, sys, time
import torch
from ops.common import cli, distributed
from ops.common.errors import UserError
from ops.remote import run_copy
from ops.training import run_copies
here = pathlib.Path(sys.argv[1])
run_copy.INTERVAL = distributed.POLL = 0.05

def wait_until(condition):
    while not condition():
        time.sleep(0.02)

def position(content):  # the copy of a checkpoint takes until `arrives`
    (here / "copying").touch()
    wait_until(arrives)
    return ()

def write_checkpoint():
    for name in ("log/run/log.csv", "model/run/ckpt.pth.tar"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("1")

run_copies._position = position
copies = lambda: run_copies.copied_out(str(here / "there"), here / "log/run", here / "model/run", limit=60)
"""
ONE = PROGRAM + """
arrives = (here / "go").exists
def main():
    with copies():
        write_checkpoint()
        {end}
cli.run(main)
"""
TWO = PROGRAM + """
arrives = lambda: distributed.told(run_copies.ASKED)  # when the other process has failed
def main():
    with distributed.joined(torch.device("cpu"), 60), distributed.naming_lost_processes(), copies():
        if distributed.world().is_main:
            write_checkpoint()
        distributed.gather(0)
        if not distributed.world().is_main:
            raise UserError("a broken video")
        distributed.gather(0)
cli.run(main)
"""


@pytest.mark.parametrize("end, expected", [("", 0), ("raise UserError('the loss is not finite')", 2)])
def test_sigterm_does_not_end_the_last_copies(end, expected, tmp_path):
    process = start("-c", ONE.format(end=end), tmp_path)
    while not (tmp_path / "copying").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert "the last copies" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    status, _, err = finish(process)
    assert status == expected and "logs and checkpoints are complete" in err, err
    assert (tmp_path / "there" / "run" / "checkpoint" / LAST).read_text() == "1"


def test_a_second_ctrl_c_ends_the_last_copies(tmp_path):
    process = start("-c", ONE.format(end="raise KeyboardInterrupt"), tmp_path)
    while not (tmp_path / "copying").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status == 130 and "interrupted" in err, err


def test_a_process_that_fails_waits_for_the_copies(tmp_path):
    """torchrun ends rank 0 when rank 1 has ended."""
    (tmp_path / "program.py").write_text(f"import sys\nsys.path.insert(0, {os.getcwd()!r})\n{TWO}")
    status, _, err = finish(torchrun(2, tmp_path / "program.py", tmp_path))
    assert status and "a broken video" in err, err
    there = tmp_path / "there" / "run"
    assert (there / "checkpoint" / LAST).read_text() == "1"
    assert f"checkpoint/{LAST}" in json.loads((there / "copied.json").read_text())


# ---- new runs ------------------------------------------------------------------------------------------------------

@pytest.fixture
def run_of(tmp_path):
    """run_of("machine"): (the address, the directory of the log, that of the model) of a run on this machine."""
    def directories(machine):
        log, model = tmp_path / machine / "log" / "run", tmp_path / machine / "model" / "run"
        for path in (log, model):
            path.mkdir(parents=True, exist_ok=True)
        return str(tmp_path / "there"), log, model

    return directories


def test_a_new_run_does_not_mix_with_an_older_one(run_of, tmp_path):
    url, log, model = run_of("a")
    with copied_out(url, log, model):
        (log / "log.csv").write_text("old\n")
        (model / LAST).write_text("old")
    with pytest.raises(UserError, match="holds a run already: continue it with resume auto"):
        check_new(url, log, model)
    (tmp_path / "there" / "run" / "checkpoint" / LAST).unlink()
    check_new(url, log, model)
    with copied_out(url, log, model):  # ends before its first checkpoint; the old one is still in its directory
        (log / "log.csv").write_text("new row\n")
    check_new(url, log, model)
    _, elsewhere, model_elsewhere = run_of("b")
    fetch_back(url, elsewhere, model_elsewhere)
    assert not list(model_elsewhere.iterdir()) and not list(elsewhere.iterdir())
    with copied_out(url, log, model, resumed=model / LAST):
        pass
    fetch_back(url, elsewhere, model_elsewhere)
    assert ((model_elsewhere / LAST).read_text(), (elsewhere / "log.csv").read_text()) == ("old", "new row\n")


@pytest.mark.parametrize("url", ["a/log", "a/log/run", "a/log/run/copies", "a/model", "link"])
def test_an_address_inside_the_run_is_refused(url, run_of, tmp_path):
    """The copies would be copied, for ever."""
    _, log, model = run_of("a")
    (tmp_path / "link").symlink_to(log.parent)
    with pytest.raises(UserError, match="^train_url .*: choose an address apart from root_log"):
        check_apart(str(tmp_path / url), log, model, [])
    check_apart(str(tmp_path / "there"), log, model, [])
    check_apart("s3://bucket/a/log", log, model, [])


def test_copies_that_would_replace_an_input_are_refused(run_of, tmp_path):
    url, log, model = run_of("a")
    teacher = tmp_path / "there" / "run" / "checkpoint" / LAST
    check_apart(url, log, model, [None, "imagenet", teacher])
    teacher.parent.mkdir(parents=True)
    teacher.write_text("1")
    with pytest.raises(UserError, match="train_url .* would overwrite the input"):
        check_apart(url, log, model, [None, "imagenet", teacher])
