"""Files and directories that appear whole or not at all, and the cache.

A file or directory that is not complete yet is named `.<name>.partial-<8 hex digits>`, in the directory of its final name.
Killed runs leave some behind; `remove_leftovers` removes them.
"""
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Iterable, Iterator, Mapping, Optional, Union

from ops.common.errors import UserError

AnyPath = Union[str, Path]
_PARTIAL = re.compile(r"\..*\.partial-[0-9a-f]{8}", re.DOTALL)


class CannotWrite(UserError, OSError):
    """A file that cannot be written: a UserError, and an OSError for callers that have more to add."""

    def __init__(self, path: Union[str, Path], reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path, self.strerror = path, reason

    def __reduce__(self) -> tuple:
        """Pickled by what the constructor takes, so that it comes back from a worker process."""
        return type(self), (self.path, self.strerror)


# ---- writing ----------------------------------------------------------------------------------------------------

@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError, such as that of a full disk, into CannotWrite for `path`; one of the block names its own."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error.strerror or str(error)) from None


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; the file gets its own name at the end.

    durable: force the file onto the disk before it gets its name, so that a power failure cannot leave it empty.
    On an error nothing is left behind, and an older file at `path` stays. Raises CannotWrite for any OSError.
    """
    path = Path(path)
    temporary = _partial_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
            if durable and os.name != "nt":  # directories cannot be opened there
                _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a file that appears under its name only when it is complete; nothing is left behind on an error.

    Text is UTF-8 with `\\n` ends of line. Raises CannotWrite, a UserError, for any OSError.
    """
    with whole_file(path) as temporary, \
            open(temporary, mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "") as f:
        yield f


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file line by line, whole or not at all. Raises CannotWrite."""
    with atomic_write(path) as f:
        f.writelines(line + "\n" for line in lines)


def write_together(files: Mapping[Path, Iterable[str]]) -> None:
    """Write several text files line by line: all of them, or none when one cannot be written. Raises CannotWrite."""
    with ExitStack() as stack:
        for path, lines in files.items():
            temporary = stack.enter_context(whole_file(path))
            with open(temporary, "w", encoding="utf-8", newline="") as f:
                f.writelines(line + "\n" for line in lines)
                f.flush()
                os.fsync(f.fileno())  # some file systems notice only now that the disk is full


@contextmanager
def temporary_directory(directory: Path) -> Iterator[Path]:
    """Yield a new directory beside `directory`, to be filled and then moved by `put_in_place`; removed if it is not."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = _partial_name(directory)
    try:
        temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, directory: Path) -> None:
    """Rename a complete directory to its own name. UserError when something else has taken that name meanwhile."""
    try:
        temporary.rename(directory)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise UserError(f"{directory} was made by something else meanwhile") from None


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{_shortened(path.name)}.partial-{uuid.uuid4().hex[:8]}")


def _shortened(name: str) -> str:
    """At most 40 characters, and not the same for two names of one directory."""
    return name if len(name) <= 40 else f"{name[:31]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def is_leftover(name: str) -> bool:
    """Whether a file or directory of this name is not complete, or was left behind by a killed run."""
    return _PARTIAL.fullmatch(name) is not None


def remove_leftovers(directory: Path, recursive: bool = False) -> None:
    """Remove the temporary files and directories of killed runs from `directory` (recursive: and from those below it).

    Only for a directory that no other run writes to (`ops.common.locks.only_run`).
    """
    for here, directories, files in os.walk(directory):
        for name in filter(_PARTIAL.fullmatch, directories):
            shutil.rmtree(os.path.join(here, name), ignore_errors=True)
        for name in filter(_PARTIAL.fullmatch, files):
            os.unlink(os.path.join(here, name))
        directories[:] = [name for name in directories if recursive and not _PARTIAL.fullmatch(name)]


