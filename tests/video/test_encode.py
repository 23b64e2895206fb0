"""Written videos: their frames, formats and bytes, and failures that leave nothing."""
from fractions import Fraction

import av
import numpy as np
import pytest

from ops.common.errors import UserError
from ops.video.encode import encode_video


def moving_frames(count=14, width=64, height=48):
    """A bright bar on a smooth ramp, one pixel further in each frame."""
    frames = np.tile(np.linspace(40, 160, width).astype(np.uint8)[None, :, None], (count, height, 1, 3)).copy()
    for t, frame in enumerate(frames):
        frame[:, 2 * t:2 * t + 8] = (230, 60, 40)
    return frames


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def packet_sizes(path):
    with av.open(str(path)) as container:
        return [packet.size for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("suffix, codec", [(".mp4", "h264"), (".mkv", "h264"), (".webm", "vp9")])
@pytest.mark.parametrize("intra_only", [True, False])
def test_what_is_written_is_what_is_read(tmp_path, suffix, codec, intra_only):
    frames, path = moving_frames(), tmp_path / f"clip{suffix}"
    assert encode_video(path, iter(frames), Fraction(25, 2), intra_only=intra_only) == len(frames)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 64, 48)
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
    assert sum(keys) == (len(frames) if intra_only else 1)
    back = decoded(path)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 4  # 4:2:0 blurs the bar's edges
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert np.allclose(times, np.arange(len(frames)) * 0.08, atol=2e-3)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_intra_only_files_do_not_reveal_the_coding_order(tmp_path, suffix):
    """Encoded in reverse order, each frame is bit-identical; ordinary files are not."""
    frames = moving_frames() + np.random.default_rng(0).integers(0, 12, (14, 48, 64, 3), np.uint8)
    same = {}
    for intra_only in (True, False):
        encode_video(tmp_path / f"forward{suffix}", frames, 12, intra_only=intra_only)
        encode_video(tmp_path / f"backward{suffix}", frames[::-1], 12, intra_only=intra_only)
        sizes = packet_sizes(tmp_path / f"forward{suffix}"), packet_sizes(tmp_path / f"backward{suffix}")[::-1]
        # one byte: H.264 alternates the numbers of neighboring key frames
        assert (np.abs(np.subtract(*sizes)).max() <= 1) == intra_only
        same[intra_only] = np.array_equal(decoded(tmp_path / f"forward{suffix}"),
                                          decoded(tmp_path / f"backward{suffix}")[::-1])
    assert same == {True: True, False: False}


def failing_frames():
    yield from moving_frames(3)
    raise RuntimeError("camera unplugged")


@pytest.mark.parametrize("name, frames, error, message", [
    ("clip.gif", moving_frames(2), UserError, "choose a name that ends in .mkv, .mov, .mp4, .webm"),
    ("clip.mp4", moving_frames(2, width=63), UserError, "frames of 63x48: width and height must be even"),
    ("clip.mp4", moving_frames(2, height=47), UserError, "frames of 64x47: width and height must be even"),
    ("clip.mp4", [], UserError, "needs at least one frame"),
    ("clip.webm", failing_frames(), RuntimeError, "camera unplugged"),
])
def test_a_failure_leaves_the_directory_as_it_was(tmp_path, name, frames, error, message):
    (tmp_path / name).write_bytes(b"an older video")
    with pytest.raises(error, match=message):
        encode_video(tmp_path / name, frames, 12)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"an older video"
