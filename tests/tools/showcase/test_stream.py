"""The quickstart's long video: its frames, its gestures, its files."""
import numpy as np
import pytest

from ops.prepare.gestures.definition import CLASSES, FPS
from ops.streaming.stream_metrics import make_ground_truth, read_ground_truth
from tests.helpers.programs import assert_refused, run
from tests.helpers.streaming import decoded
from tools.showcase.stream import render


def test_the_long_video_matches_its_ground_truth(tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.showcase.stream", "--out", tmp_path / "s", "--gestures", 3)
    truth = read_ground_truth(tmp_path / "s" / "truth.json")
    times, images = decoded(tmp_path / "s" / "gestures.mp4")
    frames, segments = render(3, 1)
    assert done.status == 0 and f"3 gestures in {truth.seconds:.0f} seconds" in done.out
    assert truth == make_ground_truth(segments, CLASSES, num_frames=len(frames), fps=FPS)
    assert len(times) == len(frames) and times[-1] == pytest.approx(truth.seconds - 1 / FPS)
    assert np.abs(images.astype(int) - frames).mean() < 8
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["gestures.mp4", "truth.json"]


def test_each_eight_gestures_are_the_eight_classes_before_another_wall():
    frames, segments = render(10, 1)
    labels = [label for _, _, label in segments]
    assert sorted(labels[:8]) == list(range(8)) and len(set(labels[8:])) == 2
    starts, ends = [first for first, _, _ in segments], [last for _, last, _ in segments]
    pauses = np.subtract(starts[1:], ends[:-1]) - 1
    assert pauses.min() >= 6 and ends[-1] + 6 < len(frames)
    change = np.abs(frames[1:].astype(int) - frames[:-1]).mean((1, 2, 3))
    cut = int(change[ends[7]:starts[8]].argmax()) + ends[7]
    assert change[cut] > 3 * np.median(change)  # the wall changes in the pause, and nowhere else so
    other, _ = render(1, 2)
    assert not np.array_equal(other[0], frames[0])


@pytest.mark.parametrize("flags, message", [(["--gestures", 0], "--gestures 0: choose 1 to 10000"),
                                            (["--seed", -1], "--seed -1: choose 0"),
                                            (["--size", "97x72"], "--size 97x72: choose two even numbers")])
def test_impossible_long_videos_are_refused(tmp_path, monkeypatch, capfd, flags, message):
    assert_refused(run(monkeypatch, capfd, "tools.showcase.stream", "--out", tmp_path / "s", *flags), message)
    assert not (tmp_path / "s").exists()
