"""Files written whole, and directories that one run holds at a time."""
import contextlib
import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Iterator

from ops.common.errors import UserError


class CannotWrite(UserError, OSError):
    """A file that cannot be written: a user's error, and an OSError for callers that have more to say about it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.strerror = reason


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; the file gets its own name at the end, and on an error nothing is left behind.

    Raises CannotWrite for any OSError.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(path, error.strerror or str(error)) from None


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a file that appears under its name only when it is complete; nothing is left behind on an error.

    Raises CannotWrite, a UserError, for any OSError.
    """
    with whole_file(path) as temporary, \
            open(temporary, mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "") as f:
        yield f


def check_writable(path: Path) -> None:
    """CannotWrite, before long work rather than after it, where it is plain that `path` could not be written."""
    path = Path(path)
    if os.path.isdir(path):
        raise CannotWrite(path, "it is a directory")
    directory = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not directory.is_dir():
        raise CannotWrite(path, f"{directory} is no directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CannotWrite(path, f"nothing can be written into {directory}")


@contextmanager
def only_run(dst: Path) -> Iterator[None]:
    """Hold the directory's lock, which ends with the process. Raises UserError when another run holds it."""
    try:
        import fcntl
    except ImportError:  # Windows: two runs at once are not noticed there, their directories still appear whole
        yield
        return
    handle = os.open(dst, os.O_RDONLY)
    try:
        _lock(handle, dst, fcntl)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, dst: Path, fcntl: Any) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another run is extracting into {dst}: wait for it, or name another directory") from None
    except OSError as error:  # some network file systems know no locks
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF):
            raise
