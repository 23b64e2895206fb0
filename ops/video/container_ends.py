"""Where a video file should end, by the lengths in its container: FFmpeg reads many truncated files as shorter ones.

Also which transport streams are whole although their packet counters jump: recordings that were joined with `cat`.
"""
import mmap
import os
import stat
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Callable, Optional

import numpy as np

from ops.common.errors import UserError
from ops.common.files import AnyPath

_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"styp", b"free", b"skip", b"wide", b"uuid"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # the first and second element of a Matroska file
_ASF, _ASF_FAMILY = b"\x30\x26\xb2\x75", bytes.fromhex("a6d900aa0062ce6c")  # the first object; how the data's name ends
_UNKNOWN = 0xFFFFFFF0  # RIFF lengths from here on are those of a writer that could not go back to fill them in
_SYNC = 0x47  # the first byte of a transport stream's packet
_CLOCK_RATE, _CLOCK_JUMP = 90000, 2.0  # of a transport stream's time stamps; seconds


class BrokenVideo(UserError):
    """A video that cannot be read completely; the text is the reason, without the file's name."""


def missing_bytes(video: AnyPath) -> int:
    """The bytes that are missing at the end of the file, by the lengths that its container states (0: none or unknown).

    Raises BrokenVideo for an empty file or one that is not regular (a pipe would block), OSError if unreadable.
    """
    video = Path(video)
    status = video.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BrokenVideo("it is not a regular file")
    if not status.st_size:
        raise BrokenVideo("the file is empty")
    with video.open("rb") as file:
        end_of = _container_end(file.read(4))
        return max(0, end_of(file, status.st_size) - status.st_size)


def _container_end(start: bytes) -> Callable[[BinaryIO, int], int]:
    ends = {_EBML: _matroska_end, b"RIFF": _riff_end, _ASF: _asf_end, b"GIF8": _gif_end, b"OggS": _ogg_end}
    return ends.get(start) or (_transport_end if start[:1] == bytes([_SYNC]) else _mp4_end)


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    """`count` bytes, zeros past the end of the file."""
    file.seek(position)
    return file.read(count).ljust(count, b"\0")


def _mp4_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        length, kind, long_length = struct.unpack(">I4sQ", _read(file, position, 16))
        length = long_length if length == 1 else length
        if length < 8 or kind not in _MP4_BOXES:  # 0: "to the end of the file"; otherwise not MP4, or trailing garbage
            return size
        position += length
    return position


def _riff_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:  # files over 1 GB hold several RIFF chunks
        kind, length = struct.unpack("<4sI", _read(file, position, 8))
        if kind != b"RIFF" or not length:
            return size
        if length >= _UNKNOWN:
            return _riff_chunks_end(file, size, position + 12)
        position += 8 + length + length % 2
    # Some writers count the header twice; 8 missing bytes concern only the index.
    return position if position > size + 8 else size


def _riff_chunks_end(file: BinaryIO, size: int, position: int) -> int:
    """The end by the lengths of the chunks inside, for a file that was written to a pipe."""
    while position + 8 <= size:
        kind, length = struct.unpack("<4sI", _read(file, position, 8))
        if not kind.strip().isalnum():
            return size  # not a chunk
        if kind == b"LIST" and length >= _UNKNOWN:  # of images, written to a pipe too
            position += 12
            continue
        position += 8 + length + length % 2
    return position if position > size + 1 else size


def _matroska_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position < size:
        head = _read(file, position, 12)
        id_bytes = 9 - head[0].bit_length()
        length_bytes = 9 - head[min(id_bytes, 11)].bit_length()
        if id_bytes > 4 or length_bytes > 8:
            return size  # not an element
        unknown = (1 << 7 * length_bytes) - 1
        length = int.from_bytes(head[id_bytes:id_bytes + length_bytes], "big") & unknown
        position += id_bytes + length_bytes
        if length == unknown:  # a live recording: continue with its children
            continue
        position += length
        if head.startswith(_SEGMENT):  # what follows is not part of the video
            break
    return position


def _asf_end(file: BinaryIO, size: int) -> int:
    position = 0
    while (head := _read(file, position, 24))[8:16] == _ASF_FAMILY:  # the header and the data; an index may follow
        length = int.from_bytes(head[16:], "little")
        if length < 24:
            return size
        position += length
    return position


