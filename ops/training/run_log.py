"""What a training run writes beside its checkpoints: log.csv and batch.png, TensorBoard, args.txt, skipped_videos.txt."""
import csv
import itertools
import logging
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter

from ops.common.files import atomic_write, writing
from ops.training.trackers import Tracker

log = logging.getLogger(__name__)

# New columns come last: the log of an earlier version has the first ones, and is continued.
COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "train_top5", "val_loss", "val_top1", "val_top5",
           "data_seconds", "step_seconds", "clips_per_second", "seconds_left", "peak_memory_mb", "grad_norm")
_FIRST_VERSION = COLUMNS[:10]
DISTILLED = ("train_distill_loss",)  # further columns of a run with teachers
MULTI_LABEL = ("val_map",)  # and of a run on a multi-label data set
_TAGS = {"train_loss": "loss/train", "train_top1": "acc/train_top1", "train_top5": "acc/train_top5",
         "val_loss": "loss/test", "val_top1": "acc/test_top1", "val_top5": "acc/test_top5", "val_map": "acc/test_map",
         "lr": "lr", "best_top1": "acc/test_top1_best", "grad_norm": "grad_norm", "data_seconds": "time/data_seconds",
         "step_seconds": "time/step_seconds", "clips_per_second": "time/clips_per_second",
         "seconds_left": "time/seconds_left", "peak_memory_mb": "memory/peak_mb",
         "train_distill_loss": "loss/train_distilled"}


class RunLog:
    """One row per epoch (percent, seconds, 10^6 bytes), and pictures of the run's first batch (batch.png).

    The validation columns are empty for an epoch without validation, a new column for an epoch of an earlier version.
    start_epoch, start_step: 0, 0 begin a new log. more: further columns, such as DISTILLED. A resumed run keeps the pictures
    and the rows of earlier epochs, and drops the rows that an interrupted epoch may have left. TensorBoard shows exactly
    these rows and pictures: its writer may lose the last ones of a killed run, so a resumed run writes them again and purges
    the old ones. A log.csv in another format, such as the published program's, is renamed.
    tracker: gets the scalars of TensorBoard too.
    """

    def __init__(self, directory: Path, start_epoch: int = 0, start_step: int = 0, *, more: Sequence[str] = (),
                 tracker: Optional[Tracker] = None) -> None:
        self.directory, self.columns, self.tracker = directory, (*COLUMNS, *more), tracker
        self.path, self.pictures_path = directory / "log.csv", directory / "batch.png"
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            if not _has_our_columns(self.path):
                _rename_foreign(self.path)
            self.rows = [{column: row.get(column) or "" for column in self.columns} for row in read_log(self.path)
                         if int(row["epoch"]) < start_epoch]
            self.board = SummaryWriter(str(directory), purge_step=0 if any(directory.glob("events.out.*")) else None)
            best = 0.0
            for row in self.rows:
                best = max(best, float(row["val_top1"] or 0))
                self._show(row, best)
            pictures = _read_picture(self.pictures_path) if start_epoch or start_step else None
            self.has_pictures = pictures is not None
            if pictures is not None:
                self._show_pictures(pictures)

    def add_pictures(self, pictures: Image.Image) -> None:
        """Write the pictures of the run's first batch to batch.png and TensorBoard."""
        with atomic_write(self.pictures_path, "wb") as f:
            pictures.save(f, "PNG")
        with writing(self.directory):
            self._show_pictures(pictures)
        self.has_pictures = True

    def _show_pictures(self, pictures: Image.Image) -> None:
        self.board.add_image("first_batch", np.asarray(pictures.convert("RGB")), 0, dataformats="HWC")

    def add(self, row: Mapping[str, Any], best_top1: float) -> None:
        """Append an epoch's row. The whole file is replaced at once, so it is never half-written."""
        self.rows.append({column: _format(row.get(column)) for column in self.columns})
        with atomic_write(self.path) as f:
            writer = csv.DictWriter(f, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        with writing(self.directory):
            self._show(self.rows[-1], best_top1)
            self.board.flush()

    def list_skipped(self, reasons: Mapping[str, str]) -> None:
        """Write the videos that an epoch left out, with the reasons, to skipped_videos.txt; nothing if there are none."""
        if not reasons:
            return
        path = self.directory / "skipped_videos.txt"
        with atomic_write(path) as f:
            f.writelines(f"{video}: {reason}\n" for video, reason in sorted(reasons.items()))
        log.warning("unreadable videos left out of training: %d, listed in %s", len(reasons), path)

    def _show(self, row: Mapping[str, str], best_top1: float) -> None:
        """Add a row of log.csv to TensorBoard and the tracker."""
        scalars = {_TAGS[name]: float(text) for name, text in {**row, "best_top1": _format(best_top1)}.items()
                   if name in _TAGS and text}
        for tag, value in scalars.items():
            self.board.add_scalar(tag, value, int(row["epoch"]))
        if self.tracker:
            self.tracker.log(scalars, int(row["epoch"]))

    def close(self, failed: bool = False) -> None:
        """End the log. failed: mark the tracked run so."""
        self.board.close()
        if self.tracker:
            self.tracker.close(failed)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: Optional[type], *error: Any) -> None:
        self.close(failed=kind is not None)


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log.csv; [] if the file does not exist."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def _read_picture(path: Path) -> Optional[Image.Image]:
    """None for a file that is absent or no picture."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # the last: how PIL reports a damaged PNG
        return None


def write_args(path: Path, values: Mapping[str, Any]) -> None:
    """`name: value` lines, sorted by name."""
    with atomic_write(path) as f:
        f.writelines(f"{name}: {values[name]}\n" for name in sorted(values))


def _has_our_columns(path: Path) -> bool:
    """True for a log.csv of this program, or if there is no file."""
    if not path.exists():
        return True
    try:
        with open(path, encoding="utf-8", newline="") as f:
            header, *rows = [*csv.reader(f)] or [list(COLUMNS)]
    except (UnicodeDecodeError, csv.Error):
        return False
    return (header in [list(_FIRST_VERSION), *([*COLUMNS, *distilled, *several] for distilled in ((), DISTILLED)
                                               for several in ((), MULTI_LABEL))]
            and all(len(row) == len(header) and row[0].isdecimal() for row in rows))


def _rename_foreign(path: Path) -> None:
    """Rename a file to the first free name of log.csv.old, log.csv.old1, ..."""
    aside = next(name for i in itertools.count() if not (name := path.with_name(f"{path.name}.old{i or ''}")).exists())
    path.rename(aside)
    log.info("%s has another format than this program's: renamed to %s", path, aside.name)


def _format(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
