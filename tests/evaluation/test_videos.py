"""Videos for prediction: the times of their frames, and windows in time."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.evaluation.videos import Window, frame_times, load_video, slide
from tests.helpers.clips import clip, number_of
from tests.helpers.programs import make_frames


def test_times_follow_the_videos_clock(tmp_path):
    stamps = list(np.cumsum([1, 1, 90, 1, 40, 7, 7]))  # hundredths of a second
    clip(tmp_path / "v.mp4", 7, pts=stamps, options={"bf": "2"})
    times, _ = frame_times(tmp_path / "v.mp4", 7)
    np.testing.assert_allclose(times, (np.array(stamps) - stamps[0]) / 100, atol=1e-3)
    video = load_video(tmp_path / "v.mp4")
    assert [number_of(p) for p in video.load(range(1, 8))] == list(range(7))


@given(st.lists(st.floats(0.01, 3), min_size=0, max_size=40), st.floats(0.02, 9), st.floats(0.05, 9))
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_video_and_hold_the_frames_shown_in_them(steps, length, stride):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    duration = float(times[-1]) + 0.04
    windows = slide(times, duration, length=length, stride=stride)
    assert windows[0].start == 0 and windows[-1].end == pytest.approx(duration)
    for window in windows:
        assert 0 <= window.first < window.last <= len(times)
        assert window.end - window.start == pytest.approx(min(length, duration))
        inside = [i for i, t in enumerate(times) if window.start + 1e-5 < t < window.end - 1e-5]
        assert set(inside) <= set(range(window.first, window.last))
        assert all(window.start - 1e-5 <= times[i] <= window.end for i in range(window.first, window.last)) or not inside
    if stride <= length:
        assert {i for window in windows for i in range(window.first, window.last)} == set(range(len(times)))


def test_a_video_is_one_window_or_several(tmp_path):
    video = load_video(clip(tmp_path / "v.mp4", 10))  # at 25 frames per second
    assert video.seconds == pytest.approx(0.4) and video.whole() == Window(0, 10, 0.0, video.seconds)
    assert [(row.first, row.last) for row in video.windows(0.16)] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert [(row.first, row.last) for row in video.windows(0.16, 0.2)] == [(0, 4), (5, 9), (6, 10)]


def test_windows_need_times(tmp_path):
    make_frames(tmp_path, {"frames": (10, 0)})
    with pytest.raises(UserError, match="does not hold the times .* give fps") as info:
        load_video(tmp_path / "frames").windows(1)
    assert info.value.for_command_line().endswith("give --fps")
    assert len(load_video(tmp_path / "frames", fps=5).windows(1)) == 3
    with pytest.raises(UserError, match="a stride of 0.01 s is shorter than a frame"):
        load_video(tmp_path / "frames", fps=5).windows(1, 0.01)
