"""Checkpoints to online files and back: keys, metadata, equal logits, refusals."""
from dataclasses import replace

import pytest
import torch
from torch import nn

import test_models
from online_demo.mobilenet_v2_tsm import MobileNetV2
from ops.checkpoints.checkpoint import load_checkpoint
from ops.checkpoints.online_format import frame_rate_of
from ops.common.errors import UserError
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import JESTER_CLASSES
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.online_scoring import score_online
from ops.weights import load_weights
from tests.helpers.golden_model import clip, fill
from tests.helpers.programs import assert_refused, make_frames, make_somethingv2, run, write_list

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["left", "right", "up"]
PUBLISHED = "TSM_jester_RGB_mobilenetv2_shift8_blockres_avg_segment8_e50.pth.tar"


def one_way(arch="mobilenetv2", **options):
    return ModelSpec(**{"num_class": 3, "num_segments": 4, "arch": arch, "shift": True, "input_size": 64,
                        "shift_direction": "unidirectional", **options})


def write(path, spec, metadata=True, names=NAMES):
    """A checkpoint as main.py writes it, or without metadata as the published code did."""
    torch.manual_seed(7)
    model = TSN.from_spec(spec)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    weights = model.state_dict()
    content = {"epoch": 7, "arch": spec.arch, "best_prec1": 50.0, "optimizer": {"state": {}, "param_groups": []},
               "state_dict": {f"module.{key}": value for key, value in weights.items()}}
    if metadata:
        content |= {"version": 1, "settings": spec.to_dict(), "dataset": "gestures", "class_names": names,
                    "preprocessing": model.preprocessing.to_dict()}
    torch.save(content, path)
    return path


def load(path):
    return torch.load(path, weights_only=True)


def convert(monkeypatch, capfd, *argv):
    return run(monkeypatch, capfd, "tools.convert_to_online", *argv)


def logits(source, t=3, size=64):
    online = source if isinstance(source, OnlineTSM) else OnlineTSM(source)
    state, rows = online.initial_state(1, size, size), []
    for i in range(t):
        row, state = online.step(clip(1, 1, 3, size, seed=i), state)
        rows.append(row)
    return torch.cat(rows)


# ---- there and back -------------------------------------------------------------------------------------------

def test_mobilenet_gets_the_published_keys(golden, tmp_path, monkeypatch, capfd):
    spec = one_way(num_class=27)
    file = write(tmp_path / "ckpt.pth.tar", spec, names=list(JESTER_CLASSES))
    done = convert(monkeypatch, capfd, file, "-o", tmp_path / "on" / "online.pth.tar", "--frame_rate", 7.5)
    assert done.status == 0 and "online weights, mobilenetv2, 1/8 of the channels from the past" in done.err
    assert "frames per second" not in done.err
    content = load(tmp_path / "on" / "online.pth.tar")
    rows = [[key, list(value.shape)] for key, value in content["state_dict"].items()]
    assert rows == golden("state_dict_keys")["online_mobilenetv2"]
    assert content["online"] is True and content["settings"] == spec.to_dict() and content["frame_rate"] == 7.5
    assert content["class_names"] == list(JESTER_CLASSES) and content["dataset"] == "gestures"
    assert content["preprocessing"] == load(file)["preprocessing"] and content["preprocessing"]["crop_size"] == 64
    model = MobileNetV2(27, 64).eval().requires_grad_(False)
    model.load_state_dict(content["state_dict"])
    first = model(clip(1, 1, 3, 64, seed=0), *model.initial_buffers())[0]
    assert torch.equal(first, logits(file)[:1])


@pytest.mark.parametrize("spec", [
    one_way(), one_way(dropout=0.0, shift_div=4), one_way(shift_place="block"), one_way("resnet18"),
    one_way("resnet18", shift_place="block", dropout=0.0), one_way("BNInception"), one_way("resnet18", shift=False),
], ids=lambda s: f"{s.arch}-{s.place if s.shift else 'tsn'}-{s.dropout}")
def test_there_and_back(spec, tmp_path, monkeypatch, capfd):
    file = write(tmp_path / "ckpt.pth.tar", spec)
    online, back = tmp_path / "online.pth.tar", tmp_path / "back.pth.tar"
    assert convert(monkeypatch, capfd, file, "-o", online).status == 0
    assert convert(monkeypatch, capfd, online, "-o", back, "--to_clip").status == 0
    before, after = load(file), load(back)
    assert list(after["state_dict"]) == list(before["state_dict"])
    assert all(torch.equal(after["state_dict"][key], value) for key, value in before["state_dict"].items())
    for key in ("settings", "dataset", "class_names", "preprocessing", "arch"):
        assert after[key] == before[key], key
    keys = list(load(online)["state_dict"])
    assert not any(".net." in key or key.startswith("module.") for key in keys)
    published = spec.arch == "mobilenetv2" and spec.place == "blockres"
    assert all(key.startswith(("features.", "classifier.") if published else ("base_model.", "new_fc."))
               for key in keys)
    streaming = OnlineTSM(online)
    assert torch.equal(logits(streaming), logits(file))
    assert streaming.class_names == NAMES and streaming.spec == spec


