"""The published training crop, built for speed: the same random draws and positions, pixels within 2 of 255 of PIL's.

Each frame is cropped first, stays uint8, and is resized straight into the clip's tensor.
"""
import warnings
from typing import Any, Callable, Optional, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ops.data.clip_transforms import GroupMultiScaleCrop

Augment = Callable[[Tensor], Tensor]


class TrainingCrop:
    """Frames as arrays (H, W, 3) to one uint8 tensor (T*3, height, width): multi-scale crop, mirror, augmentation.

    crop: draws the position and knows the size. augment: changes (T, 3, height, width) RGB. color: order of
    the result's channels, "RGB" or "BGR".
    """
    takes_arrays = True

    def __init__(self, crop: GroupMultiScaleCrop, color: str = "RGB", augment: Optional[Augment] = None) -> None:
        self.crop, self.color, self.augment = crop, color, augment

    def __call__(self, frames: Sequence[Any], mirrored: bool = False) -> Tensor:
        """frames: anything with a shape that can be sliced as an array (`ops.video.frames`)."""
        height, width = frames[0].shape[:2]
        crop_width, crop_height, left, top = self.crop.sample((width, height))
        if mirrored:  # published behaviour: frames are mirrored first, then cropped
            left = width - left - crop_width
        rows, columns = slice(top, top + crop_height), slice(left, left + crop_width)
        goal_width, goal_height = self.crop.output_size
        clip = np.empty((len(frames), 3, goal_height, goal_width), np.uint8)
        for planes, frame in zip(clip, frames):
            part = frame[rows, columns]
            resize_into(planes, part if part.shape[:2] == (crop_height, crop_width) else _padded(part, rows, columns))
        if mirrored:
            cv2.flip(clip.reshape(-1, goal_width), 1, dst=clip.reshape(-1, goal_width))
        pixels = torch.from_numpy(clip)
        pixels = self.augment(pixels) if self.augment else pixels
        return (pixels.flip(1) if self.color == "BGR" else pixels).flatten(0, 1)


def resize_into(planes: np.ndarray, image: np.ndarray) -> None:
    """Scale (h, w, 3) bilinearly into (3, H, W), both uint8; like PIL, with a wider filter where the image shrinks."""
    size = planes.shape[:0:-1]  # (width, height)
    interleaved = image.strides[2] == 1  # not stored as planes
    if image.shape[0] > size[1] or image.shape[1] > size[0]:
        with warnings.catch_warnings():  # some frames are read-only; they are only read
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        planes[:] = F.interpolate(pixels, planes.shape[1:], mode="bilinear", antialias=True)[0].numpy()
    elif interleaved:
        cv2.split(cv2.resize(image, size), list(planes))
    else:
        for plane, own in zip(planes, image.transpose(2, 0, 1)):
            cv2.resize(own, size, dst=plane)


def _padded(part: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Fill a crop that reaches beyond its frame with black, as PIL does; a frame may be smaller than the clip's first."""
    whole = np.zeros((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)
    whole[:part.shape[0], :part.shape[1]] = part
    return whole
