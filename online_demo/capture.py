"""Where pictures come from, and how they reach the model: a camera, a file, a folder or an address, on its own thread.

A source gives its pictures in order, each with its time. `Capture` reads it on a thread into a mailbox for one
picture. Live sources (and files played in real time) overwrite what nobody has taken, so the model always gets the
newest picture, memory stays bounded and no delay builds up; other sources wait, so no picture is lost.
"""
import glob
import logging
import math
import re
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Callable, Generator, NamedTuple, Optional, Protocol
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.errors import UserError
from ops.frame_sources import read_image
from ops.video_reading import BrokenVideo, frame_image, missing_bytes, open_video, upright_size, video_stream

log = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
TIMEOUT = 10.0  # seconds without a byte from an address
RETRY = 2.0  # seconds between two attempts to reconnect
EARLY = 0.1  # of a period: cameras jitter and containers round their time stamps


class Shot(NamedTuple):
    """A picture as its source gives it. read: makes the RGB image.

    time: seconds since the source's first one; None: it is live, its time is now.
    """
    read: Callable[[], Image.Image]
    time: Optional[float]


Shots = Generator[Shot, None, None]


class Source(Protocol):
    def shots(self) -> Shots:
        """Every picture from now on, in order. UserError when there are none, or no more and that is no end."""
        ...


# ---- sources ------------------------------------------------------------------------------------------------

