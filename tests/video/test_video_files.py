"""Frames straight from videos: those of a full decode, whatever the codec, the container and the time stamps."""
import ctypes
import os
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from io import BytesIO

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor
from ops.data.list_files import read_list
from ops.data.loader import make_loader, set_epoch
from ops.data.training_crop import TrainingCrop
from ops.data.tsn_dataset import BadVideo, TSNDataSet
from ops.prepare.extract import QUALITY, extract_video
from ops.video import frame_index as frame_index_module
from ops.video import video_files as video_source
from ops.video.decode import BrokenVideo, decoded_frames, frame_image, upright_size
from ops.video.frame_index import frame_index, padded_packet, scan
from ops.video.frames import make_source
from ops.video.video_files import VideoFiles, read_frames
from tests.helpers.clips import clip, coded_image, encode, number_of, real_video


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TSM_CACHE", str(directory))
    frame_index_module._frame_index.cache_clear()
    return directory


@contextmanager
def refused(*words):
    """A UserError of one line with all of `words` in it."""
    with pytest.raises(UserError) as info:
        yield
    assert "\n" not in str(info.value)
    for word in words:
        assert str(word) in str(info.value), str(info.value)


def raw(frame):
    return frame.to_ndarray().tobytes()


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


# ---- the right frames -----------------------------------------------------------------------------------------

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
    "MPEG-4 in AVI": ("v.avi", {}, {"bf": "2", "g": "20"}),
    "QuickTime": ("v.mov", {}, {"bf": "3", "g": "20"}),
    "MPEG-TS": ("v.ts", {}, {"bf": "3", "g": "20"}),
    "Flash": ("v.flv", {}, {"bf": "3", "g": "20"}),
    "MPEG-2": ("v.mpg", {}, {"bf": "2", "g": "12"}),
    "Windows Media": ("v.wmv", {}, {"g": "20"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_encoded_videos_give_the_frames_of_a_full_decode(kind, tmp_path, monkeypatch):
    name, options, encoder = KINDS[kind]
    path = clip(tmp_path / name, 80, options=encoder, **options)
    check_frames(path)
    # The same through the container, with a seek wherever one is possible.
    index = replace(frame_index(path), codec=None)
    monkeypatch.setattr(video_source, "frame_index", lambda video: index)
    monkeypatch.setattr(video_source, "_SEEK_OVER", 0)
    check_frames(path)


def test_the_kinds_are_what_they_are_called(tmp_path):
    """The videos above would prove little if the encoder had not made what was asked for."""
    name, options, encoder = KINDS["edit list cuts the beginning"]
    cut = scan(clip(tmp_path / name, 80, options=encoder, **options))
    assert cut.packets[0, 0] < 0 and (cut.count, len(cut.packets)) == (72, 80)
    reordered = scan(clip(tmp_path / "b.mp4", 80, options={"bf": "3", "g": "250"}))
    assert reordered.codec is not None and (np.diff(reordered.order) < 0).any()
    assert (reordered.packets[:, 1] & 1).sum() == 1


def test_a_container_that_cannot_be_searched_is_read_from_its_beginning(tmp_path, monkeypatch):
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


def test_codecs_whose_packets_tell_nothing_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_index_module, "_ONE_TO_ONE", set())
    path = clip(tmp_path / "v.avi", 30, options={"bf": "2"})
    assert frame_index(path).packets.size == 0
    check_frames(path)


def test_images_are_those_that_extraction_writes(tmp_path):
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


def test_only_what_the_frames_lean_on_is_decoded(tmp_path, monkeypatch):
    path = clip(tmp_path / "v.mp4", 100, options={"bf": "0", "g": "10", "x264-params": "scenecut=0"})
    fed = []
    between = video_source._Direct.between
    monkeypatch.setattr(video_source._Direct, "between", lambda self, first, last: (
        fed.append(row) or row for row in between(self, first, last)))
    frames = read_frames(path, [3, 55, 58, 100])
    assert [number_of(frame.to_image()) for frame in frames.values()] == [2, 54, 57, 99]
    assert [number for number, _ in fed] == [*range(0, 3), *range(50, 58), *range(90, 100)]


# ---- the index ------------------------------------------------------------------------------------------------

def indices_in(cache):
    return list(cache.rglob("*.idx"))


def test_an_index_is_kept_and_belongs_to_one_state_of_a_file(tmp_path, cache, monkeypatch):
    path = clip(tmp_path / "v.mp4", 10)
    first = frame_index(path)
    assert first.count == 10 and len(indices_in(cache)) == 1
    frame_index_module._frame_index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(frame_index_module, "scan", lambda video: pytest.fail("scanned again"))
        again = frame_index(path)
    assert np.array_equal(again.packets, first.packets) and again.codec == first.codec and again.count == 10
    clip(path, 14)
    os.utime(path, ns=(1, 1))
    assert frame_index(path).count == 14 and len(indices_in(cache)) == 2
    assert number_of(VideoFiles(tmp_path).load("v.mp4", [13])[0]) == 12


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:50], lambda b: b[:-1], lambda b: b"x" + b,
                                    lambda b: b.replace(b'"count": 10', b'"count": 11')])
