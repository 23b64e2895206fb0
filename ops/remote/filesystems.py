"""Files and directories at addresses: opened through fsspec, with the errors of its libraries as one line.

A path without a protocol is an address too, of this machine. fsspec and the libraries behind it (s3fs, gcsfs) are imported
when the first address is opened. They find credentials in their own usual places; none passes through here.
"""
import hashlib
import logging
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Iterator, Mapping

from ops.common.addresses import is_address, masked
from ops.common.errors import UserError, shown
from ops.common.extras import import_extra
from ops.common.files import CannotWrite, atomic_write
from ops.remote.unpack import is_record

BLOCK = 8 << 20  # bytes per request
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "Last-Modified", "last_modified",
                 "updated", "generation")
_CREDENTIALS = ("credentials come from the usual places of its library: for s3 the variables AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY or ~/.aws, for gs `gcloud auth application-default login`")


@dataclass(frozen=True)
class Place:
    """An address that has been opened. option: the option that names it. path: within the file system `fs`."""
    address: str
    option: str
    fs: Any
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's own file system."""
        return "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    @property
    def name(self) -> str:
        """The last part of the path."""
        path = re.split("[?#]", self.path)[0] if is_address(self.path) else self.path  # http keeps its whole address
        return path.rstrip("/").rsplit("/", 1)[-1]

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.address.rstrip('/')}/{name}", self.option, self.fs, f"{self.path.rstrip('/')}/{name}")

    def problem(self, what: str) -> UserError:
        """A UserError about this address."""
        return UserError(f"{self.option} {masked(shown(self.address))}: {what}".lstrip(), *filter(None, [self.option]))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn any error of the file system's library into a UserError."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each library has error classes of its own
            raise self.problem(_reason(error)) from None

    # ---- reading ----------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        with self.errors():
            return bool(self.fs.exists(self.path))

    def describe(self) -> "Facts":
        """What is there now. UserError if there is nothing, or a file whose size the server does not give."""
        with self.errors():
            self.fs.invalidate_cache()
            info = self.fs.info(self.path)
            if info["type"] == "directory":
                return self._describe_directory()
        if info.get("size") is None:
            raise self.problem("the server does not give its size, so that a copy could not be checked")
        return Facts(int(info["size"]), _version(info))

    def _describe_directory(self) -> "Facts":
        files, start = {}, len(self.path.rstrip("/")) + 1
        for path, info in self.fs.find(self.path, detail=True).items():
            if is_record(path[start:]):
                continue
            if self.is_local and info["type"] != "file":
                raise self.problem(f"it contains {shown(path[start:])!r}, which is a link or a device: put the files"
                                   " themselves there")
            if info["type"] == "file" and not path.endswith("/"):  # some stores keep empty objects for directories
                files[path[start:]] = Facts(int(info["size"]), _version(info))
        listing = "\n".join(f"{name} {facts.size} {facts.version}" for name, facts in sorted(files.items()))
        return Facts(sum(facts.size for facts in files.values()), hashlib.sha256(listing.encode()).hexdigest(), files)

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """The file's bytes from `start` on, in order."""
        with self.errors():
            content = self.fs.open(self.path, "rb", block_size=BLOCK, cache_type="none")
        with content:
            with self.errors():
                content.seek(start)
            while True:
                with self.errors():
                    block = content.read(BLOCK)
                if not block:
                    return
                yield block

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, content: IO[bytes]) -> int:
        """Write a file, which appears whole or not at all; returns its bytes. Directories above it are made."""
        if self.is_local:
            return self._write_here(content)
        written = 0
        with self.errors():
            out = self.fs.open(self.path, "wb", autocommit=False)
            try:
                while block := content.read(BLOCK):
                    out.write(block)
                    written += len(block)
                out.close()
                out.commit()
            except BaseException:
                out.discard()
                raise
            self.fs.invalidate_cache()
            size = self.fs.info(self.path)["size"]
        if size != written:
            raise self.problem(f"it has {size} bytes after {written} were written")
        return written

    def _write_here(self, content: IO[bytes]) -> int:
        """fsspec's own way copies the file from another disk to its final name, where a full disk leaves a part of it."""
        try:
            with atomic_write(Path(self.path), "wb") as out:
                shutil.copyfileobj(content, out, BLOCK)
                return out.tell()
        except CannotWrite as error:
            raise self.problem(f"cannot be written: {error.strerror}") from None


@dataclass(frozen=True)
class Facts:
    """A file's or directory's bytes, and a text that changes with its content (such as an ETag).

    files: of a directory, relative name -> facts; None for a file.
    """
    size: int
    version: str
    files: Any = None


def open_place(address: str, option: str = "") -> Place:
    """The address, ready for use; nothing is read yet. UserError for an unknown protocol or a library that is missing."""
    core = import_extra("fsspec.core", "-r requirements-remote.txt")
    for library in ("botocore", "aiobotocore", "s3fs", "gcsfs"):  # in detail, they log more than a run's log should keep
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        fs, path = core.url_to_fs(address)
    except ImportError as error:
        raise _named(address, option, f"its library cannot be imported ({error}): pip install -r requirements-remote.txt"
                     ) from None
    except Exception as error:
        raise _named(address, option, _reason(error)) from None
    return Place(address, option, fs, path)


def _named(address: str, option: str, what: str) -> UserError:
    return UserError(f"{option} {masked(shown(address))}: {what}".lstrip(), *filter(None, [option]))


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[key]).strip('"') for key in _VERSION_KEYS if info.get(key)), "")


def _reason(error: Exception) -> str:
    """An error of a file system's library in words."""
    name, text = type(error).__name__, masked(" ".join(str(error).split()))[:300]
    if _cannot_connect(error):
        return f"its server cannot be reached ({text or name}): is the address right, and does the server run?"
    if isinstance(error, NotImplementedError):
        return "its protocol cannot do this; nothing can be written to http and https: choose s3://, gs:// or a path"
    if "block_size=0" in text:
        return "its server cannot send parts of a file (range requests), which it needs to: fetch the file by hand"
    if text.startswith("Protocol not known"):
        return "unknown protocol: choose s3://, gs://, another protocol of fsspec, or a path"
    if isinstance(error, FileNotFoundError):
        return "there is no such file, directory or bucket"
    if isinstance(error, PermissionError) or "credential" in f"{name}{text}".lower():
        return f"access is denied ({text or name}); {_CREDENTIALS}"
    return f"{getattr(error, 'strerror', None) or text or name} ({name})"


def _cannot_connect(error: BaseException) -> bool:
    """Whether an error, or its cause, is that of a connection; fsspec raises FileNotFoundError from those of aiohttp."""
    cause = error.__cause__
    return isinstance(error, ConnectionError) or type(error).__name__.startswith(("ClientConnector", "EndpointConnection")) \
        or cause is not None and _cannot_connect(cause)
