"""Data sets at an address, fetched once and unpacked under the root of the data sets.

An archive's members, and a directory's files, have their paths relative to that root: `something/v2/train_videofolder.txt`.
Everything happens in `.fetched/<name>/` in the root, where a killed run leaves a part that the next one continues, and is
renamed into its place once it is whole. `.fetched/<name>.json` then records the address, its bytes and its version.
"""
import errno
import filecmp
import hashlib
import json
import logging
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

from ops.common.errors import UserError
from ops.common.files import CannotWrite, atomic_write, put_in_place, remove_leftovers, writing
from ops.common.locks import in_turn
from ops.common.progress import progress
from ops.remote.filesystems import Facts, Place, open_place
from ops.remote.transfer import fetch_file, has_size, save
from ops.remote.unpack import RECORDS, SUFFIXES, check_member, check_room, is_archive, unpack

log = logging.getLogger(__name__)
THREADS = 16  # files of a directory that are fetched at the same time


def fetch_data(address: str, root: Path, option: str = "data_url") -> None:
    """Put the data at an address under `root`, unless the same data was put there before.

    address: an archive or a directory, here or elsewhere. Several processes may call it: one works, the others wait.
    UserError for a wrong address, an archive with members that leave the root, data that changes while it is fetched or that
    differs from what is there already; CannotWrite.
    """
    place = open_place(address, option)
    records = root / RECORDS
    key = f"{re.sub(r'[^A-Za-z0-9._-]', '_', place.name)[-60:]}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    marker = records / f"{key}.json"
    if place.is_local and Path(place.path).resolve() in (root.resolve(), *root.resolve().parents):
        raise UserError(f"{option} {address} is root_dataset itself, or above it: leave {option} out if the data is there"
                        " already", option, "root_dataset")
    if marker.exists():  # it is complete then, and the root may be one that nothing can be written to
        _check_unchanged(marker, place, root)
        return
    with writing(records):
        records.mkdir(parents=True, exist_ok=True)
        with in_turn(records / f".{key}.lock", f"another process is fetching {place.name}: waiting for it"):
            if marker.exists():
                _check_unchanged(marker, place, root)
                return
            facts = place.describe()
            _fetch(place, facts, records / key, root)
            with atomic_write(marker) as f:
                json.dump({"address": address, "bytes": facts.size, "version": facts.version}, f, indent=2)
            shutil.rmtree(records / key, ignore_errors=True)


def _check_unchanged(marker: Path, place: Place, root: Path) -> None:
    """UserError if the data at the address is not what was fetched; a warning if that cannot be found out."""
    try:
        facts = place.describe()
    except UserError as error:
        log.warning("warning: %s; using what was fetched from it before", error)
        return
    try:
        before = json.loads(marker.read_text(encoding="utf-8"))
        same = (before["bytes"], before["version"]) == (facts.size, facts.version)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{marker} is damaged: delete it to fetch the data again") from None
    if not same:
        raise place.problem(f"it has changed since it was fetched into {root}: to fetch it anew, delete its data there and"
                            f" {marker}; to use the data as it is, leave {place.option} out")
    log.info("%s: already in %s (%s)%s", place.address, root, marker,
             "" if facts.version else "; its server gives no version of it, so only the sizes were compared")


def _fetch(place: Place, facts: Facts, work: Path, root: Path) -> None:
    """Fetch into `work`, where an earlier run may have left a part, unpack there, and move everything into the root."""
    if facts.files is None and not is_archive(place.name):
        raise place.problem("neither a directory nor an archive: choose a directory, or a file with one of the suffixes"
                            f" {', '.join(SUFFIXES)}")
    for name in facts.files or ():
        check_member(name, place.address)
    if facts.files is not None and not facts.files:
        raise place.problem("the directory is empty")
    _forget_other_versions(work, facts)
    whole = work / "whole"
    if not whole.exists():
        unfinished = work / "unfinished"
        if facts.files is not None:
            _fetch_files(place, facts, unfinished)
        else:
            shutil.rmtree(unfinished, ignore_errors=True)
            archive = Path(place.path) if place.is_local else fetch_file(place, facts, work / "archive")
            unpack(archive, unfinished, place.name)
        put_in_place(unfinished, whole)
    _move_into(root, whole)


def _forget_other_versions(work: Path, facts: Facts) -> None:
    """Drop what an earlier run left in `work` if it belongs to another version of the data."""
    record, now = work / "source.json", {"bytes": facts.size, "version": facts.version}
    try:
        if json.loads(record.read_text(encoding="utf-8")) == now and facts.version:
            return
    except (OSError, ValueError):
        pass
    if work.exists():
        shutil.rmtree(work)
    with atomic_write(record) as f:
        json.dump(now, f)


# ---- fetching -------------------------------------------------------------------------------------------------------

def _fetch_files(place: Place, facts: Facts, directory: Path) -> None:
    """The files of a directory at an address, without those that an earlier run left here complete."""
    def fetch(name: str) -> int:
        source, target = place / name, directory / name
        save(source, facts.files[name], target, shown=False)
        return facts.files[name].size

    missing = [name for name, file in facts.files.items() if not has_size(directory / name, file.size)]
    left = sum(facts.files[name].size for name in missing)
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory, recursive=True)
    check_room(directory, left, place.name)
    pool = ThreadPoolExecutor(THREADS)
    try:
        with progress(total=facts.size, initial=facts.size - left, unit="B", unit_scale=True,
                      desc=f"fetching {place.name}") as bar:
            for size in pool.map(fetch, missing):
                bar.update(size)
    finally:
        pool.shutdown(cancel_futures=True)
    if place.describe().version != facts.version:
        raise place.problem("it changed while it was fetched: run again")


# ---- into its place -------------------------------------------------------------------------------------------------

def _move_into(root: Path, unpacked: Path) -> None:
    """Move everything in `unpacked` to its place under the root. UserError, before anything moves, if something is there."""
    for source, target in [*_moves(unpacked, root)]:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise UserError(f"{target} is on another file system than {root}: name a directory on that one with"
                                " root_dataset", "root_dataset") from None
            raise CannotWrite(target, error.strerror or str(error)) from None


def _moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """(from, to) of the highest files and directories that are not there yet. Lists come after frames: with a list in its
    place, a data set looks complete."""
    for entry in sorted(source.iterdir(), key=lambda entry: (not entry.is_dir(), entry.name)):
        there = target / entry.name
        if not os.path.lexists(there):
            yield entry, there
        elif entry.is_dir() and there.is_dir():
            yield from _moves(entry, there)
        elif not (entry.is_file() and there.is_file() and filecmp.cmp(entry, there, shallow=False)):
            raise UserError(f"{there} is there already and differs from what was fetched: delete or rename it, or name"
                            " another directory with root_dataset", "root_dataset")
