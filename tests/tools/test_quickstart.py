"""The quickstart: its steps and how they go on, the long video's score against hand counts, both acts run small."""
import base64
import contextlib
import importlib
import io
import json
import re
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ops.common.errors import UserError
from ops.prepare.gestures.make import FPS
from ops.prepare.gestures.render import CLASSES
from ops.streaming.stream_metrics import (
    Answer,
    Gesture,
    Truth,
    draw_stream,
    read_answers,
    read_truth,
    score_stream,
    standing,
    stretches,
    truth_of,
)
from tests.conftest import ROOT
from tests.helpers.programs import assert_refused, run
from tests.helpers.streaming import decoded
from tools import quickstart
from tools.showcase import report as quickstart_report
from tools.showcase import steps as quickstart_steps
from tools.showcase import stream as quickstart_stream
from tools.showcase.steps import Steps


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- the score ----------------------------------------------------------------------------------------------

TRUTH = Truth(10, 9.0, [Gesture(1.0, 3.0, "a"), Gesture(4.0, 6.0, "b"), Gesture(7.0, 8.0, "c")])


def test_a_gesture_is_known_by_its_last_frame_or_shortly_after():
    # a: right from 1.5 s to its last frame (2.9 s). b: right only from 6.2 s on. c: right only while it lasts.
    answers = [Answer(0.0, "c"), Answer(1.5, "a"), Answer(3.0, "x"), Answer(6.2, "b"), Answer(7.2, "c"),
               Answer(7.7, None)]
    score = score_stream(TRUTH, answers)
    assert score.known == [True, True, False]
    assert score.top1 == pytest.approx(200 / 3)
    # frames inside gestures: 20 + 20 + 10; right: 1.5-2.9 s (15), none, 7.2-7.6 s (5)
    assert score.frames == pytest.approx(100 * 20 / 50)


@pytest.mark.parametrize("time, known", [(2.9, True), (3.0, True), (3.4, True), (3.5, False)])
def test_shortly_after_is_half_a_second(time, known):
    assert score_stream(TRUTH, [Answer(0.0, "x"), Answer(time, "a")]).known == [known, False, False]


def test_chance_turns_the_true_names_round():
    """At the ends a, a, b were answered: turned by one (b c a) none, by two (c a b) the second and the third."""
    score = score_stream(TRUTH, [Answer(0.0, "a"), Answer(6.9, "b")])
    assert score.known == [True, False, False]
    assert score.chance == pytest.approx(100 * (0 + 2 / 3) / 2)


def test_an_answer_stands_until_the_next_one():
    answers = [Answer(0.5, "a"), Answer(1.0, "a"), Answer(2.0, None), Answer(3.0, "b")]
    assert [standing(answers, t) for t in (0.4, 0.5, 1.9, 2.0, 9.0)] == [None, "a", "a", None, "b"]
    assert standing([Answer(0.3333, "a")], 4 / 12) == "a"  # written with four digits
    assert stretches(answers, 4.0) == [(0.5, 2.0, "a"), (2.0, 3.0, None), (3.0, 4.0, "b")]


def test_nothing_to_score_is_an_error():
    with pytest.raises(UserError, match="3 gestures and 0 answers"):
        score_stream(TRUTH, [])


def test_segments_become_seconds():
    truth = truth_of([(6, 17, 1), (24, 47, 0)], ["a", "b"], 60, 12)
    assert truth == Truth(12, 5.0, [Gesture(0.5, 1.5, "b"), Gesture(2.0, 4.0, "a")])


def test_the_image_shows_truth_over_answers():
    """At the middle of a gesture: its color above, the answer's below, green or red between them."""
    truth = Truth(10, 45.0, [Gesture(4.0, 8.0, "a"), Gesture(32.0, 36.0, "b")])
    image = draw_stream(truth, [Answer(0.0, "b"), Answer(5.0, "a"), Answer(10.0, None)], [True, False], ["a", "b"])
    row = image.height // 2  # 30 seconds each
    left, second = 148, 1880 / 30  # pixels: twice the shown ones

    def at(seconds, y):
        return "#%02x%02x%02x" % image.getpixel((int(left + second * (seconds % 30)), y + row * (seconds > 30)))
    assert [at(4.5, y) for y in (6, 56, 70)] == ["#8ecae6", "#1a7f37", "#1d6fa5"]
    assert [at(7.8, y) for y in (6, 70)] == ["#8ecae6", "#8ecae6"]
    assert [at(32.5, y) for y in (6, 56, 70)] == ["#1d6fa5", "#c62828", "#eceef1"]
    assert at(44.9, 6) == "#eceef1" and at(46, 6) == "#ffffff"  # the video ends at 45 seconds


