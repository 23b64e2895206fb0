"""Read frames of a video by decoding it from its beginning; requests that go forward in one video decode it once."""
import os
import threading
from contextlib import closing
from typing import Iterable, Optional

import av

from ops.common.files import AnyPath
from ops.video.decode import decoded_frames

_KEPT_BYTES = 128 << 20  # of decoded frames, for requests that overlap the one before
_here = threading.local()  # .reader: of this thread's last request


class _Reader:
    """Decodes a video and keeps the frames from the start of the last request on. key: of the file, in this process."""

    def __init__(self, path: AnyPath, key: tuple) -> None:
        self.key, self.frames = key, decoded_frames(path)
        self.decoded = 0  # number of the last decoded frame
        self.kept: dict[int, av.VideoFrame] = {}

    def reaches(self, first: int) -> bool:
        """Whether the frames from this one on are kept or still to come."""
        return first > self.decoded or first in self.kept

    def read(self, wanted: set[int]) -> dict[int, av.VideoFrame]:
        """The frames of these numbers; those after the end are left out."""
        first, last = min(wanted), max(wanted)
        self.kept = {number: frame for number, frame in self.kept.items() if number >= first}
        found = {number: self.kept[number] for number in wanted & self.kept.keys()}
        size = sum(map(_bytes, self.kept.values()))
        while self.decoded < last and (frame := next(self.frames, None)) is not None:
            self.decoded += 1
            if self.decoded in wanted:
                found[self.decoded] = frame
            if self.decoded >= first:
                self.kept[self.decoded], size = frame, size + _bytes(frame)
            while size > _KEPT_BYTES:
                size -= _bytes(self.kept.pop(min(self.kept)))
        return found


def _bytes(frame: av.VideoFrame) -> int:
    return sum(plane.buffer_size for plane in frame.planes)


def read_forward(path: AnyPath, numbers: Iterable[int], count: int) -> dict[int, av.VideoFrame]:
    """The frames of these 1-based numbers of a video of `count`. Raises BrokenVideo, OSError.

    Windows of a long video, one after the other, decode it once. A request that spans most of a video, as for training,
    keeps nothing in memory.
    """
    wanted, status = set(numbers), os.stat(path)
    # A process forked from this one would share its place in the open file.
    key = (os.getpid(), os.path.abspath(path), status.st_size, status.st_mtime_ns)
    reader: Optional[_Reader] = getattr(_here, "reader", None)
    _here.reader = None  # also if this request fails
    if reader is None or reader.key != key or not reader.reaches(min(wanted)):
        reader = _Reader(path, key)
    if max(wanted) - min(wanted) < count // 2:
        found = reader.read(wanted)
        _here.reader = reader
        return found
    with closing(reader.frames):  # type: ignore[type-var]
        return reader.read(wanted)
