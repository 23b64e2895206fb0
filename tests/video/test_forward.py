"""Requests that go forward in a video decode it once, and give the frames of a full decode whatever their order."""
import os

import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from ops.video import forward
from ops.video.decode import frame_image
from ops.video.forward import read_forward
from tests.helpers.clips import clip, number_of

COUNT = 60


@pytest.fixture
def video(tmp_path, monkeypatch):
    """A video, and the number of times that its decoding was begun."""
    begun, decoded_frames = [], forward.decoded_frames
    monkeypatch.setattr(forward, "decoded_frames", lambda path: begun.append(path) or decoded_frames(path))
    monkeypatch.setattr(forward, "_here", forward.threading.local())
    return clip(tmp_path / "v.avi", COUNT, options={"bf": "2"}), begun


def check(path, numbers):
    """Not through to_image(), whose threads a forked process lacks."""
    frames = read_forward(path, numbers, COUNT)
    shown = {number: frame_image(frame, (96, 64), VideoReformatter()) for number, frame in frames.items()}
    assert {number: number_of(image) for number, image in shown.items()} == {n: n - 1 for n in numbers}


def test_windows_decode_a_video_once(video):
    path, begun = video
    for start in range(1, 52, 4):
        check(path, [start, start + 3, start + 8])
    assert len(begun) == 1


def test_a_request_that_goes_back_or_to_another_file_starts_again(video, tmp_path):
    path, begun = video
    check(path, [30, 31])
    check(path, [29])
    assert len(begun) == 2
    check(clip(tmp_path / "w.avi", COUNT), [40])
    check(path, [45])
    assert len(begun) == 4
    clip(path, COUNT - 1)  # another file of that name
    check(path, [50])
    assert len(begun) == 5


@pytest.mark.parametrize("limit", [0, 30_000, 1 << 30])
def test_random_requests_in_little_memory(video, limit, monkeypatch):
    path, _ = video
    monkeypatch.setattr(forward, "_KEPT_BYTES", limit)
    rng = np.random.default_rng(0)
    for _ in range(25):
        check(path, (rng.integers(1, 30) + rng.integers(0, 31, 3)).tolist())


def test_a_request_across_the_video_keeps_nothing(video):
    path, begun = video
    check(path, [1, 30, 60])
    assert forward._here.reader is None
    check(path, [10])
    assert len(begun) == 2


def test_a_forked_process_does_not_share_the_open_file(video):
    """As a loader's worker, which is forked while this process is in the middle of the video."""
    path, begun = video
    check(path, [10])
    child = os.fork()
    if not child:
        try:
            check(path, [20, 25])
            os._exit(0 if len(begun) == 2 else 3)
        except BaseException:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    check(path, [20, 30])
    assert len(begun) == 1
