"""Frame directories packed into tar files, for file systems that are slow with many small files.

A directory of shards holds shard-000000.tar and so on, ordinary tar files in which each image keeps its path below the
frame directories' root, and index.sqlite, which says where each image lies. Python's own tarfile writes and reads them and
sqlite3 finds an image; both ship with Python. Lists, samplers and pixels are those of the frame directories.
"""
import errno
import hashlib
import io
import json
import os
import sqlite3
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Optional, Sequence
from urllib.parse import quote

from ops.common.cli import progress
from ops.common.errors import UserError
from ops.common.files import atomic_write, only_run
from ops.common.pool import Stopped, cores, interrupted, start_worker, without_interrupts
from ops.video.discovery import is_image_name

INDEX, PLAN, SHARD = "index.sqlite", "shards.json", "shard-{:06d}.tar"
PER_SHARD = 500  # videos; some 200 MB of Something-Something's frames


def is_sharded(root: Path) -> bool:
    """Whether `pack` was completed in this directory."""
    return (Path(root) / INDEX).is_file()


class Shards:
    """Reads images out of a directory of shards. One object may be copied into any number of processes."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not is_sharded(self.root):
            raise UserError(f"no {INDEX} in {self.root}: make the shards with tools/make_shards.py, or choose another"
                            " --data_format")
        self._process = -1

    def read(self, path: Path) -> bytes:
        """The content of the image at `path`, a path below the root. OSError like that of a file."""
        self._open()
        try:
            row = self._index.execute("SELECT shard, offset, size FROM files WHERE name = ?",
                                      (path.relative_to(self.root).as_posix(),)).fetchone()
        except sqlite3.DatabaseError as error:
            raise OSError(f"{self.root / INDEX} is damaged ({error}): delete it and start tools/make_shards.py"
                          " again") from None
        if row is None:
            raise FileNotFoundError(errno.ENOENT, "not in the shards", str(path))
        shard, offset, size = row
        file = self._file(shard)
        file.seek(offset)
        content = file.read(size)
        if len(content) < size:
            raise OSError(f"{SHARD.format(shard)} is cut short: delete it and start tools/make_shards.py again")
        return content

    def _open(self) -> None:
        """What is open belongs to one process: a place in a file would be shared with the parent's."""
        if self._process != os.getpid():
            self._files: dict[int, BinaryIO] = {}
            self._index = sqlite3.connect(f"file:{quote(str(self.root / INDEX))}?mode=ro&immutable=1", uri=True,
                                          check_same_thread=False)
            self._process = os.getpid()

    def _file(self, shard: int) -> BinaryIO:
        if shard not in self._files:
            self._files[shard] = open(self.root / SHARD.format(shard), "rb")
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_process": -1}


# ---- packing ------------------------------------------------------------------------------------------------

@dataclass
class PackSummary:
    """What a run did; `failures` are (video, reason), sorted."""
    videos: int
    shards: int
    existing: int
    images: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.videos - len(self.failures)} of {self.videos} videos, {self.images} images in"
                f" {self.shards} shards ({self.existing} were there before)")


def pack(src: Path, dst: Path, videos: Optional[Sequence[str]] = None, per_shard: int = PER_SHARD,
         workers: Optional[int] = None) -> PackSummary:
    """Pack the frame directories below `src` into shards in `dst`; started again, it goes on where it was stopped.

    videos: only these, paths below src (default: every directory that holds images). workers: processes (default: one
    per core). A video without images is left out and told. UserError: nothing to pack, or dst holds other shards.
    """
    if per_shard < 1 or workers is not None and workers < 1:
        raise UserError("--videos_per_shard and --workers: choose 1 or more")
    names = sorted(set(videos)) if videos is not None else find_directories(src)
    if not names:
        raise UserError(f"no directories of images in {src}")
    dst.mkdir(parents=True, exist_ok=True)
    with only_run(dst):
        _agree_on_plan(dst, names, per_shard)
        for left in dst.glob(".*.tmp"):  # by a run that was killed
            left.unlink()
        parts = [names[i:i + per_shard] for i in range(0, len(names), per_shard)]
        waiting = [i for i in range(len(parts)) if not (dst / SHARD.format(i)).exists()]
        for _ in progress(_write_all(src, dst, parts, waiting, workers or cores()), desc="packing", unit="shard",
                          total=len(waiting)):
            pass
        summary = PackSummary(len(names), len(parts), len(parts) - len(waiting))
        packed = _write_index(dst, len(parts), summary)
        reason = f"no images; once it has some, delete its shard and {INDEX} in {dst} and start again"
        summary.failures = [(name, reason) for name in names if name not in packed]
    return summary


def find_directories(src: Path) -> list[str]:
    """The directories below `src` that hold images, as sorted paths relative to it, with slashes."""
    if not src.is_dir():
        raise UserError(f"cannot read the directory {src}: no such directory")
    return sorted(Path(directory).relative_to(src).as_posix() for directory, _, files in os.walk(src)
                  if Path(directory) != src and any(map(is_image_name, files)))


def _agree_on_plan(dst: Path, names: Sequence[str], per_shard: int) -> None:
    """A run that goes on must pack the same videos in the same way."""
    plan = {"videos": len(names), "per_shard": per_shard, "names": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    file = dst / PLAN
    try:
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else plan
    except ValueError:
        before = None
    if before != plan:
        raise UserError(f"{dst} holds shards of other videos, or of another --videos_per_shard: name another directory, or"
                        " delete it")
    with atomic_write(file) as f:
        json.dump(plan, f)


def _write_all(src: Path, dst: Path, parts: Sequence[Sequence[str]], waiting: Sequence[int], workers: int) -> Iterator[int]:
    jobs = [(src, dst / SHARD.format(i), parts[i]) for i in waiting]
    if min(workers, len(jobs)) <= 1:
        yield from (_write_shard(*job) for job in jobs)
        return
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, start_worker, (stop,)) as pool:
        try:
            with without_interrupts():
                running = [pool.submit(_write_shard, *job) for job in jobs]
            yield from (future.result() for future in running)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _write_shard(src: Path, path: Path, videos: Sequence[str]) -> int:
    """One shard, whole or not at all: its number of images."""
    count = 0
    with atomic_write(path, "wb") as f, tarfile.open(fileobj=f, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for video in videos:
            for image in _images(src / video):
                if interrupted():
                    raise Stopped
                content = _content(image)
                member = tarfile.TarInfo(f"{video}/{image.name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                count += 1
    return count


def _images(directory: Path) -> list[Path]:
    try:
        return sorted(directory / name for name in os.listdir(directory) if is_image_name(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from None


def _content(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {image}: {error.strerror}") from None


def _write_index(dst: Path, shards: int, summary: PackSummary) -> set[str]:
    """Where each image lies, read back from the shards: the videos that have one."""
    packed: set[str] = set()
    partial = dst / f".{INDEX}.partial"
    partial.unlink(missing_ok=True)
    index = sqlite3.connect(partial)
    try:
        index.execute("CREATE TABLE files (name TEXT PRIMARY KEY, shard INTEGER, offset INTEGER, size INTEGER)"
                      " WITHOUT ROWID")
        for i in progress(range(shards), desc="indexing", unit="shard"):
            rows = [(m.name, i, m.offset_data, m.size) for m in _members(dst / SHARD.format(i))]
            index.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
            packed.update(name.rsplit("/", 1)[0] for name, *_ in rows)
            summary.images += len(rows)
        index.commit()
    finally:
        index.close()
    partial.replace(dst / INDEX)
    return packed


def _members(path: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(path) as tar:
            return tar.getmembers()
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and start again") from None
