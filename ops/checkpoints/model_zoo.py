"""The released TSM models: names, published accuracies, and how their files come into a cache directory.

A download goes to `<name>.part`, which a later run goes on with, and gets its name only once it is complete and
readable. `<name>.json` beside it keeps the SHA-256 of the file as first seen: there is no published one to compare
with, but no later change goes unnoticed.
"""
import difflib
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Optional, Union

from ops.common.cli import progress
from ops.common.errors import UserError
from ops.common.files import atomic_write, cache_directory, try_lock
from ops.weights import read_checkpoint

BASE_URL = "https://hanlab18.mit.edu/projects/tsm/models"
ONLINE_JESTER = "mobilenetv2_jester_online.pth.tar"
ATTEMPTS = 5
TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20


# ---- the table ----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Score:
    """One published accuracy, in percent. protocol: as its publisher describes it; option: the same for test_models.py, as
    (name, value)."""
    protocol: str
    option: tuple[str, str]
    top1: float
    top5: Optional[float] = None


@dataclass(frozen=True)
class ZooModel:
    """A released file. segments: frames per clip in the tests; scores: the README's, in percent."""
    name: str
    dataset: str
    model: str
    segments: int
    scores: tuple[Score, ...]


def _dense(top1: float) -> Score:
    return Score("10 clips, full resolution", ("protocol", "kinetics-dense"), top1)


def _uniform(center: float, ten: float) -> tuple[Score, Score]:
    return (Score("1 clip, center crop", ("protocol", "efficient"), center),
            Score("1 clip, 10 crops", ("test_crops", "10"), ten))


def _something(efficient: Optional[float], accurate: float) -> tuple[Score, ...]:
    two_clips = Score("2 clips, full resolution", ("protocol", "accurate"), accurate)
    return (two_clips,) if efficient is None else (
        Score("1 clip, center crop", ("protocol", "efficient"), efficient), two_clips)


_KINETICS, _SHIFT = "TSM_kinetics_RGB_resnet50", "shift8_blockres_avg"
MODEL_ZOO: tuple[ZooModel, ...] = (
    ZooModel(f"{_KINETICS}_avg_segment5_e50.pth", "kinetics", "TSN ResNet50 (2D)", 8,
             (_dense(70.6), *_uniform(68.8, 69.9))),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment8_e100_dense.pth", "kinetics", "TSM ResNet50", 8, (_dense(74.1),)),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment8_e100_dense_nl.pth", "kinetics", "TSM ResNet50 NL", 8, (_dense(75.6),)),
    ZooModel(f"TSM_kinetics_RGB_mobilenetv2_{_SHIFT}_segment8_e100_dense.pth", "kinetics", "TSM MobileNetV2", 8,
             (_dense(69.5),)),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment8_e50.pth", "kinetics", "TSM ResNet50", 8, _uniform(71.2, 72.8)),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment16_e50.pth", "kinetics", "TSM ResNet50", 16, _uniform(72.6, 73.7)),
    ZooModel(f"TSM_kinetics_Flow_resnet50_{_SHIFT}_segment8_e50.pth", "kinetics", "TSM ResNet50 Flow", 8,
             (Score("1 clip", ("protocol", "efficient"), 55.7, 79.5),)),
    ZooModel(f"TSM_something_RGB_resnet50_{_SHIFT}_segment8_e45.pth", "something", "TSM ResNet50", 8,
             _something(45.6, 47.2)),
    ZooModel(f"TSM_something_RGB_resnet50_{_SHIFT}_segment16_e45.pth", "something", "TSM ResNet50", 16,
             _something(47.2, 48.4)),
    ZooModel(f"TSM_something_RGB_resnet101_{_SHIFT}_segment8_e45.pth", "something", "TSM ResNet101", 8,
             _something(46.9, 48.7)),
    ZooModel(f"TSM_somethingv2_RGB_resnet50_{_SHIFT}_segment8_e45.pth", "somethingv2", "TSM ResNet50", 8,
             _something(None, 61.2)),
    ZooModel(f"TSM_somethingv2_RGB_resnet50_{_SHIFT}_segment16_e45.pth", "somethingv2", "TSM ResNet50", 16,
             _something(None, 63.1)),
    ZooModel(f"TSM_somethingv2_RGB_resnet101_{_SHIFT}_segment8_e45.pth", "somethingv2", "TSM ResNet101", 8,
             _something(None, 63.3)),
    ZooModel(ONLINE_JESTER, "jester", "TSM MobileNetV2 online", 1, ()),
)


def find_model(name: str) -> ZooModel:
    """The table's row called `name`, with or without its extension. UserError otherwise."""
    for row in MODEL_ZOO:
        if name in (row.name, row.name.split(".")[0]):
            return row
    near = difflib.get_close_matches(name, [row.name for row in MODEL_ZOO], n=1, cutoff=0.4)
    raise UserError(f"no released model is called {name!r}: " + (f"did you mean {near[0]}?" if near else
                    "docs/models.md lists the names"))


