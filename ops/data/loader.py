"""From a data set to batches: order, worker processes, and randomness that depends on neither."""
import time
from functools import partial
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sized

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ops.common.device import mix_seeds
from ops.common.errors import UserError, worker_died
from ops.common.pool import without_interrupts
from ops.data.tsn_dataset import Batch, collate


class EpochSampler(Sampler):
    """Yields items as (epoch, index), shuffled by (seed, epoch); a sample's random draws depend on nothing else.

    A data set that is given such a key can seed itself (`TSNDataSet`), so the clips are the same with one worker or
    eight, persistent or not, and in a resumed or an uninterrupted run.
    """

    def __init__(self, data: Sized, seed: int) -> None:
        self.data, self.seed, self.epoch = data, seed, 0

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, self.epoch))
        order = torch.randperm(len(self.data), generator=generator).tolist()
        return iter([(self.epoch, index) for index in order])


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


def make_loader(data: Dataset, batch_size: int, *, workers: int, train: bool, seed: int = 0) -> DataLoader:
    """Batches (`ops.data.tsn_dataset.Batch`) of `data`: for training shuffled and only full ones (if there is one)."""
    sampler = EpochSampler(data, seed) if train else None  # type: ignore[arg-type]
    full = train and len(data) >= batch_size  # type: ignore[arg-type]
    # The loader has its own generator: its draws must not change the global state that dropout draws from.
    return Loader(data, batch_size=batch_size, sampler=sampler, num_workers=workers, collate_fn=collate,
                  pin_memory=torch.cuda.is_available(), drop_last=full, persistent_workers=workers > 0,
                  generator=torch.Generator().manual_seed(seed))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Choose the epoch (0-based) that the training loader's next pass draws."""
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.epoch = epoch


def first_batches(loader: Iterable[Any], count: int) -> Iterator[Batch]:
    """The first `count` batches of a pass."""
    for i, batch in enumerate(loader):
        assert isinstance(batch, Batch)
        yield batch
        if i + 1 == count:
            return
