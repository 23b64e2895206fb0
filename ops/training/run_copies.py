"""A training run's files at the address of train_url: fetched back at the start, copied out during the run."""
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ops.common import distributed
from ops.remote.run_copy import RunCopy, fetch_run
from ops.training.state import BEST, LAST


def fetch_back(train_url: str, log: Path, model: Path) -> None:
    """Fetch the run back from the address if this machine has none of it, or an older checkpoint; "": no address.

    log, model: the run's directories, whose name is the run's. Every process must call it.
    """
    if train_url:
        with distributed.one_per_machine_first():
            fetch_run(_address(train_url, log), _directories(log, model), f"checkpoint/{LAST}")


def copied_out(train_url: str, log: Path, model: Path) -> AbstractContextManager[Any]:
    """A context in which rank 0 copies the run's files to the address as they change (`ops.remote.run_copy`)."""
    if not train_url or not distributed.world().is_main:
        return nullcontext()
    return RunCopy(_address(train_url, log), _directories(log, model), last=(BEST, LAST))


def _address(train_url: str, log: Path) -> str:
    return f"{train_url.rstrip('/')}/{log.name}"


def _directories(log: Path, model: Path) -> dict[str, Path]:
    return {"log": log, "checkpoint": model}
