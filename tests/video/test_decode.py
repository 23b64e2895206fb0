"""Reading videos: every frame in order, upright, in its own colors; broken files are noticed."""
import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ops.prepare.extract import extract_video
from ops.streaming.sources import VideoFile
from ops.video import container_ends
from ops.video.container_ends import BrokenVideo, missing_bytes
from ops.video.decode import decoded_frames, frame_image, upright_size
from ops.video.video_files import VideoFiles
from tests.helpers.clips import clip, encode, images_in, number_of, real_video


@pytest.mark.parametrize("name, looked_at", [("bikes.mp4", (3, 77, 150, 246)), ("carphone_pristine.mp4", (3, 60, 110)),
                                             ("bigbuckbunny.mp4", (3, 70, 128))])
def test_real_videos_give_the_frames_of_a_full_decode(tmp_path, name, looked_at):
    near = {m for n in looked_at for m in range(n - 2, n + 3)}
    with av.open(str(real_video(name))) as container:
        decoded = [frame.to_image() if n in near else None for n, frame in enumerate(container.decode(video=0))]

    count = extract_video(real_video(name), tmp_path / "frames", height=64)

    files = sorted(file.name for file in (tmp_path / "frames").iterdir())
    assert files == [f"{number:06d}.jpg" for number in range(1, len(decoded) + 1)] and count == len(decoded)
    width, height = decoded[looked_at[0]].size
    wanted = {n: np.asarray(decoded[n].resize((round(width * 64 / height), 64), Image.BICUBIC), float) for n in near}
    for n in looked_at:
        image = np.asarray(Image.open(tmp_path / "frames" / f"{n + 1:06d}.jpg"), float)
        errors = {m: np.abs(image - wanted[m]).mean() for m in range(n - 2, n + 3)}
        assert errors[n] < 6 and errors[n] == min(errors.values())


@pytest.mark.parametrize("suffix, options", [(".mp4", {"bf": "3", "g": "50"}), (".mp4", {"g": "1"}), (".mkv", {}),
                                             (".avi", {"bf": "2"}), (".webm", {})])
def test_every_frame_in_order(tmp_path, suffix, options):
    clip(tmp_path / f"v{suffix}", 40, options=options)
    assert extract_video(tmp_path / f"v{suffix}", tmp_path / "f") == 40
    assert [number_of(image) for image in images_in(tmp_path / "f")] == list(range(40))


def test_variable_frame_rate_repeats_and_drops_nothing(tmp_path):
    steps = [1, 1, 90, 1, 400, 7, 7, 7, 250, 1, 3, 60]
    clip(tmp_path / "v.mp4", 12, pts=list(np.cumsum(steps)), options={"bf": "2"})
    extract_video(tmp_path / "v.mp4", tmp_path / "f")
    assert [number_of(image) for image in images_in(tmp_path / "f")] == list(range(12))


@pytest.mark.parametrize("width, height, target, wanted", [
    (96, 64, 256, (384, 256)), (100, 64, 331, (517, 331)), (98, 64, 0, (98, 64)), (64, 96, 47, (31, 47)),
    (98, 64, 16, (25, 16))])  # 517.19, 31.33 and 24.5: rounded, half up, as ffmpeg's scale=-1:H
def test_height_keeps_the_aspect_ratio(tmp_path, width, height, target, wanted):
    encode(tmp_path / "v.mp4", [np.full((height, width, 3), 90, np.uint8)] * 2)
    extract_video(tmp_path / "v.mp4", tmp_path / "f", height=target)
    assert [image.size for image in images_in(tmp_path / "f")] == [wanted] * 2


