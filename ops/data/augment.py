"""Augmentation beyond the published crop and flip, through torchvision's v2; all of it is off by default.

Clips are augmented in the loader's processes, every frame of a clip alike, from the seed of the item. Batches are mixed on
the device.
"""
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms, tv_tensors
from torchvision.transforms import v2

from ops.data.augment_options import AUGMENTATIONS, check_augmentation
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor


class ClipAugment:
    """Augments (T, 3, H, W) uint8 RGB, with one draw for all frames; returns the same form.

    name: one of AUGMENTATIONS. erasing: probability that a random rectangle becomes `fill` (0-255 per channel).
    """

    def __init__(self, name: str, erasing: float = 0.0, fill: Sequence[float] = (0, 0, 0)) -> None:
        check_augmentation("RGB", augment=name, erasing=erasing)
        steps = [AUGMENTATIONS[name](v2)] * (name != "none")
        steps += [v2.RandomErasing(erasing, value=[float(value) for value in fill])] * (erasing > 0)
        self.steps = steps

    def __call__(self, frames: Tensor) -> Tensor:
        video: Tensor = tv_tensors.Video(frames)
        for step in self.steps:
            video = step(video)
        return video.as_subclass(Tensor)


def training_transform(published: transforms.Compose, modality: str, *, color: str = "RGB", augment: str = "none",
                       erasing: float = 0.0, fill: Sequence[float] = (0, 0, 0)) -> Callable:
    """Frames to a uint8 training clip: `published` (TSN.get_augmentation(flip=False)), then augmentation.

    RGB and RGBDiff use the fast `TrainingCrop`. color: order of the clip's channels, "RGB" or "BGR".
    fill: the color of erased rectangles, 0-255 RGB, normally the data's mean.
    """
    check_augmentation(modality, augment=augment, erasing=erasing)
    if modality == "Flow":
        return transforms.Compose([published, ToClipTensor(color)])
    crop, = published.transforms
    assert isinstance(crop, GroupMultiScaleCrop)
    from ops.data.training_crop import TrainingCrop  # not at the top: mixing batches needs no OpenCV
    return TrainingCrop(crop, color, ClipAugment(augment, erasing, fill) if augment != "none" or erasing else None)


class Mix:
    """Mixes each clip of a batch with its neighbor in the batch, all frames alike: (clips (N, ...), labels (N,) or multi-hot
    (N, num_class)) -> (mixed clips, labels (N, num_class)) on their device. mixes: one is chosen for each batch, by a coin
    toss.
    """

    def __init__(self, mixes: Sequence[Callable]) -> None:
        self.mixes = mixes

    def __call__(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self._choose()(clips, labels)

    def _choose(self) -> Callable:
        return self.mixes[int(torch.randint(len(self.mixes), (1,)))] if len(self.mixes) > 1 else self.mixes[0]

    def with_views(self, clips: Tensor, labels: Tensor, views: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What a call returns, with the same random numbers, and the views of the clips (N, ..., h, w) mixed as they are.

        A view may have another size: the same part of its area comes from the neighbor.
        """
        probe = clips.new_zeros(len(clips), 1, *clips.shape[-2:])
        probe[-1] = len(clips) > 1  # the neighbor of the first clip: mixed, the first is the neighbor's share of each pixel
        images, labels, shares = self._choose()(tv_tensors.Image(clips), labels, tv_tensors.Image(probe))
        share = shares.as_subclass(Tensor)[:1]
        return images.as_subclass(Tensor), labels, [
            view.lerp(view.roll(1, 0), F.interpolate(share, view.shape[-2:]).to(view)) for view in views]


def make_mix(num_class: int, mixup: float = 0.0, cutmix: float = 0.0) -> Optional[Mix]:
    """The mixing of these options; None: both are off.

    mixup, cutmix: alpha of the Beta distribution (arXiv:1710.09412, arXiv:1905.04899), 0: off; with both, a coin toss
    for each batch.
    """
    check_augmentation("RGB", mixup=mixup, cutmix=cutmix)
    mixes = [kind(alpha=alpha, num_classes=num_class) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
             if alpha]
    return Mix(mixes) if mixes else None
