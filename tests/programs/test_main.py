"""main.py and test_models.py from the command line down: training, resuming after a kill, scoring, refusing."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ops.checkpoints.checkpoint import load_checkpoint
from ops.common.errors import UserError
from ops.evaluation.metrics import Predictions
from ops.models import TSN
from ops.spec import ModelSpec
from tests.conftest import ROOT
from tests.helpers.programs import assert_refused, make_somethingv2, run

NAME = "TSM_somethingv2_RGB_resnet18_shift8_blockres_avg_segment3_e3_none"
SMALL = ["--arch", "resnet18", "--num_segments", 3, "--pretrain", "none", "--input_size", 32, "-b", 4, "--epochs", 3,
         "--eval-freq", 2, "--lr", 0.01, "--wd", 1e-3, "--gd", 20, "--shift", "--device", "cpu"]
SECONDS = ("data_seconds", "step_seconds")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data root")
    make_somethingv2(root)
    return root


def flags(data, out, *more):
    return ["somethingv2", "RGB", *SMALL, "--root_dataset", data, "--root_log", out / "log", "--root_model",
            out / "model", "-j", 0, *more]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """One undisturbed run of three epochs, by a real process with two workers."""
    out = tmp_path_factory.mktemp("trained")
    subprocess.run([sys.executable, "main.py", *map(str, flags(data, out, "-j", 2))], cwd=ROOT, check=True,
                   capture_output=True)
    return out


def rows(out):
    with open(out / "log" / NAME / "log.csv", newline="") as f:
        return [{k: v for k, v in row.items() if k not in SECONDS} for row in csv.DictReader(f)]


def weights(out):
    return torch.load(out / "model" / NAME / "ckpt.pth.tar", weights_only=True)["state_dict"]


def test_a_run_leaves_what_it_should(trained):
    log = rows(trained)
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert [bool(row["val_top1"]) for row in log] == [False, True, True]  # every second epoch, and at the end
    assert all(np.isfinite(float(row["train_loss"])) for row in log)
    args = (trained / "log" / NAME / "args.txt").read_text()
    assert "num_segments: 3\n" in args and "command: main.py somethingv2 RGB" in args
    assert {p.name for p in (trained / "model" / NAME).iterdir()} == {"ckpt.pth.tar", "ckpt.best.pth.tar"}
    content = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    assert {"epoch", "arch", "state_dict", "optimizer", "best_prec1"} <= set(content)
    assert all(key.startswith("module.") for key in content["state_dict"])
    assert content["epoch"] == 3 and content["class_names"] == [f"Doing {i}" for i in range(4)]
    assert ["base_model.layer1.0.conv1", 64, 8] in content["shift_layers"]


def test_tensorboard_holds_the_curves(trained):
    import struct

    from tensorboardX.proto.event_pb2 import Event
    raw = next((trained / "log" / NAME).glob("events.*")).read_bytes()
    found = {}
    while raw:  # records of: length (8), its checksum (4), an Event, its checksum (4)
        length, = struct.unpack("<Q", raw[:8])
        event = Event.FromString(raw[12:12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        raw = raw[16 + length:]
    assert [step for step, _ in found["loss/train"]] == [0, 1, 2]
    assert [f"{value:.4g}" for _, value in found["acc/test_top1"]] == [
        f"{float(row['val_top1']):.4g}" for row in rows(trained) if row["val_top1"]]
    assert "lr" in found


def test_workers_change_nothing(trained, data, tmp_path, monkeypatch, capfd):
    assert run(monkeypatch, capfd, "main", *flags(data, tmp_path)).status == 0  # no worker process at all
    assert rows(tmp_path) == rows(trained)
    assert all(torch.equal(value, weights(trained)[key]) for key, value in weights(tmp_path).items())


def test_killed_and_resumed_equals_undisturbed(trained, data, tmp_path, monkeypatch, capfd):
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


def test_evaluate_and_test_models_agree(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "-e"))
    line = next(line for line in done.out.splitlines() if line.startswith("Testing Results"))
    main_top1, main_top5 = float(line.split()[3]), float(line.split()[5])
    tested = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", data, "-j", 0,
                 "--batch_size", 2, "--out", tmp_path / "report", "--csv_file", tmp_path / "out.csv")
    result = json.loads((tmp_path / "report" / "results.json").read_text())
    assert tested.status == 0
    assert (round(result["top1"], 3), round(result["top5"], 3)) == (main_top1, main_top5)
    assert f"{result['loss']:.5f}" == line.split()[-1]
    last = tested.out.strip().splitlines()[-2:]
    assert last == [f"Class Accuracy {result['class_accuracy']:.2f}%",
                    f"Overall Prec@1 {result['top1']:.2f}% Prec@5 {result['top5']:.2f}%"]
    confusion = np.load(tmp_path / "report" / "confusion.npy")
    assert confusion.sum() == 7 and 100 * np.trace(confusion) / 7 == pytest.approx(result["top1"])
    assert Image.open(tmp_path / "report" / "confusion.png").size[0] > 100
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert len(table) == 7 and table[0].startswith("clip 12;") and table[0].count(";") == 4  # four classes, all ranked


@pytest.mark.parametrize("protocol, views", [
    (["--test_crops", 3, "--full_res"], 3), (["--test_crops", 5], 5), (["--test_crops", 10], 10),
    (["--twice_sample"], 2), (["--dense_sample"], 10), (["--test_crops", 3, "--twice_sample"], 6)])
def test_protocols_score_each_view_on_its_own(protocol, views, trained, data, tmp_path, monkeypatch, capfd):
    """The mean over views, computed again here clip by clip from the data set's own items."""
    import test_models
    file = trained / "model" / NAME / "ckpt.pth.tar"
    kept = {}
    monkeypatch.setattr(test_models, "write_report", lambda scores, *rest: kept.update(scores=scores))
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", data, "-j", 0,
               "--batch_size", 2, "--out", tmp_path, "--max_num", 3, *protocol)
    assert done.status == 0 and f"= {views} views" in done.err
    args = test_models.opts.parse_test(["somethingv2", "--weights", str(file), "--root_dataset", str(data),
                                        *map(str, protocol)])
    member = test_models.build(args, 0)
    p = args.protocol
    model = member.model.eval()
    videos = test_models.TSNDataSet(
        member.data.frames, member.data.val_list, 3, image_tmpl=member.data.template, test_mode=True,
        dense_sample=p.dense, twice_sample=p.twice, transform=p.transform(model.preprocessing))
    for i in range(3):
        clip, _ = videos[i]
        assert clip.shape[0] == views * 3 * 3
        with torch.no_grad():
            each = [model(model.preprocessing.apply(view[None]))[0] for view in clip.unflatten(0, (views, -1))]
        assert torch.allclose(torch.stack(each).mean(0), kept["scores"].logits[i], rtol=1e-4, atol=1e-5)


