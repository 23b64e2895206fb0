"""The published import path of the transforms; the code is in `ops.data.clip_transforms`."""
from ops.data.clip_transforms import (
    GroupCenterCrop,
    GroupFullResSample,
    GroupMultiScaleCrop,
    GroupNormalize,
    GroupOverSample,
    GroupRandomCrop,
    GroupRandomHorizontalFlip,
    GroupRandomSizedCrop,
    GroupScale,
    IdentityTransform,
    Stack,
    ToTorchFormatTensor,
)

__all__ = ["GroupCenterCrop", "GroupFullResSample", "GroupMultiScaleCrop", "GroupNormalize", "GroupOverSample",
           "GroupRandomCrop", "GroupRandomHorizontalFlip", "GroupRandomSizedCrop", "GroupScale", "IdentityTransform",
           "Stack", "ToTorchFormatTensor"]
