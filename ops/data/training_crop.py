"""The published training crop, built for speed: the same draws, the same places, pixels within 2 of 255 of PIL's.

The crop is cut out of the decoded frame before anything else is done to it; frames stay uint8 and go straight into
their place in the clip's tensor.
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

    crop: draws the place and tells the size. roll: RGB becomes BGR, last. augment: gets (T, 3, height, width) RGB.
    """
    takes_arrays = True

    def __init__(self, crop: GroupMultiScaleCrop, roll: bool = False, augment: Optional[Augment] = None) -> None:
        self.crop, self.roll, self.augment = crop, roll, augment

    def __call__(self, frames: Sequence[Any], mirrored: bool = False) -> Tensor:
        """frames: anything with a shape that can be sliced as an array (`ops.video.frames`)."""
        height, width = frames[0].shape[:2]
        crop_width, crop_height, left, top = self.crop.sample((width, height))
        if mirrored:  # published behaviour: frames are mirrored first, then cropped
            left = width - left - crop_width
        rows, columns = slice(top, top + crop_height), slice(left, left + crop_width)
        goal_width, goal_height = self.crop.input_size
        clip = np.empty((len(frames), 3, goal_height, goal_width), np.uint8)
        for planes, frame in zip(clip, frames):
            part = frame[rows, columns]
            resize_into(planes, part if part.shape[:2] == (crop_height, crop_width) else _padded(part, rows, columns))
        if mirrored:
            cv2.flip(clip.reshape(-1, goal_width), 1, dst=clip.reshape(-1, goal_width))
        pixels = torch.from_numpy(clip)
        pixels = self.augment(pixels) if self.augment else pixels
        return (pixels.flip(1) if self.roll else pixels).flatten(0, 1)


def resize_into(planes: np.ndarray, image: np.ndarray) -> None:
    """Scale (h, w, 3) bilinearly into (3, H, W), both uint8; like PIL, with a wider filter where it shrinks."""
    size = planes.shape[:0:-1]  # (width, height)
    interleaved = image.strides[2] == 1  # else they are planes already
    if image.shape[0] > size[1] or image.shape[1] > size[0]:
        with warnings.catch_warnings():  # some frames are read-only, and so they are used
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        planes[:] = F.interpolate(pixels, planes.shape[1:], mode="bilinear", antialias=True)[0].numpy()
    elif interleaved:
        cv2.split(cv2.resize(image, size), list(planes))
    else:
        for plane, own in zip(planes, image.transpose(2, 0, 1)):
            cv2.resize(own, size, dst=plane)


def _padded(part: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """What PIL makes of a crop that reaches beyond a frame smaller than the clip's first: black."""
    whole = np.zeros((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)
    whole[:part.shape[0], :part.shape[1]] = part
    return whole
