"""Videos for prediction: the times of their frames, and windows in time."""
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.evaluation.videos import Window, holds_times, load_video, slide
from ops.video import video_files
from ops.video.frame_index import frame_index
from tests.helpers.clips import clip, number_of, packed_clip
from tests.helpers.programs import make_frames


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name, options", [
    ("v.mp4", {"options": {"bf": "2"}}), ("v.mkv", {"options": {"bf": "2"}}), ("v.webm", {}), ("v.flv", {}),
    ("v.mov", {"codec": "mjpeg", "pixels": "yuvj420p"}), ("v.gif", {"codec": "gif", "pixels": "rgb8"}), ("v.wmv", {}),
    ("v.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}), ("v.mp4", {"codec": "mpeg4", "options": {"bf": "2"}})])
def test_times_follow_the_videos_clock(name, options, tmp_path):
    stamps = list(np.cumsum([4, 4, 90, 4, 40, 8, 8]))  # hundredths of a second
    clip(tmp_path / name, 7, pts=stamps, **options)
    video = load_video(tmp_path / name)
    np.testing.assert_allclose(video.times[:-1], (np.array(stamps) - stamps[0]) / 100, atol=0.021)
    assert video.times[-2] < video.seconds < video.times[-2] + 1
    assert [number_of(p) for p in video.load(range(1, 8))] == list(range(7))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("make", [
    lambda path: clip(path.with_suffix(".avi"), 20, codec="libx264", options={"bf": "3"}),
    lambda path: clip(path.with_suffix(".asf"), 20, codec="libx264", options={"bf": "3"}),
    lambda path: clip(path.with_suffix(".mpg"), 20, options={"bf": "2"}),
    lambda path: packed_clip(path.with_suffix(".avi"), 20), lambda path: packed_clip(path.with_suffix(".mp4"), 20)])
def test_times_increase_where_stamps_are_missing_or_out_of_order(make, tmp_path):
    times = load_video(make(tmp_path / "v")).times
    np.testing.assert_allclose(times, np.arange(21) / 25, atol=2e-3)


def test_files_without_times_take_the_given_rate(tmp_path, cache, monkeypatch):
    path = clip(tmp_path / "v.mp4", 10)
    without = replace(frame_index(path), times=np.zeros(0))
    monkeypatch.setattr(video_files, "frame_index", lambda video: without)
    assert not holds_times(path)
    with pytest.raises(UserError, match="give fps"):
        load_video(path).windows(1)
    video = load_video(path, fps=5)
    assert video.seconds == 2 and len(video.windows(1)) == 3


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
