"""A run's logs and checkpoints, copied to an address while it trains, and fetched back from there (record: `copied`)."""
import logging
import os
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Callable, Mapping, Optional, Sequence

from ops.common.errors import UserError, shown
from ops.common.files import is_leftover
from ops.common.progress import duration
from ops.remote.copied import NOTHING, Copied, read_record, write_record
from ops.remote.filesystems import Place, open_place
from ops.remote.transfer import save
from ops.remote.unpack import check_member

log = logging.getLogger(__name__)
INTERVAL = 5.0  # seconds between two looks at the run's files
LONGEST_PAUSE = 300.0  # seconds between two attempts while the address cannot be reached
LAST_ATTEMPTS = 3
CLOCK_STEP = 2 * 10 ** 9  # nanoseconds: the coarsest times of file systems


def _unknown(content: IO[bytes]) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True)
class RunFiles:
    """What a run consists of.

    directories: name at the address -> directory here. log: the name at the address, "directory/file", of the file that the
    checkpoints must not overtake. checkpoints: such names, of files that only ever change as a whole; the last one decides
    which of two copies of the run is further. position: how far the training was when an open checkpoint was written,
    (epochs done, steps of the next one); () if that cannot be read.
    """
    directories: Mapping[str, Path]
    log: str = ""
    checkpoints: Sequence[str] = ()
    position: Callable[[IO[bytes]], tuple[int, ...]] = _unknown

    def here(self, name: str) -> Path:
        """The file on this machine."""
        directory, rest = name.split("/", 1)
        return self.directories[directory] / rest

    def all(self) -> dict[str, Path]:
        """Name at the address -> file, for all files that are here."""
        return {f"{name}/{path.relative_to(directory).as_posix()}": path for name, directory in self.directories.items()
                for path in directory.rglob("*") if path.is_file() and not path.is_symlink() and not is_leftover(path.name)}

    def state(self, name: str, content: IO[bytes]) -> Copied:
        """Of a file that is open at its beginning."""
        position = self.position(content) if name in self.checkpoints[-1:] else ()
        content.seek(0)
        found = os.fstat(content.fileno())
        return Copied(found.st_mtime_ns, found.st_size, position)


class RunCopy:
    """A context in which the files of a run are copied to an address as they change, and once more at its end.

    continues: whether the run goes on with the one at the address. A new run starts a record of its own, and files that are
    here already belong to an earlier run until they change. after: called after each look at the files.
    Checkpoints are copied after all other files, in the state in which they were before: then the log at the address has the
    rows of the checkpoint there. A file that cannot be copied does not keep the others from it, but without the log no
    checkpoint is copied.
    A thread copies, so that training goes on meanwhile, also while the address cannot be reached: that is a warning. At the
    end of a run that ended well it is a UserError; other errors stay what they are, and a warning is added.
    Raises UserError at the start if the address cannot be written.
    """

    def __init__(self, address: str, files: RunFiles, *, continues: bool = True, after: Callable[[], None] = lambda: None,
                 option: str = "train_url") -> None:
        self.place, self.files, self._after = open_place(address, option), files, after
        self.copied = read_record(self.place) if continues else {}
        self._others = {} if continues else self._states()
        write_record(self.place, self.copied)
        self._ended, self._failures = threading.Event(), 0
        self._thread = threading.Thread(target=self._keep_copying, name="copies of the run", daemon=True)

    def __enter__(self) -> "RunCopy":
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], traceback: Any) -> None:
        self._ended.set()
        self._thread.join()
        problem = self._copy_at_the_end()
        if problem and error is None:
            raise problem
        if problem:
            log.warning("warning: %s", problem)

    # ---- during the run ---------------------------------------------------------------------------------------------

    def _keep_copying(self) -> None:
        pause = INTERVAL
        while not self._ended.wait(pause):
            try:
                self.copy_changed()
            except (UserError, OSError) as error:
                self._failures += 1
                pause = min(2 * pause, LONGEST_PAUSE)
                log.warning("warning: %s; training goes on, next attempt in %s", error, duration(pause))
            else:
                if self._failures:
                    log.info("%s: the copies are complete again", self.place.address)
                pause, self._failures = INTERVAL, 0
            self._after()

    def _copy_at_the_end(self) -> Optional[UserError]:
        """Copy what is missing; the problem, if it cannot be copied."""
        for attempt in range(1, LAST_ATTEMPTS + 1):
            try:
                self.copy_changed()
                log.info("logs and checkpoints are complete in %s", self.place.address)
                return None
            except (UserError, OSError) as error:
                problem = error
                if attempt < LAST_ATTEMPTS:
                    log.warning("warning: %s; attempt %d of %d", error, attempt + 1, LAST_ATTEMPTS)
                    time.sleep(INTERVAL)
        try:
            missing = ", ".join(shown(path) for path in self._changed().values())
        except OSError as error:
            missing = shown(error)
        return UserError(f"{problem}; these files are complete here and not there: {missing}: copy them, or run again with"
                         " resume auto", "train_url", "resume")

    def copy_changed(self) -> None:
        """Copy the files that have changed since they were copied, as many as can be.

        UserError for those that cannot; OSError if the run's directories cannot be read.
        """
        changed = self._changed()
        problems: dict[str, Exception] = {}
        with ExitStack() as stack:
            opened: dict[str, IO[bytes]] = {}
            for name in reversed([name for name in self.files.checkpoints if name in changed]):
                with suppress(FileNotFoundError), self._noting(problems, name):
                    opened[name] = stack.enter_context(open(changed[name], "rb"))
            for name in sorted(changed.keys() - set(self.files.checkpoints)):
                with suppress(FileNotFoundError), self._noting(problems, name), open(changed[name], "rb") as content:
                    self._copy(name, content)
            if changed:
                write_record(self.place, self.copied)
            if self.files.log not in problems:
                for name, checkpoint in reversed(opened.items()):
                    with self._noting(problems, name):
                        self._copy_checkpoint(name, checkpoint)
        if problems:
            first, *more = problems.values()
            raise UserError(f"{first}{f' (and {len(more)} more of its files)' if more else ''}", "train_url")

    def _noting(self, problems: dict[str, Exception], name: str) -> "_Noting":
        return _Noting(problems, name, self._check_reachable)

    def _check_reachable(self) -> None:
        """UserError if nothing at all can be written now, so that other files need not be tried."""
        write_record(self.place, self.copied)

    def _copy(self, name: str, content: IO[bytes]) -> None:
        state = self.files.state(name, content)
        (self.place / name).write(content)
        self.copied[name] = state

    def _copy_checkpoint(self, name: str, content: IO[bytes]) -> None:
        """Whenever this is killed, the record fits the file."""
        state = self.files.state(name, content)
        before = self.copied.get(name, NOTHING)
        self.copied[name] = replace(before, coming=state)
        write_record(self.place, self.copied)
        (self.place / name).write(content)
        self.copied[name] = state
        write_record(self.place, self.copied)

    def _changed(self) -> dict[str, Path]:
        """Name at the address -> file, for the files that are not there in their present state."""
        known = {name: (state.saved, state.size) for name, state in self.copied.items()}
        return {name: self.files.here(name) for name, state in self._states().items()
                if state not in (known.get(name), self._others.get(name))}

    def _states(self) -> dict[str, tuple[int, int]]:
        """Name at the address -> time and size of the file here."""
        states = {}
        for name, path in self.files.all().items():
            with suppress(FileNotFoundError):  # a tracker's, which is gone again
                found = path.stat()
                states[name] = found.st_mtime_ns, found.st_size
        return states


