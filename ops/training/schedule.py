"""Learning-rate schedules: how the rate falls over the epochs of a run."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Sequence

if TYPE_CHECKING:
    from torch.optim import Optimizer


def step_factor(epoch: float, lr_steps: Sequence[float], epochs: int) -> float:
    """A tenth after each of the epochs `lr_steps`."""
    return 0.1 ** sum(epoch >= step for step in lr_steps)


def cosine_factor(epoch: float, lr_steps: Sequence[float], epochs: int) -> float:
    """Half a cosine, from 1 in the first epoch towards 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def percent_factor(epoch: float, lr_steps: Sequence[float], epochs: int) -> float:
    """1, a tenth from 40 % of the run, a hundredth from 80 %."""
    return step_factor(epoch, (0.4 * epochs, 0.8 * epochs), epochs)


# lr_type: (epochs done, 0 or more; lr_steps; epochs of the whole run) -> the factor of the base rate. step and cos are
# published.
SCHEDULES: dict[str, Callable[[float, Sequence[float], int], float]] = {
    "step": step_factor, "cos": cosine_factor, "percent": percent_factor}


def learning_rate(epoch: float, *, lr: float, lr_type: str, lr_steps: Sequence[float], epochs: int,
                  lr_update: str = "epoch", warmup_epochs: float = 0) -> float:
    """The rate of the next step of a run that starts at `lr`, when `epoch` epochs (with their fraction) are done.

    lr_update: "epoch" keeps the rate for a whole epoch, as published, "step" changes it with every step. warmup_epochs: the
    rate rises linearly from lr / 100 during this time, step by step, and then follows the schedule.
    """
    rate = lr * SCHEDULES[lr_type](epoch if lr_update == "step" else math.floor(epoch), lr_steps, epochs)
    if epoch < warmup_epochs:
        rate *= 0.01 + 0.99 * epoch / warmup_epochs
    return rate


def set_learning_rate(optimizer: Optimizer, lr: float, weight_decay: float) -> None:
    """Give each parameter group its own multiple (lr_mult, decay_mult) of the learning rate and the weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
        group["weight_decay"] = weight_decay * group["decay_mult"]