def remove_leftovers_of(paths: Iterable[Path]) -> None:
    """Remove what killed runs left of these files or directories, beside them; that of others may be in use."""
    names: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        names[path.parent].add(_shortened(path.name))
    for directory, wanted in names.items():
        for name in os.listdir(directory) if directory.is_dir() else ():
            if _PARTIAL.fullmatch(name) and name[1:name.rindex(".partial-")] in wanted:
                file = directory / name
                shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """CannotWrite if `path` obviously cannot be written; to be called before long work rather than after it."""
    path = Path(path)
    if os.path.isdir(path):
        raise CannotWrite(path, "it is a directory")
    directory = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not directory.is_dir():
        raise CannotWrite(path, f"{directory} is not a directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CannotWrite(path, f"nothing can be written into {directory}")


def check_not_an_input(output: Union[str, Path], inputs: Iterable[Union[str, Path, None]], option: str = "") -> None:
    """UserError when writing `output` would replace one of `inputs`, or a file inside an input that is a directory.

    Compares files, not names: links, hard links and, where the file system ignores case, other spellings are found.
    option: the option that names the output. Inputs that are None or do not exist are skipped; if there is no file `output`
    yet, none is looked at.
    """
    check_not_inputs({Path(output): option}, inputs)


def check_not_inputs(outputs: Mapping[Path, str], inputs: Iterable[Union[str, Path, None]]) -> None:
    """`check_not_an_input` for several outputs, in one pass over the inputs. outputs: file -> the option that names it."""
    existing = [(output, _identity(output), {*map(_identity, Path(os.path.realpath(output)).parents)})
                for output in outputs if os.path.exists(output)]  # writing the others replaces nothing
    for path in inputs if existing else ():
        found = None if path is None else _identity(path)
        for output, identity, directories in existing if found else ():
            if found != identity and found not in directories:
                continue
            what = f"the input {path}" if found == identity else f"a file in the input directory {path}"
            raise UserError(f"{outputs[output]} {output} would overwrite {what}: choose another file".lstrip(),
                            *filter(None, [outputs[output]]))


def _identity(path: Union[str, Path]) -> Optional[tuple[int, int]]:
    """What is the same for all names of a file or directory; None if it does not exist or cannot be looked at."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return None
    return found.st_dev, found.st_ino


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ---- settings ------------------------------------------------------------------------------------------------------

def agree_on_settings(file: Path, settings: Mapping[str, Any], *, content: str, foreign: str = "") -> None:
    """Record the settings that a directory's content is made with; refuse to mix it with content of other settings.

    file: the record, JSON in that directory. content: what is made, in words ("frames"). foreign: what is there without
    a record, in words ("frames of 3 of these videos"); "" if nothing is.
    Raises UserError for other or unknown settings and for a damaged record, CannotWrite.
    """
    directory, wanted = file.parent, json.loads(json.dumps(settings))
    if not file.exists():
        if foreign:
            raise UserError(f"{directory} holds {foreign}, made by another program with unknown settings (there is no"
                            f" {file.name}): name another directory")
        write_lines(file, [json.dumps(settings)])
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it must hold an object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}): name another directory, or delete this one and start again"
                        ) from None
    if found != wanted:
        raise UserError(f"{directory} holds {content} made with other settings ({_difference(found, wanted)}): use the same"
                        " settings, or name another directory")


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    return ", ".join(f"{key} {str(found.get(key))[:40]} there, {str(wanted.get(key))[:40]} now"
                     for key in {**wanted, **found} if found.get(key) != wanted.get(key))


# ---- the cache ----------------------------------------------------------------------------------------------------

def cache_directory() -> Path:
    """Where downloaded weights and the indices of video files are kept: $TSM_CACHE, else ~/.cache/tsm.

    It need not exist yet. Weights are directly in it; frame indices are in `frame_index/`.
    """
    return Path(os.path.expanduser(os.environ.get("TSM_CACHE") or "~/.cache/tsm"))
