"""Does an exported model compute what PyTorch computes? Run both on noise and on pictures, and compare."""
from typing import Callable, NamedTuple

import matplotlib.cbook
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ops.common.errors import UserError
from ops.data.test_protocol import TestProtocol
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.multi_label import probabilities_of
from ops.models import TSN
from ops.runtimes.clips import ExportedClip, StepClip
from ops.runtimes.graphs import Model
from ops.runtimes.model_info import Measured, ModelInfo

TOLERANCE = 1e-4  # of the largest logit, in float32
CLIPS = 4  # of each kind
PHOTO = "grace_hopper.jpg"  # comes with matplotlib


class Agreement(NamedTuple):
    """How two runtimes' scores of the same inputs agree.

    compared: rows of scores. top1: percent of them with the same best class. probability: largest difference of a
    probability, 0-1. logit: largest difference of a logit, in units of the largest logit.
    """
    compared: int
    top1: float
    probability: float
    logit: float

    def as_measured(self) -> Measured:
        """For the metadata."""
        return {"compared": self.compared, "top1_agreement": self.top1, "largest_probability_difference": self.probability,
                "largest_logit_difference": self.logit}

    def __str__(self) -> str:
        return (f"{self.top1:.1f}% of {self.compared} answers as PyTorch's, probabilities differ by at most"
                f" {self.probability:.2g}, logits by {self.logit:.2g} of the largest")


def agreement(got: Tensor, wanted: Tensor, multi_label: bool = False) -> Agreement:
    """How scores (N, num_class) agree with the wanted ones."""
    same = float((got.argmax(dim=1) == wanted.argmax(dim=1)).double().mean())
    probability = (probabilities_of(got, multi_label) - probabilities_of(wanted, multi_label)).abs().max()
    logit = (got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)
    return Agreement(len(got), round(100 * same, 3), float(probability), float(logit))


def scorer(runtime: ExportedClip | StepClip | TorchClip) -> Callable[[Tensor], Tensor]:
    """uint8 clips -> scores (rows, num_class): one row per clip, or per frame where the runtime streams."""
    return (lambda clips: runtime.each_frame(clips).flatten(0, 1)) if isinstance(runtime, StepClip) else runtime


def compare_with_torch(exported: ExportedClip | StepClip, model: Model, info: ModelInfo) -> Agreement:
    """Score noise and pictures in both. UserError if a float32 export differs from PyTorch by more than TOLERANCE."""
    plain = TorchClip(model) if isinstance(model, TSN) else StepClip(model)
    size = info.batch or 2  # where it is free, more than one clip, so that a mix-up of clips would show
    clips = torch.cat((noise(info), panned_photo(info)))
    clips = clips.repeat(-(-size // len(clips)), 1, 1, 1)
    clips = clips[:len(clips) // size * size]  # whole batches: a step of a fixed batch takes no others
    got, wanted = (torch.cat([scorer(runtime)(part) for part in clips.split(size)]) for runtime in (exported, plain))
    found = agreement(got, wanted, info.spec.multi_label)
    if not bool(got.isfinite().all()) or info.precision == "float32" and found.logit > TOLERANCE:
        raise UserError(f"the exported model does not compute what PyTorch computes ({found}): it is not written; this is a"
                        " fault of the exporter or the runtime: try another format, or other versions of its packages")
    return found


def noise(info: ModelInfo) -> Tensor:
    """CLIPS uint8 clips of noise, (N, T*C, H, W)."""
    return torch.randint(0, 256, (CLIPS, info.spec.clip_channels, info.height, info.width), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(0))


def panned_photo(info: ModelInfo) -> Tensor:
    """CLIPS uint8 clips of a camera that moves over a photograph, (N, T*C, H, W), each at its own place and speed."""
    with Image.open(matplotlib.cbook.get_sample_data(PHOTO, asfileobj=False)) as file:
        photo = file.convert("RGB")
    random, clips = np.random.default_rng(0), []
    transform = TestProtocol().transform(info.preprocessing)
    side = min(photo.size) // 2
    for _ in range(CLIPS):
        start, speed = random.uniform(0, 0.5, 2), random.uniform(-0.4, 0.4, 2)
        frames = [photo.crop((*corner, *(corner + side))) for corner in (
            (np.clip(start + speed * t, 0, 1) * (np.array(photo.size) - side)).astype(int)
            for t in np.linspace(0, 1, info.images))]
        clip = transform(frames)
        if info.spec.modality == "Flow":  # a pair of gray images for x and y
            clip = clip.unflatten(0, (-1, 3))[:, :2].flatten(0, 1)
        clips.append(clip)
    images = torch.stack(clips)
    size = (info.height, info.width)
    return images if images.shape[-2:] == size else torch.nn.functional.interpolate(images.float(), size).byte()
