"""Transforms of a clip, a list of PIL images: the same operation on every frame.

Random transforms draw from torch's CPU generator, which `ops.data.tsn_dataset` seeds per sample. A clip becomes one uint8
tensor and is normalized on the device (`ops.data.preprocessing`): a quarter of the bytes to move, at almost no cost.
`ToTorchFormatTensor` and `GroupNormalize` do the same on the CPU, for callers of the published API.

A rectangle is given in the published order, which differs: GroupScale, GroupCenterCrop and GroupRandomCrop take (height,
width), as torchvision does; GroupMultiScaleCrop, GroupOverSample and GroupFullResSample take (width, height), as PIL does.
"""
from copy import copy
from typing import Optional, Sequence, Union

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision import transforms

Clip = list[Image.Image]
Size = Union[int, tuple[int, int]]
BILINEAR = transforms.InterpolationMode.BILINEAR


def _pair(size: Size) -> tuple[int, int]:
    """A size as a pair, in the order in which it was given; a single number is both sides."""
    return (int(size), int(size)) if isinstance(size, (int, float)) else (size[0], size[1])


def _random_index(count: int) -> int:
    """One of 0, ..., count - 1, equally likely."""
    return int(torch.randint(count, (1,)))


def mirror(clip: Clip, is_flow: bool) -> Clip:
    """Flip each frame left to right. In flow (x and y images alternate) motion along x also changes its sign."""
    flipped = [frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for frame in clip]
    if is_flow:
        flipped[::2] = [ImageOps.invert(frame) for frame in flipped[::2]]
    return flipped


class IdentityTransform:
    def __call__(self, data):
        return data


class GroupScale:
    """Resize so that the shorter side has `size` pixels, or to `size` (height, width); bilinear."""

    def __init__(self, size: Size, interpolation: transforms.InterpolationMode = BILINEAR) -> None:
        self.worker = transforms.Resize(size, interpolation)

    def __call__(self, clip: Clip) -> Clip:
        return [self.worker(frame) for frame in clip]


class GroupCenterCrop:
    """The central crop of `size` (pixels, or (height, width))."""

    def __init__(self, size: Size) -> None:
        self.worker = transforms.CenterCrop(_pair(size))

    def __call__(self, clip: Clip) -> Clip:
        return [self.worker(frame) for frame in clip]


class GroupRandomCrop:
    """One crop of `size` (pixels, or (height, width)) at a random place, the same in every frame."""

    def __init__(self, size: Size) -> None:
        self.size = _pair(size)

    def __call__(self, clip: Clip) -> Clip:
        height, width = self.size
        left, top = _random_index(clip[0].width - width + 1), _random_index(clip[0].height - height + 1)
        return [frame.crop((left, top, left + width, top + height)) for frame in clip]


class GroupRandomHorizontalFlip:
    """Mirror the whole clip or leave it, by one coin toss. is_flow: also invert the x images."""

    def __init__(self, is_flow: bool = False) -> None:
        self.is_flow = is_flow

    def __call__(self, clip: Clip, is_flow: Optional[bool] = None) -> Clip:
        return mirror(clip, self.is_flow if is_flow is None else is_flow) if _random_index(2) else clip


