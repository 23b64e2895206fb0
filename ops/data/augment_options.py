"""The names, ranges and combinations of the augmentation options. Without torch: flags are read before it is imported."""
from typing import Any, Callable

from ops.common.errors import UserError

# Name -> a function from torchvision.transforms.v2, which is imported when an augmentation is used, to the operation.
# Operations that depend on the image (equalize, autocontrast, contrast) work frame by frame, with one strength.
AUGMENTATIONS: dict[str, Callable[[Any], Any]] = {
    "none": lambda v2: v2.Identity(),
    "randaug": lambda v2: v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR),
    "colorjitter": lambda v2: v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "trivialaugment": lambda v2: v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
}


def check_augmentation(modality: str, *, augment: str = "none", erasing: float = 0.0, mixup: float = 0.0,
                       cutmix: float = 0.0) -> None:
    """UserError for values out of range and for combinations that do not work."""
    if augment not in AUGMENTATIONS:
        raise UserError(f"augment {augment!r}: choose {' or '.join(AUGMENTATIONS)}", "augment")
    if not 0 <= erasing <= 1:
        raise UserError(f"random_erasing {erasing}: choose a probability, 0 (never) to 1", "random_erasing")
    if modality == "Flow" and (augment != "none" or erasing):
        option = f"augment {augment}" if augment != "none" else "random_erasing"
        raise UserError(f"{option} needs color images: leave it out with Flow", "augment", "random_erasing")
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= alpha < float("inf"):
            raise UserError(f"{name} {alpha}: choose an alpha above 0 (usual: 0.2 for mixup, 1 for cutmix), or 0", name)
