"""A training run that is killed or interrupted, again and again, ends with what an undisturbed run leaves.

TSM_TEST_KILLS: how often each run is killed (default 1; 20 for a thorough run).
"""
import os
import random
import signal
import time

import pytest
import torch

from tests.helpers.processes import finish, start, worker_processes
from tests.helpers.programs import make_somethingv2
from tests.helpers.small_run import NAME, rows
from tests.helpers.teachers import make_teacher
from tests.helpers.tensorboard import scalars

KILLS = int(os.environ.get("TSM_TEST_KILLS", 1))
FLAGS = ["--arch", "resnet18", "--num_segments", 3, "--pretrain", "none", "--input_size", 32, "-b", 2, "--grad_accum", 2,
         "--epochs", 3, "--eval-freq", 1, "--lr", 0.01, "--shift", "--device", "cpu", "--save_freq", 2, "--ema", 0.9,
         "--mixup", 0.2, "--nesterov", "--loss_type", "smooth", "--sampler", "balanced", "--npb", "--precise_bn", 2,
         "--best_by", "loss", "--patience", 5, "--warmup_epochs", 1, "--lr_update", "step", "--seed", 7]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_somethingv2(root, train=16, val=9)
    make_teacher(root / "teacher.pth.tar")
    return root


def begin(data, out, workers):
    """main.py, resuming if it can, once it has read its options and imported everything."""
    process = start("main.py", "somethingv2", "RGB", *FLAGS, "--root_dataset", data, "--root_log", out / "log",
                    "--root_model", out / "model", "-j", workers, "--resume", "auto", "--teacher", data / "teacher.pth.tar")
    assert process.stdout.readline().startswith("storing name")
    return process


def checkpoint(out, name="ckpt"):
    return torch.load(out / "model" / NAME / f"{name}.pth.tar", weights_only=True)


def wait_for_checkpoint(out, process):
    """The run's first checkpoint, once it is there."""
    file = out / "model" / NAME / "ckpt.pth.tar"
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.02)
    return file


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    status, _, err = finish(begin(data, out, 0))
    assert status == 0, err
    return out


def assert_same_run(out, undisturbed):
    for name in ("ckpt", "ckpt.best"):
        ours, theirs = checkpoint(out, name), checkpoint(undisturbed, name)
        for part in ("state_dict", "model"):
            assert all(torch.equal(value, theirs[part][key]) for key, value in ours[part].items())
        for group, other in zip(*(c["optimizer"]["state"].values() for c in (ours, theirs)), strict=True):
            assert torch.equal(group["momentum_buffer"], other["momentum_buffer"])
        for entry in ("epoch", "step", "best_prec1", "best", "average"):
            assert ours[entry] == theirs[entry]
    assert rows(out) == rows(undisturbed) and len(rows(out)) == 3
    ours, theirs = ({tag: values for tag, values in scalars(directory / "log" / NAME).items()
                     if not tag.startswith(("time/", "memory/"))} for directory in (out, undisturbed))
    assert ours == theirs and [step for step, _ in ours["loss/train"]] == [0, 1, 2] and len(ours["first_batch"]) == 1
    assert all((directory / "log" / NAME / "batch.png").exists() for directory in (out, undisturbed))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_at_random_moments_equals_an_undisturbed_one(workers, data, undisturbed, tmp_path):
    rng = random.Random(workers)
    killed = 0
    while killed < KILLS:
        process = begin(data, tmp_path, workers)
        time.sleep(rng.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        status, _, err = finish(process)
        killed += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL), err
        if status == 0:  # it was faster than the signal: again from the start
            for file in (tmp_path / "model" / NAME).iterdir():
                file.unlink()
    status, _, err = finish(begin(data, tmp_path, workers))
    assert status == 0, err
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_its_last_step(number, status, data, undisturbed, tmp_path):
    """The signal goes to the loader's processes too, as from a terminal or a scheduler."""
    process = begin(data, tmp_path, 2)
    wait_for_checkpoint(tmp_path, process)
    os.killpg(process.pid, number)
    done, _, err = finish(process)
    last = err.strip().splitlines()[-1]
    assert done == status, err
    assert "Traceback" not in err and last.startswith("main.py: interrupted in epoch") and "--resume" in last
    saved = checkpoint(tmp_path)
    assert f"epoch {saved['epoch']} after step {saved['step']}" in last
    if number == signal.SIGINT:  # what is saved is the same for both
        done, _, err = finish(begin(data, tmp_path, 2))
        assert done == 0, err
        assert_same_run(tmp_path, undisturbed)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc to find the loader's processes")
def test_a_dead_loader_process_ends_a_run_with_a_reason(data, tmp_path):
    process = begin(data, tmp_path, 2)
    file = wait_for_checkpoint(tmp_path, process)
    os.kill(worker_processes(process)[0], signal.SIGKILL)
    status, _, err = finish(process)
    last = err.strip().splitlines()[-1]
    assert status == 2 and "Traceback" not in err, err
    assert last.startswith("main.py: error: a worker process of the loader is killed") and "--workers" in last
    assert last.endswith(f"this run's last good checkpoint: {file}")
    torch.load(file, weights_only=True)