def find_weights(name: Union[str, Path]) -> Path:
    """The file of a checkpoint given by its path, or by the name of a released model: that one is fetched."""
    path = Path(name)
    released = str(name) in {known for row in MODEL_ZOO for known in (row.name, row.name.split(".")[0])}
    return fetch(str(name)) if released and not path.exists() else path


# ---- the cache ----------------------------------------------------------------------------------------------

def cached_file(name: str) -> Path:
    """The path of the file `name` in the cache directory, whether it is there yet or not."""
    return cache_directory() / name


def base_url(url: Optional[str] = None) -> str:
    """The address under which the files lie: `url`, else $TSM_MODELS_URL, else the publisher's."""
    return (url or os.environ.get("TSM_MODELS_URL") or BASE_URL).rstrip("/")


def fetch(name: str, url: Optional[str] = None) -> Path:
    """The released file `name` in the cache, downloaded if need be, and its content checked.

    url: address of a mirror, without the file's name. UserError when it cannot be had, with the path where a file
    got otherwise may be put; when it is no checkpoint; when it is another file than the first time.
    """
    path = cached_file(find_model(name).name)
    if not path.exists():
        address = f"{base_url(url)}/{path.name}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(address, path)
        except _Failed as error:
            raise UserError(f"cannot download {address}: {error}: {_otherwise(path)}") from None
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}: name another directory with TSM_CACHE"
                            ) from None
    check_hash(path)
    return path


def check_hash(path: Path) -> str:
    """The file's SHA-256, recorded beside it the first time. UserError when it differs from the recorded one."""
    digest, record = _sha256(path), path.with_name(f"{path.name}.json")
    if not record.exists():
        read_checkpoint(path)  # a file put there by hand: only what can be read is worth recording
        with atomic_write(record) as f:
            f.write(json.dumps({"sha256": digest, "bytes": path.stat().st_size}, indent=2) + "\n")
        return digest
    try:
        known = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{record} is damaged: delete it to record the file's SHA-256 again") from None
    if digest != known:
        raise UserError(f"{path} has changed: its SHA-256 is {digest}, recorded was {known}: delete it to download it"
                        f" again, or delete {record.name} beside it if the change is meant")
    return digest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _otherwise(path: Path) -> str:
    return f"put a copy of the file at {path} yourself, or set TSM_MODELS_URL to a mirror"


# ---- the download -------------------------------------------------------------------------------------------

class _Failed(Exception):
    """The download cannot go on; the text is the reason."""


class _Interrupted(Exception):
    """The connection ended early; another attempt may go on."""


def _download(address: str, path: Path) -> None:
    """`address` to `path` by way of `<path>.part`, going on with what an earlier run left there."""
    part = path.with_name(f"{path.name}.part")
    with open(part, "ab") as f:
        if not try_lock(f):  # two downloads into one file would mix
            raise _Failed(f"another run is downloading into {part}: wait for it")
        try:
            _receive_all(address, f)
        except _Failed:
            if not f.tell():
                part.unlink()
            raise
    try:
        read_checkpoint(part)
    except UserError:
        part.unlink()
        raise _Failed("what came is not a checkpoint that can be read") from None
    os.replace(part, path)


def _receive_all(address: str, file: IO[bytes]) -> None:
    """Ask again, from where it ended, when a connection ends early. _Failed when that does not help."""
    for attempt in range(1, ATTEMPTS + 1):
        before = file.tell()
        try:
            return _receive(address, file)
        except _Interrupted as error:
            if attempt == ATTEMPTS or file.tell() == before:
                raise _Failed(f"{error}; run again to go on") from None


def _receive(address: str, file: IO[bytes]) -> None:
    """Append to `file` what it lacks of `address`; from the start where the server cannot go on from there."""
    have = file.seek(0, os.SEEK_END)
    try:
        request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if have and not _continues(response, have):
                have = _restart(file)
            total = _total(response, have)
            _copy(response, file, have, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what is there: complete, or another file's beginning
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            _restart(file)
            raise _Interrupted(f"the {have} bytes of an earlier run do not belong to it") from None
        raise _Failed(f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _Failed(f"no connection ({getattr(error.reason, 'strerror', None) or error.reason})") from None
    except (ConnectionError, TimeoutError) as error:
        raise _Interrupted(f"the connection broke after {file.tell()} bytes ({error})") from None
    except (http.client.HTTPException, ValueError) as error:  # also an address that is none
        raise _Failed(f"{type(error).__name__}: {error}") from None


def _continues(response: Any, have: int) -> bool:
    """Whether the answer goes on behind the first `have` bytes."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _restart(file: IO[bytes]) -> int:
    file.truncate(0)
    return file.seek(0)


def _total(response: Any, have: int) -> Optional[int]:
    """The whole file's length in bytes, if the server tells it."""
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if match:
        return int(match[1])
    length = response.headers.get("Content-Length")
    return None if length is None else have + int(length)


def _copy(response: Any, file: IO[bytes], have: int, total: Optional[int]) -> None:
    """The answer's bytes to the file. _Interrupted when they end before `total`, or the connection breaks."""
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
