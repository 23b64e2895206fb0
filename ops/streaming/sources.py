"""Where a stream's images come from: a camera, a video file, a directory of frames or an address.

A source gives its images in order, each with its time; `Ticks` says which of them are the model's.
"""
import glob
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
from ops.video.decode import BrokenVideo, frame_image, missing_bytes, open_video, upright_size, video_stream
from ops.video.discovery import IMAGE_SUFFIXES, is_image_name
from ops.video.frames import read_image

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt")
TIMEOUT = 10.0  # seconds without a byte from an address
EARLY = 0.1  # of a period: cameras jitter and containers round their time stamps


class Shot(NamedTuple):
    """An image as its source gives it. read: makes the RGB image.

    time: seconds since the source's first one; None: it is live, its time is now.
    """
    read: Callable[[], Image.Image]
    time: Optional[float]


Shots = Generator[Shot, None, None]


class Source(Protocol):
    def shots(self) -> Shots:
        """Every image from now on, in order. UserError when there are none, or no more and that is no end."""
        ...


def open_source(text: str, folder_rate: float) -> Source:
    """The source that SOURCE names; nothing is opened yet. folder_rate: frames per second of a directory of frames."""
    if camera := re.fullmatch(r"webcam(?::(\d+))?|/dev/video(\d+)", text):
        return Camera(int(camera[1] or camera[2] or 0))
    if "://" in text:
        return Address(text)
    path = Path(text)
    if os.path.isdir(path):
        return Directory(path, folder_rate)
    if not os.path.exists(path):  # Path.exists() raises where a directory above cannot be read
        raise UserError(f"no such source: {text}: choose webcam, webcam:N, a video file, a directory of frames, or an"
                        " rtsp:// or http:// address")
    return VideoFile(path)


class Camera:
    """A camera of this machine by its number, through OpenCV."""

    def __init__(self, index: int) -> None:
        self.index = index

    def shots(self) -> Shots:
        # A camera that is not there is told in our words alone.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        device = cv2.VideoCapture(self.index, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        try:
            if not device.isOpened():
                there = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
                raise UserError(f"webcam:{self.index} cannot be opened; cameras of this machine: {there}")
            device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # older images are of no use
            while True:
                got, bgr = device.read()
                if not got:
                    raise UserError(f"webcam:{self.index} gives no more images: is it still plugged in?")
                yield Shot(partial(_rgb_image, bgr), None)
        finally:
            device.release()


def _rgb_image(bgr: np.ndarray) -> Image.Image:
    """OpenCV's images are BGR."""
    return Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


class Directory:
    """The images in a directory, in the order of their names with numbers counted (2.jpg before 10.jpg)."""

    def __init__(self, path: Path, rate: float) -> None:
        self.rate = rate
        try:
            self.files = sorted((path / name for name in os.listdir(path) if is_image_name(name)), key=_natural)
        except OSError as error:
            raise UserError(f"cannot read the directory {path}: {error.strerror or error}") from None
        if not self.files:
            raise UserError(f"{path}: no frames in this directory; its files must end in {', '.join(IMAGE_SUFFIXES)}")

    def shots(self) -> Shots:
        for number, file in enumerate(self.files):
            yield Shot(partial(read_image, file), number / self.rate)


def _natural(path: Path) -> list:
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"(\d+)", path.name))]


class VideoFile:
    """A video file by its own time stamps; a file that is cut off gives what is there, and then its error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shots(self) -> Shots:
        try:
            missing = missing_bytes(self.path)
            with open_video(self.path) as container:
                yield from _decode(container, str(self.path))
        except BrokenVideo as error:
            raise UserError(f"{self.path}: {error}") from None
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read as a video: {error.strerror or error}") from None
        if missing:
            raise UserError(f"{self.path}: truncated: the last {missing} bytes of the file are missing")


class Address:
    """A network address. One that knows its length is a file with a clock of its own; any other one is live."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise UserError(f"an address begins with {'://, '.join(SCHEMES)}://, not with {parts.scheme}://")
        self.url = url
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # no password in messages

    def shots(self) -> Shots:
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer"} if self.url.startswith("rtsp") else {}
        try:
            with av.open(self.url, timeout=TIMEOUT, options=options) as container:
                live = container.duration is None
                yield from _receive(container, self.name) if live else _decode(container, self.name)
                if live:
                    raise UserError(f"{self.name}: the stream ended")
        except BrokenVideo as error:
            raise UserError(f"{self.name}: {error}") from None
        except av.error.ExitError:
            raise UserError(f"{self.name}: no answer for {TIMEOUT:g} seconds") from None
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None


def _receive(container: av.container.InputContainer, name: str) -> Shots:
    """Live images, timed as they arrive: many cameras' own time stamps are made up."""
    scaler = VideoReformatter()
    for packet in container.demux(video_stream(container)):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # something was lost on the way: the next key frame mends it
        for frame in frames:
            yield Shot(partial(_read, frame, scaler, name), None)


def _decode(container: av.container.InputContainer, name: str) -> Shots:
    """A file's images, each at its time of showing. BrokenVideo where the file is damaged."""
    stream, scaler = video_stream(container), VideoReformatter()
    period = float(1 / stream.average_rate) if stream.average_rate else 0.04
    count, first, last = 0, None, -period
    for packet in container.demux(stream):
        for frame in [] if packet.is_corrupt else packet.decode():
            if frame.is_corrupt:
                raise BrokenVideo(f"frame {count + 1} is damaged")
            stamp = frame.time if frame.time is not None else (first or 0.0) + last + period
            first = stamp if first is None else first
            count, last = count + 1, max(stamp - first, last)  # some files' clocks go back: ours does not
            yield Shot(partial(_read, frame, scaler, name), last)
        if packet.is_corrupt:
            raise BrokenVideo(f"truncated or damaged after frame {count}")
    if not count:
        raise BrokenVideo("no frame could be decoded")


def _read(frame: av.VideoFrame, scaler: VideoReformatter, name: str) -> Image.Image:
    """The frame as an upright RGB image. UserError where it cannot become one. name: of its source."""
    try:
        return frame_image(frame, upright_size(frame, 0), scaler)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{name}: a frame cannot be made into an image:"
                        f" {getattr(error, 'strerror', None) or error}") from None


class Ticks:
    """Which images of a source are the model's: the first one from each tick on, of `rate` per second."""

    def __init__(self, rate: float) -> None:
        self.rate, self.last = rate, -1

    def due(self, seconds: float) -> bool:
        """Whether the image at this time, which must not go back, is the model's."""
        tick = math.floor(seconds * self.rate + EARLY)
        due = tick > self.last
        self.last = max(tick, self.last)
        return due
