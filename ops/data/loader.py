"""From a data set to batches: order, worker processes, and randomness that does not depend on either."""
import time
from typing import Any, Iterator, Sized

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ops.common.device import mix_seeds
from ops.common.errors import worker_died
from ops.data.tsn_dataset import Batch, collate


class EpochSampler(Sampler):
    """Items as (epoch, index), shuffled by (seed, epoch): what a sample draws depends on nothing else.

    A data set that gets such a key can seed itself (`TSNDataSet`), so one worker or eight, persistent or not,
    make the same clips, and a resumed run the same as an uninterrupted one.
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
    """A DataLoader that says in one line that a worker process died, which PyTorch answers with a traceback."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (RuntimeError, EOFError, ConnectionError) as error:
            death = _report_of_death() if not isinstance(error, RuntimeError) else error
            raise worker_died(death) or error from None


def _report_of_death(seconds: float = 5) -> Exception:
    """What PyTorch raises, by a signal, when a worker is gone: a batch that breaks off may come shortly before it."""
    try:
        time.sleep(seconds)
    except RuntimeError as error:
        return error
    return RuntimeError("")


def make_loader(data: Dataset, batch_size: int, workers: int, train: bool, seed: int = 0) -> DataLoader:
    """Batches (`ops.data.tsn_dataset.Batch`) of `data`: for training shuffled and only full ones (if there is one)."""
    sampler = EpochSampler(data, seed) if train else None  # type: ignore[arg-type]
    full = train and len(data) >= batch_size  # type: ignore[arg-type]
    # A generator of its own: the loader's draws must not move the global state that dropout draws from.
    return Loader(data, batch_size=batch_size, sampler=sampler, num_workers=workers, collate_fn=collate,
                  pin_memory=torch.cuda.is_available(), drop_last=full, persistent_workers=workers > 0,
                  generator=torch.Generator().manual_seed(seed))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Choose the epoch (0-based) that the training loader's next pass draws."""
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.epoch = epoch


def first_batches(loader: DataLoader, count: int) -> Iterator[Batch]:
    """The first `count` batches of a pass."""
    for i, batch in enumerate(loader):
        assert isinstance(batch, Batch)
        yield batch
        if i + 1 == count:
            return
