"""The state of a training run."""
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class TrainState:
    """The whole state of a training run; what a checkpoint must hold to go on from it.

    epoch: epochs done. best_prec1: best validation top-1 so far, percent.
    """
    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    best_prec1: float = 0.0