def _gif_end(file: BinaryIO, size: int) -> int:
    """Past the trailer, a semicolon after the last image."""
    flags = _read(file, 10, 1)[0]
    position = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    while position < size:
        kind = _read(file, position, 1)
        if kind == b";":
            return size  # what follows is not part of the video
        if kind == b",":  # an image: its place, colors and code size
            flags = _read(file, position + 9, 1)[0]
            position += 11 + (3 << (flags & 7) + 1 if flags & 128 else 0)
        elif kind == b"!":
            position += 2
        else:
            return size  # not a block
        while position < size and (length := _read(file, position, 1)[0]):
            position += 1 + length
        position += 1
    return position


def _ogg_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position < size:
        head = _read(file, position, 27)
        if head[:4] != b"OggS":
            return size  # not a page
        position += 27 + head[26] + sum(_read(file, position + 27, head[26]))
    return position


# ---- transport streams ------------------------------------------------------------------------------------------

def _transport_end(file: BinaryIO, size: int) -> int:
    packet = _packet_size(file)
    rest = size % packet if packet else 0
    return size + packet - rest if packet and rest and _read(file, size - rest, 1)[0] == _SYNC else size


def _packet_size(file: BinaryIO) -> Optional[int]:
    """Bytes per packet of a transport stream that starts with a packet; None if it is not one."""
    return next((size for size in (188, 204) if all(_read(file, n * size, 1)[0] in (_SYNC, 0) for n in range(4))), None)


def is_joined_whole(video: AnyPath, stream: int) -> bool:
    """Whether a video is transport streams joined together of which nothing is missing. stream: the number of the video's.

    FFmpeg marks the last packet of each as damaged, because the packet counters start again.
    """
    status = os.stat(video)
    return _is_joined_whole(Path(video).absolute(), stream, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)  # every read of frames meets the marked packets again, and this reads the whole file
def _is_joined_whole(video: Path, stream: int, file_size: int, mtime: int) -> bool:
    with video.open("rb") as file:
        size = _packet_size(file) if file.read(1)[0] == _SYNC else None
        if size is None or file_size < size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            packets = np.frombuffer(content, np.uint8, len(content) // size * size).reshape(-1, size)
            whole = bool((packets[:, 0] == _SYNC).all()) and _jumps_are_joints(packets, stream)
            del packets  # it would keep the file mapped
    return whole


def _jumps_are_joints(packets: np.ndarray, stream: int) -> bool:
    """packets: (P, bytes) uint8. At a joint an image starts, and either the clock jumps, or there is a table of contents
    and the counters are those with which the file starts."""
    numbers = (packets[:, 1].astype(int) & 31) << 8 | packets[:, 2]
    tables, images = (np.flatnonzero((numbers == number) & (packets[:, 3] & 16 > 0)) for number in (0, stream))
    counters = packets[:, 3] & 15
    if not len(tables) or (packets[images, 1] & 128).any():  # a bit for errors that the sender knew of
        return False
    jumps = np.flatnonzero(np.diff(counters[images].astype(int)) % 16 > 1) + 1  # 0: a packet sent twice
    starts = images[packets[images, 1] & 64 > 0]  # of images
    for before, after in zip(images[jumps - 1], images[jumps]):
        table = tables[np.searchsorted(tables, before):np.searchsorted(tables, after)][-1:]
        again = len(table) and counters[table[0]] == counters[tables[0]] and counters[after] == counters[images[0]]
        previous = starts[max(np.searchsorted(starts, after) - 1, 0)]
        step = (_clock(packets[after]) - _clock(packets[previous])) / _CLOCK_RATE
        if not packets[after, 1] & 64 or not (again or step < -_CLOCK_JUMP or step > _CLOCK_JUMP):
            return False
    return len(jumps) > 0


def _clock(packet: np.ndarray) -> int:
    """The presentation time of an image that starts in this packet, in units of 1/_CLOCK_RATE s; 0 if it has none."""
    data = packet.tobytes()
    head = data[4 + (1 + data[4] if data[3] & 32 else 0):][:14]
    if len(head) < 14 or head[:3] != b"\0\0\1" or not head[7] & 128:
        return 0
    return (head[9] >> 1 & 7) << 30 | head[10] << 22 | (head[11] >> 1) << 15 | head[12] << 7 | head[13] >> 1