class GroupMultiScaleCrop:
    """The TSN training crop: one of 13 positions, sides from `scales` x the shorter side, resized to `input_size`.

    input_size: pixels, or (width, height).
    max_distort: how many steps of `scales` the two sides may differ. fix_crop False: any position.
    more_fix_crop: 13 positions instead of 5.
    """

    def __init__(self, input_size: Size, scales: Optional[Sequence[float]] = None, max_distort: int = 1,
                 fix_crop: bool = True, more_fix_crop: bool = True) -> None:
        self.scales = list(scales or [1, .875, .75, .66])
        self.max_distort = max_distort
        self.fix_crop = fix_crop
        self.more_fix_crop = more_fix_crop
        self.input_size = self.output_size = _pair(input_size)

    def resized_to(self, output_size: Size) -> "GroupMultiScaleCrop":
        """A copy that draws the same regions and resizes them to another size; pixels, or (width, height)."""
        other = copy(self)
        other.output_size = _pair(output_size)
        return other

    def __call__(self, clip: Clip) -> Clip:
        width, height, left, top = self.sample(clip[0].size)
        box = (left, top, left + width, top + height)
        return [frame.crop(box).resize(self.output_size, Image.Resampling.BILINEAR) for frame in clip]

    def sample(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """A random (width, height, left, top), pixels, in an image of (width, height)."""
        sizes = self.crop_sizes(image_size)
        width, height = sizes[_random_index(len(sizes))]
        if not self.fix_crop:
            return width, height, _random_index(image_size[0] - width + 1), _random_index(image_size[1] - height + 1)
        offsets = self.fill_fix_offset(self.more_fix_crop, *image_size, width, height)
        return width, height, *offsets[_random_index(len(offsets))]

    def crop_sizes(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """Every (width, height) that may be drawn; a side within 3 pixels of the input size becomes equal to it."""
        sides = [max(1, int(min(image_size) * scale)) for scale in self.scales]
        widths, heights = [[goal if abs(side - goal) < 3 else side for side in sides] for goal in self.input_size]
        # A side that was set to the goal must not be larger than the image.
        widths = [min(w, image_size[0]) for w in widths]
        heights = [min(h, image_size[1]) for h in heights]
        return [(w, h) for i, h in enumerate(heights) for j, w in enumerate(widths)
                if abs(i - j) <= self.max_distort]

    @staticmethod
    def fill_fix_offset(more_fix_crop: bool, image_w: int, image_h: int, crop_w: int,
                        crop_h: int) -> list[tuple[int, int]]:
        """(left, top) of the corners and the center, and with more_fix_crop the points between, on a 5 x 5 grid."""
        x, y = (image_w - crop_w) // 4, (image_h - crop_h) // 4
        grid = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
        if more_fix_crop:
            grid += [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
        return [(column * x, row * y) for column, row in grid]


class GroupRandomSizedCrop:
    """A random crop of 8 to 100% of the area, 3:4 to 4:3, resized to size x size; the same in every frame."""

    def __init__(self, size: int, interpolation: transforms.InterpolationMode = BILINEAR) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, clip: Clip) -> Clip:
        box = transforms.RandomResizedCrop.get_params(clip[0], [0.08, 1.0], [3 / 4, 4 / 3])
        return [transforms.functional.resized_crop(frame, *box, [self.size, self.size], self.interpolation)
                for frame in clip]


class _MultiCrop:
    """Several crops of a clip: all frames of the first crop, then all frames of the next.

    crop_size: pixels, or (width, height). scale_size: see `GroupScale`.
    """

    def __init__(self, crop_size: Size, scale_size: Optional[Size] = None, flip: bool = True) -> None:
        self.crop_size = _pair(crop_size)
        self.scale = GroupScale(scale_size) if scale_size is not None else IdentityTransform()
        self.flip = flip

    def offsets(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        return GroupMultiScaleCrop.fill_fix_offset(False, *image_size, *self.crop_size)

    def __call__(self, clip: Clip) -> Clip:
        clip = self.scale(clip)
        width, height = self.crop_size
        crops: Clip = []
        for left, top in self.offsets(clip[0].size):
            crop = [frame.crop((left, top, left + width, top + height)) for frame in clip]
            crops += crop
            if self.flip:
                crops += mirror(crop, is_flow=clip[0].mode == "L")
        return crops


class GroupOverSample(_MultiCrop):
    """Four corners and the center (5 crops), each also mirrored if `flip` (10 crops)."""


class GroupFullResSample(_MultiCrop):
    """Left, right and center crop, vertically centered (3 crops), each also mirrored if `flip` (6 crops)."""

    def offsets(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        x, y = [(image - crop) // 4 for image, crop in zip(image_size, self.crop_size)]
        return [(0, 2 * y), (4 * x, 2 * y), (2 * x, 2 * y)]


class Stack:
    """Frames to one uint8 array (H, W, T*C). roll: RGB becomes BGR."""

    def __init__(self, roll: bool = False) -> None:
        self.roll = roll

    def __call__(self, clip: Clip) -> np.ndarray:
        frames = [np.atleast_3d(np.asarray(frame)) for frame in clip]
        if self.roll:
            frames = [frame[:, :, ::-1] for frame in frames]
        return np.concatenate(frames, axis=2)


class ToTorchFormatTensor:
    """(H, W, C) uint8 array or a PIL image to a float tensor (C, H, W), 0-1, or 0-255 with div=False."""

    def __init__(self, div: bool = True) -> None:
        self.div = div

    def __call__(self, image: Union[np.ndarray, Image.Image]) -> Tensor:
        tensor = torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1).contiguous().float()
        return tensor.div(255) if self.div else tensor


class GroupNormalize:
    """Subtract `mean` from a float (T*C, H, W) and divide by `std`, per channel; both repeat for each frame."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = mean, std

    def __call__(self, tensor: Tensor) -> Tensor:
        return normalize_channels(tensor[None], self.mean, self.std)[0]


class ToClipTensor:
    """RGB or gray frames to one uint8 tensor (T*C, H, W), 0-255. color: order of its channels, "RGB" or "BGR"."""

    def __init__(self, color: str = "RGB") -> None:
        self.color = color

    def __call__(self, clip: Clip) -> Tensor:
        frames = torch.from_numpy(np.stack([np.atleast_3d(np.asarray(frame)) for frame in clip]))  # (T, H, W, C)
        frames = frames.flip(3) if self.color == "BGR" else frames
        return frames.permute(0, 3, 1, 2).flatten(0, 1).contiguous()


def normalize_channels(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, T*C, H, W) float: (x - mean) / std per channel, in place; `mean` and `std` repeat along the channels."""
    for values, operation in ((mean, pixels.sub_), (std, pixels.div_)):
        operation(pixels.new_tensor(values).repeat(pixels.shape[1] // len(values)).view(1, -1, 1, 1))
    return pixels
