"""main.py and test_models.py as several processes: equal results, and an end when one of them is lost."""
import contextlib
import os
import signal
import time

import pytest
import torch

from tests.helpers.members import member
from tests.helpers.processes import children, finish, ranks, start_ranks, torchrun
from tests.helpers.programs import make_somethingv2, run
from tests.helpers.small_run import NAME, flags, rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_somethingv2(root, train=12, val=7)
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The directory of a run of two processes."""
    out = tmp_path_factory.mktemp("torchrun")
    status, text, err = ranks(2, "main.py", *flags(data, out, "--scale_lr"))
    assert status == 0, err
    assert text.count("storing name") == text.count("Testing Results") - 1 == 1
    assert "8 clips per step, learning rate 0.00125" in err
    return out


def wait_for(file, process):
    """Until `process` has written `file`."""
    until = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)


def test_two_processes_write_one_log_and_one_checkpoint(trained):
    assert [row["epoch"] for row in rows(trained)] == ["0", "1", "2"]
    content = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    assert (content["epoch"], content["effective_batch"]) == (3, 8)


def test_one_process_warns_for_all(tmp_path):
    flags = ["--freeze", "stem", "--pretrain", "none", "--device", "cpu", "--root_dataset", tmp_path / "absent"]
    status, _, err = ranks(2, "main.py", "somethingv2", "RGB", *flags)
    assert status and err.count("warning: --freeze stem keeps random weights") == 1, err


def test_frozen_stages_do_not_change_in_two_processes(trained, data, tmp_path):
    first, out = trained / "model" / NAME / "ckpt.pth.tar", tmp_path / "tuned"
    more = ("--tune_from", first, "--freeze", "stem,layer1", "--npb", "--epochs", 1)
    status, _, err = ranks(2, "main.py", *flags(data, out, *more))
    assert status == 0, err
    before = torch.load(first, weights_only=True)["state_dict"]
    after = torch.load(out / "model" / NAME.replace("_e3_", "_e1_") / "ckpt.pth.tar", weights_only=True)["state_dict"]
    frozen = {key for key in after if key.removeprefix("module.base_model.").startswith(("conv1.", "bn1.", "layer1."))}
    assert len(frozen) > 20 and {key for key in after if torch.equal(after[key], before[key])} == frozen


def test_sync_bn_is_refused_without_gpus(data, tmp_path, monkeypatch, capfd):
    status, _, err = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--sync_bn"))
    assert status == 2 and err.strip().endswith("error: --sync_bn works on GPUs only, this run is on cpu: leave it out")


def test_two_processes_run_out_of_patience_together(data, tmp_path, monkeypatch, capfd):
    """At a learning rate that changes nothing, the first validation stays the best."""
    more = ("--lr", 1e-12, "--wd", 0, "--eval-freq", 1, "--epochs", 3, "--patience", 1)
    status, _, err = ranks(2, "main.py", *flags(data, tmp_path, *more))
    assert status == 0 and "stopped early after epoch 1: 1 validation without a better top1" in err, err
    assert [row["epoch"] for row in rows(tmp_path)] == ["0", "1"]
    file = tmp_path / "model" / NAME / "ckpt.pth.tar"
    status, _, err = run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more, "--grad_accum", 2, "--resume", file))
    assert status == 0 and "nothing left to do: epoch 2 of 3, stopped early" in err, err


def test_another_number_of_processes_needs_the_same_clips_per_step(trained, data, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    argv = flags(data, trained, "--scale_lr", "--epochs", 4, "--resume", file)
    status, _, err = run(monkeypatch, capfd, "main", *argv)
    assert status == 2 and "took 8 clips per step, this one takes 4" in err and "--grad_accum" in err
    status, _, err = run(monkeypatch, capfd, "main", *argv, "--grad_accum", 2)
    assert status == 0, err


def test_each_video_is_scored_once(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    argv = ["somethingv2", "--weights", file, "--root_dataset", data, "-j", 0, "--device", "cpu", "--batch_size", 2]
    more = {name: ("--out", tmp_path / name, "--csv_file", tmp_path / f"{name}.csv") for name in ("one", "two")}
    ended = {"one": run(monkeypatch, capfd, "test_models", *argv, *more["one"]),
             "two": ranks(2, "test_models.py", *argv, *more["two"])}
    assert all(status == 0 for status, _, _ in ended.values()), ended
    one, two = (ended[name][1].splitlines() for name in ("one", "two"))
    assert one[-1] == two[-1] and one[-1].startswith("Overall Prec@1")
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()


ENDLESS = ("--epochs", 1000, "--dist_timeout", 5)


def assert_says_who_is_lost(err, file):
    lines = [line for line in err.splitlines() if "rank 1 is lost" in line]
    assert len(lines) == 1 and f"last good checkpoint: {file}" in lines[0], err
    torch.load(file, weights_only=True)


def test_a_killed_process_ends_the_run(data, tmp_path):
    process = torchrun(2, "main.py", *flags(data, tmp_path, *ENDLESS))
    file = tmp_path / "model" / NAME.replace("_e3_", "_e1000_") / "ckpt.pth.tar"
    wait_for(file, process)
    os.kill(children(process)[1], signal.SIGKILL)
    status, _, err = finish(process, timeout=90)
    assert status != 0, err
    assert_says_who_is_lost(err, file)


def test_a_stopped_process_ends_the_run(data, tmp_path):
    """torchrun would wait for 30 seconds more and then kill it."""
    first, second = start_ranks(2, "main.py", *flags(data, tmp_path, *ENDLESS))
    file = tmp_path / "model" / NAME.replace("_e3_", "_e1000_") / "ckpt.pth.tar"
    wait_for(file, first)
    os.kill(second.pid, signal.SIGSTOP)
    status, _, err = finish(first, timeout=120)
    second.kill()
    assert finish(second)[0] == -signal.SIGKILL and status == 2, err
    assert_says_who_is_lost(err, file)


def test_torchrun_and_a_scheduler_both_send_sigterm(data, tmp_path):
    """A scheduler signals every process of a job, and torchrun, which is one of them, signals its own again."""
    process = torchrun(2, "main.py", *flags(data, tmp_path, "--epochs", 1000, "--train_url", tmp_path / "there"))
    file = tmp_path / "model" / NAME.replace("_e3_", "_e1000_") / "ckpt.pth.tar"
    wait_for(file, process)
    os.killpg(process.pid, signal.SIGTERM)
    for rank in children(process).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGTERM)
    status, _, err = finish(process, timeout=90)
    assert status != 0, err
    assert len([line for line in err.splitlines() if line.startswith("main.py: interrupted in epoch")]) == 1, err
    torch.load(file, weights_only=True)
    assert (tmp_path / "there" / file.parent.name / "checkpoint" / file.name).read_bytes() == file.read_bytes()


def test_each_video_is_streamed_once(data, tmp_path, monkeypatch, capfd):
    file = member(tmp_path / "model.pth.tar", shift=True, shift_direction="unidirectional")
    argv = ["somethingv2", "--weights", file, "--root_dataset", data, "-j", 0, "--device", "cpu",
            "--batch_size", 2, "--online", "--out"]
    one = run(monkeypatch, capfd, "test_models", *argv, tmp_path / "one")
    two = ranks(2, "test_models.py", *argv, tmp_path / "two")
    assert one[0] == two[0] == 0, two[2]
    assert one[1].replace("/one", "/two") == two[1] and "Overall Prec@1" in two[1]
    name = "accuracy_over_time.csv"
    assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
