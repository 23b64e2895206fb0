"""Exported models in the programs: the same scores, reports and answers as the checkpoint that they come from."""
import json
import re
import sys

import pytest
import torch

from ops.checkpoints.checkpoint import load_checkpoint
from ops.checkpoints.online_format import load_streamable, online_content
from ops.runtimes.accuracy import Cost
from ops.runtimes.compare import agreement
from ops.runtimes.export import export_model, to_openvino
from ops.runtimes.exported_file import read_exported, write_exported
from ops.runtimes.publish import publish
from ops.streaming.online import OnlineTSM
from ops.weights import save_checkpoint
from tests.helpers.clips import real_video
from tests.helpers.members import member
from tests.helpers.programs import assert_refused, make_somethingv2, run

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = [f"Doing {i}" for i in range(4)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A data set, a checkpoint, and its exports as clip.onnx, clip.xml, clip.pt2 and step.onnx."""
    root = tmp_path_factory.mktemp("exported")
    make_somethingv2(root / "data")
    path = member(root / "ckpt.pth.tar", shift=True, shift_direction="unidirectional")
    found = load_checkpoint(path)
    facts = {"class_names": found.class_names, "dataset": found.dataset}
    clip = export_model(found.build(), **facts)
    publish(clip, root / "clip.onnx", found.build())
    write_exported(to_openvino(clip), root / "clip.xml")
    write_exported(export_model(found.build(), "torch", **facts), root / "clip.pt2")
    online = load_streamable(path)
    save_checkpoint({**online_content(online), "frame_rate": 6.0}, root / "online.pth.tar")
    write_exported(export_model(OnlineTSM(online.build()), frame_rate=6.0, **facts), root / "step.onnx")
    return root


def score(files, monkeypatch, capfd, *argv):
    return run(monkeypatch, capfd, "test_models", "somethingv2", "--root_dataset", files / "data", "-j", 0, "--device",
               "cpu", "--out", files / "out", *argv)


def test_each_format_scores_a_list_like_the_checkpoint(files, monkeypatch, capfd):
    protocol = ["--twice_sample", "--test_crops", 3, "--batch_size", 3]
    wanted = score(files, monkeypatch, capfd, "--weights", files / "ckpt.pth.tar", *protocol)
    assert wanted.status == 0 and re.fullmatch(r"Overall Prec@1 .*% Prec@5 .*%", wanted.out.splitlines()[-1])
    for name in ("clip.onnx", "clip.xml", "clip.pt2", "step.onnx"):
        got = score(files, monkeypatch, capfd, "--weights", files / name, *protocol)
        assert got.status == 0 and got.out == wanted.out, got.err
        assert "resnet18 RGB, 3 segments, shift 1/8 blockres (by its metadata)" in got.err


def test_an_ensemble_mixes_formats(files, monkeypatch, capfd):
    alone = score(files, monkeypatch, capfd, "--weights", files / "ckpt.pth.tar")
    weights = ",".join(str(files / name) for name in ("ckpt.pth.tar", "clip.xml", "clip.pt2"))
    mixed = score(files, monkeypatch, capfd, "--weights", weights, "--coeff", "1,2,0.5")
    assert mixed.status == 0 and mixed.out == alone.out


def test_a_step_streams_a_list_like_the_checkpoint(files, monkeypatch, capfd):
    wanted = score(files, monkeypatch, capfd, "--weights", files / "ckpt.pth.tar", "--online", "--online_stride", 2)
    got = score(files, monkeypatch, capfd, "--weights", files / "step.onnx", "--online", "--online_stride", 2)
    assert got.status == 0 and got.out == wanted.out
    assert_refused(score(files, monkeypatch, capfd, "--weights", files / "clip.onnx", "--online"),
                   "--online", "clip.onnx is an exported clip model", "--model online")


@pytest.mark.parametrize("argv, words", [
    (["--weights", "{root}/clip.onnx", "--test_segments", 5], ["was exported with num_segments 3, not 5"]),
    (["--weights", "{root}/clip.onnx", "--full_res"], ["exported for (clips, 9, 32, 32)"]),
    (["--weights", "{root}/none.onnx"], ["cannot read", "none.onnx: No such file"]),
    (["--weights", "{root}/text.onnx"], ["text.onnx is not a readable ONNX file"]),
    (["--weights", "{root}/text.pt2"], ["text.pt2 is not a readable torch.export file"]),
])
def test_what_does_not_fit_is_one_line(files, monkeypatch, capfd, argv, words):
    for name in ("text.onnx", "text.pt2"):
        (files / name).write_text("not a model")
    assert_refused(score(files, monkeypatch, capfd, *(str(word).format(root=files) for word in argv)), *words)


def test_predictions_are_the_checkpoints(files, monkeypatch, capfd):
    def answers(weights):
        done = run(monkeypatch, capfd, "tools.predict", real_video("bikes.mp4"), "--weights", files / weights, "--json",
                   "--device", "cpu")
        assert done.status == 0, done.err
        report, = json.loads(done.out)
        return report
    wanted = answers("ckpt.pth.tar")
    for name in ("clip.onnx", "clip.pt2", "step.onnx"):
        got = answers(name)
        for one, other in zip(got.pop("predictions"), wanted["predictions"]):
            assert one["class"] == other["class"] and abs(one["probability"] - other["probability"]) < 1e-4
        assert got == {key: value for key, value in wanted.items() if key != "predictions"}


def test_the_demo_runs_an_exported_step(files, monkeypatch, capfd):
    def decisions(*argv):
        done = run(monkeypatch, capfd, "online_demo.main", real_video("bikes.mp4"), "--headless", "--json",
                   "--max_seconds", 2, *argv)
        assert done.status == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]
    wanted = decisions("--weights", files / "online.pth.tar", "--device", "cpu")
    for argv in ([], ["--backend", "openvino"]):
        got = decisions("--weights", files / "step.onnx", *argv)
        assert len(got) == len(wanted) > 5, "the rate of the weight file is in the exported file"
        assert [row["class"] for row in got] == [row["class"] for row in wanted]
    assert_refused(run(monkeypatch, capfd, "online_demo.main", real_video("bikes.mp4"), "--headless", "--weights",
                       files / "clip.onnx"), "this is an exported clip model")


def test_inspection_shows_what_a_file_says(files, monkeypatch, capfd):
    names = ["clip.onnx", "clip.xml", "clip.pt2", "step.onnx"]
    done = run(monkeypatch, capfd, "tools.inspect_checkpoint", *(files / name for name in names), "--json")
    reports = dict(zip(names, json.loads(done.out)))
    assert done.status == 0
    assert [report["format"] for report in reports.values()] == ["onnx", "openvino", "torch", "onnx"]
    for report in reports.values():
        assert report["class_names"] == NAMES and report["spec"]["num_segments"] == 3 and "torch" in report["versions"]
    assert reports["clip.onnx"]["measured"]["top1_agreement"] == 100
    assert reports["clip.xml"]["inputs"] == {"clips": ["batch", 9, 32, 32]}
    assert reports["step.onnx"]["frame_rate"] == 6 and "online_demo" in reports["step.onnx"]["loads_as"]
    words = run(monkeypatch, capfd, "tools.inspect_checkpoint", files / "clip.pt2").out
    assert "exported video model, torch, float32" in words and "4: Doing 0, Doing 1, Doing 2, ..." in words


def test_int8_is_calibrated_and_measured_on_the_data_set(files, monkeypatch, capfd):
    export = ["tools.export", files / "ckpt.pth.tar", "--precision", "int8", "--model", "clip", "--root_dataset",
              files / "data", "--calibration_clips", 4, "-o"]
    monkeypatch.setattr("tools.export.export_model", lambda *_, **__: read_exported(files / "clip.onnx"))
    done = run(monkeypatch, capfd, *export, files / "int8.onnx")
    assert done.status == 0, done.err
    assert re.search(r"validation list: top-1 \d+\.\d\d%, in float32 .*% of 7 answers are the same", done.err)
    measured = read_exported(files / "int8.onnx").info.measured
    assert measured["validation_videos"] == 7 and measured["validation_probability_difference"] > 0
    scored = score(files, monkeypatch, capfd, "--weights", files / "int8.onnx")
    assert f"Overall Prec@1 {measured['validation_top1']:.2f}%" in scored.out

    same = agreement(torch.eye(4), torch.eye(4))
    monkeypatch.setattr("tools.shared.calibration.measure_cost", lambda *_, **__: Cost(90.0, 87.9, same))
    assert_refused(run(monkeypatch, capfd, *export, files / "costly.onnx", "--max_drop", 2),
                   "int8 costs 2.10 points of top-1", "more than --max_drop 2")
    assert not (files / "costly.onnx").exists()


def test_a_missing_package_is_one_line(files, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert_refused(score(files, monkeypatch, capfd, "--weights", files / "clip.xml"),
                   "needs the package openvino", "pip install -r requirements-runtimes.txt")
    assert score(files, monkeypatch, capfd, "--weights", files / "clip.onnx").status == 0
