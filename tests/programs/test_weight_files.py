"""Every kind of weight file: tools/predict.py scores what test_models.py scores, with the same numbers."""
import json

import numpy as np
import pytest
import torch
import torchvision

from ops.checkpoints.online_format import bare_content, load_streamable, online_content
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint
from tests.helpers.golden_model import fill
from tests.helpers.programs import assert_refused, make_frames, run, write_list

CLASSES = ["open", "close", "lift", "drop", "turn"]
SPEC = ModelSpec(len(CLASSES), 4, arch="resnet18", shift=True, shift_div=4, input_size=56)
ONE_WAY = SPEC.with_(shift_direction="unidirectional")


def ours(path, spec=SPEC):
    """A checkpoint as main.py writes it, with weights that give every class another score."""
    model = TSN.from_spec(spec)
    model.load_state_dict(fill(model.state_dict()))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"epoch": 1, "arch": spec.arch, "settings": spec.to_dict(), "dataset": "mine", "class_names": CLASSES,
                     "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, path)
    return path


def only_weights(path, whole):
    """The weights of the file `whole`, and nothing else of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"state_dict": torch.load(whole, weights_only=True)["state_dict"]}, path)
    return path


def online(path, whole, bare=False):
    save_checkpoint((bare_content if bare else online_content)(load_streamable(whole)), path)
    return path


NAME = "TSM_mine_RGB_resnet18_shift4_blockres_avg_segment4_e1.pth"
MOBILENET = ONE_WAY.with_(arch="mobilenetv2", shift_div=8)
FILES = {  # name: (a function that writes the file, flags, where its description is from)
    "ours": (lambda d: ours(d / "a.pth"), [], "metadata"),
    "ours, other flags": (lambda d: ours(d / "a.pth"), ["--no-shift"], "metadata"),
    "published": (lambda d: only_weights(d / NAME, ours(d / "a.pth")), ["--input_size", 56], "file name"),
    "published directory": (lambda d: only_weights(d / NAME[:-4] / "ckpt.best.pth.tar", ours(d / "a.pth")),
                            ["--input_size", 56], "file name"),
    "online MobileNetV2": (lambda d: online(d / "online.pth", ours(d / "a.pth", MOBILENET)), [], "metadata"),
    "online ResNet": (lambda d: online(d / "online.pth", ours(d / "a.pth", ONE_WAY)), [], "metadata"),
    "released online form": (lambda d: online(d / "online.pth", ours(d / "a.pth", MOBILENET), bare=True),
                             ["--input_size", 56], "released online form"),
    "nameless": (lambda d: only_weights(d / "a.pth", ours(d / "whole.pth", ONE_WAY)),
                 ["--arch", "resnet18", "--modality", "RGB", "--shift", "--shift_div", 4, "--shift_place", "blockres",
                  "--shift_direction", "unidirectional", "--input_size", 56], "keys and the flags"),
}


@pytest.mark.parametrize("program, flags", [
    ("test_models", ["mine", "--dataset_file", "own.yaml", "--weights", "a.pth", "-j", 0, "--out", "report"]),
    ("test_models", ["mine", "--dataset_file", "own.yaml", "--weights", "a.pth", "-j", 0, "--out", "report", "--online"]),
    ("tools.predict", ["--weights", "a.pth", "x"]),
    ("main", ["mine", "RGB", "--dataset_file", "own.yaml", "--tune_from", "a.pth"]),
    ("main", ["mine", "RGB", "--dataset_file", "own.yaml", "--resume", "a.pth"]),
    ("main", ["mine", "RGB", "--dataset_file", "own.yaml", "--resume", "a.pth", "--evaluate"]),
    ("main", ["mine", "RGB", "--dataset_file", "own.yaml", "--pretrain", "image.pth"]),
    ("online_demo.main", ["x", "--weights", "a.pth", "--headless"]),
    ("tools.convert_to_online", ["a.pth", "-o", "out.pth"]),
    ("tools.export", ["a.pth"]),
], ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value[2:])))
def test_every_program_refuses_weights_that_are_not_finite(program, flags, videos, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    if program == "main":
        flags = [*flags, "--arch", "resnet18", "--shift", "--shift_div", 4, "--shift_direction", "unidirectional",
                 "--num_segments", 4, "--input_size", 56, "--device", "cpu"]
    content = torch.load(ours(tmp_path / "a.pth", ONE_WAY), weights_only=True)
    content["state_dict"]["module.new_fc.bias"][2] = float("nan")
    content["state_dict"]["module.base_model.bn1.running_var"][:] = float("inf")
    save_checkpoint(content, tmp_path / "a.pth")
    image = torchvision.models.resnet18().state_dict()
    image["bn1.running_var"][0] = float("nan")
    torch.save(image, tmp_path / "image.pth")
    known = {file for file in tmp_path.rglob("*")}
    done = run(monkeypatch, capfd, program, *flags)
    first = "bn1.running_var" if "image.pth" in flags else "base_model.bn1.running_var"
    assert_refused(done, "image.pth: 1 of" if "image.pth" in flags else "a.pth: 2 of",
                   f"tensors hold NaN or Inf, the first is {first}")
    assert not [file for file in set(tmp_path.rglob("*")) - known if file.is_file()]


@pytest.fixture
def videos(tmp_path):
    """Frame directories, listed as the data set `mine`."""
    listed = {"x": (19, 0), "y": (5, 1), "z": (8, 4)}
    make_frames(tmp_path, listed, size=(90, 70))
    write_list(tmp_path / "l.txt", listed)
    (tmp_path / "category.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (tmp_path / "own.yaml").write_text("mine: {root: ., train_list: l.txt, val_list: l.txt, categories: category.txt}\n")
    return [tmp_path / name for name in listed]


def scored(monkeypatch, capfd, directory, *flags):
    """(scores (N, num_class), standard error) of test_models.py."""
    done = run(monkeypatch, capfd, "test_models", "mine", "--dataset_file", directory / "own.yaml", "--device", "cpu",
               "-j", 0, "--out", directory / "report", *flags)
    assert done.status == 0, done.err
    return np.load(directory / "report" / "scores.npy"), done.err


def predicted(monkeypatch, capfd, videos, *flags):
    """(scores (N, num_class), class names, standard error) of tools/predict.py."""
    done = run(monkeypatch, capfd, "tools.predict", *videos, "--device", "cpu", "-j", 0, "--json", "--topk", 9, *flags)
    assert done.status == 0, done.err
    rows = [sorted(result["predictions"], key=lambda row: row["label"]) for result in json.loads(done.out)]
    return np.array([[row["score"] for row in by_label] for by_label in rows]), [row["class"] for row in rows[0]], done.err


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("segments", [None, 3])
def test_both_programs_score_every_kind_of_file_alike(kind, segments, videos, tmp_path, monkeypatch, capfd):
    write, flags, source = FILES[kind]
    path = write(tmp_path)
    more = [] if segments is None else ["--test_segments", segments]
    wanted, log = scored(monkeypatch, capfd, tmp_path, "--weights", path, *flags, *more)
    assert f"(by its {source})" in log
    scores, names, warned = predicted(monkeypatch, capfd, videos, "--weights", path, *flags, *more)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-6)
    assert np.ptp(wanted, axis=1).min() > 1e-3  # the classes differ
    assert names == (CLASSES if source == "metadata" else list("01234")), warned


def test_num_segments_is_another_name_for_test_segments(videos, tmp_path, monkeypatch, capfd):
    path = ours(tmp_path / "a.pth")
    scores = [predicted(monkeypatch, capfd, videos, "--weights", path, flag, 3)[0]
              for flag in ("--test_segments", "--num_segments")]
    assert np.array_equal(*scores)


@pytest.mark.parametrize("program", ["test_models", "tools.predict"])
def test_a_file_that_nothing_describes_is_refused_in_the_same_words(program, videos, tmp_path, monkeypatch, capfd):
    path = only_weights(tmp_path / "a.pth", ours(tmp_path / "whole.pth"))
    argv = (["mine", "--dataset_file", tmp_path / "own.yaml"] if program == "test_models" else videos)
    assert_refused(run(monkeypatch, capfd, program, *argv, "--weights", path),
                   f"{path}: unknown model: it has neither metadata nor a published name", "give --arch and",
                   "--shift_direction")


def test_scores_that_overflow_are_refused_though_the_weights_are_finite(videos, tmp_path, monkeypatch, capfd):
    content = torch.load(ours(tmp_path / "a.pth"), weights_only=True)
    content["state_dict"]["module.new_fc.weight"][:] = 3e38
    save_checkpoint(content, tmp_path / "a.pth")
    done = run(monkeypatch, capfd, "test_models", "mine", "--dataset_file", tmp_path / "own.yaml", "--device", "cpu", "-j",
               0, "--out", tmp_path / "report", "--weights", tmp_path / "a.pth")
    assert_refused(done, "a.pth: its scores of 3 of 3 videos are NaN or Inf")
    assert not (tmp_path / "report").exists()
