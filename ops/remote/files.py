"""Single files at an address: weights fetched into the cache, results copied out."""
import contextlib
import hashlib
import os
from pathlib import Path
from typing import Iterable, Union

from ops.common.addresses import is_address
from ops.common.errors import UserError
from ops.common.files import CannotWrite, cache_directory
from ops.common.locks import in_turn
from ops.remote.filesystems import open_place
from ops.remote.transfer import fetch_file


def local_file(file: Union[str, Path], option: str) -> Path:
    """A path as it is; of an address, the file's copy in the cache, which is fetched if it is not there yet.

    The copy keeps the names of the file and of the directory that it is in. UserError for a wrong address, CannotWrite.
    """
    if not is_address(file):
        return Path(file)
    place = open_place(str(file), option)
    facts = place.describe()
    if facts.files is not None:
        raise place.problem("it is a directory: name a file")
    if place.is_local:
        return Path(place.path)
    key = hashlib.sha256(f"{place.address} {facts.size} {facts.version}".encode()).hexdigest()[:16]
    names = [part for part in place.path.split("/")[-2:] if part not in ("", "..")]
    path = Path(cache_directory(), "remote", key, *names)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_turn(path.with_name(f".{path.name}.lock"), f"another process is fetching {place.name}: waiting for it"):
            if not path.exists():
                os.replace(fetch_file(place, facts, path.with_name(f"{path.name}.part")), path)
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error.strerror or str(error)) from None
    return path


def check_address(address: str, option: str) -> None:
    """UserError if nothing can be written at an address; to be called before long work rather than after it."""
    place = open_place(address, option) / ".writable"
    with open(os.devnull, "rb") as nothing:
        place.write(nothing)
    with contextlib.suppress(Exception):  # some credentials may write and not delete
        place.fs.rm_file(place.path)


def copy_out(files: Iterable[Path], address: str, option: str = "train_url") -> None:
    """Copy files to an address, under their own names. UserError, which names the files, if one cannot be copied."""
    files = list(files)
    place = open_place(address, option)
    for number, file in enumerate(files):
        try:
            with open(file, "rb") as content:
                (place / file.name).write(content)
        except UserError as error:
            left = ", ".join(str(path) for path in files[number:])
            raise UserError(f"{error}; complete here, and not there: {left}", *error.options) from None
