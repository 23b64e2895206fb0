"""The packets that make each frame of a video file: scanned once per file, then cached in memory and on disk.

Frames are numbered in display order, as `ops.prepare.extract` numbers the files that it writes, so an index means the
same frame in a directory and in the video that it was extracted from.
"""
import hashlib
import json
import logging
import mmap
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional

import av
import numpy as np

from ops.common.files import CannotWrite, atomic_write, cache_directory
from ops.video.decode import BrokenVideo, decoded_frames, missing_bytes, open_video, video_stream

log = logging.getLogger(__name__)

_VERSION = 1  # of the cached form
_KEY, _SHOWN = 1, 2
_PADDING = 64  # bytes, FFmpeg's AV_INPUT_BUFFER_PADDING_SIZE
_COLORS = ("color_primaries", "color_trc", "colorspace", "color_range")
# Decoders that return one frame for each shown packet. For other codecs the frames are counted by decoding.
_ONE_TO_ONE = {"h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4"}


class Codec(NamedTuple):
    """What a decoder needs to decode the file's bytes without the container. colors: the values of _COLORS."""
    name: str
    extradata: bytes
    colors: tuple[int, ...]

    def decoder(self) -> av.VideoCodecContext:
        """A new decoder, on one thread."""
        # strict: hold back as many frames as the standard allows, so that none is returned too early and lost.
        context = av.CodecContext.create(self.name, "r")
        assert isinstance(context, av.VideoCodecContext)
        context.options = {"strict": "strict"}
        context.thread_type, context.thread_count = "NONE", 1
        if self.extradata:
            # Decoders read past its end. The setter keeps the bytes that were there, so zeros are set first.
            context.extradata = self.extradata + bytes(_PADDING)
            context.extradata = self.extradata
        for name, value in zip(_COLORS, self.colors):
            setattr(context, name, value)
        return context


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video file.

    count: number of frames. packets: (P, 4) int64 in the file's order: time stamp, flags, offset in the file, bytes.
    Without packets (P = 0), frames are found by decoding from the beginning and counting. codec: None if the packets
    must be read through the container.
    """
    count: int
    packets: np.ndarray
    codec: Optional[Codec] = None

    @cached_property
    def order(self) -> np.ndarray:
        """(count,) the packet of each frame."""
        shown = np.flatnonzero(self.packets[:, 1] & _SHOWN)
        return shown[np.argsort(self.packets[shown, 0], kind="stable")]

    @cached_property
    def numbers(self) -> dict[int, int]:
        """Time stamp -> packet."""
        return {int(stamp): packet for packet, stamp in enumerate(self.packets[:, 0])}

    def key_before(self, packet: int) -> int:
        """The packet at which decoding must start for `packet`'s frame: the last key frame stored and shown before it.

        Frames that are shown before a key frame but stored after it depend on the key frame before that one (open GOP).
        """
        earlier = self.packets[:packet + 1]
        return int(np.flatnonzero((earlier[:, 1] & _KEY > 0) & (earlier[:, 0] <= earlier[-1, 0]))[-1])


def frame_index(video: Path) -> FrameIndex:
    """The index of a video file. Raises BrokenVideo (truncated, no video, ...) or OSError (absent, unreadable)."""
    status = video.stat()
    return _frame_index(os.path.abspath(video), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _frame_index(video: str, size: int, mtime: int) -> FrameIndex:
    file = _cache_file(video, size, mtime)
    index = _read(file)
    if index is None:
        index = scan(Path(video))
        _write(file, index)
    return index


def recount(video: Path) -> FrameIndex:
    """The index by decoding every frame, for a file whose packets turned out to be wrong; replaces the cached index."""
    index = _count(video)
    status = video.stat()
    _write(_cache_file(os.path.abspath(video), status.st_size, status.st_mtime_ns), index)
    _frame_index.cache_clear()
    return index


# ---- scanning ------------------------------------------------------------------------------------------------

def scan(video: Path) -> FrameIndex:
    """Index a file by its packets' time stamps, or by decoding it where the time stamps do not determine the frames."""
    if missing := missing_bytes(video):
        raise BrokenVideo(f"truncated: the last {missing} bytes of the file are missing")
    try:
        index = _scan_packets(video)
    except (av.FFmpegError, OSError) as error:
        raise BrokenVideo(f"cannot be read as a video: {error.strerror or error}") from None
    return index or _count(video)


def _count(video: Path) -> FrameIndex:
    return FrameIndex(sum(1 for _ in decoded_frames(video)), np.zeros((0, 4), np.int64))


