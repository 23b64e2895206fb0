"""The fast training crop against the published one, pixel by pixel and draw by draw."""
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor, mirror
from ops.data.training_crop import TrainingCrop, resize_into
from ops.data.tsn_dataset import TSNDataSet
from tests.helpers.datasets import photo


def published(crop, frames, mirrored, roll=False):
    clip = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    return ToClipTensor("BGR" if roll else "RGB")(crop(mirror(clip, False) if mirrored else clip))


def in_planes(frames):
    """The same images as a video decoder leaves them."""
    return [frame.transpose(2, 0, 1).copy().transpose(1, 2, 0) for frame in frames]


@pytest.mark.parametrize("width, height, goal", [(340, 256, 224), (171, 128, 112), (120, 160, 112), (400, 300, 64),
                                                 (90, 70, 112), (113, 113, 112), (7, 5, 32)])
@pytest.mark.parametrize("form", [list, in_planes])
def test_a_clip_is_the_published_one_within_two_levels(width, height, goal, form):
    frames = [photo(width, height, seed) for seed in range(3)]
    crop = GroupMultiScaleCrop(goal)
    total, worst = 0.0, 0
    for seed in range(16):
        mirrored, roll = bool(seed % 2), bool(seed % 4 > 1)
        torch.manual_seed(seed)
        wanted = published(crop, frames, mirrored, roll).int()
        torch.manual_seed(seed)
        found = TrainingCrop(crop, "BGR" if roll else "RGB")(form(frames), mirrored)
        assert found.dtype == torch.uint8 and found.shape == (9, goal, goal)
        difference = (found.int() - wanted).abs()
        total, worst = total + float(difference.float().mean()), max(worst, int(difference.max()))
    assert worst <= 2 and total / 16 < 0.4


def test_noise_that_shrinks_is_filtered_as_by_pil():
    """Without PIL's wider filter (antialiasing) noise would keep its contrast."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    planes = np.empty((3, 100, 100), np.uint8)
    resize_into(planes, noise)
    wanted = np.asarray(Image.fromarray(noise).resize((100, 100), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(planes.astype(int) - wanted).max() <= 1


def test_a_smaller_frame_is_filled_up_as_by_pil():
    frames = [photo(60, 50), photo(40, 30, 1)]
    crop = GroupMultiScaleCrop(32)
    for seed in range(8):
        torch.manual_seed(seed)
        wanted = published(crop, frames, False).int()
        torch.manual_seed(seed)
        assert (TrainingCrop(crop)(frames).int() - wanted).abs().max() <= 2


class Chart:
    """A source whose pixels show their position: red the column, green the row."""
    @staticmethod
    def load_arrays(video, indices):
        columns, rows = np.meshgrid(np.arange(160), np.arange(120))
        return [np.dstack([columns, rows, 0 * rows]).astype(np.uint8)] * len(indices)

    def load(self, video, indices):
        return [Image.fromarray(frame) for frame in self.load_arrays(video, indices)]


def place(clip):
    """The position and size of a chart's crop, rounded: the colors of two opposite corners."""
    return tuple(clip[channel, corner, corner].item() for channel in (0, 1) for corner in (0, -1))


def test_crops_and_flips_equal_the_published_ones(tmp_path):
    """Through the data set: the same seeds draw the same crops and coin tosses, so the distribution is the same."""
    (tmp_path / "list.txt").write_text("x 8 0\n" * 600)
    crop = GroupMultiScaleCrop(112)
    places = []
    for transform in (transforms.Compose([crop, ToClipTensor()]), TrainingCrop(crop)):
        data = TSNDataSet(tmp_path, tmp_path / "list.txt", 1, transform=transform, mirror_labels=[0], seed=2)
        data.source = Chart()
        places.append([place(data[0, i][0]) for i in range(600)])
    assert all(abs(a - b) <= 2 for ours, theirs in zip(*places) for a, b in zip(ours, theirs))
    mirrored = sum(left > right for left, right, _, _ in places[1])
    assert 250 < mirrored < 350
    assert len(Counter(places[1])) > 150  # of ten sizes, thirteen places, two directions
