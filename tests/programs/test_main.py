"""A run of main.py: its files, equal numbers with and without workers or a kill, unreadable videos, diverging losses."""
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from ops.backbones import BACKBONES
from ops.checkpoints.checkpoint import load_checkpoint
from ops.data.batch_pictures import GAP, LINE
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training import loop
from tests.conftest import ROOT
from tests.helpers.programs import assert_refused, make_somethingv2, run
from tests.helpers.small_run import NAME, flags, rows, weights


def test_a_run_writes_its_log_and_its_checkpoints(trained):
    log = rows(trained)
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert [bool(row["val_top1"]) for row in log] == [False, True, True]  # every second epoch and the last
    assert all(np.isfinite(float(row["train_loss"])) for row in log)
    args = (trained / "log" / NAME / "args.txt").read_text()
    assert "num_segments: 3\n" in args and "command: main.py somethingv2 RGB" in args
    assert all(f"\n{line}\n" in args for line in (f"torch: {torch.__version__}", f"torchvision: {torchvision.__version__}",
                                                  f"python: {platform.python_version()}", "processes: 1"))
    assert re.search(r"\ncommit: [0-9a-f]{7}", args) and re.search(r"\nhardware: cpu \(\w", args)
    assert {p.name for p in (trained / "model" / NAME).iterdir()} == {"ckpt.pth.tar", "ckpt.best.pth.tar"}
    content = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    assert {"epoch", "arch", "state_dict", "optimizer", "best_prec1"} <= set(content)
    assert all(key.startswith("module.") for key in content["state_dict"])
    assert content["epoch"] == 3 and content["class_names"] == [f"Doing {i}" for i in range(4)]
    assert ["base_model.layer1.0.conv1", 64, 8] in content["shift_layers"]


def test_tensorboard_holds_the_curves(trained):
    raw = next((trained / "log" / NAME).glob("events.*")).read_bytes()
    found = {}
    while raw:  # a record: length (8 bytes), its checksum (4), an Event, its checksum (4)
        length, = struct.unpack("<Q", raw[:8])
        event = Event.FromString(raw[12:12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        raw = raw[16 + length:]
    assert [step for step, _ in found["loss/train"]] == [0, 1, 2]
    assert [f"{value:.4g}" for _, value in found["acc/test_top1"]] == [
        f"{float(row['val_top1']):.4g}" for row in rows(trained) if row["val_top1"]]
    assert {"lr", "grad_norm", "memory/peak_mb", "time/data_seconds", "time/step_seconds", "time/clips_per_second",
            "time/seconds_left"} <= set(found)
    with Image.open(trained / "log" / NAME / "batch.png") as sheet:
        assert [step for step, _ in found["first_batch"]] == [0]
        assert sheet.size == (GAP + 3 * (32 + GAP), 4 * (LINE + 32 + GAP) + GAP)


def test_workers_change_nothing(trained, data, tmp_path, monkeypatch, capfd):
    assert run(monkeypatch, capfd, "main", *flags(data, tmp_path)).status == 0  # no worker processes
    assert rows(tmp_path) == rows(trained)
    assert all(torch.equal(value, weights(trained)[key]) for key, value in weights(tmp_path).items())


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(trained, data, tmp_path, monkeypatch, capfd):
    process = subprocess.Popen([sys.executable, "main.py", *map(str, flags(data, tmp_path))], cwd=ROOT,
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    checkpoint = tmp_path / "model" / NAME / "ckpt.pth.tar"
    for _ in range(1200):
        if checkpoint.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert torch.load(checkpoint, weights_only=True)["epoch"] < 3, "the kill came too late to test anything"
    assert run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", checkpoint)).status == 0
    assert rows(tmp_path) == rows(trained)
    assert all(torch.equal(value, weights(trained)[key]) for key, value in weights(tmp_path).items())


def test_debug_runs_two_steps_per_phase(data, tmp_path, monkeypatch, capfd):
    argv = flags(data, tmp_path, "--debug", "-p", 1, "-b", 2)
    argv[argv.index("--epochs"):argv.index("--epochs") + 2] = []
    done = run(monkeypatch, capfd, "main", *argv)
    assert done.status == 0
    assert f"torch {torch.__version__}, torchvision {torchvision.__version__}, hardware cpu (" in done.err
    assert "[1/2]" in done.err and "[2/2]" not in done.err and "epoch 1 " not in done.err


def test_the_published_command_starts_as_typed(monkeypatch, capfd, tmp_path, data):
    """`python main.py somethingv2 RGB --shift`: ResNet-50, 8 segments, blockres, and one line about the recipe."""
    monkeypatch.setenv("TSM_ROOT", str(data))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = tmp_path / "hub" / "checkpoints"
    weights.mkdir(parents=True)
    torch.save(torchvision.models.resnet50().state_dict(), weights / Path(BACKBONES["resnet50"].weights_url).name)
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--shift", "--debug", "--input_size", 32, "-j", 0)
    assert done.status == 0, done.err
    assert "storing name: TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e120" in done.out
    assert done.err.count("train_tsm_somethingv2_rgb_8f.sh") == 1 and "lr 0.001 (0.01)" in done.err
    assert "no_partialbn off (on)" in done.err


def test_a_command_without_a_number_of_workers_is_no_reason_for_a_warning(data, tmp_path, monkeypatch, capfd, recwarn):
    """PyTorch warns of more workers than cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        argv = flags(data, tmp_path, "--debug", "--epochs", 1)
        argv[argv.index("-j"):argv.index("-j") + 2] = []
        assert run(monkeypatch, capfd, "main", *argv).status == 0
    finally:
        os.sched_setaffinity(0, before)
    assert not [str(warning.message) for warning in recwarn if "worker" in str(warning.message)]


def test_a_run_without_a_shift_says_so_and_has_the_published_name_of_a_tsn(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--arch", "resnet18", "--pretrain", "none", "--debug",
               "--input_size", 32, "-b", 2, "-j", 0, "--root_dataset", data, "--root_log", tmp_path / "log",
               "--root_model", tmp_path / "models")
    assert done.status == 0 and "storing name: TSM_somethingv2_RGB_resnet18_avg_segment8_e120_none\n" in done.out
    assert [line for line in done.err.splitlines() if "shift" in line] == [
        "no shift: this network is a TSN, whose runs are named TSM_ too, as published; --shift makes it a TSM"]


def test_the_settings_in_a_checkpoint_rebuild_its_model(trained):
    found = load_checkpoint(trained / "model" / NAME / "ckpt.pth.tar")
    assert isinstance(found.spec, ModelSpec) and found.spec.place == "blockres"
    assert TSN.from_spec(found.spec).state_dict().keys() == found.weights.keys()


def test_skip_bad_leaves_broken_videos_out_and_lists_them(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    frames = tmp_path / "something" / "v2" / "20bn-something-something-v2-frames"
    for frame in (frames / "clip 2").iterdir():
        frame.write_bytes(frame.read_bytes()[:200])
    done = run(monkeypatch, capfd, "main", *flags(tmp_path, tmp_path, "--debug", "-b", 6, "--epochs", 1))
    assert_refused(done, "clip 2", ".jpg")
    done = run(monkeypatch, capfd, "main", *flags(tmp_path, tmp_path, "--debug", "-b", 6, "--skip_bad", "-j", 1,
                                                  "--epochs", 1))
    assert done.status == 0 and "unreadable videos left out of training: 1, listed in" in done.err
    listed = next((tmp_path / "log").rglob("skipped_videos.txt")).read_text()
    assert listed.startswith("clip 2: unreadable frame") and listed.count("\n") == 1


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(data, tmp_path, monkeypatch, capfd):
    """The message names a checkpoint of this run, or the one it resumed, but not one that an earlier run left there."""
    run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--debug", "--epochs", 3))
    before = {key: value.clone() for key, value in weights(tmp_path).items()}
    argv = flags(data, tmp_path, "--lr", 1e9, "--eval-freq", 1)
    argv[argv.index("--gd"):argv.index("--gd") + 2] = []
    assert_refused(run(monkeypatch, capfd, "main", *argv), "the loss is", "this run's last good checkpoint: none yet")
    assert all(torch.equal(value, before[key]) for key, value in weights(tmp_path).items())
    file = tmp_path / "model" / NAME / "ckpt.pth.tar"
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--epochs", 5, "--resume", file), "the loss is",
                   f"last good checkpoint: {file}")


def test_a_last_step_that_ruins_the_weights_keeps_the_checkpoint(data, tmp_path, monkeypatch, capfd):
    """The last step has a finite loss but a gradient that is not: no later loss shows it before the file is written."""
    step, losses = loop.train_step, []

    def ruinous(state, *batches_and_options):
        result = step(state, *batches_and_options)
        losses.append(result.loss)
        if len(losses) == 4:  # the second step of the second epoch
            next(state.model.parameters()).data[0] = float("nan")
        return result
    monkeypatch.setattr(loop, "train_step", ruinous)
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--debug"))
    file = tmp_path / "model" / NAME / "ckpt.pth.tar"
    assert_refused(done, "1 weights are not finite after epoch 1, the first base_model.conv1.weight", "--clip-gradient",
                   f"last good checkpoint: {file}")
    assert len(losses) == 4 and np.isfinite(losses).all()
    content = torch.load(file, weights_only=True)
    assert content["epoch"] == 1 and all(value.isfinite().all() for value in content["state_dict"].values())
