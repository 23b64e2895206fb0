"""Single frames of video files: those of a full decode, whatever the codec, the container and the time stamps."""
import os
from dataclasses import replace
from functools import lru_cache
from io import BytesIO

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from ops.common.errors import UserError
from ops.prepare.extract import QUALITY, extract_video
from ops.video import video_files as video_source
from ops.video.container_ends import BrokenVideo
from ops.video.decode import decoded_frames, frame_image, upright_size
from ops.video.frame_index import frame_index, scan
from ops.video.video_files import VideoFiles, read_frames
from tests.helpers.clips import clip, coded_image, copy_packets, encode, number_of, packed_clip, real_video
from tests.helpers.datasets import refused

pytestmark = pytest.mark.usefixtures("cache")


def raw(frame):
    return b"".join(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, :plane.width].tobytes()
                    for plane in frame.planes) + frame_image(frame, upright_size(frame, 0), VideoReformatter()).tobytes()


@lru_cache(maxsize=1)
def fully_decoded(path):
    return [raw(frame) for frame in decoded_frames(path)]


def check_frames(path, sets=6, most=8):
    """Random sets of frames, and the first and the last one, are those of a full decode."""
    wanted = fully_decoded(path)
    assert frame_index(path).count == len(wanted)
    rng = np.random.default_rng(0)
    choices = [rng.integers(1, len(wanted) + 1, rng.integers(1, most + 1)).tolist() for _ in range(sets)]
    for indices in [[1], [len(wanted)], *choices]:
        frames = read_frames(path, indices)
        assert set(frames) == set(indices)
        assert all(raw(frames[i]) == wanted[i - 1] for i in indices), indices


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4"])
def test_real_videos_give_the_frames_of_a_full_decode(name):
    check_frames(real_video(name), sets=3)


