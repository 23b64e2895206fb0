"""The logs of training runs, read back: the numbers of log.csv and the settings of args.txt."""
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from ops.common.errors import UserError
from ops.training.run_log import read_log

LOG, SETTINGS = "log.csv", "args.txt"
_NOT_COMPARED = {"command"}  # it repeats the other settings


@dataclass(frozen=True)
class PastRun:
    """name: of its directory. rows: of log.csv, without empty columns. settings: of args.txt, {} if it is missing."""
    name: str
    rows: list[dict[str, float]]
    settings: dict[str, str]

    def results(self) -> dict[str, str]:
        """What became of the run, in words: epochs, best and last accuracies, losses, speed and memory."""
        last = self.rows[-1]
        found = {"epochs done": f"{last['epoch'] + 1:.0f}"}
        validated = [row for row in self.rows if "val_top1" in row]
        if validated:
            best = max(validated, key=lambda row: row["val_top1"])
            found["best val_top1"] = f"{best['val_top1']:.2f} (epoch {best['epoch']:.0f})"
            if multi_label := [row for row in validated if "val_map" in row]:
                best = max(multi_label, key=lambda row: row["val_map"])
                found["best val_map"] = f"{best['val_map']:.2f} (epoch {best['epoch']:.0f})"
            found |= {f"last {name}": f"{validated[-1][name]:.4g}" for name in ("val_top1", "val_loss")}
        columns = ("train_top1", "train_loss", "train_distill_loss", "clips_per_second", "step_seconds", "data_seconds",
                   "peak_memory_mb")
        return found | {f"last {name}": f"{last[name]:.4g}" for name in columns if name in last}


def read_runs(paths: Sequence[Path]) -> list[PastRun]:
    """The runs of these directories, or log.csv files, in the same order.

    Runs are called by their directory's name, or by its whole path where two have the same name. Raises UserError for a path
    that is no run's, or that is given twice.
    """
    directories = [_directory(path) for path in paths]
    repeated = [path for i, path in enumerate(directories) if path.resolve() in [p.resolve() for p in directories[:i]]]
    if repeated:
        raise UserError(f"{repeated[0]} is given twice: name each run once")
    names = [path.resolve().name for path in directories]
    return [PastRun(name if names.count(name) == 1 else str(path), *_read(path)) for name, path in zip(names, directories)]


def files_of_runs(paths: Sequence[Path]) -> list[Path]:
    """The files that `read_runs` reads; some may not exist."""
    return [_directory(path) / name for path in paths for name in (LOG, SETTINGS)]


def differing_settings(runs: Sequence[PastRun]) -> dict[str, list[str]]:
    """{setting: its value in each run} for those that are not the same in all; "" where a run does not have it."""
    names = sorted({name for run in runs for name in run.settings} - _NOT_COMPARED)
    values = {name: [run.settings.get(name, "") for run in runs] for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1}


def _directory(path: Path) -> Path:
    return path.parent if path.name == LOG else path


def _read(directory: Path) -> tuple[list[dict[str, float]], dict[str, str]]:
    return _rows(directory / LOG), _settings(directory / SETTINGS)


def _rows(path: Path) -> list[dict[str, float]]:
    try:
        rows = [{name: float(value) for name, value in row.items() if value} for row in read_log(path)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError):  # undecodable text, a word, a row with too many columns
        raise UserError(f"{path} is not a log that main.py wrote") from None
    if not rows:
        raise UserError(f"{path} {'has no epoch' if path.exists() else 'does not exist'}: name the directory of a run"
                        " (log/<name>) with at least one finished epoch")
    if not all("epoch" in row and "train_loss" in row and all(map(math.isfinite, row.values())) for row in rows):
        raise UserError(f"{path} is not a log that main.py wrote")
    return rows


def _settings(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return dict(line.split(": ", 1) for line in lines if ": " in line)
