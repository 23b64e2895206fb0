"""The training losses: cross-entropy, or binary cross-entropy, with smoothed labels and with weights for the classes."""
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from ops.common.errors import UserError
from ops.training.step import Criterion, consensus_loss


def make_criterion(num_class: int, loss_type: str = "nll", label_smoothing: float = 0.1,
                   class_weights: Optional[Tensor] = None) -> Criterion:
    """(output (N, num_class) or (N, T, num_class), labels (N,) or probabilities (N, num_class)) -> mean loss.

    loss_type: nll, the cross-entropy, or smooth, the cross-entropy with smoothed labels. label_smoothing: s; the class of a
    clip has the probability 1 - s and each other class s / (num_class - 1). class_weights: (num_class,) factors of the loss
    of a clip, by its class. The mean is over clips, not over weights, so that a step is the same however it is divided.
    UserError for a smoothing that would make other classes as probable as the clip's own.
    """
    smoothing = label_smoothing if loss_type == "smooth" else 0.0
    if smoothing and not smoothing < 1 - 1 / num_class:
        raise UserError(f"label_smoothing {smoothing:g} with {num_class} classes: choose a number below"
                        f" {1 - 1 / num_class:.4g}", "label_smoothing")
    if not smoothing and class_weights is None:
        return consensus_loss

    def criterion(output: Tensor, labels: Tensor) -> Tensor:
        targets = F.one_hot(labels, num_class) if labels.dim() == 1 else labels
        targets = targets.to(output.device, torch.float32)
        if class_weights is not None:
            targets = targets * class_weights.to(targets)
        return consensus_loss(output.float(), smooth(targets, smoothing))
    return criterion


def make_multi_label_criterion(loss_type: str = "nll", label_smoothing: float = 0.1,
                               positive_weights: Optional[Tensor] = None) -> Criterion:
    """(output (N, num_class) or (N, T, num_class), labels (N, num_class) from 0 to 1) -> binary cross-entropy, its mean over
    clips and classes.

    loss_type: nll, or smooth: with label_smoothing s, a class of a clip has the probability 1 - s / 2, another one s / 2.
    positive_weights: (num_class,) factors of the loss of a class that a clip has.
    """
    smoothing = label_smoothing if loss_type == "smooth" else 0.0

    def criterion(output: Tensor, labels: Tensor) -> Tensor:
        targets = labels.to(output.device, torch.float32) * (1 - smoothing) + smoothing / 2
        if output.dim() == 3:
            targets = targets[:, None].expand_as(output)
        weights = None if positive_weights is None else positive_weights.to(targets)
        return F.binary_cross_entropy_with_logits(output.float(), targets, pos_weight=weights)
    return criterion


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """(N, num_class) targets of any sum: each keeps 1 - smoothing of its value and gives the rest to the other classes."""
    others = targets.sum(dim=1, keepdim=True) - targets
    return targets * (1 - smoothing) + others * (smoothing / max(targets.shape[1] - 1, 1))


def balancing_weights(counts: Tensor) -> Tensor:
    """(num_class,) factors in inverse proportion to the clips per class, `counts`; their mean over the clips is 1.

    A class without clips has the factor 0.
    """
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1e-9)), 0.0).float()


def positive_weights(counts: Tensor, clips: int) -> Tensor:
    """(num_class,) clips without a class for each clip that has it: then both sides of each class weigh the same.

    counts: (num_class,) clips with the class, of `clips`. A class that no clip or every clip has gets the factor 1.
    """
    mixed = (counts > 0) & (counts < clips)
    return torch.where(mixed, (clips - counts) / counts.clamp_min(1e-9), 1.0).float()
