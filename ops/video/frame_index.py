"""The packets that make each frame of a video file: scanned once per file, then cached in memory and on disk.

Frames are numbered in display order, as `ops.prepare.extract` numbers the files that it writes, so an index means the
same frame in a directory and in the video that it was extracted from.
"""
import hashlib
import json
import logging
import mmap
import os
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ops.common.files import AnyPath, CannotWrite, atomic_write, cache_directory
from ops.video.bitstream import Unpredictable, packet_reader
from ops.video.container_ends import BrokenVideo, missing_bytes
from ops.video.decode import decoded_frames, frame_image, open_video, upright_size, video_stream
from ops.video.frame_times import display_times

log = logging.getLogger(__name__)

_VERSION = 4  # of the cached form; increased whenever older indices may be wrong
_KEY, _SHOWN = 1, 2
_PADDING = 64  # bytes, FFmpeg's AV_INPUT_BUFFER_PADDING_SIZE
_COLORS = ("color_primaries", "color_trc", "colorspace", "color_range")
_CHROMA_LOCATIONS = range(7)  # FFmpeg's AVChromaLocation: where color samples lie; 0: not said


class Codec(NamedTuple):
    """What a decoder needs to decode the file's bytes without the container.

    colors: the values of _COLORS. chroma: one of _CHROMA_LOCATIONS.
    """
    name: str
    extradata: bytes
    colors: tuple[int, ...]
    chroma: int = 0

    def decoder(self) -> av.VideoCodecContext:
        """A new decoder, on one thread."""
        # strict: hold back as many frames as the standard allows, so that none is returned too early and lost.
        context = av.CodecContext.create(self.name, "r")
        assert isinstance(context, av.VideoCodecContext)
        context.options = {"strict": "strict", "chroma_sample_location": str(self.chroma)}
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

    count: number of frames. times: (count + 1,) float64, the seconds from the first frame on at which each frame is
    shown, then the end of the last one; empty if the file does not hold them.
    packets: (P, 4) int64 in the file's order: time stamp, flags, offset in the file, bytes. Without packets (P = 0),
    frames are found by decoding from the beginning and counting. codec: None if the packets must be read through the
    container.
    """
    count: int
    packets: np.ndarray
    codec: Optional[Codec] = None
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))

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


def frame_index(video: AnyPath) -> FrameIndex:
    """The index of a video file. Raises BrokenVideo (truncated, no video, ...) or OSError (absent, unreadable)."""
    status = os.stat(video)
    return _frame_index(os.path.abspath(video), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _frame_index(video: str, size: int, mtime: int) -> FrameIndex:
    file = _cache_file(video, size, mtime)
    index = _read(file)
    if index is None:
        index = scan(Path(video))
        _write(file, index)
    return index


def recount(video: AnyPath) -> FrameIndex:
    """The index by decoding every frame, for a file whose packets turned out to be wrong; replaces the cached index."""
    index = _count(video)
    status = os.stat(video)
    _write(_cache_file(os.path.abspath(video), status.st_size, status.st_mtime_ns), index)
    _frame_index.cache_clear()
    return index


# ---- scanning ------------------------------------------------------------------------------------------------

def scan(video: AnyPath) -> FrameIndex:
    """Index a file by its packets, or by decoding it where the packets do not determine the frames."""
    if missing := missing_bytes(video):
        raise BrokenVideo(f"truncated: the last {missing} bytes of the file are missing")
    try:
        index = _scan_packets(video)
    except (av.FFmpegError, OSError) as error:
        raise BrokenVideo(f"cannot be read as a video: {error.strerror or error}") from None
    return index or _count(video)


def _count(video: AnyPath) -> FrameIndex:
    stamps = [(frame.pts, frame.dts, frame.duration) for frame in decoded_frames(video)]
    with open_video(video) as container:
        stream = video_stream(container)
        times = display_times(stamps, stream.time_base, stream.average_rate)
    return FrameIndex(len(stamps), np.zeros((0, 4), np.int64), times=times)


def _scan_packets(video: AnyPath) -> Optional[FrameIndex]:
    """The index from the packets alone; None if they do not determine the frames."""
    with open_video(video, stored_stamps=True) as container, open(video, "rb") as file, \
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        stream = video_stream(container)
        try:
            rows, orders, durations, first = _rows(container, stream, content)
        except Unpredictable:
            return None
        if first is None:
            return None
        packets = np.array(rows, np.int64)
        if not _tell_the_order(packets, orders):
            return None
        alone = _decodes_alone(stream, first) if packets[:, 2].min() >= 0 else None
        index = FrameIndex(int((packets[:, 1] & _SHOWN > 0).sum()), packets, alone)
        stamps = [(int(packets[packet, 0]), None, durations[packet]) for packet in index.order]
        return replace(index, times=display_times(stamps, stream.time_base, stream.average_rate))


_Rows = tuple[list[tuple[int, int, int, int]], list[int], list[int], Optional[av.Packet]]


def _rows(container: av.container.InputContainer, stream: av.VideoStream, content: mmap.mmap) -> _Rows:
    """(the rows of FrameIndex.packets, the packets' orders and durations, the first packet). Raises Unpredictable."""
    facts_of = packet_reader(stream.codec_context.name, bytes(stream.codec_context.extradata or b""))
    rows, orders, durations, first = [], [], [], None
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.is_corrupt:
            raise Unpredictable  # decoding tells what is wrong
        if packet.pts is None:  # AVI, ASF and others do not store when an image is shown
            raise Unpredictable
        data = bytes(packet)
        facts = facts_of(data, packet.is_keyframe)
        first = first or packet
        # Packets that an edit list removes, and VP8's alternate references, are decoded but not shown.
        flags = _KEY * (packet.is_keyframe and facts.starts) + _SHOWN * (facts.shown and not packet.is_discard)
        rows.append((packet.pts, flags, _offset(packet, data, content), packet.size))
        orders.append(facts.order)
        durations.append(packet.duration or 0)
    return rows, orders, durations, first


def _tell_the_order(packets: np.ndarray, orders: list[int]) -> bool:
    """Whether the time stamps agree with the order in which the decoder returns the frames.

    They do not in files that store none, such as AVIs, put into another container; nor in some that were cut or joined.
    """
    stamps, keys = packets[:, 0], packets[:, 1] & _KEY > 0
    if not keys[0] or stamps[0] != stamps.min() or len(np.unique(stamps)) != len(stamps):
        return False
    shown = np.flatnonzero(packets[:, 1] & _SHOWN)
    in_order = shown[np.argsort(np.array(orders)[shown], kind="stable")]
    return bool((np.diff(stamps[in_order]) > 0).all())


def _offset(packet: av.Packet, data: bytes, content: mmap.mmap) -> int:
    """The position of the packet's bytes in the file; -1 if they are not in one piece, or change the decoder's settings."""
    has_sidedata = getattr(packet, "has_sidedata", lambda kind: False)
    if packet.pos is None or packet.pos < 0 or has_sidedata("new_extradata"):
        return -1
    offset = content.find(data[:16], packet.pos, packet.pos + 64)  # after the container's own header
    return offset if offset >= 0 and content[offset:offset + len(data)] == data else -1


def _decodes_alone(stream: av.VideoStream, first: av.Packet) -> Optional[Codec]:
    """The Codec, if a decoder without the container decodes the same first frame; else None."""
    context = stream.codec_context
    frames = context.decode(first) + context.decode(None)
    theirs = _frame_key(frames[0]) if frames else None
    for chroma in _CHROMA_LOCATIONS:  # PyAV cannot be asked for the container's
        colors = tuple(int(getattr(context, name)) for name in _COLORS)
        codec = Codec(context.name, bytes(context.extradata or b""), colors, chroma)
        alone, decoder = padded_packet(bytes(first)), codec.decoder()
        alone.pts = first.pts
        frames = decoder.decode(alone) + decoder.decode(None)
        if frames and _frame_key(frames[0]) == theirs:
            return codec
    return None


def padded_packet(data: bytes) -> av.Packet:
    """A packet of `data`, followed by the zeros that decoders read past its end (av.Packet(data) has none)."""
    packet = av.Packet(len(data))
    packet.update(data)
    return packet


def _frame_key(frame: av.VideoFrame) -> tuple:
    """Everything that a frame's image depends on."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    samples = [_samples(frame, plane).tobytes() for plane in frame.planes]
    return frame.pts, frame.width, frame.height, frame.format.name, bytes(matrix or b""), samples, _image_of_noise(frame)


def _samples(frame: av.VideoFrame, plane: Any) -> np.ndarray:
    """The bytes of a plane without the padding of its lines. (PyAV's to_ndarray refuses odd sizes and some formats.)"""
    width = plane.width * (1 + (_bits(frame) > 8))
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:plane.height, :width]


def _image_of_noise(frame: av.VideoFrame) -> bytes:
    """The image of noise in place of the frame's content, which it overwrites: it shows all settings of the conversion.

    PyAV does not name all of them (where color samples lie), and a frame of one color looks the same whatever they are.
    """
    rng, bits = np.random.default_rng(0), _bits(frame)
    for plane in frame.planes:
        wide = bits > 8
        plane.update(rng.integers(0, 1 << bits, plane.buffer_size >> wide, np.uint16 if wide else np.uint8).tobytes())
    return frame_image(frame, upright_size(frame, 0), VideoReformatter()).tobytes()


def _bits(frame: av.VideoFrame) -> int:
    return max(component.bits for component in frame.format.components)


# ---- the cache ------------------------------------------------------------------------------------------------

def _cache_file(video: str, size: int, mtime: int) -> Path:
    name = hashlib.sha256(f"{_VERSION}\0{video}\0{size}\0{mtime}".encode("utf-8", "surrogateescape")).hexdigest()
    return cache_directory() / "frame_index" / name[:2] / f"{name[2:34]}.idx"


def _read(file: Path) -> Optional[FrameIndex]:
    """The cached index; None if there is none or it is damaged."""
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        values = json.loads(head)
        size = 32 * values["packets"]
        packets = np.frombuffer(body[:size], np.int64).reshape(values["packets"], 4)
        times = np.frombuffer(body[size:], np.float64)
        codec = values["codec"] and Codec(values["codec"][0], bytes.fromhex(values["codec"][1]),
                                          tuple(values["codec"][2]), values["codec"][3])
        index = FrameIndex(values["count"], packets, codec, times)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    whole = len(times) in (0, index.count + 1) and (not len(packets) or len(index.order) == index.count)
    return index if whole else None


def _write(file: Path, index: FrameIndex) -> None:
    codec = index.codec and [index.codec.name, index.codec.extradata.hex(), index.codec.colors,
                             index.codec.chroma]
    head = json.dumps({"count": index.count, "packets": len(index.packets), "codec": codec})
    try:
        with atomic_write(file, "wb") as f:
            f.write(head.encode() + b"\n" + index.packets.tobytes() + index.times.tobytes())
    except CannotWrite as error:  # a read-only or full disk: every run scans again
        log.debug("frame index not cached: %s", error)
