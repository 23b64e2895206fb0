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
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Iterator, Optional, Sequence
from urllib.parse import quote

from ops.common.errors import UserError, shown
from ops.common.files import (
    AnyPath,
    CannotWrite,
    agree_on_settings,
    atomic_write,
    is_leftover,
    remove_leftovers,
    remove_leftovers_of,
    whole_file,
    writing,
)
from ops.common.locks import one_at_a_time, only_run
from ops.common.part import WHOLE, Part
from ops.common.pool import Stopped, interrupted, run_jobs
from ops.common.progress import progress
from ops.common.words import counted
from ops.video.discovery import is_image_name, numbered_directory, video_number

INDEX, PLAN, SHARD = "index.sqlite", "shards.json", "shard-{:06d}.tar"
PER_SHARD = 500  # videos; some 200 MB of Something-Something's frames


def is_sharded(root: AnyPath) -> bool:
    """Whether `pack` was completed in this directory."""
    return os.path.isfile(Path(root) / INDEX)


def holds_shards(root: AnyPath) -> bool:
    """Whether `pack` was started in this directory, or shards were copied into it; they may be incomplete."""
    return any(os.path.isfile(Path(root) / name) for name in (INDEX, PLAN, SHARD.format(0)))


def shard_files(root: AnyPath) -> list[Path]:
    """The index and the shards in this directory; none if `pack` was not completed in it."""
    return [Path(root) / INDEX, *Path(root).glob(SHARD.replace("{:06d}", "*"))] if is_sharded(root) else []


class Shards:
    """Reads images from a directory of shards. One object may be copied to any number of processes.

    UserError if there is no index, or if shards are missing.
    """

    def __init__(self, root: AnyPath) -> None:
        self.root = Path(root)
        if not is_sharded(self.root):
            raise UserError(f"no {INDEX} in {self.root}: start tools/make_shards.py to make the shards, or to complete them,"
                            " or choose another data_format", "data_format")
        self._process = -1
        self._check_shards()

    def read(self, path: AnyPath) -> bytes:
        """The content of the image at `path`, which begins with the root. Raises OSError like a file."""
        try:
            self._open()
            row = self._index.execute("SELECT shard, offset, size FROM files WHERE name = ?",
                                      (Path(path).relative_to(self.root).as_posix(),)).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from None
        if row is None:
            raise FileNotFoundError(errno.ENOENT, "not in the shards", str(path))
        if not all(isinstance(value, int) and 0 <= value < 1 << 48 for value in row):
            raise self._damaged(f"shard, offset, size of {Path(path).name} are {str(row)[:60]}")
        shard, offset, size = row
        file = self._file(shard)
        if offset + size > os.fstat(file.fileno()).st_size:
            raise OSError(f"{SHARD.format(shard)} is cut short: delete it and the index, and start tools/make_shards.py"
                          " again")
        file.seek(offset)
        return file.read(size)

    def _check_shards(self) -> None:
        """UserError if shards that the index counts are missing. An index without their number is an older one."""
        try:
            with closing(_connect(self.root / INDEX)) as index:
                shards = int(index.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error as error:
            raise UserError(str(self._damaged(str(error)))) from None
        found = set(os.listdir(self.root))
        missing = next((SHARD.format(i) for i in range(shards) if SHARD.format(i) not in found), "")
        if missing:
            raise UserError(f"the shard {missing} is missing in {self.root}, which should contain {shards}: copy it there,"
                            " or start tools/make_shards.py again")

    def _damaged(self, reason: str) -> OSError:
        return OSError(f"{self.root / INDEX} is damaged ({reason}): delete it and start tools/make_shards.py again")

    def _open(self) -> None:
        """Open the index in this process. Processes must not share open files: they would share the position in them."""
        if self._process != os.getpid():
            self._files: dict[int, BinaryIO] = {}
            self._index = _connect(self.root / INDEX)
            self._process = os.getpid()

    def _file(self, shard: int) -> BinaryIO:
        if shard not in self._files:
            try:
                self._files[shard] = open(self.root / SHARD.format(shard), "rb")
            except FileNotFoundError:  # which would otherwise mean that the image is missing
                raise OSError(f"the shard {SHARD.format(shard)} is missing in {self.root}") from None
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_process": -1}


def _connect(index: Path) -> sqlite3.Connection:
    """Open an index that nobody writes to, so that no locks are needed."""
    return sqlite3.connect(f"file:{quote(os.fsencode(index))}?mode=ro&immutable=1", uri=True, check_same_thread=False)


# ---- packing ------------------------------------------------------------------------------------------------

@dataclass
class PackSummary:
    """What a run did. existing: shards of earlier runs. failures: (video, reason), sorted.

    indexed: whether all shards are there, also those of other parts, and so the index.
    """
    videos: int
    shards: int
    existing: int
    images: int = 0
    indexed: bool = True
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.videos - len(self.failures)} of {counted(self.videos, 'video')},"
                f" {counted(self.images, 'image')} in {counted(self.shards, 'shard')} ({self.existing} were there before)")


def pack(src: AnyPath, dst: AnyPath, *, videos: Optional[Sequence[str]] = None, per_shard: int = PER_SHARD,
         workers: Optional[int] = None, part: Part = WHOLE) -> PackSummary:
    """Pack the frame directories below `src` into shards in `dst`; run again, it resumes an interrupted run.

    videos: only these, as lists name them, relative to src (default: every directory that contains images).
    workers: processes (default: one per core). Videos without images are left out and listed as failures. part: of the
    shards; parts may run at the same time, and the one that ends last writes the index.
    UserError if there is nothing to pack, a path leads out of src, dst contains other shards or cannot be written.
    """
    src, dst = Path(src), Path(dst)
    if per_shard < 1:
        raise UserError(f"videos_per_shard {per_shard}: choose 1 or more", "videos_per_shard")
    if workers is not None and workers < 1:
        raise UserError(f"workers {workers}: choose 1 or more", "workers")
    names = sorted({_directory_of(src, video) for video in videos}) if videos is not None else find_directories(src)
    unlisted = [name for name in names if not _is_utf8(name)]
    names = [name for name in names if _is_utf8(name)]
    if not names:
        raise UserError(f"no directories of images in {src}" + " whose names are UTF-8" * bool(unlisted))
    with writing(dst):
        summary = _pack(src, dst, names, per_shard=per_shard, workers=workers, part=part)
    unlisted = list(part.take(unlisted))
    summary.videos += len(unlisted)
    summary.failures += [(shown(name), "its name is not UTF-8, so no list can contain it: rename it") for name in unlisted]
    return summary


def _pack(src: Path, dst: Path, names: Sequence[str], *, per_shard: int, workers: Optional[int], part: Part) -> PackSummary:
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()
    shards = -(-len(names) // per_shard)
    own = part.take(range(shards))
    videos = {i: names[i * per_shard:(i + 1) * per_shard] for i in own}
    dst.mkdir(parents=True, exist_ok=True)
    with only_run(dst, part):
        with one_at_a_time(dst, part):
            agree_on_settings(dst / PLAN, {"videos": len(names), "per_shard": per_shard, "names": digest}, content="shards")
            _remove_leftovers(dst, own, part)
        waiting = [(file, videos[i]) for i in own if not (file := dst / SHARD.format(i)).exists()]
        with closing(run_jobs(partial(_write_shard, src), waiting, workers, name=lambda job: job[0].name)) as outcomes:
            for _ in progress(outcomes, desc="packing", unit="shard", total=len(waiting)):
                pass
        with one_at_a_time(dst, part):
            indexed = all((dst / SHARD.format(i)).exists() for i in range(shards))
            images = _write_index(dst, shards) if indexed else _count_images(dst, own)
    summary = PackSummary(sum(map(len, videos.values())), len(own), len(own) - len(waiting), indexed=indexed)
    for name in (name for group in videos.values() for name in group):
        summary.images += images[name]
        if not images[name]:
            summary.failures.append((name, f"no images; once it has some, delete its shard and {INDEX} in {dst} and start"
                                     " again"))
    summary.failures.sort()
    return summary


def _remove_leftovers(dst: Path, own: Sequence[int], part: Part) -> None:
    """Remove what killed runs left; a part leaves alone what other parts may be writing."""
    if part == WHOLE:
        remove_leftovers(dst)
    else:
        remove_leftovers_of([dst / PLAN, dst / INDEX, *(dst / SHARD.format(i) for i in own)])


def _member_path(video: str) -> str:
    """A list's path as readers look it up: `./a//b/` is a/b. UserError for one that leads out of the root."""
    path = PurePosixPath(video)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"the list's path {shown(video)[:80]!r} is not below the root: choose a root that contains all"
                        " videos, and lists with paths relative to it")
    return path.as_posix()


def _directory_of(src: Path, video: str) -> str:
    """The directory of a list's video, relative to src: for a number it may have the name that flow is looked up by."""
    path = _member_path(video)
    number = video_number(path)
    if number is not None and not os.path.isdir(src / path) and os.path.isdir(src / numbered_directory(number)):
        return numbered_directory(number)
    return path


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_directories(src: AnyPath) -> list[str]:
    """The directories below `src` that contain images, as sorted paths relative to it, with slashes; links are followed."""
    src = Path(src)
    if not os.path.isdir(src):
        raise UserError(f"cannot read the directory {src}: no such directory")
    return sorted(Path(directory).relative_to(src).as_posix() for directory in _directories_of_images(src, frozenset())
                  if Path(directory) != src)


def _directories_of_images(directory: Path, above: frozenset[str]) -> Iterator[Path]:
    """above: the real paths of the directories above, to which a link may lead back."""
    above = above | {os.path.realpath(directory)}
    try:
        entries = list(os.scandir(directory))
    except OSError as error:
        raise UserError(f"cannot read the directory {shown(directory)}: {error.strerror}") from None
    if any(is_image_name(entry.name) for entry in entries):
        yield directory
    for entry in entries:
        if os.path.isdir(entry.path) and not is_leftover(entry.name) and os.path.realpath(entry.path) not in above:
            yield from _directories_of_images(Path(entry.path), above)


def _write_shard(src: Path, job: tuple[Path, Sequence[str]]) -> None:
    """Write one shard. job: its file and its videos."""
    path, videos = job
    with atomic_write(path, "wb") as f, tarfile.open(fileobj=f, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for video in videos:
            for image in _images(src / video):
                if interrupted():
                    raise Stopped
                content = _read_image_file(image)
                member = tarfile.TarInfo((PurePosixPath(video) / image.name).as_posix())
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _images(directory: Path) -> list[Path]:
    try:
        names = sorted(filter(is_image_name, os.listdir(directory)))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UserError(f"cannot read the directory {directory}: {getattr(error, 'strerror', None) or error}") from None
    for name in names:
        if not _is_utf8(name):
            raise UserError(f"cannot pack {directory / name}: the name is not UTF-8: rename or remove the file")
    return [directory / name for name in names]


def _read_image_file(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {image}: {error.strerror}") from None


def _write_index(dst: Path, shards: int) -> Counter[str]:
    """Write the index by reading the finished shards; returns the number of images of each video."""
    images: Counter[str] = Counter()
    with whole_file(dst / INDEX) as temporary:
        try:
            with closing(sqlite3.connect(temporary)) as index:
                index.execute("PRAGMA journal_mode = OFF")  # the file is temporary, and a journal would be left by a kill
                index.execute("CREATE TABLE files (name TEXT PRIMARY KEY, shard INTEGER, offset INTEGER, size INTEGER)"
                              " WITHOUT ROWID")
                for i in progress(range(shards), desc="indexing", unit="shard"):
                    members = _members(dst / SHARD.format(i))
                    index.executemany("INSERT INTO files VALUES (?, ?, ?, ?)",
                                      [(member.name, i, member.offset_data, member.size) for member in members])
                    images.update(map(_video_of, members))
                index.execute(f"PRAGMA user_version = {shards:d}")
                index.commit()
        except sqlite3.IntegrityError:
            raise UserError(f"{dst / SHARD.format(i)} has an image of another shard, or one twice: delete it and start"
                            " again") from None
        except sqlite3.Error as error:
            raise CannotWrite(dst / INDEX, str(error)) from None
    return images


def _count_images(dst: Path, shards: Sequence[int]) -> Counter[str]:
    """The number of images of each video in these finished shards."""
    return Counter(_video_of(member) for i in shards for member in _members(dst / SHARD.format(i)))


def _video_of(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).parent.as_posix()


def _members(path: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
    except (OSError, ValueError, tarfile.TarError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and start again") from None
    if not all(member.isreg() and not member.sparse and _is_utf8(member.name) for member in members):
        raise UserError(f"{path} contains more than files, so it was not made by make_shards: delete it and start again")
    return members
