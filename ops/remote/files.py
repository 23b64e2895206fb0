"""Single files at an address: weights fetched into the cache, results copied out."""
import contextlib
import hashlib
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Optional, Union

from ops.common.addresses import is_address
from ops.common.errors import UserError
from ops.common.files import cache_directory, writing
from ops.common.locks import in_turn
from ops.remote.filesystems import open_place
from ops.remote.transfer import fetch_file

log = logging.getLogger(__name__)


def local_file(file: Union[str, Path], option: str) -> Path:
    """A path as it is; of an address, the file's copy in the cache, which is fetched if it is not there yet.

    The copy keeps the names of the file and of the directory that it is in. Without a version (ETag, date) at the address,
    the file is fetched each time. UserError for a wrong address, CannotWrite.
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
    names = [part.rpartition("@")[2] for part in re.split("[?#]", place.path)[0].split("/")[-2:] if part not in ("", "..")]
    path = Path(cache_directory(), "remote", key, *names)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_turn(path.with_name(f".{path.name}.lock"), f"another process is fetching {place.name}: waiting for it"):
            if not facts.version:
                log.info("%s: its server gives no version of it, so it is fetched anew", place.name)
                path.with_name(f"{path.name}.part").unlink(missing_ok=True)
            if not facts.version or not path.exists():
                os.replace(fetch_file(place, facts, path.with_name(f"{path.name}.part")), path)
    return path


def local_directory(address: str, option: str) -> Optional[Path]:
    """The directory that an address names, without links; None if it is not of this machine. UserError."""
    place = open_place(address, option)
    return Path(place.path).resolve() if place.is_local else None


def check_address(address: str, option: str) -> None:
    """UserError if nothing can be written at an address; to be called before long work rather than after it."""
    place = open_place(address, option)
    probe = replace(place, path=(place / ".writable").path)  # its errors name the address
    with open(os.devnull, "rb") as nothing:
        probe.write(nothing)
    with contextlib.suppress(Exception):  # some credentials may write and not delete
        probe.fs.rm_file(probe.path)


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
