"""TSNDataSet over video files: the same samples as from their frames, bad files, worker processes."""
import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor
from ops.data.list_files import read_list
from ops.data.loader import make_loader, set_epoch
from ops.data.training_crop import TrainingCrop
from ops.data.tsn_dataset import BadVideo, TSNDataSet
from ops.prepare.extract import extract_video
from ops.video import video_files as video_source
from ops.video.frames import make_source
from tests.helpers.clips import clip, number_of
from tests.helpers.datasets import refused

pytestmark = pytest.mark.usefixtures("cache")


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


def test_frames_and_videos_are_the_same_kind_of_record(mixed):
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


def test_data_format_chooses_the_source(mixed):
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
