"""The quickstart: what it deletes and resumes, and both acts run small."""
import base64
import contextlib
import importlib
import io
import json
import re
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from PIL import Image

from ops.prepare.gestures.definition import FPS
from ops.streaming.stream_metrics import read_ground_truth, read_predictions, score_stream
from tests.conftest import ROOT
from tests.helpers.charts import capture_figures, lines_of
from tests.helpers.programs import assert_refused, run
from tests.helpers.streaming import decoded
from tools import quickstart
from tools.showcase import steps as steps_module
from tools.showcase.steps import Steps

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- directories ----------------------------------------------------------------------------------------------

def test_fresh_leaves_a_directory_without_a_quickstart_alone(tmp_path, monkeypatch, capfd, executed):
    monkeypatch.chdir(ROOT)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    assert_refused(run(monkeypatch, capfd, "tools.quickstart", "--out", tmp_path, "--fresh"), "--fresh", "no steps.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "mine.txt"] and not executed
    quickstart.delete_results(tmp_path / "checkpoint")  # empty
    quickstart.delete_results(tmp_path / "absent")


def test_fresh_deletes_only_what_a_quickstart_left(tmp_path):
    left = [quickstart.checkpoint(Path("."), "uni", 5), f"log/{quickstart.run_name('tsn', 7)}/log.csv", "tsm/results.json",
            "stream/truth.json", "report.html", "results.json", "demo_online.pth.tar", "annotated.mp4", "steps.json"]
    kept = ["checkpoint/TSM_somethingv2_RGB_resnet50_avg_segment8_e50/ckpt.pth.tar", "log/other/log.csv", "mine.txt"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    quickstart.delete_results(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log", "mine.txt"]


def test_an_out_that_is_a_file_is_one_line(tmp_path, monkeypatch, capfd, executed):
    monkeypatch.chdir(ROOT)
    (tmp_path / "x").write_text("")
    for flags in ([], ["--fresh"]):
        assert_refused(run(monkeypatch, capfd, "tools.quickstart", "--out", tmp_path / "x", *flags), "x: cannot write there")


def test_a_training_that_starts_from_other_weights_is_resumed_too(tmp_path, executed):
    args = Namespace(epochs=1, workers=0, device="cpu")
    file = quickstart.checkpoint(tmp_path, "uni", 1)
    (tmp_path / "kill").touch()
    for _ in range(2):
        steps = Steps(tmp_path / "steps.json")
        steps.records["train tsm"] = {"ended": 0.0}
        with pytest.raises(KeyboardInterrupt):
            quickstart.train(steps, tmp_path, tmp_path, args, model="uni", start="tsm")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("half")
    first, second = executed
    assert second == [*first, "--resume", str(file)] and "--tune_from" in first


# ---- both acts ------------------------------------------------------------------------------------------------

@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Runs the steps' programs in this process. The words of each, and the content of results.json when it began."""
    programs = []

    def execute(words, stdout):
        results = tmp_path / "out" / "results.json"
        programs.append((words, json.loads(results.read_text()) if results.exists() else None))
        monkeypatch.setattr(sys, "argv", list(words))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = importlib.import_module(words[0][:-3].replace("/", ".")).main()
        if stdout:
            stdout.write_text(printed.getvalue())
        return status or 0
    monkeypatch.setattr(steps_module, "execute", execute)
    monkeypatch.chdir(ROOT)
    return programs


def test_both_acts_small(tmp_path, monkeypatch, capfd, in_process):
    out = tmp_path / "out"
    flags = ["--out", out, "--root_dataset", tmp_path / "data", "--videos", 10, "--epochs", 1, "--gestures", 3, "-j", 0,
             "--device", "cpu"]
    leave_other_runs(out)
    figures = capture_figures(monkeypatch)
    done = run(monkeypatch, capfd, "tools.quickstart", *flags)
    assert done.status == 0, done.err
    steps, results = json.loads((out / "steps.json").read_text()), json.loads((out / "results.json").read_text())
    assert list(steps) == ["videos", "frames", "lists", "train tsn", "train tsm", "test tsn", "test tsm", "twins",
                           "report", "train uni", "test uni", "convert", "long video", "demo", "report with stream"]
    assert set(results) == {"tsn_top1", "tsm_top1", "uni_top1", "streaming_top1", "streaming_frames", "seconds", "steps"}
    assert results["steps"] == steps and results["seconds"] == pytest.approx(sum(s["seconds"] for s in steps.values()))
    # The results and the page of act 1 are there before act 2 begins.
    results_before = {words[0] + (" uni" if "unidirectional" in words else ""): seen for words, seen in in_process}
    assert set(results_before["main.py uni"]) == {"tsn_top1", "tsm_top1", "seconds", "steps"}

    score = json.loads((out / "stream" / "score.json").read_text())
    predictions = read_predictions(out / "stream" / "answers.jsonl")
    truth = read_ground_truth(out / "stream" / "truth.json")
    assert results["streaming_top1"] == score["top1"] == score_stream(truth, predictions).top1 and len(score["known"]) == 3
    assert len(predictions) == pytest.approx(truth.seconds * quickstart.FRAME_RATE, abs=1)
    times, images = decoded(out / "annotated.mp4")
    assert len(times) == round(truth.seconds * FPS) and images.shape[2] > 640
    assert_self_contained((out / "report.html").read_text())
    *_, timeline, training = (figure.axes for figure in figures)
    assert {epoch for points in lines_of(training[0]).values() for epoch, _ in points} == {1}  # of the tested run
    assert len(timeline) == 1 and timeline[0].get_xlim() == pytest.approx((0, truth.seconds))

    first = len(in_process)
    again = run(monkeypatch, capfd, "tools.quickstart", *flags)
    assert again.status == 0 and len(in_process) == first and again.out.count("done before") == len(steps)
    assert json.loads((out / "results.json").read_text()) == results


def leave_other_runs(out):
    """What a run with other epochs and one with another recipe may have left in the directory."""
    (out / "log" / quickstart.run_name("tsm", 9)).mkdir(parents=True)
    (out / "log" / quickstart.run_name("tsm", 9) / "log.csv").write_text("epoch,train_top1\n0,50\n1,50\n")
    file = quickstart.checkpoint(out, "tsn", 1)
    file.parent.mkdir(parents=True)
    file.write_text("another training's")


def assert_self_contained(page):
    """All images are inside the page; the only file that it names is the video."""
    sources = re.findall(r'(?:src|href|poster)="([^"]*)"', page)
    assert {source for source in sources if not source.startswith("data:")} == {"annotated.mp4"}
    assert "The same network behind a camera" in page and "What it does not prove" in page
    images = [Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r'data:image/\w+;base64,([^"]+)"', page)]
    charts = [image for image in images if image.format == "PNG"]
    assert len(charts) == 4 and len(images) == 4 + 2 + 1  # the matrices among the charts; a video and its twin; the poster
    for image in images:
        image.load()
