"""What a training run writes beside its checkpoints: log.csv, TensorBoard events, args.txt."""
import csv
from pathlib import Path
from typing import Any, Mapping

from tensorboardX import SummaryWriter

from ops.runtime import atomic_write

COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "train_top5", "val_loss", "val_top1", "val_top5",
           "data_seconds", "step_seconds")
_TAGS = {"train_loss": "loss/train", "train_top1": "acc/train_top1", "train_top5": "acc/train_top5",
         "val_loss": "loss/test", "val_top1": "acc/test_top1", "val_top5": "acc/test_top5", "lr": "lr",
         "best_top1": "acc/test_top1_best"}


class RunLog:
    """One row an epoch (percent, seconds); validation columns are empty where none was run.

    start_epoch: 0 begins a new log. On a resumed run the rows of earlier epochs stay, and what an interrupted
    epoch may have left is taken out.
    """

    def __init__(self, folder: Path, start_epoch: int = 0) -> None:
        self.path = folder / "log.csv"
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read_log(self.path) if int(row["epoch"]) < start_epoch]
        self.board = SummaryWriter(str(folder), purge_step=start_epoch if start_epoch else None)

    def add(self, row: Mapping[str, Any], best_top1: float) -> None:
        """Append an epoch's row; the file is replaced as a whole, so it is never half-written."""
        self.rows.append({column: _spell(row.get(column)) for column in COLUMNS})
        with atomic_write(self.path) as f:
            writer = csv.DictWriter(f, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
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


def write_args(path: Path, values: Mapping[str, Any]) -> None:
    """`name: value` lines, sorted."""
    with atomic_write(path) as f:
        f.writelines(f"{name}: {values[name]}\n" for name in sorted(values))


def _spell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
