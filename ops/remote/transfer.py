"""Single files from an address to this machine, checked by their size."""
import logging
from pathlib import Path
from typing import Any

from ops.common.errors import UserError
from ops.common.files import CannotWrite, whole_file, writing
from ops.common.progress import progress
from ops.remote.filesystems import Facts, Place
from ops.remote.unpack import check_room

log = logging.getLogger(__name__)
ATTEMPTS = 5


def save(place: Place, facts: Facts, path: Path, shown: bool = True) -> None:
    """Write the file at an address to `path`, whole or not at all. facts: what it is. shown: show the progress.

    UserError if the bytes are not as many as `facts` says; CannotWrite.
    """
    with whole_file(path) as temporary:
        with writing(temporary), open(temporary, "wb") as f, _bar(place, facts.size, shown=shown) as bar:
            for block in place.blocks():
                f.write(block)
                bar.update(len(block))
        _check_size(place, temporary, facts)


def _bar(place: Place, size: int, have: int = 0, shown: bool = True) -> Any:
    return progress(total=size, initial=have, unit="B", unit_scale=True, desc=f"fetching {place.name}", disable=not shown)


def fetch_file(place: Place, facts: Facts, path: Path) -> Path:
    """The file at an address as `path`, which may contain its first bytes already; checked by its size and version."""
    if path.exists() and path.stat().st_size > facts.size:
        path.unlink()
    have = path.stat().st_size if path.exists() else 0
    check_room(path.parent, facts.size - have, place.name)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(place, path, facts.size)
            break
        except UserError as error:
            before, have = have, path.stat().st_size if path.exists() else 0
            if isinstance(error, CannotWrite) or attempt == ATTEMPTS or have == before:
                raise
            log.info("%s; attempt %d of %d", error, attempt + 1, ATTEMPTS)
    _check_size(place, path, facts)
    if place.describe().version != facts.version:
        path.unlink()
        raise place.problem("it changed while it was fetched: run again")
    return path


def _receive(place: Place, path: Path, size: int) -> None:
    """Append the bytes that `path` lacks."""
    with writing(path), open(path, "ab") as f, _bar(place, size, f.tell()) as bar:
        for block in place.blocks(f.tell()):
            f.write(block)
            bar.update(len(block))


def has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _check_size(place: Place, path: Path, facts: Facts) -> None:
    """UserError if the file is not of the size that was found at the start; then it is removed."""
    size = path.stat().st_size
    if size != facts.size:
        path.unlink()
        raise place.problem(f"{size} bytes came, it has {facts.size}: it changed meanwhile, or the transfer is faulty: run"
                            " again")