def quadrants():
    """64x96 (height, width): red and green above, blue and gray below."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48], image[32:, 48:] = (
        (220, 0, 0), (0, 220, 0), (0, 0, 220), (128, 128, 128))
    return image


@pytest.mark.parametrize("matrix, upright", [
    (None, lambda p: p),
    ((1, 0, 0, 1), lambda p: p),
    ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),  # a phone held upright: shown a quarter turn clockwise
    ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    ((1, 0, 0, -1), lambda p: p[::-1]),
    ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2))])
def test_display_matrices_are_applied(tmp_path, matrix, upright):
    encode(tmp_path / "v.mp4", [quadrants()] * 3, rotate=matrix)
    extract_video(tmp_path / "v.mp4", tmp_path / "f", height=48)
    wanted = upright(quadrants())
    for image in images_in(tmp_path / "f"):
        assert image.size == (48 * wanted.shape[1] // wanted.shape[0], 48)
        small = np.asarray(Image.fromarray(np.ascontiguousarray(wanted)).resize(image.size), int)
        assert np.abs(small - np.asarray(image, int)).mean() < 10


def test_rotation_as_pyav_writes_it(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write display matrices")
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90)  # counterclockwise
        container.mux(stream.encode(av.VideoFrame.from_ndarray(quadrants(), "rgb24")))
        container.mux(stream.encode(None))
    extract_video(tmp_path / "v.mp4", tmp_path / "f", height=0)
    image = np.asarray(images_in(tmp_path / "f")[0], int)
    assert np.abs(np.rot90(quadrants().astype(int)) - image).mean() < 10


@pytest.mark.parametrize("colorspace, color_range, kr, kb", [
    (2, 0, .299, .114), (1, 1, .2126, .0722), (5, 2, .299, .114), (9, 1, .2627, .0593)])
def test_colors_follow_the_videos_own_matrix(colorspace, color_range, kr, kb):
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane, value in zip(frame.planes, (120, 90, 180)):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = colorspace, color_range
    y, u, v = (120, -38, 52) if color_range == 2 else (104 * 255 / 219, -38 * 255 / 224, 52 * 255 / 224)
    kg = 1 - kr - kb
    rgb = (y + 2 * (1 - kr) * v, y - 2 * kb * (1 - kb) / kg * u - 2 * kr * (1 - kr) / kg * v, y + 2 * (1 - kb) * u)
    image = frame_image(frame, upright_size(frame, 16), VideoReformatter())
    assert np.abs(np.asarray(image)[8, 8] - np.array(rgb)).max() < 1.1


@pytest.mark.parametrize("name, options", [("v.mp4", {"movflags": "faststart"}), ("v.mp4", {}), ("v.mkv", {}),
                                           ("v.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("v.webm", {}),
                                           ("v.webm", {"live": "1"}), ("v.avi", {}), ("v.ts", {}), ("v.flv", {}),
                                           ("v.wmv", {}), ("v.gif", {})])
def test_a_truncated_video_leaves_no_directory(tmp_path, name, options):
    kind = {"codec": "gif", "pixels": "rgb8"} if name == "v.gif" else {}
    whole = clip(tmp_path / name, 30, container_options=options, **kind).read_bytes()
    assert extract_video(tmp_path / name, tmp_path / "whole", height=0) == 30
    for fraction in (0.1, 0.35, 0.6, 0.85, 0.97):
        (tmp_path / name).write_bytes(whole[:int(len(whole) * fraction)])
        with pytest.raises(BrokenVideo):
            extract_video(tmp_path / name, tmp_path / "f", height=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "whole"])


def test_truncation_is_measured_and_what_follows_the_video_does_not_matter(tmp_path):
    for name in ("v.mp4", "v.mkv", "v.webm", "v.avi"):
        whole = clip(tmp_path / name).read_bytes()
        assert missing_bytes(tmp_path / name) == 0
        (tmp_path / name).write_bytes(whole + b"rubbish after the end" * 9)
        assert missing_bytes(tmp_path / name) == 0
        (tmp_path / name).write_bytes(whole[:-77])
        assert missing_bytes(tmp_path / name) == 77 + (len(whole) % 2 if name == "v.avi" else 0)


def test_a_video_that_was_written_to_a_pipe(tmp_path):
    """Its writer could not go back to fill in the lengths."""
    class Pipe:
        def __init__(self, file):
            self.write = file.write

    with av.open(str(clip(tmp_path / "a.avi", 20))) as source, (tmp_path / "v.avi").open("wb") as file:
        with av.open(Pipe(file), "w", format="avi") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    whole = (tmp_path / "v.avi").read_bytes()
    assert whole[4:8] == b"\xff" * 4
    assert missing_bytes(tmp_path / "v.avi") == 0
    assert extract_video(tmp_path / "v.avi", tmp_path / "f") == 20
    for fraction in (0.5, 0.8, 0.97):
        (tmp_path / "v.avi").write_bytes(whole[:int(len(whole) * fraction)])
        assert missing_bytes(tmp_path / "v.avi") > 0


def joined_streams(path):
    """Two transport streams, joined as `cat` does, and the number of the first one's packets."""
    parts = [clip(path.with_name(f"{count}.ts"), count, options={"bf": "2", "g": "10"}).read_bytes() for count in (21, 17)]
    path.write_bytes(b"".join(parts))
    return path, len(parts[0]) // 188


