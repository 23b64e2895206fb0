"""Learning-rate schedules: how the rate falls over the epochs of a run."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Sequence

if TYPE_CHECKING:
    from torch.optim import Optimizer


def step_factor(epoch: int, lr_steps: Sequence[float], epochs: int) -> float:
    """A tenth after each of the epochs `lr_steps`."""
    return 0.1 ** sum(epoch >= step for step in lr_steps)


def cosine_factor(epoch: int, lr_steps: Sequence[float], epochs: int) -> float:
    """Half a cosine, from 1 in the first epoch towards 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


# lr_type: (epoch, 0-based; lr_steps; epochs of the whole run) -> the factor of the base rate. Both are published.
SCHEDULES: dict[str, Callable[[int, Sequence[float], int], float]] = {"step": step_factor, "cos": cosine_factor}


def learning_rate(epoch: int, *, lr: float, lr_type: str, lr_steps: Sequence[float], epochs: int) -> float:
    """The rate in `epoch` of a run that starts at `lr`."""
    return lr * SCHEDULES[lr_type](epoch, lr_steps, epochs)


def set_learning_rate(optimizer: Optimizer, lr: float, weight_decay: float) -> None:
    """Give each parameter group its own multiple (lr_mult, decay_mult) of the learning rate and the weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
        group["weight_decay"] = weight_decay * group["decay_mult"]
