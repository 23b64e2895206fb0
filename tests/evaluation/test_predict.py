"""Predictor: a checkpoint, a released model's name or a runtime, and videos."""
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import ops.evaluation
from ops.checkpoints.model_zoo import MODEL_ZOO
from ops.common.errors import UserError
from ops.data.preprocessing import Preprocessing
from ops.data.test_protocol import PROTOCOLS
from ops.evaluation.predict import Predictor
from ops.spec import ModelSpec
from tests.helpers.classifier import NAMES, make_classifier
from tests.helpers.clips import clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("weights") / "w.pth.tar")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("video") / "v.mp4", 30)


def test_a_checkpoint_names_the_classes_of_a_video(weights, video):
    rows = ops.evaluation.Predictor(str(weights))(str(video))
    assert len(rows) == 5 and set(rows[0]) == {"class", "label", "probability", "score"}
    assert [row["class"] for row in rows] == [NAMES[row["label"]] for row in rows]
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_a_report_holds_the_predictions_and_the_timeline(weights, video):
    predictor = Predictor(weights, device="cpu")
    report = predictor.report(video, topk=2)
    assert report == {"video": str(video), "frames": 30, "seconds": pytest.approx(1.2),
                      "predictions": predictor(video, topk=2)}
    windowed = predictor.report(video, window=0.6, stride=0.6, topk=6, batch_size=2)
    assert [(row["start"], row["end"]) for row in windowed["timeline"]] == [(0.0, 0.6), (0.6, 1.2)]
    by_label = [sorted(rows, key=lambda row: row["label"]) for rows in
                (windowed["predictions"], *(row["predictions"] for row in windowed["timeline"]))]
    mean, first, second = np.array([[row["score"] for row in rows] for rows in by_label])
    np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_reports_come_in_the_videos_order_with_the_reasons_of_failures(weights, video, tmp_path, workers):
    predictor = Predictor(weights, device="cpu")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    first, second, third = predictor.reports([video, tmp_path / "broken.mp4", video], workers=workers)
    assert first == third == predictor.report(video)
    assert isinstance(second, UserError) and "unreadable video" in str(second)


def test_options_and_protocol_are_those_asked_for(weights, video):
    predictor = Predictor(weights, device="cpu", protocol=PROTOCOLS["accurate"], shift=False, num_segments=3)
    assert predictor.runtime.spec == Predictor(weights).runtime.spec.with_(shift=False, num_segments=3)
    assert predictor(video) == Predictor(weights, protocol="accurate", device="cpu", shift=False, num_segments=3)(video)
    assert predictor(video) != Predictor(weights, device="cpu", shift=False, num_segments=3)(video)
    with pytest.raises(UserError, match="protocol 'fast': choose efficient or accurate"):
        Predictor(weights, protocol="fast")


def test_a_released_models_name_stands_for_its_file(cache, monkeypatch, tmp_path):
    name = next(row.name for row in MODEL_ZOO if row.dataset == "jester")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot download"):
        monkeypatch.setenv("TSM_MODELS_URL", (tmp_path / "nowhere").as_uri())
        Predictor(name)
    content = make_classifier(tmp_path / "w.pth.tar", arch="mobilenetv2", shift_direction="unidirectional")
    shutil.copy(content, cache / name)  # as fetched before
    by_name = Predictor(name.split(".")[0], device="cpu")
    assert by_name.class_names == NAMES and by_name.runtime.spec.arch == "mobilenetv2"
    shutil.copy(make_classifier(tmp_path / "x.pth.tar"), tmp_path / name)
    assert Predictor(name, device="cpu").runtime.spec.arch == "resnet18", "a file of that name comes first"


class Brightness:
    """A runtime without a network: dark or bright."""
    spec = ModelSpec(2, 3, input_size=32)
    preprocessing = Preprocessing((0.0,), (1.0,), scale_size=32, crop_size=32)
    class_names = None

    def __call__(self, clips):
        bright = clips.float().mean(dim=(1, 2, 3)) / 255
        return torch.stack([1 - bright, bright], dim=1)


def test_any_runtime_predicts(video):
    predictor = Predictor(Brightness())
    rows = predictor(video)
    assert predictor.class_names is None and {row["class"] for row in rows} == {"0", "1"}
    assert sum(row["score"] for row in rows) == pytest.approx(1)


def test_a_class_has_its_probability_also_in_windows_that_do_not_list_it(tmp_path):
    """A second of black, a second of white: each is the best class of one window."""
    for i in range(20):
        Image.new("RGB", (40, 40), "white" if i >= 10 else "black").save(tmp_path / f"{i:05d}.png")
    report = Predictor(Brightness()).report(tmp_path, window=1, stride=1, fps=10, topk=1)
    assert [[row["class"] for row in window["predictions"]] for window in report["timeline"]] == [["0"], ["1"]]
    likely, unlikely = torch.tensor([1.0, 0.0]).softmax(0).tolist()
    assert report["probabilities"]["0"] == pytest.approx([likely, unlikely], abs=1e-6)
    assert report["probabilities"]["1"] == pytest.approx([unlikely, likely], abs=1e-6)


def test_models_of_optical_flow_are_refused(tmp_path):
    with pytest.raises(UserError, match="optical flow"):
        Predictor(make_classifier(tmp_path / "flow.pth", modality="Flow"), device="cpu")


def test_scores_that_are_not_finite_are_refused(video):
    runtime = Brightness()
    broken = Predictor(type("Broken", (), {"__call__": lambda self, clips: runtime(clips) * float("nan"),
                                           "spec": runtime.spec, "preprocessing": runtime.preprocessing,
                                           "class_names": None})())
    with pytest.raises(UserError, match="not finite"):
        broken(video)
    assert isinstance(next(broken.reports([video])), UserError)
