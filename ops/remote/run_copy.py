"""A run's logs and checkpoints, copied to an address while it trains, and fetched back from there.

At the address, `copied.json` records when each file was saved, on the clock of the machine that wrote it: that shows which
of two checkpoints is the newer one.
"""
import io
import json
import logging
import os
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from ops.common.errors import UserError
from ops.common.files import is_leftover
from ops.common.progress import duration
from ops.remote.filesystems import Place, open_place
from ops.remote.transfer import save
from ops.remote.unpack import check_member

log = logging.getLogger(__name__)
INTERVAL = 5.0  # seconds between two looks at the run's files
LONGEST_PAUSE = 300.0  # seconds between two attempts while the address cannot be reached
LAST_ATTEMPTS = 3
RECORD = "copied.json"
CLOCK_STEP = 2 * 10 ** 9  # nanoseconds: the coarsest times of file systems


class RunCopy:
    """A context in which the files of a run are copied to an address as they change, and once more at its end.

    directories: name at the address -> directory here. last: names of files that are copied after all others, in this order,
    in the state in which they were before: then the log at the address has the rows of the checkpoint there.
    A thread copies, so that training goes on meanwhile, also while the address cannot be reached: that is a warning. At the
    end of a run that ended well it is a UserError; other errors stay what they are, and a warning is added.
    Raises UserError at the start if the address cannot be written.
    """

    def __init__(self, address: str, directories: Mapping[str, Path], last: Sequence[str] = (), option: str = "train_url"):
        self.place, self.directories, self.last = open_place(address, option), directories, last
        self.saved = read_record(self.place)
        self._write_record()
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
        missing = ", ".join(str(path) for path in self._changed().values())
        return UserError(f"{problem}; these files are complete here and not there: {missing}: copy them, or run again with"
                         " resume auto", "train_url", "resume")

    def copy_changed(self) -> None:
        """Copy the files that have changed since they were copied. UserError at the first that cannot be copied."""
        changed = self._changed()
        order = sorted(changed, key=self._rank)
        with ExitStack() as stack:
            opened = {name: stack.enter_context(open(changed[name], "rb")) for name in reversed(order) if self._rank(name)}
            for name in order:
                with suppress(FileNotFoundError), opened.get(name) or open(changed[name], "rb") as content:
                    saved = os.fstat(content.fileno()).st_mtime_ns
                    (self.place / name).write(content)
                    self.saved[name] = saved
        if order:
            self._write_record()

    def _rank(self, name: str) -> int:
        """0 for most files, 1, 2, ... for those that are copied last."""
        base = name.rsplit("/", 1)[-1]
        return self.last.index(base) + 1 if base in self.last else 0

    def _changed(self) -> dict[str, Path]:
        """Name at the address -> file, for the files that are not there in their present state."""
        files = {f"{name}/{path.relative_to(directory).as_posix()}": path for name, directory in self.directories.items()
                 for path in directory.rglob("*") if path.is_file() and not path.is_symlink() and not is_leftover(path.name)}
        changed = {}
        for name, path in files.items():
            with suppress(FileNotFoundError):  # a tracker's, which is gone again
                if self.saved.get(name) != path.stat().st_mtime_ns:
                    changed[name] = path
        return changed

    def _write_record(self) -> None:
        (self.place / RECORD).write(io.BytesIO(json.dumps(self.saved, indent=2).encode()))


def read_record(place: Place) -> dict[str, int]:
    """File's name -> when it was saved, in nanoseconds since 1970, for the copies at an address; {} if there are none."""
    record = place / RECORD
    if not record.exists():
        return {}
    try:
        found = json.loads(b"".join(record.blocks()))
        return {str(name): int(saved) for name, saved in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise record.problem("it is damaged: delete it") from None


def fetch_run(address: str, directories: Mapping[str, Path], checkpoint: str, option: str = "train_url") -> bool:
    """Fetch a run's files from the address that `RunCopy` copied them to, unless this machine has them; whether it did.

    checkpoint: the name at the address of the file that decides: if the one here is as new, nothing is fetched. It comes
    last, so that a fetch that was killed is repeated. UserError if a file cannot be fetched or has another size.
    """
    place = open_place(address, option)
    saved = {name: when for name, when in read_record(place).items() if name.split("/", 1)[0] in directories}
    if checkpoint not in saved or _is_as_new(_local(checkpoint, directories), saved[checkpoint]):
        return False
    log.info("the run continues from %s", place.address)
    for name in sorted(saved, key=lambda name: name == checkpoint):
        check_member(name, place.address)
        source, path = place / name, _local(name, directories)
        save(source, source.describe(), path)
        os.utime(path, ns=(saved[name], saved[name]))
    return True


def _local(name: str, directories: Mapping[str, Path]) -> Path:
    directory, rest = name.split("/", 1)
    return directories[directory] / rest


def _is_as_new(path: Path, saved: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns + CLOCK_STEP >= saved
