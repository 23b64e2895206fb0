"""Preprocessing: what a frame goes through before the network, in training, testing, prediction and streaming alike."""
import math
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Union

import torch
from torch import Tensor

from ops.data.clip_transforms import normalize_channels

COLORS = ("RGB", "BGR")
RANGES = (1.0, 255.0)
# How frames are resized and cropped, in words, for a reader of a checkpoint's metadata who lacks this code.
_RESIZE, _CROP = "PIL bilinear, shorter side", "center"


@dataclass(frozen=True)
class Preprocessing:
    """Scale, crop, color order, value range and normalization of a network's frames.

    mean, std: per channel, in units of value_range and in the order of `color`; they repeat along the channels of a
    clip. color: of COLORS. value_range: 1.0 for values 0-1, 255.0 for values 0-255. scale_size: the frame's shorter
    side before the crop, pixels. crop_size: height and width of the crop, pixels.
    """
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str = "RGB"
    value_range: float = 1.0
    scale_size: int = 256
    crop_size: int = 224

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise ValueError(f"color {self.color!r}: choose {' or '.join(COLORS)}")
        if self.value_range not in RANGES:
            raise ValueError(f"value_range {self.value_range}: choose {' or '.join(map(str, RANGES))}")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(std > 0 for std in self.std):
            raise ValueError("mean or std has a value that is not finite, or a std that is not above 0")
        if not all(type(size) is int and size > 0 for size in (self.scale_size, self.crop_size)):
            raise ValueError(f"scale_size {self.scale_size}, crop_size {self.crop_size}: choose pixels, 1 or more")

    def apply(self, frames: Tensor, device: Optional[Union[str, torch.device]] = None) -> Tensor:
        """Scaled and cropped frames to the network's input, float32 of the same shape.

        frames: (N, T*C, H, W) uint8, 0-255, color channels in the order of `color`. device: where they are moved
        first, and normalized.
        """
        if device is not None:
            # Copies to the CPU must block, or they would be read before they have arrived.
            frames = frames.to(device, non_blocking=torch.device(device).type != "cpu")
        pixels = frames.float()
        if self.value_range == 1:
            pixels.div_(255)
        return normalize_channels(pixels, self.mean, self.std)

    def invert(self, frames: Tensor) -> Tensor:
        """The uint8 frames from which `apply` made these (N, T*C, H, W)."""
        channels = frames.shape[1]
        mean, std = (frames.new_tensor(values).repeat(channels // len(values)).view(1, -1, 1, 1)
                     for values in (self.mean, self.std))
        pixels = (frames * std + mean) * (255 / self.value_range)
        return pixels.round().clamp(0, 255).byte()

    def to_dict(self) -> dict[str, Any]:
        """The entry `preprocessing` of checkpoints and exported files: plain values for readers without this code."""
        return {"color": self.color, "range": self.value_range, "mean": list(self.mean), "std": list(self.std),
                "scale_size": self.scale_size, "crop_size": self.crop_size, "resize": _RESIZE, "crop": _CROP}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """What `to_dict` gave. ValueError, KeyError or TypeError for anything else."""
        return cls(tuple(map(float, values["mean"])), tuple(map(float, values["std"])), values["color"],
                   float(values["range"]), values["scale_size"], values["crop_size"])
