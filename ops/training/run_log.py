"""What a training run writes beside its checkpoints: log.csv, TensorBoard events, args.txt."""
import csv
import itertools
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping

from tensorboardX import SummaryWriter

from ops.common.files import CannotWrite, atomic_write

log = logging.getLogger(__name__)

COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "train_top5", "val_loss", "val_top1", "val_top5",
           "data_seconds", "step_seconds")
_TAGS = {"train_loss": "loss/train", "train_top1": "acc/train_top1", "train_top5": "acc/train_top5",
         "val_loss": "loss/test", "val_top1": "acc/test_top1", "val_top5": "acc/test_top5", "lr": "lr",
         "best_top1": "acc/test_top1_best"}


class RunLog:
    """One row an epoch (percent, seconds); validation columns are empty where none was run.

    start_epoch: 0 begins a new log. On a resumed run the rows of earlier epochs stay, and what an interrupted
    epoch may have left is taken out. A log.csv of another form, such as the published program's, is renamed.
    """

    def __init__(self, directory: Path, start_epoch: int = 0) -> None:
        self.path = directory / "log.csv"
        with _told(directory):
            directory.mkdir(parents=True, exist_ok=True)
            if not _is_ours(self.path):
                _set_aside(self.path)
            self.rows = [row for row in read_log(self.path) if int(row["epoch"]) < start_epoch]
            self.board = SummaryWriter(str(directory), purge_step=start_epoch if start_epoch else None)

    def add(self, row: Mapping[str, Any], best_top1: float) -> None:
        """Append an epoch's row; the file is replaced as a whole, so it is never half-written."""
        self.rows.append({column: _spell(row.get(column)) for column in COLUMNS})
        with atomic_write(self.path) as f:
            writer = csv.DictWriter(f, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        with _told(self.path.parent):
            for name, value in {**row, "best_top1": best_top1}.items():
                if name in _TAGS and value is not None:
                    self.board.add_scalar(_TAGS[name], value, row["epoch"])
            self.board.flush()

    def close(self) -> None:
        self.board.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log.csv; none if there is no such file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def _is_ours(path: Path) -> bool:
    """Whether a log.csv, if there is one, is of this form."""
    if not path.exists():
        return True
    try:
        with open(path, encoding="utf-8", newline="") as f:
            header, *rows = [*csv.reader(f)] or [list(COLUMNS)]
    except (UnicodeDecodeError, csv.Error):
        return False
    return header == list(COLUMNS) and all(len(row) == len(COLUMNS) and row[0].isdecimal() for row in rows)


def _set_aside(path: Path) -> None:
    """Rename a file to the first free of log.csv.old, log.csv.old1, ..."""
    aside = next(name for i in itertools.count() if not (name := path.with_name(f"{path.name}.old{i or ''}")).exists())
    path.rename(aside)
    log.info("%s is not of this program's form: renamed to %s", path, aside.name)


def write_args(path: Path, values: Mapping[str, Any]) -> None:
    """`name: value` lines, sorted."""
    with atomic_write(path) as f:
        f.writelines(f"{name}: {values[name]}\n" for name in sorted(values))


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    """CannotWrite for what TensorBoard's writer and the directory itself may raise."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(directory, error.strerror or str(error)) from None


def _spell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
