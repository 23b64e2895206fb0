"""How images reach the model: a source is read on a thread of its own, into a mailbox for one image.

Live sources (and files played in real time) overwrite what nobody has taken, so the model always gets the newest
image, memory stays bounded and no delay builds up; other sources wait, so no image is lost.
"""
import logging
import threading
import time
from contextlib import closing
from typing import Callable, NamedTuple, Optional

from PIL import Image

from ops.common.errors import UserError
from ops.streaming.sources import Shot, Source, Ticks

log = logging.getLogger(__name__)

RETRY = 2.0  # seconds between two attempts to reconnect


class Frame(NamedTuple):
    """An image on its way. read: makes the RGB image, upright, as large as the source gives it.

    time: seconds since the source's first image. due: it is the model's turn. fresh: what was before does not
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
        self._begin: Optional[float] = None  # when the first image came, by time.monotonic
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