def test_what_main_trains_is_what_streams(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path, train=4, val=2)
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--arch", "mobilenetv2", "--num_segments", 3,
               "--shift", "--shift_direction", "unidirectional", "--pretrain", "none", "--input_size", 32, "-b", 2,
               "-j", 0, "--lr", 0.01, "--gd", 20, "--npb", "--epochs", 1, "--device", "cpu", "--root_dataset", tmp_path,
               "--root_log", tmp_path / "log", "--root_model", tmp_path / "model")
    assert done.status == 0 and "storing name: TSM_somethingv2_RGB_mobilenetv2_shift8_blockres_uni_avg" in done.out
    file = next((tmp_path / "model").rglob("ckpt.pth.tar"))
    assert convert(monkeypatch, capfd, file, "-o", tmp_path / "online.pth.tar").status == 0
    online = OnlineTSM(tmp_path / "online.pth.tar")
    assert online.class_names == ["Doing 0", "Doing 1", "Doing 2", "Doing 3"] and online.spec.input_size == 32
    found = load_checkpoint(file)
    model = TSN.from_spec(found.spec)
    load_weights(model, found.weights, "")
    with torch.no_grad():
        wanted = model.eval()(torch.cat([clip(1, 1, 3, 32, seed=i) for i in range(3)], dim=1))
    got = logits(online, 3, 32).mean(dim=0)
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_the_released_file_becomes_a_clip_model_that_test_models_scores(tmp_path, monkeypatch, capfd):
    released = tmp_path / "mobilenetv2_jester_online.pth.tar"
    torch.save(fill(MobileNetV2(27).state_dict()), released)
    back = tmp_path / "clip.pth.tar"
    done = convert(monkeypatch, capfd, released, "-o", back, "--to_clip", "--num_segments", 3)
    assert done.status == 0 and "clip checkpoint, mobilenetv2" in done.err and "27 classes" in done.err
    content = load(back)
    assert content["class_names"] == list(JESTER_CLASSES) and content["dataset"] == "jester"
    assert content["settings"]["shift_direction"] == "unidirectional" and content["settings"]["num_segments"] == 3
    assert all(key.startswith("module.") for key in content["state_dict"])

    videos = {str(i): (3, i) for i in range(4)}  # three frames each: those of the clip
    home = tmp_path / "data" / "jester"
    make_frames(tmp_path / "six digits", videos)
    for name in videos:
        (home / "20bn-jester-v1" / name).mkdir(parents=True)
        for i in range(1, 4):
            (tmp_path / "six digits" / name / f"{i:06d}.jpg").rename(home / "20bn-jester-v1" / name / f"{i:05d}.jpg")
    write_list(home / "val_videofolder.txt", videos)
    (home / "category.txt").write_text("\n".join(JESTER_CLASSES) + "\n")
    kept = {}
    monkeypatch.setattr(test_models, "write_report", lambda scores, *_, **__: kept.update(scores=scores))
    done = run(monkeypatch, capfd, "test_models", "jester", "--weights", back, "--root_dataset", tmp_path / "data",
               "-j", 0, "--input_size", 64, "--out", tmp_path / "report", "--device", "cpu")
    assert done.status == 0, done.err
    assert done.out.strip().splitlines()[-1].startswith("Overall Prec@1")

    preprocessing = replace(OnlineTSM(released).preprocessing, scale_size=73, crop_size=64)
    streamed = score_online(OnlineTSM(released), TSNDataSet(
        home / "20bn-jester-v1", home / "val_videofolder.txt", 3, image_tmpl="{:05d}.jpg",
        transform=TestProtocol().transform(preprocessing), test_mode=True), stride=1, streams=2)
    wanted = kept["scores"].logits
    assert float((streamed.scores.logits - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


def test_bare_is_the_released_form(golden, tmp_path, monkeypatch, capfd):
    file = write(tmp_path / "ckpt.pth.tar", one_way(num_class=27), names=None)
    assert convert(monkeypatch, capfd, file, "-o", tmp_path / "bare.pth.tar", "--bare").status == 0
    content = load(tmp_path / "bare.pth.tar")
    assert [[k, list(v.shape)] for k, v in content.items()] == golden("state_dict_keys")["online_mobilenetv2"]
    assert torch.equal(logits(tmp_path / "bare.pth.tar"), logits(file))
    # An online file of ours can lose its metadata later as well.
    convert(monkeypatch, capfd, file, "-o", tmp_path / "online.pth.tar")
    assert convert(monkeypatch, capfd, tmp_path / "online.pth.tar", "-o", tmp_path / "b.pth.tar", "--bare").status == 0
    assert load(tmp_path / "b.pth.tar").keys() == content.keys()


def test_the_frame_rate_that_the_demo_will_assume_is_logged(tmp_path, monkeypatch, capfd):
    file, out = write(tmp_path / "ckpt.pth.tar", one_way()), tmp_path / "online.pth.tar"
    done = convert(monkeypatch, capfd, file, "-o", out)
    assert done.status == 0 and "no --frame_rate: the demo will feed this model 12 frames per second" in done.err
    assert load(out)["frame_rate"] is None
    done = convert(monkeypatch, capfd, file, "-o", tmp_path / "bare.pth.tar", "--bare", "--frame_rate", 6)
    assert done.status == 0 and "--frame_rate has no effect with --bare" in done.err
    assert frame_rate_of(tmp_path / "bare.pth.tar") == frame_rate_of(out) == 12
    torch.save({**load(out), "frame_rate": float("nan")}, out)
    with pytest.raises(UserError, match="online.pth.tar: its frame_rate is 'nan', not a number of frames per second"):
        frame_rate_of(out)


def test_a_clip_checkpoint_of_the_original_by_name_and_by_flags(tmp_path, monkeypatch, capfd):
    file = write(tmp_path / PUBLISHED, one_way(), metadata=False)
    out = tmp_path / "online.pth.tar"
    assert_refused(convert(monkeypatch, capfd, file, "-o", out), "two-way shift")
    assert convert(monkeypatch, capfd, file, "-o", out, "--shift_direction", "unidirectional").status == 0
    unnamed = write(tmp_path / "mine.pth.tar", one_way("resnet18", shift_div=4), metadata=False)
    assert_refused(convert(monkeypatch, capfd, unnamed, "-o", out), "neither metadata nor", "--arch")
    done = convert(monkeypatch, capfd, unnamed, "-o", out, "--arch", "resnet18", "--shift_div", 4,
                   "--shift_direction", "unidirectional", "--input_size", 64)
    assert done.status == 0, done.err
    assert load(out)["settings"] == {
        **one_way("resnet18", shift_div=4, shift_place="blockres").to_dict(), "num_segments": 8}


def test_the_clip_checkpoint_has_the_published_entries(tmp_path, monkeypatch, capfd):
    torch.save(fill(MobileNetV2(5).state_dict()), tmp_path / "five.pth.tar")
    convert(monkeypatch, capfd, tmp_path / "five.pth.tar", "-o", tmp_path / "clip.pth.tar", "--to_clip")
    content = load(tmp_path / "clip.pth.tar")
    assert {"epoch", "arch", "state_dict", "optimizer", "best_prec1"} <= set(content)
    assert content["class_names"] is None and content["settings"]["num_segments"] == 8  # five classes: not Jester's
    assert ["base_model.features.3.conv.0", 24, 3] in content["shift_layers"]
    found = load_checkpoint(tmp_path / "clip.pth.tar")
    model = TSN(5, 8, "RGB", base_model="mobilenetv2", pretrain="none", is_shift=True, print_spec=False,
                shift_direction="unidirectional")
    load_weights(model, found.weights, "")
    assert torch.equal(model.new_fc.weight, load(tmp_path / "five.pth.tar")["classifier.weight"])


# ---- refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("spec, words", [
    (one_way(shift_direction="bidirectional"), ["two-way shift", "--force"]),
    (one_way("resnet18", temporal_pool=True), ["temporal pooling"]),
    (one_way("resnet50", non_local=True), ["non-local"]),
    (one_way("resnet18", modality="Flow"), ["Flow"]),
    (one_way("resnet18", modality="RGBDiff"), ["RGBDiff"]),
], ids=["two-way", "tpool", "nl", "flow", "rgbdiff"])
def test_models_that_cannot_stream(spec, words, tmp_path, monkeypatch, capfd):
    file = write(tmp_path / "ckpt.pth.tar", spec)
    done = convert(monkeypatch, capfd, file, "-o", tmp_path / "online.pth.tar")
    assert_refused(done, "ckpt.pth.tar", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pth.tar"]


def test_force_converts_a_two_way_model_and_every_use_warns(tmp_path, monkeypatch, capfd):
    file = write(tmp_path / "ckpt.pth.tar", one_way(shift_direction="bidirectional"))
    out = tmp_path / "online.pth.tar"
    done = convert(monkeypatch, capfd, file, "-o", out, "--force")
    assert done.status == 0 and "not what was trained" in done.err
    same = write(tmp_path / "one_way.pth.tar", one_way())
    capfd.readouterr()
    assert torch.equal(logits(out), logits(same))
    assert "was converted from a two-way shift by force" in capfd.readouterr().err
    assert load(out)["trained_direction"] == "bidirectional"


def test_wrong_files_and_flags(tmp_path, monkeypatch, capfd):
    file, out = write(tmp_path / "ckpt.pth.tar", one_way()), tmp_path / "online.pth.tar"
    (tmp_path / "text.pth.tar").write_text("no checkpoint")
    (tmp_path / "half.pth.tar").write_bytes(file.read_bytes()[:20000])

    def refused(*argv):
        done = convert(monkeypatch, capfd, *argv)
        assert not out.exists()
        return done
    assert_refused(refused(tmp_path / "nowhere.pth", "-o", out), "no such checkpoint")
    assert_refused(refused(tmp_path / "text.pth.tar", "-o", out), "text.pth.tar is not a")
    assert_refused(refused(tmp_path / "half.pth.tar", "-o", out), "half.pth.tar is not a readable checkpoint")
    assert_refused(refused(file, "-o", file), "--output", "would overwrite the input")
    assert_refused(refused(file, "-o", tmp_path / "text.pth.tar" / "x.pth"), "cannot write")
    assert_refused(refused(file, "-o", out, "--to_clip"), "is a clip checkpoint already")
    assert_refused(refused(file, "-o", out, "--to_clip", "--bare"), "exclude each other")
    assert_refused(refused(file, "-o", out, "--shift_div", 4), "shift_div 8 there, 4 here")
    assert_refused(refused(file, "-o", out, "--arch", "resnet18"), "arch 'mobilenetv2'")
    assert_refused(refused(file, "-o", out, "--frame_rate", 0), "--frame_rate 0.0")
    assert_refused(refused(file, "-o", out, "--shift_direction", "sideways"),
                   "--shift_direction 'sideways': choose bidirectional")
    assert_refused(refused(file), "-o")
    assert load_checkpoint(file).spec == one_way(), "the checkpoint is untouched"


def test_nothing_to_convert(tmp_path, monkeypatch, capfd):
    online, other = tmp_path / "online.pth.tar", tmp_path / "other.pth.tar"
    convert(monkeypatch, capfd, write(tmp_path / "ckpt.pth.tar", one_way()), "-o", online)
    assert_refused(convert(monkeypatch, capfd, online, "-o", other), "is an online file already", "--to_clip")
    resnet = write(tmp_path / "resnet.pth.tar", one_way("resnet18"))
    assert_refused(convert(monkeypatch, capfd, resnet, "-o", other, "--bare"), "--bare", "resnet18", "leave out --bare")
    narrow = write(tmp_path / "narrow.pth.tar", one_way(shift_div=4))
    assert_refused(convert(monkeypatch, capfd, narrow, "-o", other, "--bare"), "1/4 blockres")
    assert_refused(convert(monkeypatch, capfd, online, "-o", other, "--to_clip", "--num_segments", 0),
                   "--num_segments 0")
    weights = load(online)["state_dict"]
    weights.pop("features.5.conv.0.weight")
    torch.save(weights, tmp_path / "less.pth.tar")
    assert_refused(convert(monkeypatch, capfd, tmp_path / "less.pth.tar", "-o", other, "--to_clip"), "1 keys missing",
                   "features.5.conv.0")
    assert not other.exists()
