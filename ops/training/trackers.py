"""A training run in a tracker (Weights & Biases, Trackio, MLflow): the scalars of TensorBoard and the run's settings.

`tracker.json` in the log directory names the tracked run and the last epoch that is in it, so that a resumed run goes on in
the same tracked run without gaps or repeats. No tracker can replace the values of an epoch, so a run that trains epochs anew
that are in the tracked run becomes another one. Where the tracker keeps its data, and its credentials, are its own settings
(WANDB_MODE=offline, TRACKIO_DIR, MLFLOW_TRACKING_URI, ...).
"""
import importlib.util
import json
import logging
import uuid
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Protocol

from ops.common.addresses import masked
from ops.common.choices import NO_TRACKER
from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.common.files import atomic_write

log = logging.getLogger(__name__)
PROJECT = "tsm"


class Backend(Protocol):
    """A run that is open in one tracker. id: names it when it is opened again."""
    id: str

    def log(self, scalars: Mapping[str, float], epoch: int) -> None: ...

    def close(self, failed: bool) -> None: ...


class Tracker:
    """The tracked run of a training run, for `ops.training.run_log.RunLog`.

    kind: wandb, trackio or mlflow. directory: of the log. resumed_at: the epoch, 0-based, at which a resumed run goes on, in
    the tracked run that the directory knows, or in another one where that has this epoch already; None for a new run.
    UserError if the package is missing or cannot open a run; later errors are warnings, and what could not be sent is sent
    with the next epoch.
    """

    def __init__(self, kind: str, directory: Path, *, name: str, settings: Mapping[str, Any],
                 resumed_at: Optional[int]) -> None:
        self.kind, self.path = kind, directory / "tracker.json"
        known = _read(self.path, kind) if resumed_at is not None else {}
        if known and resumed_at is not None and resumed_at <= known["epoch"]:
            log.info("track %s: the tracked run %s has epochs up to %d, and training goes on at epoch %d: the epochs from"
                     " the first one on go to another tracked run", kind, known["run"], known["epoch"], resumed_at)
            known = {}
        self.epoch = known.get("epoch", -1)
        self.waiting: dict[int, dict[str, float]] = {}
        directory.mkdir(parents=True, exist_ok=True)
        module = import_extra(kind, kind)
        try:
            self.backend: Backend = BACKENDS[kind](module, directory, name, settings, known.get("run"))
        except Exception as error:  # each package has error classes of its own
            again = f"; to begin another tracked run, delete {self.path}" if known else ""
            raise UserError(f"track {kind}: {_reason(error)}{again}", "track") from None
        self._record()

    def log(self, scalars: Mapping[str, float], epoch: int) -> None:
        """Send the scalars of an epoch, unless they were sent before."""
        if epoch <= self.epoch:
            return
        self.waiting[epoch] = dict(scalars)
        try:
            for number in sorted(self.waiting):
                self.backend.log(self.waiting[number], number)
                del self.waiting[number]
                self.epoch = number
        except Exception as error:
            log.warning("warning: track %s: %s; training goes on", self.kind, _reason(error))
        self._record()

    def close(self, failed: bool = False) -> None:
        """End the tracked run; failed: mark it so."""
        try:
            self.backend.close(failed)
        except Exception as error:
            log.warning("warning: track %s: %s", self.kind, _reason(error))

    def _record(self) -> None:
        with atomic_write(self.path) as f:
            json.dump({"tracker": self.kind, "run": self.backend.id, "epoch": self.epoch}, f)


def open_tracker(kind: str, directory: Path, *, settings: Mapping[str, Any],
                 resumed_at: Optional[int]) -> Optional[Tracker]:
    """A `Tracker` whose run has the name of the log's directory; None for the kind "none"."""
    if kind == NO_TRACKER:
        return None
    return Tracker(kind, directory, name=directory.name, settings=settings, resumed_at=resumed_at)


def check_installed(kind: str) -> None:
    """UserError with the command to install a tracker's package if it is missing. kind: "none" needs none."""
    if kind in BACKENDS and importlib.util.find_spec(kind) is None:
        raise UserError(f"track {kind} needs its package: pip install {kind}", "track")


def _read(path: Path, kind: str) -> dict[str, Any]:
    """What tracker.json says; {} if it is absent, of another tracker or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if found["tracker"] == kind and isinstance(found["epoch"], int) and found["run"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _reason(error: Exception) -> str:
    return f"{masked(' '.join(str(error).split()))[:300]} ({type(error).__name__})"


class _Wandb:
    def __init__(self, module: Any, directory: Path, name: str, settings: Mapping[str, Any], known: Optional[str]) -> None:
        self.id = known or uuid.uuid4().hex[:12]
        self.run = module.init(project=PROJECT, name=name, id=self.id, resume="allow", config=dict(settings),
                               dir=str(directory))
        self.module = module

    def log(self, scalars: Mapping[str, float], epoch: int) -> None:
        self.run.log(dict(scalars), step=epoch, commit=True)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))
        self.module.teardown()  # only then are its files written


class _Trackio:
    def __init__(self, module: Any, directory: Path, name: str, settings: Mapping[str, Any], known: Optional[str]) -> None:
        self.id = known or f"{name}-{uuid.uuid4().hex[:6]}"  # Trackio finds a run by its name
        self.module = module
        module.init(project=PROJECT, name=self.id, resume="allow", config=dict(settings))

    def log(self, scalars: Mapping[str, float], epoch: int) -> None:
        self.module.log(dict(scalars), step=epoch)

    def close(self, failed: bool) -> None:
        self.module.finish()


class _Mlflow:
    def __init__(self, module: Any, directory: Path, name: str, settings: Mapping[str, Any], known: Optional[str]) -> None:
        self.module = module
        module.set_experiment(PROJECT)
        self.id = module.start_run(run_id=known, run_name=None if known else name).info.run_id
        if not known:  # the parameters of a run cannot be changed
            module.log_params(dict(settings))

    def log(self, scalars: Mapping[str, float], epoch: int) -> None:
        self.module.log_metrics(dict(scalars), step=epoch)

    def close(self, failed: bool) -> None:
        self.module.end_run("FAILED" if failed else "FINISHED")


BACKENDS: dict[str, Callable[..., Backend]] = {"wandb": _Wandb, "trackio": _Trackio, "mlflow": _Mlflow}