@pytest.mark.parametrize("content", ["", "{}", '{"fps": 12, "seconds": 3, "gestures": [{"start": 1}]}'])
def test_files_of_another_kind_are_one_line(tmp_path, content):
    (tmp_path / "x").write_text(content)
    with pytest.raises(UserError, match="x: cannot be read as the truth of a stream"):
        read_truth(tmp_path / "x")
    (tmp_path / "x").write_text(content + "\n[]")
    with pytest.raises(UserError, match="x: cannot be read as answers of a stream"):
        read_answers(tmp_path / "x")
    with pytest.raises(UserError, match="No such file"):
        read_truth(tmp_path / "y")


# ---- the long video -----------------------------------------------------------------------------------------

def test_the_long_video_holds_what_its_truth_says(tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.showcase.stream", "--out", tmp_path / "s", "--gestures", 3)
    truth = read_truth(tmp_path / "s" / "truth.json")
    times, images = decoded(tmp_path / "s" / "gestures.mp4")
    frames, segments = quickstart_stream.render(3, 1)
    assert done.status == 0 and f"3 gestures in {truth.seconds:.0f} seconds" in done.out
    assert truth == truth_of(segments, CLASSES, len(frames), FPS)
    assert len(times) == len(frames) and times[-1] == pytest.approx(truth.seconds - 1 / FPS)
    assert np.abs(images.astype(int) - frames).mean() < 8
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["gestures.mp4", "truth.json"]


def test_each_eight_gestures_are_the_eight_classes_before_another_wall():
    frames, segments = quickstart_stream.render(10, 1)
    labels = [label for _, _, label in segments]
    assert sorted(labels[:8]) == list(range(8)) and len(set(labels[8:])) == 2
    starts, ends = [first for first, _, _ in segments], [last for _, last, _ in segments]
    pauses = np.subtract(starts[1:], ends[:-1]) - 1
    assert pauses.min() >= 6 and ends[-1] + 6 < len(frames)
    change = np.abs(frames[1:].astype(int) - frames[:-1]).mean((1, 2, 3))
    cut = int(change[ends[7]:starts[8]].argmax()) + ends[7]
    assert change[cut] > 3 * np.median(change)  # the wall changes in the pause, and nowhere else so
    other, _ = quickstart_stream.render(1, 2)
    assert not np.array_equal(other[0], frames[0])


@pytest.mark.parametrize("flags, message", [(["--gestures", 0], "--gestures 0: at least 1"),
                                            (["--seed", -1], "--seed -1: a whole number from 0")])
def test_impossible_long_videos_are_refused(tmp_path, monkeypatch, capfd, flags, message):
    assert_refused(run(monkeypatch, capfd, "tools.showcase.stream", "--out", tmp_path / "s", *flags), message)
    assert not (tmp_path / "s").exists()


# ---- steps --------------------------------------------------------------------------------------------------

@pytest.fixture
def ran(monkeypatch, tmp_path):
    """What was executed; a program "makes" the file that its second word names, unless it is told to fail. If there is
    a file `kill`, the program is interrupted.
    """
    words_run = []

    def execute(words, to):
        words_run.append(list(words))
        if (tmp_path / "kill").exists():
            raise KeyboardInterrupt
        if words[0] == "fails.py":
            return 3
        (to or (ROOT / words[1])).write_text("made")
        return 0
    monkeypatch.setattr(quickstart_steps, "execute", execute)
    return words_run


def test_a_step_is_done_once_and_again_only_for_a_reason(tmp_path, ran):
    a, b = tmp_path / "a", tmp_path / "b"

    def both(flag="x"):
        steps = Steps(tmp_path / "steps.json")
        return [steps.run("a", ["a.py", a, flag], a), steps.run("b", ["b.py", b], b, after=["a"])]
    assert both() == [True, True]
    assert both() == [False, False]
    b.unlink()
    assert both() == [False, True]  # what it made is gone
    assert both("y") == [True, True]  # another command, and b builds on it
    assert [words[0] for words in ran] == ["a.py", "b.py", "b.py", "a.py", "b.py"]
    done = json.loads((tmp_path / "steps.json").read_text())
    assert done["a"]["command"] == f"python a.py {a} y" and done["a"]["seconds"] >= 0


@pytest.fixture
def train(tmp_path, ran):
    """train(flag, data, killed): lists of the data, then a training on them; the training's words, None if it was
    done before. killed: it is interrupted and leaves this checkpoint ("": before the first one).
    """
    lists, file = tmp_path / "lists", tmp_path / "ckpt"

    def train(flag="x", data="all", killed=None):
        steps = Steps(tmp_path / "steps.json")
        steps.run("lists", ["lists.py", lists, data], lists)
        if killed is None:
            done = steps.run("train", ["main.py", file, flag], file, after=["lists"], partial=file)
            return ran[-1] if done else None
        (tmp_path / "kill").touch()
        with pytest.raises(KeyboardInterrupt):
            steps.run("train", ["main.py", file, flag], file, after=["lists"], partial=file)
        (tmp_path / "kill").unlink()
        if killed:
            file.write_text(killed)
    return train


def test_a_training_that_was_interrupted_is_resumed_and_then_done(tmp_path, train):
    file = str(tmp_path / "ckpt")
    train(killed="half")
    train(killed="more")
    assert train() == ["main.py", file, "x", "--resume", file]
    assert train() is None  # resumed or not, it is the same command
    assert train("y") == ["main.py", file, "y"]  # another training does not begin from the old one


def test_a_checkpoint_of_another_training_is_not_resumed(tmp_path, train):
    (tmp_path / "ckpt").write_text("a stranger's, even complete")
    assert "--resume" not in train()
    train("y", killed="half")
    assert "--resume" not in train("z")  # another recipe
    train("y", killed="half")
    train("z", killed="")  # had nothing of its own yet: y's must not pass for it
    assert "--resume" not in train("z")
    train("y", killed="half")
    assert "--resume" not in train("y", data="other")


def test_the_training_that_starts_from_another_ones_weights_is_resumed_too(tmp_path, ran):
    args = Namespace(epochs=1, workers=0, device="cpu")
    file = quickstart.checkpoint(tmp_path, "uni", 1)
    (tmp_path / "kill").touch()
    for _ in range(2):
        steps = Steps(tmp_path / "steps.json")
        steps.done["train tsm"] = {"ended": 0.0}
        with pytest.raises(KeyboardInterrupt):
            quickstart.train(steps, tmp_path, tmp_path, "uni", args, start="tsm")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("half")
    first, second = ran
    assert second == [*first, "--resume", str(file)] and "--tune_from" in first


def test_a_step_that_fails_says_so_and_is_not_done(tmp_path, ran):
    steps = Steps(tmp_path / "steps.json")
    with pytest.raises(UserError, match="step bad ended with status 3: mend that and start again"):
        steps.run("bad", ["fails.py"], tmp_path)
    assert set(Steps(tmp_path / "steps.json").done["bad"]) == {"command", "begun"}


def test_standard_output_goes_to_a_file_once_it_is_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text("import sys; print('line'); sys.exit(int(sys.argv[1]))")
    assert quickstart_steps.execute(["p.py", "1"], tmp_path / "out") == 1 and not (tmp_path / "out").exists()
    assert quickstart_steps.execute(["p.py", "0"], tmp_path / "out") == 0 and (tmp_path / "out").read_text() == "line\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "p.py"]


def test_standard_output_for_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="out: cannot write there .Not a directory.: choose another --out"):
        quickstart_steps.execute(["p.py"], tmp_path / "file" / "out")


