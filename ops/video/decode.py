"""Read video files through PyAV: every frame in order, upright, in the video's own colors, or the reason for a failure.

Sample aspect ratios other than 1 are not applied (published behaviour: frames keep the stored shape).
"""
import os
import stat
import struct
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Optional

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError

# swscale's BICUBIC | FULL_CHR_H_INT | ACCURATE_RND (PyAV names the last two only from version 18 on). Without
# FULL_CHR_H_INT, RGB takes the nearest color sample: up to 11 dB worse.
SCALING = 0x4 | 0x2000 | 0x40000
# Real containers only: a playlist (HLS, concat) would read the frames of another file.
_CONTAINERS = "mov,mp4,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,asf,ogg,gif,m4v,h264,hevc,ivf"
_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"styp", b"free", b"skip", b"wide", b"uuid"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # the first and second element of a Matroska file
_UPRIGHT = {  # a display matrix in unit steps, x to the right and y down: (xx, xy, yx, yy) -> PIL's operation
    (0, 1, -1, 0): Image.Transpose.ROTATE_270, (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90, (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM, (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_SIDEWAYS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE,
             Image.Transpose.TRANSVERSE)


class BrokenVideo(UserError):
    """A video that cannot be read completely; the text is the reason, without the file's name."""


def open_video(video: Path, *, stored_stamps: bool = False) -> av.container.InputContainer:
    """Open a video file for reading with PyAV. The name is never read as a URL, nor the file as a playlist.

    stored_stamps: packets have only the time stamps that the file stores; FFmpeg invents none (for AVI, it invents wrong
    ones).
    """
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    if stored_stamps:
        options["fflags"] = "nofillin"
    return av.open(os.path.abspath(video), metadata_errors="replace", options=options)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The video stream (not a cover image), set to decode on one thread. Raises BrokenVideo if there is none."""
    streams = [stream for stream in container.streams.video if stream.codec_context and not _is_cover(stream)]
    if not streams:
        raise BrokenVideo("it has no video stream that can be decoded")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the callers run one process per core
    return stream


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def decoded_frames(video: Path) -> Iterator[av.VideoFrame]:
    """Every frame of `video` in display order. Raises BrokenVideo, possibly midway, if it is truncated or damaged."""
    count = 0
    try:
        if missing := missing_bytes(video):
            raise BrokenVideo(f"truncated: the last {missing} bytes of the file are missing")
        with open_video(video) as container:
            for packet in container.demux(video_stream(container)):
                if packet.is_corrupt:
                    raise BrokenVideo(f"truncated or damaged after frame {count}")
                for frame in packet.decode():
                    count += 1
                    if frame.is_corrupt:  # the decoder filled in what it could not read
                        raise BrokenVideo(f"frame {count} is damaged")
                    yield frame
    except (av.FFmpegError, OSError) as error:
        where = f"cannot be decoded after frame {count}" if count else "cannot be read as a video"
        raise BrokenVideo(f"{where}: {error.strerror or error}") from None
    if not count:
        raise BrokenVideo("no frame could be decoded")


def upright_size(frame: av.VideoFrame, height: int) -> tuple[int, int]:
    """(width, height) of the upright frame, scaled to `height` pixels (0: as stored) with its aspect ratio."""
    width, own_height = frame.width, frame.height
    if _orientation(frame) in _SIDEWAYS:
        width, own_height = own_height, width
    if not height:
        return width, own_height
    return max(1, (2 * width * height + own_height) // (2 * own_height)), height  # rounds, as ffmpeg's scale=-1:H


def frame_image(frame: av.VideoFrame, size: tuple[int, int], scaler: VideoReformatter) -> Image.Image:
    """The frame as an upright RGB image of `size` (width, height). scaler: one per video, since it caches tables."""
    orientation = _orientation(frame)
    width, height = reversed(size) if orientation in _SIDEWAYS else size
    # Planes of green, blue and red: swscale has vector code for them and needs twice as long for packed RGB.
    scaled = scaler.reformat(frame, width, height, "gbrp", interpolation=SCALING, threads=1)
    green, blue, red = (_plane_image(plane, (width, height)) for plane in scaled.planes)
    image = Image.merge("RGB", (red, green, blue))
    return image if orientation is None else image.transpose(orientation)


def _plane_image(plane: Any, size: tuple[int, int]) -> Image.Image:
    pixels: Any = memoryview(plane)
    return Image.frombuffer("L", size, pixels, "raw", "L", plane.line_size, 1)


def _orientation(frame: av.VideoFrame) -> Optional[Image.Transpose]:
    """The operation that makes the frame upright, from its display matrix (phones write one); None if it is upright."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    xx, xy, _, yx, yy = struct.unpack_from("=5i", bytes(matrix))
    largest = max(abs(xx), abs(xy), abs(yx), abs(yy), 1)
    return _UPRIGHT.get((round(xx / largest), round(xy / largest), round(yx / largest), round(yy / largest)))


def missing_bytes(video: Path) -> int:
    """The bytes that are missing at the end of the file, by the lengths that its container states (0: none or unknown).

    FFmpeg reads a truncated Matroska or AVI file as a shorter one, so the outermost lengths are checked here.
    Raises BrokenVideo for an empty file or one that is not regular (a pipe would block), OSError if unreadable.
    """
    status = video.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BrokenVideo("it is not a regular file")
    if not status.st_size:
        raise BrokenVideo("the file is empty")
    with video.open("rb") as file:
        start = file.read(4)
        end_of = _matroska_end if start == _EBML else _riff_end if start == b"RIFF" else _mp4_end
        return max(0, end_of(file, status.st_size) - status.st_size)


def _mp4_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind, long_length = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = long_length if length == 1 else length
        if length < 8 or kind not in _MP4_BOXES:  # 0: "to the end of the file"; otherwise not MP4, or trailing garbage
            return size
        position += length
    return position


def _riff_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:  # files over 1 GB hold several RIFF chunks
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or not length:
            return size
        position += 8 + length + length % 2
    # Some writers count the header twice; 8 missing bytes concern only the index.
    return position if position > size + 8 else size


def _matroska_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(12).ljust(12, b"\0")
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
