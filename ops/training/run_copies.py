"""A training run's files at the address of train_url: fetched back at the start, copied out during the run."""
import logging
import signal
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import IO, Any, Iterable, Iterator, Optional, Union

import torch

from ops.common import distributed
from ops.common.errors import Interrupted, UserError
from ops.common.files import check_not_inputs
from ops.remote.files import local_directory
from ops.remote.run_copy import RunCopy, RunFiles, fetch_run, has_run
from ops.training.state import BEST, LAST

log = logging.getLogger(__name__)
ASKED, MADE, ENDED = "copies/asked", "copies/made", "copies/ended"  # what the processes of a run tell each other


def fetch_back(train_url: str, log: Path, model: Path) -> None:
    """Fetch the run back from the address if this machine has none of it, or is less far; "": no address.

    log, model: the run's directories, whose name is the run's. Every process must call it.
    """
    if train_url:
        with distributed.one_per_machine_first():
            fetch_run(_address(train_url, log), _files(log, model))


def check_apart(train_url: str, log: Path, model: Path, inputs: Iterable[Union[str, Path, None]]) -> None:
    """UserError if a local address is in one of the run's directories, or the reverse, or if copies would replace inputs."""
    place = local_directory(_address(train_url, log), "train_url") if train_url else None
    if place is None:
        return
    for directory in map(Path.resolve, (log, model)):
        if place == directory or place in directory.parents or directory in place.parents:
            raise UserError(f"train_url {train_url}: the run in {directory} would be copied to {place}: choose an address"
                            " apart from root_log and root_model", "train_url", "root_log", "root_model")
    check_not_inputs({place / "checkpoint" / name: "train_url" for name in (LAST, BEST)}, inputs)


def check_new(train_url: str, log: Path, model: Path) -> None:
    """UserError if a new run would replace one at the address; "": no address. Every process must call it."""
    if train_url:
        address = _address(train_url, log)
        with distributed.one_per_machine_first():
            if has_run(address, _files(log, model)):
                raise UserError(f"train_url: {address} holds a run already: continue it with resume auto, or choose another"
                                " address, or another suffix for the run's name", "train_url", "resume", "suffix")


def copied_out(train_url: str, log: Path, model: Path, *, resumed: Optional[Path] = None,
               limit: float = 600.0) -> AbstractContextManager[Any]:
    """A context of all processes in which rank 0 copies the run's files to the address as they change (`RunCopy`).

    resumed: the checkpoint that the run continues from. limit: seconds that a process which fails waits for the copies;
    launchers end rank 0 as soon as another process has ended by an error.
    """
    if not train_url:
        return nullcontext()
    if not distributed.world().is_main:
        return _waiting_for_copies(limit)
    return _copying(RunCopy(_address(train_url, log), _files(log, model), after=_answer,
                            continues=resumed is not None and resumed.resolve() == (model / LAST).resolve()))


def _address(train_url: str, log: Path) -> str:
    return f"{train_url.rstrip('/')}/{log.name}"


def _files(log: Path, model: Path) -> RunFiles:
    return RunFiles({"log": log, "checkpoint": model}, log="log/log.csv",
                    checkpoints=(f"checkpoint/{BEST}", f"checkpoint/{LAST}"), position=_position)


def _position(content: IO[bytes]) -> tuple[int, ...]:
    """(epochs done, steps of the next one) of a training checkpoint; () if it is none."""
    try:
        found = torch.load(content, map_location="cpu", weights_only=True)
        return int(found["epoch"]), int(found.get("step") or 0)
    except Exception:  # a damaged file raises almost anything; it is refused where it is used
        return ()


# ---- errors and signals ---------------------------------------------------------------------------------------------

@contextmanager
def _copying(copy: RunCopy) -> Iterator[None]:
    ending = False

    def receive(number: int, frame: Optional[FrameType]) -> None:
        if not ending:
            raise Interrupted("stopped", number)
        log.warning("SIGTERM: the last copies to %s are made first; Ctrl-C ends them", copy.place.address)

    before = signal.signal(signal.SIGTERM, receive)
    try:
        with copy:
            try:
                yield
            finally:
                ending = True
    finally:
        distributed.tell(ENDED)
        signal.signal(signal.SIGTERM, before)


def _answer() -> None:
    """Tell a process that has failed when a look at the files that began later is over."""
    if distributed.told(ASKED):
        distributed.tell(MADE if distributed.told(f"{ASKED}/before") else f"{ASKED}/before")


@contextmanager
def _waiting_for_copies(limit: float) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        distributed.tell(ASKED)
        # Rank 0 ends by itself when all were interrupted; after another error it may be waiting for this process.
        signs = [ENDED] if isinstance(error, (Interrupted, KeyboardInterrupt)) else [ENDED, MADE]
        end = time.monotonic() + limit
        while time.monotonic() < end and not any(map(distributed.told, signs)):
            time.sleep(distributed.POLL)
        raise