def open_source(text: str, folder_rate: float) -> Source:
    """The source that SOURCE names; nothing is opened yet. folder_rate: frames per second of a folder of frames."""
    if camera := re.fullmatch(r"webcam(?::(\d+))?|/dev/video(\d+)", text):
        return Camera(int(camera[1] or camera[2] or 0))
    if "://" in text:
        return Address(text)
    path = Path(text)
    if path.is_dir():
        return Folder(path, folder_rate)
    if not path.exists():
        raise UserError(f"no such source: {text}: choose webcam, webcam:N, a video file, a folder of frames, or an"
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
            device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # older pictures are of no use
            while True:
                got, bgr = device.read()
                if not got:
                    raise UserError(f"webcam:{self.index} gives no more pictures: is it still plugged in?")
                yield Shot(partial(_rgb_image, bgr), None)
        finally:
            device.release()


def _rgb_image(bgr: np.ndarray) -> Image.Image:
    """OpenCV's pictures are BGR."""
    return Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


class Folder:
    """The pictures in a folder, in the order of their names with numbers counted (2.jpg before 10.jpg)."""

    def __init__(self, path: Path, rate: float) -> None:
        self.rate = rate
        self.files = sorted((file for file in path.iterdir() if file.suffix.lower() in PICTURES), key=_natural)
        if not self.files:
            raise UserError(f"{path}: no frames in this folder; its files must end in {', '.join(PICTURES)}")

    def shots(self) -> Shots:
        for number, file in enumerate(self.files):
            yield Shot(partial(read_image, file), number / self.rate)


def _natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


class VideoFile:
    """A video file by its own time stamps; a file that is cut off gives what is there, and then its error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shots(self) -> Shots:
        try:
            missing = missing_bytes(self.path)
            with open_video(self.path) as container:
                yield from _decode(container)
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
                yield from _receive(container) if live else _decode(container)
                if live:
                    raise UserError(f"{self.name}: the stream ended")
        except BrokenVideo as error:
            raise UserError(f"{self.name}: {error}") from None
        except av.error.ExitError:
            raise UserError(f"{self.name}: no answer for {TIMEOUT:g} seconds") from None
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None


def _receive(container: av.container.InputContainer) -> Shots:
    """Live pictures, timed as they arrive: many cameras' own time stamps are made up."""
    scaler = VideoReformatter()
    for packet in container.demux(video_stream(container)):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # something was lost on the way: the next key frame mends it
        for frame in frames:
            yield Shot(_reader(frame, scaler), None)


def _decode(container: av.container.InputContainer) -> Shots:
    """A file's pictures, each at its time of showing. BrokenVideo where the file is damaged."""
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
            yield Shot(_reader(frame, scaler), last)
        if packet.is_corrupt:
            raise BrokenVideo(f"truncated or damaged after frame {count}")
    if not count:
        raise BrokenVideo("no frame could be decoded")


def _reader(frame: av.VideoFrame, scaler: VideoReformatter) -> Callable[[], Image.Image]:
    return lambda: frame_image(frame, upright_size(frame, 0), scaler)


# ---- on the way to the model --------------------------------------------------------------------------------

class Ticks:
    """Which pictures of a source are the model's: the first one from each tick on, of `rate` per second."""

    def __init__(self, rate: float) -> None:
        self.rate, self.last = rate, -1

    def due(self, seconds: float) -> bool:
        """Whether the picture at this time, which must not go back, is the model's."""
        tick = math.floor(seconds * self.rate + EARLY)
        due = tick > self.last
        self.last = max(tick, self.last)
        return due


class Frame(NamedTuple):
    """A picture on its way. read: makes the RGB image, upright, as large as the source gives it.

    time: seconds since the source's first picture. due: it is the model's turn. fresh: what was before does not
    belong to it. arrived: by `time.perf_counter`, when the model could first have had it.
    """
    read: Callable[[], Image.Image]
    time: float
    due: bool
    fresh: bool
    arrived: float


class Mailbox:
    """Room for one frame between two threads. dropped: how many of the model's frames were overwritten unseen."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frame: Optional[Frame] = None
        self._waits = False
        self._closed = False
        self._error: Optional[BaseException] = None
        self._changed = threading.Condition()

    def put(self, frame: Frame, wait: bool) -> None:
        """Put the next frame in. wait: until the one before has been taken, or the box is closed; else that one is
        lost, and what it was for goes over to the new one."""
        with self._changed:
            self._waits = wait
            if wait:
                self._changed.wait_for(lambda: self._frame is None or self._closed)
            elif self._frame is not None:
                self.dropped += self._frame.due and frame.due
                frame = frame._replace(due=frame.due or self._frame.due, fresh=frame.fresh or self._frame.fresh)
            self._frame = frame
            self._changed.notify_all()

    def take(self, seconds: float) -> Optional[Frame]:
        """The frame in the box, waiting for one at most so long; None if none came.

        Once the last one is out, raises the error with which the box was closed, if there was one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed, seconds)
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            if frame is None and self._error is not None:
                raise self._error
            # A frame that waited for us is not late.
            return frame._replace(arrived=time.perf_counter()) if frame and self._waits else frame

    def close(self, error: Optional[BaseException] = None) -> None:
        """No more frames will come."""
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Closed without an error, and the last frame is out."""
        with self._changed:
            return self._closed and self._frame is None and self._error is None


class Capture:
    """Reads a source on a thread of its own; `take` gives its frames. Use as a context manager.

    rate: the model's frames per second. realtime: play a source that is not live by its own clock, losing frames
    where this machine is too slow, instead of giving every frame. reconnect: after an error try again, for ever; a
    live source's clock goes on meanwhile, and its first new frame is `fresh`.
    """

    def __init__(self, source: Source, rate: float, realtime: bool = False, reconnect: bool = False) -> None:
        self.source, self.realtime, self.reconnect = source, realtime, reconnect
        self._ticks, self._box, self._stop = Ticks(rate), Mailbox(), threading.Event()
        self._begin: Optional[float] = None  # when the first picture came, by time.monotonic
        self._last = -1.0  # time of the last frame
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> "Capture":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._box.close()
        self._thread.join(1.0)  # one that hangs in the network ends with the process

    def take(self, seconds: float) -> Optional[Frame]:
        """The next frame, waiting at most so long; None if none came. UserError when the source has failed."""
        return self._box.take(seconds)

    @property
    def ended(self) -> bool:
        """Whether the last frame has been taken."""
        return self._box.ended

    @property
    def dropped(self) -> int:
        """How many frames the model should have seen and did not."""
        return self._box.dropped

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._read()
                    break
                except UserError as error:
                    if not self.reconnect:
                        raise
                    log.warning("%s: trying again every %g s", error, RETRY)
                self._stop.wait(RETRY)
            self._box.close()
        except BaseException as error:  # it belongs to whoever takes the frames, a defect of ours too
            self._box.close(error)

    def _read(self) -> None:
        """The frames of one connection into the box."""
        known, fresh = self._last, True
        with closing(self.source.shots()) as shots:
            for shot in shots:
                if self._stop.is_set():
                    return
                live = shot.time is None
                if shot.time is not None and shot.time <= known:
                    continue  # a file begun again after its connection broke
                self._last = self._wait_for(shot)
                frame = Frame(shot.read, self._last, self._ticks.due(self._last), fresh and (live or known < 0),
                              time.perf_counter())
                self._box.put(frame, wait=not (live or self.realtime))
                fresh = False

    def _wait_for(self, shot: Shot) -> float:
        """The shot's time, seconds since the first one; in real time, once it has come."""
        now = time.monotonic()
        self._begin = now if self._begin is None else self._begin
        if shot.time is None:
            return now - self._begin
        if self.realtime:
            self._stop.wait(max(0.0, self._begin + shot.time - now))
        return shot.time
