"""Frame directories packed into tar files, for file systems that are slow with many small files.

A directory of shards contains shard-000000.tar and so on, ordinary tar files in which each image keeps its path relative
to the root of the frame directories, and index.sqlite, which holds the position of each image. Both need only Python's own
tarfile and sqlite3. Lists, samplers and pixels are the same as with frame directories.
"""
import errno
import hashlib
import io
import os
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Optional, Sequence
from urllib.parse import quote

from ops.common.cli import progress
from ops.common.errors import UserError
from ops.common.files import agree_on_settings, atomic_write, only_run, remove_leftovers, whole_file
from ops.common.pool import Stopped, interrupted, run_jobs
from ops.video.discovery import is_image_name

INDEX, PLAN, SHARD = "index.sqlite", "shards.json", "shard-{:06d}.tar"
PER_SHARD = 500  # videos; some 200 MB of Something-Something's frames


def is_sharded(root: Path) -> bool:
    """Whether `pack` was completed in this directory."""
    return (Path(root) / INDEX).is_file()


class Shards:
    """Reads images from a directory of shards. One object may be copied to any number of processes."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not is_sharded(self.root):
            raise UserError(f"no {INDEX} in {self.root}: make the shards with tools/make_shards.py, or choose another"
                            " data_format", "data_format")
        self._process = -1

    def read(self, path: Path) -> bytes:
        """The content of the image at `path`, which begins with the root. Raises OSError like a file."""
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
        """Open the index in this process. Processes must not share open files: they would share the position in them."""
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
    """What a run did. existing: shards of earlier runs. failures: (video, reason), sorted."""
    videos: int
    shards: int
    existing: int
    images: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.videos - len(self.failures)} of {self.videos} videos, {self.images} images in"
                f" {self.shards} shards ({self.existing} were there before)")


def pack(src: Path, dst: Path, *, videos: Optional[Sequence[str]] = None, per_shard: int = PER_SHARD,
         workers: Optional[int] = None) -> PackSummary:
    """Pack the frame directories below `src` into shards in `dst`; run again, it resumes an interrupted run.

    videos: only these, as paths relative to src (default: every directory that contains images). workers: processes
    (default: one per core). Videos without images are left out and listed as failures.
    UserError if there is nothing to pack, or dst contains other shards.
    """
    if per_shard < 1:
        raise UserError(f"videos_per_shard {per_shard}: choose 1 or more", "videos_per_shard")
    if workers is not None and workers < 1:
        raise UserError(f"workers {workers}: choose 1 or more", "workers")
    names = sorted(set(videos)) if videos is not None else find_directories(src)
    if not names:
        raise UserError(f"no directories of images in {src}")
    dst.mkdir(parents=True, exist_ok=True)
    with only_run(dst):
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        agree_on_settings(dst / PLAN, {"videos": len(names), "per_shard": per_shard, "names": digest}, content="shards")
        remove_leftovers(dst)
        parts = [names[i:i + per_shard] for i in range(0, len(names), per_shard)]
        files = [dst / SHARD.format(i) for i in range(len(parts))]
        waiting = [(file, part) for file, part in zip(files, parts) if not file.exists()]
        with closing(run_jobs(partial(_write_shard, src), waiting, workers, name=lambda job: job[0].name)) as outcomes:
            for _ in progress(outcomes, desc="packing", unit="shard", total=len(waiting)):
                pass
        summary = PackSummary(len(names), len(parts), len(parts) - len(waiting))
        packed = _write_index(dst, len(parts), summary)
        reason = f"no images; once it has some, delete its shard and {INDEX} in {dst} and start again"
        summary.failures = [(name, reason) for name in names if name not in packed]
    return summary


def find_directories(src: Path) -> list[str]:
    """The directories below `src` that contain images, as sorted paths relative to it, with slashes."""
    if not src.is_dir():
        raise UserError(f"cannot read the directory {src}: no such directory")
    return sorted(Path(directory).relative_to(src).as_posix() for directory, _, files in os.walk(src)
                  if Path(directory) != src and any(map(is_image_name, files)))


def _write_shard(src: Path, job: tuple[Path, Sequence[str]]) -> None:
    """Write one shard. job: its file and its videos."""
    path, videos = job
    with atomic_write(path, "wb") as f, tarfile.open(fileobj=f, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for video in videos:
            for image in _images(src / video):
                if interrupted():
                    raise Stopped
                content = _read_image_file(image)
                member = tarfile.TarInfo(f"{video}/{image.name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _images(directory: Path) -> list[Path]:
    try:
        return sorted(directory / name for name in os.listdir(directory) if is_image_name(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from None


def _read_image_file(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {image}: {error.strerror}") from None


def _write_index(dst: Path, shards: int, summary: PackSummary) -> set[str]:
    """Write the index by reading the finished shards; returns the videos that have images, and counts these."""
    packed: set[str] = set()
    with whole_file(dst / INDEX) as temporary, closing(sqlite3.connect(temporary)) as index:
        index.execute("CREATE TABLE files (name TEXT PRIMARY KEY, shard INTEGER, offset INTEGER, size INTEGER)"
                      " WITHOUT ROWID")
        for i in progress(range(shards), desc="indexing", unit="shard"):
            rows = [(m.name, i, m.offset_data, m.size) for m in _members(dst / SHARD.format(i))]
            index.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
            packed.update(name.rsplit("/", 1)[0] for name, *_ in rows)
            summary.images += len(rows)
        index.commit()
    return packed


def _members(path: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(path) as tar:
            return tar.getmembers()
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and start again") from None
