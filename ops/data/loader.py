"""From a data set to batches: order, worker processes, and randomness that depends on neither."""
import os
import signal
import threading
import time
from collections import Counter
from functools import partial
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional, Sequence, Sized

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ops.common import distributed
from ops.common.device import mix_seeds
from ops.common.errors import UserError, worker_died
from ops.common.part import Part
from ops.common.pool import without_interrupts
from ops.common.words import counted
from ops.data.tsn_dataset import Batch, WithoutViews, collate


class EpochSampler(Sampler):
    """Yields this process's items as (epoch, index), shuffled by (seed, epoch); a sample's draws depend on nothing else.

    A data set that is given such a key can seed itself (`TSNDataSet`), so the clips are the same with one worker or
    eight, persistent or not, and in a resumed or an uninterrupted run. One optimizer step takes the same items of the
    epoch's order however they are divided: accumulate * processes * batch_size items, of which each process takes
    `accumulate` batches. Only full steps are taken, unless the data set is smaller than one step (one process only).

    epoch, start, views: of the next pass, its first step, and whether its items have their views. draws: probability of each
    item; then an epoch is as many draws with replacement, and an item's n-th repetition has the key (epoch, index, n), so
    that its clips differ.
    """

    def __init__(self, data: Sized, seed: int, batch_size: int = 1, accumulate: int = 1,
                 draws: Optional[Tensor] = None) -> None:
        here = distributed.world()
        self.data, self.seed, self.epoch, self.start, self.views, self.draws = data, seed, 0, 0, True, draws
        self.rank, self.shape = here.rank, (accumulate, here.size, batch_size)
        self.step_size = accumulate * here.size * batch_size
        self.full = len(data) >= self.step_size
        if not self.full and accumulate * here.size > 1:
            raise UserError(f"the training list has {counted(len(data), 'video')}, fewer than the {self.step_size} of one"
                            f" step (batch-size {batch_size} x grad_accum {accumulate} x {counted(here.size, 'process')}):"
                            " choose fewer",
                            "batch-size", "grad_accum")

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole epoch."""
        return len(self.data) // self.step_size if self.full else 1

    def __len__(self) -> int:
        return max(self.steps - self.start, 0) * (self.step_size // self.shape[1] if self.full else len(self.data))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, self.epoch))
        order = (torch.randperm(len(self.data), generator=generator) if self.draws is None else
                 torch.multinomial(self.draws, len(self.data), replacement=True, generator=generator))
        keys = self._keys(order.tolist())
        if self.full:
            in_steps = torch.arange(self.steps * self.step_size).view(-1, *self.shape)
            keys = [keys[place] for place in in_steps[self.start:, :, self.rank].flatten().tolist()]
        elif self.start:
            keys = []
        return iter(keys if self.views else map(WithoutViews, keys))

    def _keys(self, order: Sequence[int]) -> list[tuple[int, ...]]:
        """(epoch, index) of each item; (epoch, index, n) of its n-th repetition."""
        seen: Counter[int] = Counter()
        keys: list[tuple[int, ...]] = []
        for index in order:
            keys.append((self.epoch, index, seen[index]) if seen[index] else (self.epoch, index))
            seen[index] += 1
        return keys


class RankSampler(Sampler):
    """Every size-th index from this process's rank on: all processes together take each item exactly once."""

    def __init__(self, data: Sized) -> None:
        here = distributed.world()
        self.indices = Part(here.rank + 1, here.size).take(range(len(data)))

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class Loader(DataLoader):
    """A DataLoader whose errors are UserErrors of one line: a bad sample's own error, or that a worker process died.

    PyTorch rebuilds the exception of a worker from its text and adds a traceback; here UserErrors travel as values.
    """

    def __init__(self, data: Any, collate_fn: Callable[[Any], Any], **options: Any) -> None:
        """collate_fn: makes a batch of a list of samples; with batch_size None, of one sample. options: DataLoader's."""
        super().__init__(_ErrorsAsValues(data), collate_fn=partial(_collate_good, collate_fn), **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            with without_interrupts():  # else Ctrl-C may reach a worker first, and look like the death of one
                batches = super().__iter__()
            for batch in batches:
                if isinstance(batch, _Failure):
                    raise batch.error
                yield batch
        except (RuntimeError, EOFError, ConnectionError) as error:
            death = _report_of_death() if not isinstance(error, RuntimeError) else error
            raise worker_died(death) or error from None


class _Failure(NamedTuple):
    error: UserError


class _ErrorsAsValues(Dataset):
    """The items of `data`, with a _Failure instead of a UserError."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.data[key]
        except UserError as error:
            return _Failure(error)


def _collate_good(collate_fn: Callable[[Any], Any], samples: Any) -> Any:
    """The batch, or the first failure among its samples."""
    failures = [sample for sample in (samples if isinstance(samples, list) else [samples]) if isinstance(sample, _Failure)]
    return failures[0] if failures else collate_fn(samples)


def _report_of_death(seconds: float = 5) -> Exception:
    """The error that PyTorch raises, in a signal handler, when a worker is gone; a broken batch may come shortly before."""
    try:
        time.sleep(seconds)
    except RuntimeError as error:
        return error
    return RuntimeError("")


def make_loader(data: Dataset, batch_size: int, *, workers: int, train: bool, seed: int = 0,
                accumulate: int = 1, draws: Optional[Tensor] = None) -> DataLoader:
    """This process's batches (`ops.data.tsn_dataset.Batch`) of `data`: in order, or for training shuffled (`EpochSampler`).

    batch_size: clips per batch and process. accumulate: batches per optimizer step. draws: see
    `EpochSampler`.
    """
    sampler: Sampler = (EpochSampler(data, seed, batch_size, accumulate, draws) if train else  # type: ignore
                        RankSampler(data))  # type: ignore
    full = isinstance(sampler, EpochSampler) and sampler.full
    # The loader has its own generator: its draws must not change the global state that dropout draws from.
    return Loader(data, batch_size=batch_size, sampler=sampler, num_workers=workers, collate_fn=collate,
                  pin_memory=torch.cuda.is_available(), drop_last=full, persistent_workers=workers > 0,
                  generator=torch.Generator().manual_seed(seed), worker_init_fn=_ignore_schedulers_sigterm)


def _ignore_schedulers_sigterm(worker: int) -> None:
    """A scheduler's SIGTERM reaches every process; the main one finishes its step and then ends the workers by its own.

    Only sigwaitinfo tells who sent a signal; where it is missing (macOS), a worker ends at every SIGTERM.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_at_parents_signal, daemon=True).start()


def _end_at_parents_signal() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def set_epoch(loader: DataLoader, epoch: int, start: int = 0, *, views: bool = True) -> None:
    """Choose the epoch (0-based) that the training loader's next pass draws, the optimizer step it begins with, and
    whether its batches have views."""
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.epoch, loader.sampler.start, loader.sampler.views = epoch, start, views


def steps_per_epoch(loader: DataLoader) -> int:
    """Optimizer steps of a whole epoch of a training loader."""
    return loader.sampler.steps if isinstance(loader.sampler, EpochSampler) else len(loader)


def batches_per_step(loader: DataLoader) -> int:
    """Batches of this process that make one optimizer step."""
    return loader.sampler.shape[0] if isinstance(loader.sampler, EpochSampler) else 1


def first_batches(loader: Iterable[Any], count: int) -> Iterator[Batch]:
    """The first `count` batches of a pass."""
    for i, batch in enumerate(loader):
        assert isinstance(batch, Batch)
        yield batch
        if i + 1 == count:
            return