def test_a_damaged_index_is_made_again(damage, tmp_path, cache):
    path = clip(tmp_path / "v.mp4", 10)
    frame_index(path)
    file, = indices_in(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    frame_index_module._frame_index.cache_clear()
    assert frame_index(path).count == 10
    assert file.read_bytes() == whole


def test_without_a_cache_directory_videos_load_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "file"))
    assert frame_index(clip(tmp_path / "v.mp4", 5)).count == 5


def test_decoders_read_zeros_behind_a_packet():
    """MPEG-4's looks at what follows an image: memory of other uses there would paint blocks at random."""
    for size in range(1, 400):
        packet = padded_packet(b"\x11" * size)
        assert bytes(packet) == b"\x11" * size
        assert ctypes.string_at(packet.buffer_ptr + size, 64) == bytes(64)


def test_packets_that_lie_are_found_out(tmp_path, monkeypatch):
    """A hidden packet taken for a frame: the video is decoded to count, and its frames are the right ones."""
    path = clip(tmp_path / "v.webm", 30, options={"auto-alt-ref": "0", "lag-in-frames": "0"})
    content = bytearray(path.read_bytes())
    content[scan(path).packets[12, 2]] &= ~0x10  # VP8's show_frame: image 12 is decoded, but not shown
    path.write_bytes(content)
    images = [*range(12), *range(13, 30)]
    assert [number_of(frame.to_image()) for frame in decoded_frames(path)] == images
    assert scan(path).count == 29
    monkeypatch.setattr(frame_index_module, "_flags", lambda packet, codec: 2 + packet.is_keyframe)
    assert frame_index(path).count == 30
    assert [number_of(image) for image in VideoFiles(tmp_path).load("v.webm", range(1, 30))] == images
    assert frame_index(path).count == 29
    with refused(path, "frame 30 is requested, but it has 29"):
        VideoFiles(tmp_path).load("v.webm", [4, 30])


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


# ---- data sets ------------------------------------------------------------------------------------------------

@pytest.fixture
def mixed(tmp_path):
    """One video as file and as directory of frames, and another without a number of frames in the list."""
    clip(tmp_path / "a clip.mp4", 40, options={"bf": "2"})
    clip(tmp_path / "b.webm", 24)
    extract_video(tmp_path / "a clip.mp4", tmp_path / "a clip", height=0)
    (tmp_path / "list.txt").write_text("a clip.mp4 40 0\na clip 40 1\na clip.mp4 2\nb.webm 3\n")
    return tmp_path


def numbers(images):
    return [number_of(image) + 1 for image in images]


def test_frames_and_videos_are_one_kind_of_record(mixed):
    assert [(r.path, r.num_frames, r.label) for r in read_list(mixed / "list.txt")] == [
        ("a clip.mp4", 40, 0), ("a clip", 40, 1), ("a clip.mp4", 0, 2), ("b.webm", 0, 3)]
    data = TSNDataSet(mixed, mixed / "list.txt", 4, image_tmpl="{:06d}.jpg", random_shift=False)
    items = [data[i] for i in range(4)]
    assert [numbers(item) for item, _ in items] == [[6, 16, 26, 36]] * 3 + [[4, 10, 16, 22]]
    assert [label for _, label in items] == [0, 1, 2, 3]
    for ours, theirs in zip(items[0][0], items[1][0]):  # but for the JPEG
        difference = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
        assert difference.mean() < 1.5
    for epoch in range(3):  # training: the same draws, whichever form
        torch.manual_seed(epoch)
        first = data.source.load("a clip.mp4", data.segment_frames(40))
        torch.manual_seed(epoch)
        assert numbers(first) == numbers(data.source.load("a clip", data.segment_frames(40)))