def test_debug_runs_two_steps_of_each_phase(data, tmp_path, monkeypatch, capfd):
    argv = flags(data, tmp_path, "--debug", "-p", 1, "-b", 2)
    argv[argv.index("--epochs"):argv.index("--epochs") + 2] = []
    done = run(monkeypatch, capfd, "main", *argv)
    assert done.status == 0
    assert "[1/2]" in done.err and "[2/2]" not in done.err and "epoch 1 " not in done.err


def test_tune_from_keeps_the_classifier_of_the_same_classes(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--tune_from", file, "--debug", "--epochs", 1))
    assert done.status == 0 and "the classifier is kept" in done.err
    other = tmp_path / "other"
    make_somethingv2(other, classes=3)
    done = run(monkeypatch, capfd, "main", *flags(other, tmp_path, "--tune_from", file, "--debug", "--epochs", 1))
    assert done.status == 0 and "the classifier is new" in done.err


def test_a_tuned_run_goes_on_by_its_own_command_and_resume(trained, data, tmp_path, monkeypatch, capfd):
    """A classifier that came along learns as slowly as the rest, before and after."""
    first = trained / "model" / NAME / "ckpt.pth.tar"

    def tuned(epochs, *more):
        done = run(monkeypatch, capfd, "main",
                   *flags(data, tmp_path, "--tune_from", first, "--debug", "--epochs", epochs, *more))
        assert done.status == 0
        path = tmp_path / "model" / NAME.replace("_e3_", f"_e{epochs}_") / "ckpt.pth.tar"
        return path, torch.load(path, weights_only=True), done.err

    _, whole, _ = tuned(2)
    half, _, _ = tuned(1)
    _, resumed, said = tuned(2, "--resume", half)
    assert "is not loaded again" in said and resumed["epoch"] == 2
    assert all(torch.equal(resumed["state_dict"][key], value) for key, value in whole["state_dict"].items())
    groups = {group["name"]: len(group["params"]) for group in resumed["optimizer"]["param_groups"]}
    assert groups["lr5_weight"] == groups["lr10_bias"] == 0


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
    """Named is only what this run wrote or goes on from, not what another has left in its directory."""
    run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--debug", "--epochs", 3))
    before = {key: value.clone() for key, value in weights(tmp_path).items()}
    argv = flags(data, tmp_path, "--lr", 1e30, "--eval-freq", 1)
    argv[argv.index("--gd"):argv.index("--gd") + 2] = []
    assert_refused(run(monkeypatch, capfd, "main", *argv), "the loss is", "this run's last good checkpoint: none yet")
    assert all(torch.equal(value, before[key]) for key, value in weights(tmp_path).items())
    file = tmp_path / "model" / NAME / "ckpt.pth.tar"
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--epochs", 5, "--resume", file), "the loss is",
                   f"last good checkpoint: {file}")