class _Noting:
    """A context that notes an error of a file instead of raising it, if others may still be copied."""

    def __init__(self, problems: dict[str, Exception], name: str, check: Callable[[], None]) -> None:
        self.problems, self.name, self.check = problems, name, check

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Optional[BaseException], traceback: Any) -> bool:
        if isinstance(error, FileNotFoundError) or not isinstance(error, (UserError, OSError)):
            return False
        self.problems[self.name] = error
        if isinstance(error, UserError):  # of the address, and not of the file here
            self.check()
        return True


# ---- fetching back --------------------------------------------------------------------------------------------------

def has_run(address: str, files: RunFiles, option: str = "train_url") -> bool:
    """Whether a run has left its last checkpoint at the address."""
    place, name = open_place(address, option), files.checkpoints[-1]
    return name in read_record(place) and (place / name).exists()


def fetch_run(address: str, files: RunFiles, option: str = "train_url") -> bool:
    """Fetch a run's files from the address that `RunCopy` copied them to, if that run is further than the one here.

    Further: by the position of the last checkpoint, and by its time if the positions are equal. It comes last, so that a
    fetch that was killed is repeated. Returns whether it was fetched. UserError if a file cannot be fetched, or a checkpoint
    is not of the size that it had when it was copied.
    """
    place, decides = open_place(address, option), files.checkpoints[-1]
    copied = {name: state for name, state in read_record(place).items() if name.split("/", 1)[0] in files.directories}
    found = _state_there(place, decides, copied, files) if decides in copied else None
    if found is None or _is_as_far(files, decides, found):
        return False
    log.info("the run continues from %s", place.address)
    for name in sorted(copied, key=lambda name: name == decides):
        check_member(name, place.address)
        state = _state_there(place, name, copied, files)
        if state:
            source, path = place / name, files.here(name)
            save(source, source.describe(), path)
            os.utime(path, ns=(state.saved, state.saved))
    return True


def _state_there(place: Place, name: str, copied: Mapping[str, Copied], files: RunFiles) -> Optional[Copied]:
    """The recorded state of a file at the address; None if it never arrived there. UserError if it fits no record."""
    state, source = copied[name], place / name
    if state.saved < 0 and not source.exists():
        return None
    if name not in files.checkpoints:  # logs may have grown before a killed run could record it
        return state
    size = source.describe().size
    if (found := state.of_size(size)) is None:
        raise source.problem(f"it has {size} bytes, and {state.size} when it was copied: it is damaged; delete it and"
                             " copied.json beside its directory to start a new run")
    return found


def _is_as_far(files: RunFiles, name: str, there: Copied) -> bool:
    path = files.here(name)
    if not path.exists():
        return False
    with open(path, "rb") as content:
        here = files.state(name, content)
    return (here.position, here.saved + CLOCK_STEP) >= (there.position, there.saved)