def test_formats_can_be_told(mixed):
    def load(data_format, line):
        (mixed / "one.txt").write_text(line)
        return TSNDataSet(mixed, mixed / "one.txt", 2, image_tmpl="{:06d}.jpg", random_shift=False,
                          data_format=data_format)[0][0]
    assert isinstance(load("auto", "a clip 40 0")[0], Image.Image)
    assert numbers(load("video", "b 24 0")) == numbers(load("video", "b.webm 24 0")) == [7, 19]
    assert numbers(load("frames", "a clip 40 0")) == numbers(load("video", "a clip 40 0")) == [11, 31]
    with refused("missing frame", "b.webm"):
        load("frames", "b.webm 24 0")
    with refused("'b.webm' has no number of frames"):
        load("frames", "b.webm 0")
    with refused("data_format 'tar'", "auto or frames or video"):
        load("tar", "b.webm 24 0")
    with refused("data_format video with Flow"):
        make_source(mixed, "flow_{}_{:05d}.jpg", modality="Flow", data_format="video")
    (mixed / "b.mp4").write_bytes(b"")
    with refused("ambiguous", "b.mp4", "b.webm"):
        load("video", "b 24 0")
    extract_video(mixed / "b.webm", mixed / "named like.mp4", height=0)
    assert numbers(load("auto", "named like.mp4 24 0")) == [7, 19]  # a directory of frames


@pytest.mark.parametrize("line", ["a clip 3", "b.webm", "b.webm x", "b.webm 1.5", "b.webm 99999999999 1", ".mp4x 3"])
def test_lines_of_another_form(line, tmp_path):
    (tmp_path / "list.txt").write_text(line)
    with refused("list.txt:1: ", "is not of the form: path num_frames label"):
        read_list(tmp_path / "list.txt")


def test_bad_videos_are_left_out_with_their_reason(mixed):
    whole = (mixed / "b.webm").read_bytes()
    (mixed / "b.webm").write_bytes(whole[:len(whole) // 2])
    (mixed / "list.txt").write_text("b.webm 0\ngone.mp4 30 1\na clip.mp4 2\n")
    data = TSNDataSet(mixed, mixed / "list.txt", 4, transform=ToClipTensor(), skip_bad=True)
    assert isinstance(data[0], BadVideo) and "truncated" in data[0].reason and data[0].path == "b.webm"
    assert isinstance(data[1], BadVideo) and "missing video" in data[1].reason
    assert data[2][1] == 2


class Unable:
    """A VideoReformatter to which the second image is of no kind it knows."""
    done = 0

    def reformat(self, *args, **options):
        self.done += 1
        if self.done == 2:
            raise av.FFmpegError(22, "Invalid argument")
        return VideoReformatter().reformat(*args, **options)


@pytest.mark.parametrize("transform", [TrainingCrop(GroupMultiScaleCrop(32)), ToClipTensor()])
def test_frames_that_cannot_be_converted_are_named_or_left_out(mixed, monkeypatch, transform):
    monkeypatch.setattr(video_source, "VideoReformatter", Unable)
    options = dict(num_segments=4, transform=transform, random_shift=False)
    data = TSNDataSet(mixed, mixed / "list.txt", **options)
    with refused(f"unreadable video: {mixed / 'a clip.mp4'}: frame 16 cannot be converted: Invalid argument"):
        data[0]
    bad = TSNDataSet(mixed, mixed / "list.txt", skip_bad=True, **options)[0]
    assert isinstance(bad, BadVideo) and "frame 16 cannot be converted" in bad.reason and bad.path == "a clip.mp4"


def test_workers_change_nothing_with_videos(mixed):
    transform = TrainingCrop(GroupMultiScaleCrop(32))
    data = TSNDataSet(mixed, mixed / "list.txt", 4, image_tmpl="{:06d}.jpg", transform=transform, seed=5,
                      mirror_labels=[1, 0, 2, 3])
    results = []
    for workers in (0, 2):
        loader = make_loader(data, 2, workers=workers, train=True, seed=5)
        for epoch in (0, 1):
            set_epoch(loader, epoch)
            results.append([(batch.clips, batch.labels) for batch in loader])
    for alone, together in zip(results[:2], results[2:]):
        assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(alone, together, strict=True))
    assert not torch.equal(results[0][0][0], results[1][0][0])


def test_a_clips_images_have_one_size(tmp_path):
    path = clip(tmp_path / "v.mp4", 3)
    frames = read_frames(path, [1, 2])
    wide = video_source.VideoImage(frames[2], (48, 32), VideoReformatter())
    assert wide[0:32, 0:48].shape == (32, 48, 3)
    assert np.array_equal(wide[0:32, 0:48], np.asarray(frame_image(frames[2], (48, 32), VideoReformatter())))
    assert upright_size(frames[1], 0) == (96, 64) and coded_image(0).shape == (64, 96, 3)