def test_a_last_step_that_ruins_the_weights_keeps_the_checkpoint(data, tmp_path, monkeypatch, capfd):
    """The loss of the last step is finite, its gradient is not: no later loss would tell before the file is written."""
    from ops.training import loop as engine
    step, losses = engine.train_step, []

    def ruinous(state, *more):
        loss, output = step(state, *more)
        losses.append(loss)
        if len(losses) == 4:  # the second of the second epoch
            next(state.model.parameters()).data[0] = float("nan")
        return loss, output
    monkeypatch.setattr(engine, "train_step", ruinous)
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--debug"))
    file = tmp_path / "model" / NAME / "ckpt.pth.tar"
    assert_refused(done, "1 weights are not finite after epoch 1, the first base_model.conv1.weight", "--clip-gradient",
                   f"last good checkpoint: {file}")
    assert len(losses) == 4 and np.isfinite(losses).all()
    content = torch.load(file, weights_only=True)
    assert content["epoch"] == 1 and all(value.isfinite().all() for value in content["state_dict"].values())


# ---- going on from other files and in other directories -----------------------------------------------------------

def test_a_finished_run_says_that_nothing_is_left(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "--start-epoch", 1))
    assert done.status == 0 and "nothing left to do: epoch 3 of 3" in done.err and not list(tmp_path.iterdir())
    assert "--start-epoch has no effect: --resume" in done.err


def test_a_published_checkpoint_and_its_directory_go_on(trained, data, tmp_path, monkeypatch, capfd):
    """No settings in it, another dropout than the default, a log.csv of another form beside it."""
    ours = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    name = NAME.replace("_e3_", "_e4_")
    file = tmp_path / "model" / name / "ckpt.pth.tar"
    file.parent.mkdir(parents=True)
    torch.save({key: ours[key] for key in ("epoch", "arch", "state_dict", "optimizer", "best_prec1")}, file)
    (tmp_path / "log" / name).mkdir(parents=True)
    (tmp_path / "log" / name / "log.csv").write_text("Epoch: [0][0/3], lr: 0.01000\n")
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "--epochs", 4, "--dropout", 0.8,
                                                  "--debug"))
    assert done.status == 0 and "after epoch 3" in done.err and "log.csv.old" in done.err
    assert (tmp_path / "log" / name / "log.csv.old").read_text().startswith("Epoch: [0]")
    assert torch.load(file, weights_only=True)["epoch"] == 4


def test_in_another_directory_the_best_is_counted_anew(trained, data, tmp_path, monkeypatch, capfd):
    content = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    torch.save({**content, "best_prec1": 100.5}, tmp_path / "start.pth.tar")
    reached = iter([1, 3, 2])  # right answers of 5: 20%, 60%, 40%
    monkeypatch.setattr("ops.training.loop.validate", lambda *more: Predictions(
        torch.eye(2)[(torch.arange(5) >= next(reached)).long()], torch.zeros(5, dtype=torch.long)))
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", tmp_path / "start.pth.tar", "--epochs", 6,
                                                  "--eval-freq", 1, "--debug"))
    assert done.status == 0 and "best prec@1 so far: 100.500" in done.err
    directory = tmp_path / "model" / NAME.replace("_e3_", "_e6_")
    best, last = (torch.load(directory / f"{name}.pth.tar", weights_only=True) for name in ("ckpt.best", "ckpt"))
    assert (best["epoch"], last["epoch"], last["best_prec1"]) == (5, 6, pytest.approx(60))


def test_evaluating_takes_weights_alone(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    whole = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "-e"))
    torch.save(torch.load(file, weights_only=True)["state_dict"], tmp_path / "weights.pth")
    for more in (["--resume", tmp_path / "weights.pth", "--npb"], ["--tune_from", file]):
        done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more, "-e"))
        assert done.status == 0 and done.out.splitlines()[-1] == whole.out.splitlines()[-1]
    other = tmp_path / "other"
    make_somethingv2(other, classes=3)
    assert_refused(run(monkeypatch, capfd, "main", *flags(other, tmp_path, "--tune_from", file, "-e")),
                   "--evaluate: the classifier of", "other classes")


# ---- devices ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("program", ["main", "test_models"])
def test_the_model_goes_to_the_gpu_that_was_asked_for(program, trained, data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    def sent(model, device):
        raise UserError(f"sent to {device}")
    monkeypatch.setattr(TSN, "to", sent)

    def asked(*more):
        if program == "main":
            return run(monkeypatch, capfd, program, *flags(data, tmp_path, *more))
        file = trained / "model" / NAME / "ckpt.pth.tar"
        return run(monkeypatch, capfd, program, "somethingv2", "--weights", file, "--root_dataset", data, "--out", tmp_path,
                   *more)
    for more, words in ((["--device", "cuda", "--gpus", 1], "sent to cuda:1"), (["--device", "cuda"], "sent to cuda:0"),
                        (["--device", "auto", "--gpus", 2, 1], "sent to cuda:2"),
                        (["--device", "cuda:2"], "sent to cuda:2"),
                        (["--device", "cuda", "--gpus", 1, 1], "--gpus 1 1: name each GPU once"),
                        (["--device", "cuda:2", "--gpus", 1], "--gpus 1 begins with another GPU than --device cuda:2")):
        assert_refused(asked(*more), words)


@pytest.mark.parametrize("more, benchmark", [([], True), (["--seed", 0], False)])
def test_a_seed_asks_for_repeatable_convolutions(more, benchmark, data, tmp_path, monkeypatch, capfd):
    from torch.backends import cudnn
    monkeypatch.setattr(cudnn, "benchmark", not benchmark)
    monkeypatch.setattr(cudnn, "deterministic", benchmark)
    monkeypatch.setattr("main.fit", lambda *args, **options: None)
    assert run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more)).status == 0
    assert (cudnn.benchmark, cudnn.deterministic) == (benchmark, not benchmark)


# ---- wrong inputs: status 2 and one line ----------------------------------------------------------------------

@pytest.mark.parametrize("more, words", [
    (["--train_list", "nowhere.txt"], ["cannot read the video list nowhere.txt"]),
    (["--num_segments", 0], ["--num_segments 0"]),
    (["--shift_place", "foo"], ["--shift_place 'foo'", "choose block or blockres"]),
    (["--shift_div", 4096], ["--shift_div 4096", "64 channels"]),
    (["--arch", "resnet19"], ["--arch 'resnet19'", "resnet18"]),
    (["--resume", "nowhere.pth"], ["no such checkpoint: nowhere.pth"]),
    (["--resume", "LICENSE"], ["LICENSE is not a"]),
    (["--device", "tpu"], ["--device 'tpu'"]),
    (["--lr", "fast"], ["--lr", "fast"]),
    (["--lr", -1], ["--lr -1.0", "above 0"]),
    (["--momentum", -1], ["--momentum -1.0", "choose 0"]),
    (["--wd", "nan"], ["--weight-decay nan", "choose 0"]),
    (["--lr_type", "poly"], ["--lr_type 'poly'", "step or cos"]),
    (["--epochs", 0], ["--epochs 0"]),
    (["--consensus_type", "max"], ["avg or identity"]),
    (["--pretrain", "nowhere.pth"], ["no such checkpoint: nowhere.pth"]),
    (["-e"], ["--resume PATH"]),
    (["--gpus", 7], ["--gpus 7"]),
    (["--no-such-flag"], ["--no-such-flag"]),
])
def test_wrong_flags(more, words, data, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more))
    assert_refused(done, *words)
    assert not (tmp_path / "model").exists(), "a refused run must leave nothing behind"


def test_wrong_data_set_and_modality(tmp_path, monkeypatch, capfd):
    assert_refused(run(monkeypatch, capfd, "main", "something3", "RGB"), "'something3'", "somethingv2")
    assert_refused(run(monkeypatch, capfd, "main", "jester", "Sound"), "modality 'Sound': choose RGB, Flow or RGBDiff")


@pytest.mark.parametrize("content, words", [
    ("", ["is empty"]), ("\n \n", ["is empty"]), ("clip 0\n", ["list.txt:1", "path num_frames label"]),
    ("clip 0 5 4\n", ["list.txt:1", "label 4 is outside the classes 0 to 3"]), ("clip 0 5 -1\n", ["label -1"]),
    ("clip 0 0 1\n", ["0 frames"]), ("gone 5 1\n" * 8, ["missing frame", "gone"])])
def test_wrong_lists(content, words, data, tmp_path, monkeypatch, capfd):
    (tmp_path / "list.txt").write_text(content)
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--train_list", tmp_path / "list.txt",
                                                          "-j", 1)), *words)


def test_wrong_checkpoints(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    (tmp_path / "text.pth.tar").write_text("not a checkpoint")
    (tmp_path / "half.pth.tar").write_bytes(file.read_bytes()[:30000])
    torch.save({"epoch": 1}, tmp_path / "empty.pth.tar")
    torch.save([1, 2], tmp_path / "list.pth.tar")

    def tested(path, *more):
        return run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", path, "--root_dataset", data, "-j", 0,
                   "--out", tmp_path / "out", *more)
    assert_refused(tested(tmp_path / "text.pth.tar"), "text.pth.tar is not a")
    assert_refused(tested(tmp_path / "half.pth.tar"), "half.pth.tar is not a readable checkpoint")
    assert_refused(tested(tmp_path / "empty.pth.tar"), "holds no weights", "epoch")
    assert_refused(tested(tmp_path / "list.pth.tar"), "holds a list")
    assert_refused(tested(file, "--arch", "resnet34"), "do not fit", "keys missing")
    assert_refused(tested(file, "--test_segments", "0"), "--test_segments 0")
    assert_refused(tested(file, "--test_segments", "8,16"), "2 values for 1 checkpoints")
    assert_refused(tested(file, "--coeff", "nan"), "--coeff nan: choose finite numbers")
    assert_refused(tested(file, "--test_crops", 4), "--test_crops 4", "choose 1, 3, 5, 10")
    other = tmp_path / "other"
    make_somethingv2(other, classes=3)
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", other, "-j", 0)
    assert_refused(done, "4 classes", "3")
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "--shift_div", 4)),
                   "shift_div 8 there, 4 here")
    assert not (tmp_path / "out").exists()


def test_dead_flags_warn_once_and_are_hidden(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--k", 3, "--flow_prefix", "x", "--debug",
                                                  "--epochs", 1))
    assert done.status == 0 and done.err.count("never did anything") == 1
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--img_feature_dim", 9, "--resume", "nowhere.pth"))
    assert "--img_feature_dim never did anything" in done.err
    for flag in ("--img_feature_dim", "--pretrain"):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", "gone", flag, 9)
        assert f"{flag} has no effect" in done.err
    shown = run(monkeypatch, capfd, "main", "--help").out
    assert "--flow_prefix" not in shown and "--shift_div" in shown


def test_the_published_command_starts_as_typed(monkeypatch, capfd, tmp_path, data):
    """`python main.py somethingv2 RGB --shift`: ResNet-50, 8 segments, blockres, and one line on the recipe."""
    monkeypatch.setenv("TSM_ROOT", str(data))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = tmp_path / "hub" / "checkpoints"
    weights.mkdir(parents=True)
    import torchvision

    from ops.backbones import BACKBONES
    torch.save(torchvision.models.resnet50().state_dict(), weights / Path(BACKBONES["resnet50"].weights_url).name)
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--shift", "--debug", "--input_size", 32, "-j", 0)
    assert done.status == 0, done.err
    assert "storing name: TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e120" in done.out
    assert done.err.count("train_tsm_somethingv2_rgb_8f.sh") == 1 and "lr 0.001 (0.01)" in done.err
    assert "no_partialbn off (on)" in done.err


def test_model_settings_rebuild_the_model(trained):
    found = load_checkpoint(trained / "model" / NAME / "ckpt.pth.tar")
    assert isinstance(found.spec, ModelSpec) and found.spec.place == "blockres"
    assert TSN.from_spec(found.spec).state_dict().keys() == found.weights.keys()
