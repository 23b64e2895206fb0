"""Directories that one run holds at a time, or the parts of one run together.

Locks end with their process, whatever ends it. Lock files are hidden, exist only while they are held, and those of a killed
run are removed by the next one.
"""
import errno
import logging
import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Iterator, Union

from ops.common.errors import UserError
from ops.common.files import CannotWrite
from ops.common.part import WHOLE, Part

log = logging.getLogger(__name__)
_PART_LOCK = re.compile(r"\.part-[0-9]+-of-([0-9]+)\.lock")
_TURN_LOCK = ".parts.lock"


@contextmanager
def only_run(directory: Path, part: Part = WHOLE) -> Iterator[None]:
    """Hold the directory's lock, which ends with the process.

    part: parts of the same division may hold it at the same time, each in one process.
    Raises UserError when another run holds it: a whole one, the same part, or a part of another division.
    """
    if os.name == "nt":  # directories cannot be opened there, so a second run goes unnoticed; files still appear whole
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        if not try_lock(handle, shared=part != WHOLE):
            raise UserError(f"another run is writing into {directory}: wait for it, or name another directory")
        if part != WHOLE:
            with _only_part(directory, part):
                yield
            return
        for name in filter(_is_lock, os.listdir(directory)):  # of parts that were killed: none runs now
            (directory / name).unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def _is_lock(name: str) -> bool:
    return name == _TURN_LOCK or _PART_LOCK.fullmatch(name) is not None


@contextmanager
def _only_part(directory: Path, part: Part) -> Iterator[None]:
    with _lock_file(directory / f".part-{part.number}-of-{part.count}.lock") as held:
        if not held:
            raise UserError(f"another process is working on part {part} in {directory}: wait for it, or choose another part",
                            "part")
        for name in os.listdir(directory):
            match = _PART_LOCK.fullmatch(name)
            if match and int(match[1]) != part.count:
                with _lock_file(directory / name) as free:
                    if not free:
                        raise UserError(f"part {part}: one of {match[1]} parts is being written into {directory}: wait for"
                                        f" it, or divide the work into {match[1]} parts", "part")
        yield


@contextmanager
def one_at_a_time(directory: Path, part: Part) -> Iterator[None]:
    """Wait until no other part of the run in `directory` is in this context. For short work that concerns all parts."""
    if part == WHOLE or os.name == "nt":
        yield
        return
    with _lock_file(directory / _TURN_LOCK, wait=True):
        yield


@contextmanager
def in_turn(file: Path, waiting: str = "") -> Iterator[None]:
    """Wait until no other process is in this context for the same lock file. waiting: logged if that takes time."""
    with _lock_file(file) as held:
        if held:
            yield
            return
    if waiting:
        log.info("%s", waiting)
    with _lock_file(file, wait=True):
        yield


@contextmanager
def change_file(file: Path) -> Iterator[None]:
    """Wait until no other process is in this context for `file`. For reading it, and replacing it by a changed one.

    Raises CannotWrite when nothing can be written beside it.
    """
    if os.name == "nt":
        yield
        return
    with ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(in_turn(file.with_name(f".{file.name}.lock")))
        except OSError as error:
            raise CannotWrite(file, error.strerror or str(error)) from None
        yield


@contextmanager
def _lock_file(file: Path, wait: bool = False) -> Iterator[bool]:
    """Create, lock and at the end remove a file; yields whether this process has the lock."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        held = try_lock(handle, wait=wait)
        if not held or _is_named(handle, file):
            break
        os.close(handle)  # its last owner removed it meanwhile
    try:
        yield held
    finally:
        if held:
            file.unlink(missing_ok=True)
        os.close(handle)


def _is_named(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        return False


def try_lock(file: Union[int, IO], *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or directory until it is closed. False when another process holds the lock.

    shared: several processes may hold it so. wait: until it is free.
    Without locks (Windows, some network file systems) it is True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF):
            raise
    return True
