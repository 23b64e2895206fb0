"""Sources of a stream: a camera, a video file, a directory of frames, or a network address.

A source yields its frames in order, each with its time; `FrameSelector` selects those that the model gets.
"""
import glob
import logging
import math
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Callable, Generator, NamedTuple, Optional, Protocol
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError
from ops.video import opencv_log
from ops.video.container_ends import BrokenVideo, missing_bytes
from ops.video.decode import frame_image, is_damaged, open_video, upright_size, video_stream
from ops.video.discovery import IMAGE_SUFFIXES, is_image_name
from ops.video.frame_times import FrameClock
from ops.video.frames import read_image

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt")
TIMEOUT = 10.0  # seconds without a byte from an address
TOLERANCE = 0.1  # of the model's frame period: cameras jitter, and containers round their time stamps


class SourceFrame(NamedTuple):
    """A frame of a source. read: decodes it into an upright RGB image.

    time: seconds since the source's first frame; None for a live frame, whose time is now.
    """
    read: Callable[[], Image.Image]
    time: Optional[float]


Frames = Generator[SourceFrame, None, None]


class Source(Protocol):
    def frames(self) -> Frames:
        """Every frame from now on, in order. UserError if there are none, or if they stop before the end."""
        ...


def open_source(name: str, directory_rate: float) -> Source:
    """The source of this name: webcam, webcam:N, a path or a URL. It is opened when its frames are asked for.

    directory_rate: frames per second of a directory of frames.
    """
    if camera := re.fullmatch(r"webcam(?::(\d+))?|/dev/video(\d+)", name):
        return Camera(int(camera[1] or camera[2] or 0))
    if "://" in name:
        return Address(name)
    path = Path(name)
    if os.path.isdir(path):
        return Directory(path, directory_rate)
    if not os.path.exists(path):  # Path.exists() raises if a directory above cannot be read
        raise UserError(f"no such source: {name}: choose webcam, webcam:N, a video file, a directory of frames, or an"
                        " rtsp:// or http:// address")
    return VideoFile(path)


class Camera:
    """A camera of this machine, by its number, read with OpenCV."""

    def __init__(self, index: int) -> None:
        self.index = index

    def frames(self) -> Frames:
        # A missing camera is reported by our own message alone.
        opencv_log.set_log_level(opencv_log.SILENT)
        device = cv2.VideoCapture(self.index, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        try:
            if not device.isOpened():
                cameras = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
                raise UserError(f"webcam:{self.index} cannot be opened; cameras of this machine: {cameras}")
            device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # only the newest frame is useful
            while True:
                success, bgr = device.read()
                if not success:
                    raise UserError(f"webcam:{self.index} delivers no more frames: is it still plugged in?")
                yield SourceFrame(partial(_rgb_image, bgr), None)
        finally:
            device.release()


def _rgb_image(bgr: np.ndarray) -> Image.Image:
    """OpenCV decodes to BGR."""
    return Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


class Directory:
    """The images in a directory, in natural order of their names (2.jpg before 10.jpg)."""

    def __init__(self, path: Path, rate: float) -> None:
        self.rate = rate
        try:
            self.files = sorted((path / name for name in os.listdir(path) if is_image_name(name)), key=_natural_key)
        except OSError as error:
            raise UserError(f"cannot read the directory {path}: {error.strerror or error}") from None
        if not self.files:
            raise UserError(f"{path}: no frames in this directory; its files must end in {', '.join(IMAGE_SUFFIXES)}")

    def frames(self) -> Frames:
        for number, file in enumerate(self.files):
            yield SourceFrame(partial(read_image, file), number / self.rate)


def _natural_key(path: Path) -> list:
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"(\d+)", path.name))]


class VideoFile:
    """A video file, timed by its time stamps. A truncated file yields the frames it has, and then raises its error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def frames(self) -> Frames:
        try:
            missing = missing_bytes(self.path)
            with open_video(self.path) as container:
                yield from _timed_frames(container, str(self.path), self.path)
        except BrokenVideo as error:
            raise UserError(f"{self.path}: {error}") from None
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read as a video: {error.strerror or error}") from None
        if missing:
            raise UserError(f"{self.path}: truncated: the last {missing} bytes of the file are missing")


class Address:
    """A network address: a file with time stamps if its duration is known, otherwise a live stream."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise UserError(f"an address must start with {'://, '.join(SCHEMES)}://, not with {parts.scheme}://")
        self.url = url
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # no password in messages

    def frames(self) -> Frames:
        logging.getLogger("libav").setLevel(logging.CRITICAL)  # PyAV 17 logs what our own message says
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer"} if self.url.startswith("rtsp") else {}
        try:
            with av.open(self.url, timeout=TIMEOUT, options=options) as container:
                live = container.duration is None
                yield from (_live_frames if live else _timed_frames)(container, self.name)
                if live:
                    raise UserError(f"{self.name}: the stream ended")
        except BrokenVideo as error:
            raise UserError(f"{self.name}: {error}") from None
        except av.error.ExitError:
            raise UserError(f"{self.name}: no data for {TIMEOUT:g} seconds") from None
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None


def _live_frames(container: av.container.InputContainer, name: str) -> Frames:
    """Frames timed by their arrival, because many cameras send arbitrary time stamps."""
    scaler = VideoReformatter()
    for packet in container.demux(video_stream(container)):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # data was lost on the way; the next key frame recovers
        for frame in frames:
            yield SourceFrame(partial(_to_image, frame, scaler, name), None)


def _timed_frames(container: av.container.InputContainer, name: str, file: Optional[Path] = None) -> Frames:
    """A file's frames, each at its presentation time. file: if it is on this machine. BrokenVideo if it is damaged."""
    stream, scaler = video_stream(container), VideoReformatter()
    clock, count = FrameClock(float(1 / stream.average_rate) if stream.average_rate else 0.04), 0
    for packet in container.demux(stream):
        damaged = packet.is_corrupt if file is None else is_damaged(packet, file)
        for frame in [] if damaged else packet.decode():
            if frame.is_corrupt:
                raise BrokenVideo(f"frame {count + 1} is damaged")
            count += 1
            decoded = None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)
            yield SourceFrame(partial(_to_image, frame, scaler, name), clock.time(frame.time, decoded))
        if damaged:
            raise BrokenVideo(f"truncated or damaged after frame {count}")
    if not count:
        raise BrokenVideo("no frame could be decoded")


def _to_image(frame: av.VideoFrame, scaler: VideoReformatter, name: str) -> Image.Image:
    """The frame as an upright RGB image. UserError if it cannot be converted. name: of its source."""
    try:
        return frame_image(frame, upright_size(frame, 0), scaler)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{name}: a frame cannot be converted to an image:"
                        f" {getattr(error, 'strerror', None) or error}") from None


class FrameSelector:
    """Selects the model's frames: of each period of 1/rate seconds, the first frame that a source has in it."""

    def __init__(self, rate: float) -> None:
        self.rate, self.last = rate, -1

    def due(self, seconds: float) -> bool:
        """Whether the model gets the frame at this time. Times must not decrease from call to call."""
        period = math.floor(seconds * self.rate + TOLERANCE)
        due = period > self.last
        self.last = max(period, self.last)
        return due