# ---- directories ------------------------------------------------------------------------------------------------

def test_fresh_leaves_a_directory_alone_in_which_no_quickstart_ran(tmp_path, monkeypatch, capfd, ran):
    monkeypatch.chdir(ROOT)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    assert_refused(run(monkeypatch, capfd, "tools.quickstart", "--out", tmp_path, "--fresh"), "--fresh", "no steps.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "mine.txt"] and not ran
    quickstart.forget_results(tmp_path / "checkpoint")  # empty
    quickstart.forget_results(tmp_path / "absent")


def test_fresh_deletes_only_what_a_quickstart_left(tmp_path):
    left = [quickstart.checkpoint(Path("."), "uni", 5), f"log/{quickstart.run_name('tsn', 7)}/log.csv", "tsm/results.json",
            "stream/truth.json", "report.html", "results.json", "demo_online.pth.tar", "annotated.mp4", "steps.json"]
    kept = ["checkpoint/TSM_somethingv2_RGB_resnet50_avg_segment8_e50/ckpt.pth.tar", "log/other/log.csv", "mine.txt"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    quickstart.forget_results(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log", "mine.txt"]


def test_an_out_that_is_a_file_is_one_line(tmp_path, monkeypatch, capfd, ran):
    monkeypatch.chdir(ROOT)
    (tmp_path / "x").write_text("")
    for flags in ([], ["--fresh"]):
        assert_refused(run(monkeypatch, capfd, "tools.quickstart", "--out", tmp_path / "x", *flags), "x: cannot write there")


def test_the_report_shows_the_run_that_was_tested(tmp_path):
    """Runs of other epochs lie beside it: by name, e10 comes before e5, and e9 after it."""
    for epochs, top1 in ((10, 30), (5, 61.5), (9, 20)):
        (tmp_path / "log" / quickstart.run_name("tsm", epochs)).mkdir(parents=True)
        (tmp_path / "log" / quickstart.run_name("tsm", epochs) / "log.csv").write_text(f"epoch,val_top1\n0,{top1}\n1,\n")
    rows = quickstart_report.read_curve(tmp_path, quickstart.checkpoint(Path("moved"), "tsm", 5))
    assert rows == [{"epoch": 0, "val_top1": 61.5}, {"epoch": 1}]
    with pytest.raises(UserError, match="there is no .*_e7_none_cos/log.csv, the log of .*ckpt.pth.tar: run scripts"):
        quickstart_report.read_curve(tmp_path, quickstart.checkpoint(tmp_path, "tsm", 7))


# ---- both acts ----------------------------------------------------------------------------------------------

@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """The steps' programs in this process; gives what ran, and what the results were when each began."""
    ran = []

    def execute(words, to):
        results = tmp_path / "out" / "results.json"
        ran.append((words, json.loads(results.read_text()) if results.exists() else None))
        monkeypatch.setattr(sys, "argv", list(words))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = importlib.import_module(words[0][:-3].replace("/", ".")).main()
        if to:
            to.write_text(said.getvalue())
        return status or 0
    monkeypatch.setattr(quickstart_steps, "execute", execute)
    monkeypatch.chdir(ROOT)
    return ran


def test_both_acts_small(tmp_path, monkeypatch, capfd, in_process):
    out = tmp_path / "out"
    flags = ["--out", out, "--root_dataset", tmp_path / "data", "--videos", 10, "--epochs", 1, "--gestures", 3, "-j", 0,
             "--device", "cpu"]
    strays(out)
    done = run(monkeypatch, capfd, "tools.quickstart", *flags)
    assert done.status == 0, done.err
    steps, results = json.loads((out / "steps.json").read_text()), json.loads((out / "results.json").read_text())
    assert list(steps) == ["videos", "frames", "lists", "train tsn", "train tsm", "test tsn", "test tsm", "report",
                           "train uni", "test uni", "convert", "long video", "demo", "report with stream"]
    assert set(results) == {"tsn_top1", "tsm_top1", "uni_top1", "streaming_top1", "streaming_frames", "seconds", "steps"}
    assert results["steps"] == steps and results["seconds"] == pytest.approx(sum(s["seconds"] for s in steps.values()))
    # The first act's results and page are there before the second begins.
    begun = {words[0] + (" uni" if "unidirectional" in words else ""): seen for words, seen in in_process}
    assert set(begun["main.py uni"]) == {"tsn_top1", "tsm_top1", "seconds", "steps"}

    score = json.loads((out / "stream" / "score.json").read_text())
    answers = read_answers(out / "stream" / "answers.jsonl")
    truth = read_truth(out / "stream" / "truth.json")
    assert results["streaming_top1"] == score["top1"] == score_stream(truth, answers).top1 and len(score["known"]) == 3
    assert len(answers) == pytest.approx(truth.seconds * quickstart.FRAME_RATE, abs=1)
    times, images = decoded(out / "annotated.mp4")
    assert len(times) == round(truth.seconds * FPS) and images.shape[2] > 640
    assert_self_contained((out / "report.html").read_text())

    first = len(in_process)
    again = run(monkeypatch, capfd, "tools.quickstart", *flags)
    assert again.status == 0 and len(in_process) == first and again.out.count("done before") == len(steps)
    assert json.loads((out / "results.json").read_text()) == results


def strays(out):
    """What a run of other epochs and one of another recipe may have left there."""
    (out / "log" / quickstart.run_name("tsm", 9)).mkdir(parents=True)
    (out / "log" / quickstart.run_name("tsm", 9) / "log.csv").write_text("epoch,train_top1\n0,50\n1,50\n")
    file = quickstart.checkpoint(out, "tsn", 1)
    file.parent.mkdir(parents=True)
    file.write_text("another training's")


def assert_self_contained(page):
    """Images are in the page; the only file beside it that it names is the video."""
    sources = re.findall(r'(?:src|href|poster)="([^"]*)"', page)
    assert {source for source in sources if not source.startswith("data:")} == {"annotated.mp4"}
    assert "The same network behind a camera" in page and "What it does not prove" in page
    assert '>1</text>' in page and '>2</text>' not in page  # the curves of the one epoch that was trained
    sizes = []
    for kind, code in re.findall(r'"data:image/(png|jpeg);base64,([^"]+)"', page):
        sizes.append((kind, Image.open(io.BytesIO(base64.b64decode(code))).size))
    assert ("png", (2060, 180)) in sizes  # the timeline: one row of 30 seconds
