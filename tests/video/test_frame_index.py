"""The index of a video file: scanned, cached, replaced when it is wrong."""
import ctypes
import os

import numpy as np
import pytest

from ops.video import frame_index as frame_index_module
from ops.video.bitstream import _InOrder
from ops.video.decode import decoded_frames
from ops.video.frame_index import FrameIndex, frame_index, padded_packet, scan
from ops.video.video_files import VideoFiles
from tests.helpers.clips import clip, number_of
from tests.helpers.datasets import refused

pytestmark = pytest.mark.usefixtures("cache")


def indices_in(cache):
    return list(cache.rglob("*.idx"))


def test_an_index_is_cached_for_one_version_of_a_file(tmp_path, cache, monkeypatch):
    path = clip(tmp_path / "v.mp4", 10)
    first = frame_index(path)
    assert first.count == 10 and len(indices_in(cache)) == 1
    frame_index_module._frame_index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(frame_index_module, "scan", lambda video: pytest.fail("scanned again"))
        again = frame_index(path)
    assert np.array_equal(again.packets, first.packets) and again.codec == first.codec and again.count == 10
    assert np.array_equal(again.times, first.times) and len(first.times) == 11
    clip(path, 14)
    os.utime(path, ns=(1, 1))
    assert frame_index(path).count == 14 and len(indices_in(cache)) == 2
    assert number_of(VideoFiles(tmp_path).load("v.mp4", [13])[0]) == 12


def test_an_index_of_an_older_form_is_not_believed(tmp_path, cache, monkeypatch):
    path = clip(tmp_path / "v.mp4", 10)
    with monkeypatch.context() as patch:
        patch.setattr(frame_index_module, "_VERSION", frame_index_module._VERSION - 1)
        patch.setattr(frame_index_module, "scan", lambda video: FrameIndex(7, np.zeros((0, 4), np.int64)))
        assert frame_index(path).count == 7
    frame_index_module._frame_index.cache_clear()
    assert frame_index(path).count == 10 and len(indices_in(cache)) == 2


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:50], lambda b: b[:-1], lambda b: b"x" + b,
                                    lambda b: b.replace(b'"count": 10', b'"count": 11')])
def test_a_damaged_index_is_replaced(damage, tmp_path, cache):
    path = clip(tmp_path / "v.mp4", 10)
    frame_index(path)
    file, = indices_in(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    frame_index_module._frame_index.cache_clear()
    assert frame_index(path).count == 10
    assert file.read_bytes() == whole


def test_videos_load_without_a_cache_directory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "file"))
    assert frame_index(clip(tmp_path / "v.mp4", 5)).count == 5


def test_decoders_read_zeros_after_a_packet():
    """MPEG-4's looks at what follows an image: memory of other uses there would paint blocks at random."""
    for size in range(1, 400):
        packet = padded_packet(b"\x11" * size)
        assert bytes(packet) == b"\x11" * size
        assert ctypes.string_at(packet.buffer_ptr + size, 64) == bytes(64)


def test_wrong_packets_are_noticed(tmp_path, monkeypatch):
    """A hidden packet taken for a frame: the video is decoded to count, and its frames are the right ones."""
    path = clip(tmp_path / "v.webm", 30, options={"auto-alt-ref": "0", "lag-in-frames": "0"})
    content = bytearray(path.read_bytes())
    content[scan(path).packets[12, 2]] &= ~0x10  # VP8's show_frame: image 12 is decoded, but not shown
    path.write_bytes(content)
    images = [*range(12), *range(13, 30)]
    assert [number_of(frame.to_image()) for frame in decoded_frames(path)] == images
    assert scan(path).count == 29
    monkeypatch.setattr(frame_index_module, "packet_reader",
                        lambda codec, extradata: _InOrder(lambda data: (not data[0] & 1, True)))
    assert frame_index(path).count == 30
    assert [number_of(image) for image in VideoFiles(tmp_path).load("v.webm", range(1, 30))] == images
    assert frame_index(path).count == 29
    with refused(path, "frame 30 is requested, but it has 29"):
        VideoFiles(tmp_path).load("v.webm", [4, 30])