def _scan_packets(video: Path) -> Optional[FrameIndex]:
    """The index from the packets alone; None if they do not determine the frames."""
    with open_video(video) as container, video.open("rb") as file, \
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        stream = video_stream(container)
        codec = stream.codec_context.name
        rows, first = [], None
        for packet in container.demux(stream):
            if packet.size:
                first = first or packet
                rows.append((packet.pts, _flags(packet, codec), _offset(packet, content), packet.size))
        if codec not in _ONE_TO_ONE or first is None or any(row[0] is None for row in rows):
            return None
        packets = np.array(rows, np.int64)
        stamps = packets[:, 0]
        if not packets[0, 1] & _KEY or stamps[0] != stamps.min() or len(np.unique(stamps)) != len(stamps):
            return None
        alone = _decodes_alone(stream, first) if packets[:, 2].min() >= 0 else None
        return FrameIndex(int((packets[:, 1] & _SHOWN > 0).sum()), packets, alone)


def _flags(packet: av.Packet, codec: str) -> int:
    """Packets that an edit list removes, and VP8's alternate references, are decoded but not shown."""
    if packet.is_corrupt:
        raise BrokenVideo("truncated or damaged")
    hidden = packet.is_discard or codec == "vp8" and not bytes(packet)[0] >> 4 & 1
    return _KEY * packet.is_keyframe + _SHOWN * (not hidden)


def _offset(packet: av.Packet, content: mmap.mmap) -> int:
    """The position of the packet's bytes in the file; -1 if they are not in one piece, or change the decoder's settings."""
    has_sidedata = getattr(packet, "has_sidedata", lambda kind: False)
    if packet.pos is None or packet.pos < 0 or has_sidedata("new_extradata"):
        return -1
    data = bytes(packet)
    offset = content.find(data[:16], packet.pos, packet.pos + 64)  # after the container's own header
    return offset if offset >= 0 and content[offset:offset + len(data)] == data else -1


def _decodes_alone(stream: av.VideoStream, first: av.Packet) -> Optional[Codec]:
    """The Codec, if a decoder without the container decodes the same first frame; else None."""
    context = stream.codec_context
    codec = Codec(context.name, bytes(context.extradata or b""), tuple(int(getattr(context, c)) for c in _COLORS))
    alone = padded_packet(bytes(first))
    alone.pts = first.pts
    decoder = codec.decoder()
    theirs, ours = [c.decode(p) + c.decode(None) for c, p in ((context, first), (decoder, alone))]
    return codec if theirs and ours and _frame_key(theirs[0]) == _frame_key(ours[0]) else None


def padded_packet(data: bytes) -> av.Packet:
    """A packet of `data`, followed by the zeros that decoders read past its end (av.Packet(data) has none)."""
    packet = av.Packet(len(data))
    packet.update(data)
    return packet


def _frame_key(frame: av.VideoFrame) -> tuple:
    """Everything that a frame's image depends on."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return (frame.width, frame.height, frame.format.name, frame.pts, [int(getattr(frame, name)) for name in _COLORS],
            bytes(matrix or b""), frame.to_ndarray().tobytes())


# ---- the cache ------------------------------------------------------------------------------------------------

def _cache_file(video: str, size: int, mtime: int) -> Path:
    name = hashlib.sha256(f"{_VERSION}\0{video}\0{size}\0{mtime}".encode("utf-8", "surrogateescape")).hexdigest()
    return cache_directory() / "frame_index" / name[:2] / f"{name[2:34]}.idx"


def _read(file: Path) -> Optional[FrameIndex]:
    """The cached index; None if there is none or it is damaged."""
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        values = json.loads(head)
        packets = np.frombuffer(body, np.int64).reshape(values["packets"], 4)
        codec = values["codec"] and Codec(values["codec"][0], bytes.fromhex(values["codec"][1]),
                                          tuple(values["codec"][2]))
        index = FrameIndex(values["count"], packets, codec)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return index if not len(packets) or len(index.order) == index.count else None


def _write(file: Path, index: FrameIndex) -> None:
    codec = index.codec and [index.codec.name, index.codec.extradata.hex(), index.codec.colors]
    head = json.dumps({"count": index.count, "packets": len(index.packets), "codec": codec})
    try:
        with atomic_write(file, "wb") as f:
            f.write(head.encode() + b"\n" + index.packets.tobytes())
    except CannotWrite as error:  # a read-only or full disk: every run scans again
        log.debug("frame index not cached: %s", error)