STEPS = [1, 1, 90, 1, 400, 7, 7, 7, 250, 1, 3, 60, 2, 2, 900, 1]
VFR = np.cumsum(STEPS * 5).tolist()
KINDS = {
    "long GOP": ("v.mp4", {}, {"bf": "3", "g": "250"}),
    "pyramid": ("v.mp4", {}, {"preset": "medium", "bf": "8", "g": "30", "x264-params": "b-pyramid=normal:b-adapt=0"}),
    "short GOPs": ("v.mp4", {}, {"preset": "medium", "bf": "2", "g": "5"}),
    "open GOPs": ("v.mp4", {}, {"preset": "medium", "bf": "3", "g": "12", "x264-params": "open-gop=1:b-adapt=0"}),
    "open GOPs, mkv": ("v.mkv", {}, {"preset": "medium", "bf": "3", "g": "12",
                                     "x264-params": "open-gop=1:b-adapt=0"}),
    "intra refresh": ("v.mp4", {}, {"preset": "medium", "bf": "0", "x264-params": "intra-refresh=1:keyint=20"}),
    "only key frames": ("v.mp4", {}, {"g": "1"}),
    "variable rate": ("v.mp4", {"pts": VFR}, {"bf": "3", "g": "20"}),
    "variable rate, mkv": ("v.mkv", {"pts": VFR}, {"bf": "3", "g": "20"}),
    "negative dts": ("v.mp4", {"container_options": {"movflags": "negative_cts_offsets"}}, {"bf": "3", "g": "20"}),
    "edit list cuts the beginning": ("v.mp4", {"pts": [4 * i - 30 for i in range(80)],
                                               "container_options": {"avoid_negative_ts": "disabled"}},
                                     {"bf": "2", "g": "20"}),
    "late start": ("v.mp4", {"pts": [4 * i + 300 for i in range(80)]}, {"bf": "2", "g": "20"}),
    "fragments": ("v.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, {"bf": "2", "g": "20"}),
    "VP8, hidden frames": ("v.webm", {}, {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1",
                                          "lag-in-frames": "16", "g": "40"}),
    "open GOPs, MPEG-TS": ("v.ts", {}, {"preset": "medium", "bf": "3", "g": "12", "x264-params": "open-gop=1:b-adapt=0"}),
    "intra refresh, MPEG-TS": ("v.ts", {}, {"preset": "medium", "bf": "0", "x264-params": "intra-refresh=1:keyint=20"}),
    "scaling matrices": ("v.mp4", {}, {"preset": "medium", "g": "20", "x264-params": "cqm=jvt"}),
    "images in order": ("v.mp4", {}, {"preset": "medium", "tune": "zerolatency", "g": "20"}),
    "interlaced": ("v.mp4", {}, {"preset": "medium", "bf": "2", "g": "20", "x264-params": "interlaced=1"}),
    "H.264 in AVI": ("v.avi", {"codec": "libx264"}, {"bf": "3", "g": "20"}),
    "H.264 in ASF": ("v.asf", {"codec": "libx264"}, {"bf": "3", "g": "20"}),
    "HEVC": ("v.mp4", {"codec": "libx265"}, {"bf": "3", "g": "20"}),
    "HEVC, open GOPs": ("v.mkv", {"codec": "libx265"},
                        {"x265-params": "log-level=none:pools=1:open-gop=1:keyint=12:bframes=3:b-adapt=0"}),
    "VP9, hidden frames": ("v.webm", {"codec": "libvpx-vp9"},
                           {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "40"}),
    "AV1": ("v.webm", {"codec": "libsvtav1"}, {"g": "20"}),
    "AV1 in MP4": ("v.mp4", {"codec": "libsvtav1"}, {"g": "20"}),
    "MPEG-4 in AVI": ("v.avi", {}, {"bf": "2", "g": "20"}),
    "MPEG-4 in MP4": ("v.mp4", {"codec": "mpeg4"}, {"bf": "2", "g": "20"}),
    "MPEG-4 in 3GP": ("v.3gp", {"codec": "mpeg4"}, {"g": "20"}),
    "MS-MPEG-4": ("v.avi", {"codec": "msmpeg4"}, {"g": "20"}),
    "MPEG-1": ("v.mpg", {"codec": "mpeg1video"}, {"bf": "2", "g": "12"}),
    "MPEG-2 in MPEG-TS": ("v.ts", {"codec": "mpeg2video"}, {"bf": "2", "g": "12"}),
    "Motion JPEG": ("v.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}, {}),
    "FFV1": ("v.mkv", {"codec": "ffv1"}, {"g": "12"}),
    "GIF": ("v.gif", {"codec": "gif", "pixels": "rgb8"}, {}),
    "QuickTime": ("v.mov", {}, {"bf": "3", "g": "20"}),
    "MPEG-TS": ("v.ts", {}, {"bf": "3", "g": "20"}),
    "Flash": ("v.flv", {}, {"bf": "3", "g": "20"}),
    "MPEG-2": ("v.mpg", {}, {"bf": "2", "g": "12"}),
    "Windows Media": ("v.wmv", {}, {"g": "20"}),
}


# Read from the beginning; all others, fast.
SEQUENTIAL = {"interlaced", "H.264 in AVI", "H.264 in ASF", "MPEG-4 in AVI", "MPEG-4 in MP4", "MPEG-4 in 3GP", "MS-MPEG-4",
              "MPEG-1", "MPEG-2", "MPEG-2 in MPEG-TS", "Motion JPEG", "FFV1", "GIF", "Windows Media"}


@pytest.mark.parametrize("kind", KINDS)
def test_encoded_videos_give_the_frames_of_a_full_decode(kind, tmp_path, monkeypatch):
    name, options, encoder = KINDS[kind]
    path = clip(tmp_path / name, 80, options=encoder, **options)
    check_frames(path)
    assert len(frame_index(path).packets) or kind in SEQUENTIAL
    if kind in SEQUENTIAL:
        return
    # The same through the container, with every possible seek.
    index = replace(frame_index(path), codec=None)
    monkeypatch.setattr(video_source, "frame_index", lambda video: index)
    monkeypatch.setattr(video_source, "_SEEK_OVER", 0)
    check_frames(path)


@pytest.mark.parametrize("size", [(97, 64), (96, 65), (97, 65)])
@pytest.mark.parametrize("name, codec", [("v.webm", "libvpx"), ("v.webm", "libvpx-vp9"), ("v.mkv", "libsvtav1"),
                                         ("v.mp4", "mpeg4"), ("v.avi", "mjpeg"), ("v.mkv", "ffv1")])
def test_videos_of_odd_size(name, codec, size, tmp_path):
    """Half a color sample at the border. The images, whose conversion depends on where color samples lie, are equal too."""
    noise = np.random.default_rng(0).integers(0, 256, (6, size[1], size[0], 3), np.uint8)
    path = encode(tmp_path / name, list(noise), codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p")
    source, scaler = VideoFiles(tmp_path), VideoReformatter()
    images = [frame_image(frame, size, scaler) for frame in decoded_frames(path)]
    for number, lazy in enumerate(source.load_arrays(name, range(1, 7))):
        assert lazy.shape == (size[1], size[0], 3)
        assert np.array_equal(lazy[0:size[1], 0:size[0]], np.asarray(images[number]))
    assert [image.tobytes() for image in source.load(name, [6, 2])] == [images[5].tobytes(), images[1].tobytes()]


@pytest.mark.parametrize("name", ["v.avi", "v.mp4"])
def test_packets_of_two_images_are_read_from_the_beginning(name, tmp_path):
    path = packed_clip(tmp_path / name)
    check_frames(path)
    assert not len(frame_index(path).packets)


@pytest.mark.parametrize("container", ["v.mkv", "v.mp4", "v.mov"])
def test_invented_time_stamps_are_not_believed(container, tmp_path):
    """A container that stores no order of frames was copied into one that stores it: the stamps count the packets."""
    path = tmp_path / container
    plain = clip(tmp_path / "v.avi", 40, codec="libx264", options={"bf": "3", "g": "20"})
    copy_packets(plain, path, count_packets=True)
    assert any(frame.pict_type == PictureType.B for frame in decoded_frames(path))
    check_frames(path)


def test_joined_parts_of_open_gops_give_the_frames_of_a_full_decode(tmp_path):
    """After the joint, images count on from those before, so that the decoder returns them in another order than their
    stamps say."""
    options = {"x265-params": "log-level=none:pools=1:open-gop=1:keyint=10:min-keyint=10:bframes=4:b-adapt=0:scenecut=0"}
    with av.open(str(clip(tmp_path / "a.mkv", 36, codec="libx265", options=options))) as source:
        template = source.streams.video[0]
        packets = [packet for packet in source.demux(template) if packet.size]
        start = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
        part = [packet for packet in packets[start:] if packet.pts >= packets[start].pts]
        with av.open(str(tmp_path / "v.mkv"), "w") as container:
            stream = container.add_stream_from_template(template)
            for number, packet in enumerate(part * 2):
                copied = av.Packet(bytes(packet))
                copied.pts = packet.pts + (number >= len(part)) * 40 * len(part)
                copied.dts, copied.time_base, copied.stream = 40 * (number - 10), template.time_base, stream
                copied.is_keyframe = packet.is_keyframe
                container.mux(copied)
    stamps = [frame.pts for frame in decoded_frames(tmp_path / "v.mkv")]
    assert len(stamps) == 2 * len(part) and stamps != sorted(stamps)
    check_frames(tmp_path / "v.mkv")


def test_keys_are_believed_only_if_decoding_can_start_there(tmp_path):
    """Every packet is marked as a key, as some writers do."""
    options = {"bf": "0", "g": "40", "preset": "ultrafast", "x264-params": "scenecut=0"}
    path = copy_packets(clip(tmp_path / "a.mp4", 40, options=options), tmp_path / "v.mp4", key=True)
    check_frames(path)
    assert (frame_index(path).packets[:, 1] & 1).sum() == 1


def test_the_kinds_of_videos_are_what_they_are_called(tmp_path):
    """The encoder has really made the kinds that the test above needs."""
    name, options, encoder = KINDS["edit list cuts the beginning"]
    cut = scan(clip(tmp_path / name, 80, options=encoder, **options))
    assert cut.packets[0, 0] < 0 and (cut.count, len(cut.packets)) == (72, 80)
    reordered = scan(clip(tmp_path / "b.mp4", 80, options={"bf": "3", "g": "250"}))
    assert reordered.codec is not None and (np.diff(reordered.order) < 0).any()
    assert (reordered.packets[:, 1] & 1).sum() == 1


def test_a_container_without_seeking_is_read_from_its_start(tmp_path, monkeypatch):
    path = clip(tmp_path / "v.mkv", 40, options={"bf": "2", "g": "8"})
    index = replace(frame_index(path), codec=None)
    monkeypatch.setattr(video_source, "frame_index", lambda video: index)
    asked = []

    def refuse(self, first):
        asked.append(first)
        if first:
            raise BrokenVideo("it does not support seeking to key frames")

    monkeypatch.setattr(video_source._Container, "_advance_to", refuse)
    check_frames(path, sets=2)
    assert any(asked)


def test_images_are_the_ones_that_extraction_writes(tmp_path):
    """The same index is the same frame: its JPEG has the very bytes of the extracted file."""
    clip(tmp_path / "v.mp4", 30, options={"bf": "3"})
    extract_video(tmp_path / "v.mp4", tmp_path / "frames", height=0)
    for i, image in zip([30, 1, 17, 17], VideoFiles(tmp_path).load("v.mp4", [30, 1, 17, 17])):
        assert number_of(image) == i - 1
        jpeg = BytesIO()
        image.save(jpeg, "JPEG", quality=QUALITY, subsampling="4:2:0")
        assert jpeg.getvalue() == (tmp_path / "frames" / f"{i:06d}.jpg").read_bytes()


@pytest.mark.parametrize("rotate", [None, (0, 1, -1, 0), (-1, 0, 0, 1)])
def test_slices_are_slices_of_the_image(rotate, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), np.uint8)
    encode(tmp_path / "v.mp4", list(noise), rotate=rotate)
    source = VideoFiles(tmp_path)
    for lazy, image in zip(source.load_arrays("v.mp4", [1, 3]), source.load("v.mp4", [1, 3])):
        whole = np.asarray(image)
        assert lazy.shape == whole.shape
        for top, bottom, left, right in ((0, 64, 0, 64), (3, 40, 11, 58), (63, 64, 0, 1)):
            assert np.array_equal(lazy[top:bottom, left:right], whole[top:bottom, left:right])


def test_frames_of_a_clip_have_one_size(tmp_path):
    path = clip(tmp_path / "v.mp4", 3)
    frames = read_frames(path, [1, 2])
    wide = video_source.VideoImage(frames[2], (48, 32), VideoReformatter())
    assert wide[0:32, 0:48].shape == (32, 48, 3)
    assert np.array_equal(wide[0:32, 0:48], np.asarray(frame_image(frames[2], (48, 32), VideoReformatter())))
    assert upright_size(frames[1], 0) == (96, 64) and coded_image(0).shape == (64, 96, 3)


def test_only_what_the_frames_depend_on_is_decoded(tmp_path, monkeypatch):
    path = clip(tmp_path / "v.mp4", 100, options={"bf": "0", "g": "10", "x264-params": "scenecut=0"})
    fed = []
    between = video_source._Direct.between
    monkeypatch.setattr(video_source._Direct, "between", lambda self, first, last: (
        fed.append(row) or row for row in between(self, first, last)))
    frames = read_frames(path, [3, 55, 58, 100])
    assert [number_of(frame.to_image()) for frame in frames.values()] == [2, 54, 57, 99]
    assert [number for number, _ in fed] == [*range(0, 3), *range(50, 58), *range(90, 100)]


# ---- errors ---------------------------------------------------------------------------------------------------

def test_bad_files_are_named_with_the_reason(tmp_path):
    whole = clip(tmp_path / "v.mp4", 30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:-500])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "directory.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    source = VideoFiles(tmp_path)
    for name, reason in (("cut", "truncated: the last 500 bytes"), ("empty", "the file is empty"),
                         ("text", "cannot be read"), ("directory", "not a regular file"), ("pipe", "not a regular file")):
        for work in (lambda: source.load(f"{name}.mp4", [1]), lambda: source.count(f"{name}.mp4")):
            with refused(f"unreadable video: {tmp_path / name}.mp4: ", reason):
                work()
    with refused(f"missing video: {tmp_path / 'gone.mp4'}", "train with skip_bad"):
        source.load("gone.mp4", [1])
    with refused("unreadable video", "null"):
        source.load("a\0b.mp4", [1])
    with refused(tmp_path / "v.mp4", "frame 31 is requested, but it has 30"):
        source.load("v.mp4", [2, 31])


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.avi", "v.mkv"])
def test_damaged_videos_give_their_own_frames_or_a_reason(name, tmp_path):
    """Bytes flipped anywhere: a UserError, or images of the right number and size; never another exception."""
    whole = clip(tmp_path / name, 12).read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for trial in range(25):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 1 + trial % 6):
            content[place] = rng.integers(256)
        (tmp_path / f"{trial}{name}").write_bytes(content)
        try:
            images = VideoFiles(tmp_path).load(f"{trial}{name}", [2, 11])
            assert len(images) == 2 and images[0].size == images[1].size
            outcomes.add("loaded")
        except UserError as error:
            assert str(tmp_path / f"{trial}{name}") in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes
