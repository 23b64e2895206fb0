"""Archives (tar, zip) unpacked into a directory that nothing can leave."""
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Iterator

from ops.common.errors import UserError, shown
from ops.common.files import CannotWrite
from ops.common.progress import progress

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
RECORDS = ".fetched"  # directory in the root of the data sets
_BLOCK = 1 << 20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)


def is_archive(name: str) -> bool:
    """Whether a file's name has the suffix of an archive that `unpack` reads."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, directory: Path, name: str) -> None:
    """Unpack an archive into `directory`, which must be new or empty. name: the archive's, for messages.

    UserError for an archive that is damaged or empty, and for a member that is a link or a device or leaves the directory;
    CannotWrite. What was unpacked before the error stays.
    """
    directory.mkdir(parents=True, exist_ok=True)
    read = _unpack_zip if name.lower().endswith(".zip") else _unpack_tar
    try:
        read(archive, directory, name)
    except _DAMAGED as error:
        raise UserError(f"{name} is damaged or not an archive of its suffix ({error})") from None
    except OSError as error:
        if error.errno is None:  # how gzip and bz2 report damage
            raise UserError(f"{name} is damaged ({error})") from None
        raise CannotWrite(directory, error.strerror or str(error)) from None
    if not any(directory.iterdir()):
        raise UserError(f"{name} contains no files")


def check_member(member: str, archive: str) -> None:
    """UserError if a member's name leads out of the directory that it is unpacked into."""
    parts = _parts(member)
    if member.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", member) or "\0" in member:
        raise UserError(f"{archive} contains {shown(member)!r}, which leads out of the directory of the data sets: nothing"
                        " of it is used")


def is_record(name: str) -> bool:
    """Whether a member is of the record of what was fetched, in the root that was packed. It is left out: ours differs."""
    return _parts(name)[:1] == [RECORDS]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]


def _unpack_tar(archive: Path, directory: Path, name: str) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise UserError(f"{name}: this Python cannot unpack archives safely: use 3.10.12, 3.11.4 or newer")
    with open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar, _bar(archive, name) as bar:
        def members() -> Iterator[tarfile.TarInfo]:
            for member in tar:
                check_member(member.name, name)
                if is_record(member.name):
                    continue
                if not (member.isreg() or member.isdir()):
                    raise _not_a_file(member.name, name, link=member.islnk() or member.issym())
                yield member
                bar.update(raw.tell() - bar.n)

        tar.extractall(directory, members(), filter="data")
        _check_end(tar, name)


def _check_end(tar: tarfile.TarFile, name: str) -> None:
    """UserError unless the block of zeros that ends an archive follows the last member: tarfile takes a cut for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise UserError(f"{name} is damaged: it has no end, so that members are missing or unreadable after the first"
                        f" {tar.offset} bytes of its content")


def _unpack_zip(archive: Path, directory: Path, name: str) -> None:
    with zipfile.ZipFile(archive) as content, _bar(archive, name) as bar:
        members = [member for member in content.infolist() if not is_record(member.filename)]
        for member in members:
            check_member(member.filename, name)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_file(member.filename, name, link=kind == stat.S_IFLNK)
            if member.flag_bits & 1:
                raise UserError(f"{name} is encrypted: pack it without a password")
        check_room(directory, sum(member.file_size for member in members), name)
        for member in members:
            path = directory / member.filename
            (path if member.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
            if not member.is_dir():
                with content.open(member) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target, _BLOCK)
            bar.update(member.compress_size)


def _bar(archive: Path, name: str) -> Any:
    return progress(total=archive.stat().st_size, unit="B", unit_scale=True, desc=f"unpacking {name}")


def _not_a_file(member: str, archive: str, *, link: bool) -> UserError:
    advice = "pack the files themselves (tar with dereference)" if link else "pack files and directories only"
    return UserError(f"{archive} contains {shown(member)!r}, which is a {'link' if link else 'device'}: {advice}")


def check_room(directory: Path, needed: int, name: str) -> None:
    """CannotWrite if the disk of `directory` has fewer bytes free than needed."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise CannotWrite(directory, f"{name} needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free")