def test_joined_transport_streams_are_whole(tmp_path):
    path, _ = joined_streams(tmp_path / "v.ts")
    with av.open(str(path)) as container:
        assert any(packet.is_corrupt for packet in container.demux(video=0))
    assert [number_of(frame.to_image()) for frame in decoded_frames(path)] == [*range(21), *range(17)]
    images = VideoFiles(tmp_path).load("v.ts", range(1, 39))
    assert [number_of(image) for image in images] == [*range(21), *range(17)]
    times = VideoFiles(tmp_path).times("v.ts")
    assert np.diff(times) == pytest.approx(np.full(38, 0.04), abs=1e-3)
    assert np.diff([frame.time for frame in VideoFile(path).frames()]) == pytest.approx(np.full(37, 0.04), abs=1e-3)


def test_joined_transport_streams_are_examined_once(tmp_path, monkeypatch):
    """Each read of frames meets the packets that FFmpeg marks; a file that has changed is examined again."""
    path, first = joined_streams(tmp_path / "v.ts")
    examined, examine = [], container_ends._jumps_are_joints
    monkeypatch.setattr(container_ends, "_jumps_are_joints",
                        lambda packets, stream: examined.append(stream) or examine(packets, stream))
    for _ in range(3):
        assert [number_of(frame.to_image()) for frame in decoded_frames(path)] == [*range(21), *range(17)]
    assert len(examined) == 1
    content = path.read_bytes()
    path.write_bytes(content[:188 * (first + 20)] + content[188 * (first + 25):])
    with pytest.raises(BrokenVideo, match="damaged"):
        list(decoded_frames(path))
    assert len(examined) == 2


def test_a_hole_in_joined_transport_streams_is_noticed(tmp_path):
    path, first = joined_streams(tmp_path / "v.ts")
    content = path.read_bytes()
    for hole in (first // 2, first + 20):
        path.write_bytes(content[:188 * hole] + content[188 * (hole + 5):])
        with pytest.raises(BrokenVideo, match="damaged"):
            list(decoded_frames(path))


def test_damaged_frames_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), np.uint8)
    content = bytearray(encode(tmp_path / "v.mp4", list(noise)).read_bytes())
    middle = len(content) // 2
    content[middle:middle + 40] = bytes(40)
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(BrokenVideo, match="frame [0-9]+"):
        extract_video(tmp_path / "v.mp4", tmp_path / "f")


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_a_whole_directory_or_a_reason(data, tmp_path):
    name = data.draw(st.sampled_from(["v.mp4", "v.webm", "v.avi", "v.mkv"]))
    if not (tmp_path / name).exists():
        clip(tmp_path / name, 6)
    content = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    start_of_hole = data.draw(st.integers(0, len(content)))
    del content[start_of_hole:start_of_hole + data.draw(st.integers(0, 60))]
    (tmp_path / f"damaged{name}").write_bytes(content)
    target = tmp_path / "f"
    try:
        count = extract_video(tmp_path / f"damaged{name}", target, height=16)
        assert sorted(file.name for file in target.iterdir()) == [f"{n:06d}.jpg" for n in range(1, count + 1)]
        for file in target.iterdir():
            file.unlink()
        target.rmdir()
    except BrokenVideo as error:
        assert str(error) and "\n" not in str(error)
    assert not target.exists()
