"""Downloads of weight files that can be resumed, and a check that a file stays the same.

A download goes to `<name>.part`, which a later run continues, and gets its name only once it is complete and readable.
`<name>.json` beside it holds the SHA-256 of the file as first seen: no published one exists to compare with, but later
changes are noticed.
"""
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Optional

from ops.common.errors import UserError
from ops.common.files import atomic_write, file_hash
from ops.common.locks import try_lock
from ops.common.progress import progress

ATTEMPTS = 5
TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20


class DownloadFailed(Exception):
    """The download cannot continue; the text is the reason."""


class _Interrupted(Exception):
    """The connection ended early; another attempt may continue."""


def _check_checkpoint(path: Path) -> None:
    """UserError if the file is not a checkpoint that can be read."""
    from ops.weights import read_checkpoint  # not at the top: torch takes seconds to import
    read_checkpoint(path)


# ---- the file's hash ------------------------------------------------------------------------------------------

def check_hash(path: Path) -> str:
    """The file's SHA-256, recorded beside it the first time. UserError when it differs from the recorded one."""
    digest, record = file_hash(path), path.with_name(f"{path.name}.json")
    if not record.exists():
        _check_checkpoint(path)  # a file put there by hand is recorded only if it can be read
        with atomic_write(record) as f:
            f.write(json.dumps({"sha256": digest, "bytes": path.stat().st_size}, indent=2) + "\n")
        return digest
    try:
        known = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{record} is damaged: delete it to record the file's SHA-256 again") from None
    if digest != known:
        raise UserError(f"{path} has changed: its SHA-256 is {digest}, recorded was {known}: delete it to download it"
                        f" again, or delete {record.name} beside it if the change is intended")
    return digest


# ---- the download ---------------------------------------------------------------------------------------------

def download(address: str, path: Path) -> None:
    """Download a checkpoint to `path` by way of `<path>.part`, continuing what an earlier run left there.

    Raises DownloadFailed with the reason.
    """
    part = path.with_name(f"{path.name}.part")
    with open(part, "ab") as f:
        if not try_lock(f):  # two downloads into one file would mix
            raise DownloadFailed(f"another run is downloading into {part}: wait for it")
        try:
            _receive_all(address, f)
        except DownloadFailed:
            if not f.tell():
                part.unlink()
            raise
    try:
        _check_checkpoint(part)
    except UserError:
        part.unlink()
        raise DownloadFailed("the downloaded file is not a checkpoint that can be read") from None
    os.replace(part, path)


def _receive_all(address: str, file: IO[bytes]) -> None:
    """Ask again for the rest when a connection ends early. Raises DownloadFailed when an attempt brings nothing."""
    for attempt in range(1, ATTEMPTS + 1):
        before = file.tell()
        try:
            return _receive(address, file)
        except _Interrupted as error:
            if attempt == ATTEMPTS or file.tell() == before:
                raise DownloadFailed(f"{error}; run again to continue") from None


def _receive(address: str, file: IO[bytes]) -> None:
    """Append the missing bytes of `address` to `file`; all of them where the server cannot continue."""
    have = file.seek(0, os.SEEK_END)
    try:
        request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if have and not _continues(response, have):
                have = _truncate(file)
            total = _total_bytes(response, have)
            _copy(response, file, have, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # no bytes after these: the file is complete, or the beginning of another
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            _truncate(file)
            raise _Interrupted(f"the {have} bytes of an earlier run do not belong to it") from None
        raise DownloadFailed(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise DownloadFailed(f"no connection ({getattr(error.reason, 'strerror', None) or error.reason})") from None
    except (ConnectionError, TimeoutError) as error:
        raise _Interrupted(f"the connection broke after {file.tell()} bytes ({error})") from None
    except (http.client.HTTPException, ValueError) as error:  # also a malformed address
        raise DownloadFailed(f"{type(error).__name__}: {error}") from None


def _continues(response: Any, have: int) -> bool:
    """Whether the answer begins after the first `have` bytes."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _truncate(file: IO[bytes]) -> int:
    file.truncate(0)
    return file.seek(0)


def _total_bytes(response: Any, have: int) -> Optional[int]:
    """The length of the whole file; None where the server does not send it."""
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if match:
        return int(match[1])
    length = response.headers.get("Content-Length")
    return None if length is None else have + int(length)


def _copy(response: Any, file: IO[bytes], have: int, total: Optional[int]) -> None:
    """Append the answer's bytes to the file. Raises _Interrupted when they end before `total`."""
    with progress(total=total, initial=have, unit="B", unit_scale=True, desc="downloading") as bar:
        while have != total:
            try:
                block = response.read(_BLOCK)
            except (http.client.HTTPException, OSError) as error:
                block, total = getattr(error, "partial", b""), total or -1
            file.write(block)
            have += len(block)
            bar.update(len(block))
            if not block:
                break
    file.flush()
    if total is not None and have != total:
        raise _Interrupted(f"the connection ended after {have} of {total if total > 0 else 'unknown'} bytes")
