"""Precise BatchNorm statistics: means over training batches with the weights to validate, not moving averages."""
import torch
from torch import nn
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
    set_epoch(loader, state.epoch)
    state.seed_step()
    inputs = (options.prepare(batch.clips) for batch in first_batches(loader, batches) if batch.clips is not None)
    with options.precision.autocast():
        update_bn(inputs, state.validated)
    if distributed.world().size > 1:
        _average(state.validated)


def _average(network: nn.Module) -> None:
    """Replace the statistics by their mean over all processes."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            for statistic in (module.running_mean, module.running_var):
                sums = distributed.total(statistic.tolist())
                statistic.copy_(torch.tensor(sums, dtype=torch.float64) / distributed.world().size)
