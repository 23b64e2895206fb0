"""Precise BatchNorm statistics: means over training batches with the weights to validate, not moving averages."""
import contextlib
from typing import Iterator, Sequence

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from ops.common import distributed
from ops.data.loader import first_batches, set_epoch
from ops.training.state import TrainState
from ops.training.step import StepOptions


def update_statistics(state: TrainState, loader: DataLoader, options: StepOptions, batches: int) -> None:
    """Estimate the statistics of the network to validate again, on the first `batches` batches of the epoch and process.

    The same for a resumed run: batches and random numbers follow from (seed, epoch, step). With several processes, the
    statistics are the mean of theirs; every process must call it.
    """
    set_epoch(loader, state.epoch, views=False)  # teachers have no part in it
    state.seed_step()
    inputs = (options.prepare(batch.clips) for batch in first_batches(loader, batches) if batch.clips is not None)
    state.validated.train()
    norms = [module for module in state.validated.modules() if isinstance(module, _BatchNorm)]
    with options.precision.autocast(), _kept([norm for norm in norms if not norm.training]):
        update_bn(inputs, state.validated)
    if distributed.world().size > 1:
        _average([norm for norm in norms if norm.training])


@contextlib.contextmanager
def _kept(frozen: Sequence[_BatchNorm]) -> Iterator[None]:
    """Inside, frozen norms do not let `update_bn` reset their statistics, and normalize with them as before."""
    for norm in frozen:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in frozen:
            norm.track_running_stats = True


def _average(norms: Sequence[_BatchNorm]) -> None:
    """Replace the statistics by their mean over all processes."""
    for module in norms:
        if module.running_mean is not None and module.running_var is not None:
            for statistic in (module.running_mean, module.running_var):
                sums = distributed.total(statistic.tolist())
                statistic.copy_(torch.tensor(sums, dtype=torch.float64) / distributed.world().size)
