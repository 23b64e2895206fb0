"""Augmentation beyond the published crop and flip: of a clip, all its frames alike, and of a batch (torchvision's v2).

All of it is off by default. Clips are augmented in the loader's processes, where each item has a seed of its own;
batches are mixed on the device.
"""
from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torchvision import transforms, tv_tensors
from torchvision.transforms import v2

from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor
from ops.data.training_crop import TrainingCrop

_BILINEAR = v2.InterpolationMode.BILINEAR

# Operations that look at the image (equalize, autocontrast, contrast) do so frame by frame, with one strength.
AUGMENTATIONS: dict[str, Callable[[], Any]] = {
    "none": v2.Identity,
    "randaug": lambda: v2.RandAugment(interpolation=_BILINEAR),
    "colorjitter": lambda: v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "trivialaugment": lambda: v2.TrivialAugmentWide(interpolation=_BILINEAR),
}

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def check_augmentation(modality: str, augment: str = "none", erasing: float = 0.0, mixup: float = 0.0,
                       cutmix: float = 0.0) -> None:
    """UserError for what cannot be."""
    if augment not in AUGMENTATIONS:
        raise UserError(f"--augment {augment!r}: choose {' or '.join(AUGMENTATIONS)}")
    if not 0 <= erasing <= 1:
        raise UserError(f"--random_erasing {erasing}: choose a probability, 0 (never) to 1")
    if modality == "Flow" and (augment != "none" or erasing):
        flag = f"--augment {augment}" if augment != "none" else "--random_erasing"
        raise UserError(f"{flag} is made for color images: leave it out with Flow")
    for flag, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= alpha < float("inf"):
            raise UserError(f"--{flag} {alpha}: choose an alpha above 0 (usual: 0.2 for mixup, 1 for cutmix), or 0")


class ClipAugment:
    """(T, 3, H, W) uint8 RGB to the same, with one draw for all frames.

    name: of AUGMENTATIONS. erasing: probability that a random rectangle becomes `fill` (0-255 per channel).
    """

    def __init__(self, name: str, erasing: float = 0.0, fill: Sequence[float] = (0, 0, 0)) -> None:
        check_augmentation("RGB", name, erasing)
        steps = [AUGMENTATIONS[name]()] * (name != "none")
        steps += [v2.RandomErasing(erasing, value=[float(value) for value in fill])] * (erasing > 0)
        self.steps = steps

    def __call__(self, frames: Tensor) -> Tensor:
        video: Tensor = tv_tensors.Video(frames)
        for step in self.steps:
            video = step(video)
        return video.as_subclass(Tensor)


def training_transform(published: transforms.Compose, modality: str, roll: bool, augment: str = "none",
                       erasing: float = 0.0, fill: Sequence[float] = (0, 0, 0)) -> Callable:
    """What makes a training clip of frames: `published` (TSN.get_augmentation(flip=False)) and more, to uint8.

    RGB and RGBDiff take the fast way. fill: the color, 0-255 RGB, of erased rectangles: the data's mean.
    """
    check_augmentation(modality, augment, erasing)
    if modality == "Flow":
        return transforms.Compose([published, ToClipTensor(roll)])
    crop, = published.transforms
    assert isinstance(crop, GroupMultiScaleCrop)
    return TrainingCrop(crop, roll, ClipAugment(augment, erasing, fill) if augment != "none" or erasing else None)


def make_mix(num_class: int, mixup: float = 0.0, cutmix: float = 0.0) -> Optional[Mix]:
    """A function (clips (N, ...), labels (N,)) -> (mixed clips, labels (N, num_class)) on their device, or None.

    mixup, cutmix: alpha of the Beta distribution (arXiv:1710.09412, arXiv:1905.04899), 0: off; both: a coin toss for
    each batch. Each clip is mixed with its neighbour in the batch, all frames alike.
    """
    check_augmentation("RGB", mixup=mixup, cutmix=cutmix)
    mixes = [kind(alpha=alpha, num_classes=num_class) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
             if alpha]
    if not mixes:
        return None

    def mix(clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = mixes[int(torch.randint(len(mixes), (1,)))] if len(mixes) > 1 else mixes[0]
        return chosen(clips, labels)
    return mix
