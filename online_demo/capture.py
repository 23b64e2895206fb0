"""Capture: reads a source on its own thread and hands its frames to the model through a mailbox for one frame.

A live source (or a file played in real time) overwrites a frame that nobody has taken. The model therefore always gets
the newest frame, memory stays bounded, and no delay builds up. Other sources wait, so no frame is lost.
"""
import logging
import threading
import time
from contextlib import closing
from typing import Callable, NamedTuple, Optional

from PIL import Image

from ops.common.errors import UserError
from ops.streaming.sources import FrameSelector, Source, SourceFrame

log = logging.getLogger(__name__)

RETRY = 2.0  # seconds between attempts to reconnect


class CapturedFrame(NamedTuple):
    """A frame on its way to the model and the display. read: decodes it into an upright RGB image of the source's size.

    time: seconds since the source's first frame. due: the model gets this frame. restart: the frames before it belong to
    another stream, so the state must be reset. arrived: when the model could first have it, by `time.perf_counter`.
    """
    read: Callable[[], Image.Image]
    time: float
    due: bool
    restart: bool
    arrived: float


class Mailbox:
    """Holds one frame between two threads. dropped: number of due frames that were overwritten before they were taken."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frame: Optional[CapturedFrame] = None
        self._waits = False
        self._closed = False
        self._error: Optional[BaseException] = None
        self._changed = threading.Condition()

    def put(self, frame: CapturedFrame, wait: bool) -> None:
        """Put in the next frame. wait: first wait until the previous one is taken, or the mailbox is closed. Otherwise
        the previous frame is overwritten, and the new one inherits its `due` and `restart`."""
        with self._changed:
            self._waits = wait
            if wait:
                self._changed.wait_for(lambda: self._frame is None or self._closed)
            elif self._frame is not None:
                self.dropped += self._frame.due and frame.due
                frame = frame._replace(due=frame.due or self._frame.due, restart=frame.restart or self._frame.restart)
            self._frame = frame
            self._changed.notify_all()

    def take(self, seconds: float) -> Optional[CapturedFrame]:
        """Take the frame, waiting for one at most this long; None if none came.

        After the last frame, raises the error that the mailbox was closed with, if there was one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed, seconds)
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            if frame is None and self._error is not None:
                raise self._error
            # A frame that waited for its reader is not late.
            return frame._replace(arrived=time.perf_counter()) if frame and self._waits else frame

    def close(self, error: Optional[BaseException] = None) -> None:
        """No more frames will come."""
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the mailbox was closed without an error and its last frame has been taken."""
        with self._changed:
            return self._closed and self._frame is None and self._error is None


class Capture:
    """Reads a source on its own thread; `take` returns its frames. Use as a context manager.

    rate: the model's frames per second. realtime: play a file by its clock and drop frames if this machine is too slow,
    instead of returning every frame. reconnect: retry for ever after an error. The clock of a live source runs on in the
    meantime, and its first new frame is marked `restart`.
    """

    def __init__(self, source: Source, rate: float, realtime: bool = False, reconnect: bool = False) -> None:
        self.source, self.realtime, self.reconnect = source, realtime, reconnect
        self._selector, self._mailbox, self._stop = FrameSelector(rate), Mailbox(), threading.Event()
        self._begin: Optional[float] = None  # when the first frame came, by time.monotonic
        self._last = -1.0  # time of the last frame
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> "Capture":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._mailbox.close()
        self._thread.join(1.0)  # a thread that hangs in the network ends with the process

    def take(self, seconds: float) -> Optional[CapturedFrame]:
        """The next frame, waiting at most this long; None if none came. UserError if the source has failed."""
        return self._mailbox.take(seconds)

    @property
    def ended(self) -> bool:
        """Whether the last frame has been taken."""
        return self._mailbox.ended

    @property
    def dropped(self) -> int:
        """Number of frames that the model was due to get but did not."""
        return self._mailbox.dropped

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
            self._mailbox.close()
        except BaseException as error:  # a defect of ours too: it is raised where the frames are taken
            self._mailbox.close(error)

    def _read(self) -> None:
        """Put the frames of one connection into the mailbox."""
        known, restart = self._last, True
        with closing(self.source.frames()) as frames:
            for frame in frames:
                if self._stop.is_set():
                    return
                live = frame.time is None
                if frame.time is not None and frame.time <= known:
                    continue  # a file that starts over after its connection broke
                self._last = self._wait_for(frame)
                captured = CapturedFrame(frame.read, self._last, self._selector.due(self._last),
                                         restart and (live or known < 0), time.perf_counter())
                self._mailbox.put(captured, wait=not (live or self.realtime))
                restart = False

    def _wait_for(self, frame: SourceFrame) -> float:
        """The frame's time, seconds since the first one; in real time, return when that time has come."""
        now = time.monotonic()
        self._begin = now if self._begin is None else self._begin
        if frame.time is None:
            return now - self._begin
        if self.realtime:
            self._stop.wait(max(0.0, self._begin + frame.time - now))
        return frame.time
