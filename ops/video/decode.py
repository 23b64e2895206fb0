"""Read video files through PyAV: every frame in order, upright, in the video's own colors, or the reason for a failure.

Sample aspect ratios other than 1 are not applied (published behaviour: frames keep the stored shape).
"""
import os
import struct
from typing import Any, Iterator, Optional

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.files import AnyPath
from ops.video.container_ends import BrokenVideo, is_joined_whole, missing_bytes

# swscale's BICUBIC | FULL_CHR_H_INT | ACCURATE_RND (PyAV names the last two only from version 18 on). Without
# FULL_CHR_H_INT, RGB takes the nearest color sample: up to 11 dB worse.
SCALING = 0x4 | 0x2000 | 0x40000
# Real containers only: a playlist (HLS, concat) would read the frames of another file.
_CONTAINERS = "mov,mp4,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,asf,ogg,gif,m4v,h264,hevc,ivf"
_UPRIGHT = {  # a display matrix in unit steps, x to the right and y down: (xx, xy, yx, yy) -> PIL's operation
    (0, 1, -1, 0): Image.Transpose.ROTATE_270, (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90, (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM, (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_SIDEWAYS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE,
             Image.Transpose.TRANSVERSE)


def open_video(video: AnyPath, *, stored_stamps: bool = False) -> av.container.InputContainer:
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


def decoded_frames(video: AnyPath) -> Iterator[av.VideoFrame]:
    """Every frame of `video` in display order. Raises BrokenVideo, possibly midway, if it is truncated or damaged."""
    count = 0
    try:
        if missing := missing_bytes(video):
            raise BrokenVideo(f"truncated: the last {missing} bytes of the file are missing")
        with open_video(video) as container:
            for packet in container.demux(video_stream(container)):
                if is_damaged(packet, video):
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


def is_damaged(packet: av.Packet, video: AnyPath) -> bool:
    """Whether a packet of this file is truncated or damaged."""
    return packet.is_corrupt and not is_joined_whole(video, packet.stream.id)


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
