"""Learning-rate schedules."""
import math
from typing import Sequence

import torch


def learning_rate(epoch: int, base: float, lr_type: str, steps: Sequence[float], epochs: int) -> float:
    """The published schedules. step: a tenth after each of `steps` epochs. cos: half a cosine down to 0."""
    if lr_type == "cos":
        return 0.5 * base * (1 + math.cos(math.pi * epoch / epochs))
    return base * 0.1 ** sum(epoch >= step for step in steps)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Each group's own multiple of both."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
        group["weight_decay"] = weight_decay * group["decay_mult"]
