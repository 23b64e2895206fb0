"""The demo's loop: frames from the capture through the model to the window, the recorder and standard output."""
import logging
import signal
import time
from collections import deque
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

import numpy as np
from PIL import Image
from torch import Tensor

from online_demo.capture import Capture, CapturedFrame
from online_demo.decisions import DecisionReport, make_report
from online_demo.recorder import Recorder
from online_demo.window import View, Window, canvas_size, draw
from ops.common.files import atomic_write
from ops.common.words import counted
from ops.streaming.stream import Stream

log = logging.getLogger("online_demo")

KEY_INTERVAL = 0.02  # seconds between two checks of the keys while no frame comes


class Signals:
    """Turns Ctrl-C and SIGTERM into a status that the loop checks, so that the video is completed. A second signal
    interrupts at once."""

    def __init__(self) -> None:
        self.status = 0  # exit status of the program

    def __enter__(self) -> "Signals":
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Optional[FrameType]) -> None:
        if self.status:
            raise KeyboardInterrupt
        self.status = 128 + number


class Demo:
    """transform: RGB image -> frames for `stream`. threshold: a less probable prediction is not shown, 0-1.

    show: prints a decision. The other parts are where frames come from and go to; window and recorder are optional.
    """

    def __init__(self, capture: Capture, stream: Stream, view: View, *, transform: Callable[[Image.Image], Tensor],
                 threshold: float, show: Callable[[DecisionReport], None], window: Optional[Window],
                 recorder: Optional[Recorder]) -> None:
        self.capture, self.stream, self.view, self.transform = capture, stream, view, transform
        self.threshold, self.show, self.window, self.recorder = threshold, show, window, recorder
        self.processed = 0
        self.size: Optional[tuple[int, int]] = None  # of the canvas, set by the first frame
        self.canvas: Optional[np.ndarray] = None
        self._decided: deque[float] = deque(maxlen=30)  # when the last decisions were made, by time.perf_counter

    def run(self, signals: Signals, max_seconds: float) -> None:
        """Run until the source ends, a signal or the quit key comes, or `max_seconds` of the source have passed.

        UserError if the source fails.
        """
        while not signals.status and not self.capture.ended:
            frame = self.capture.take(KEY_INTERVAL)
            if frame is not None:
                if frame.time >= max_seconds:
                    return
                self._process(frame)
            if self.window is not None and not self._handle_keys(self.window.keys()):
                return

    def log_summary(self) -> None:
        """Log how many frames the model processed, how fast, and how many were dropped."""
        timing, dropped = self.stream.timing(), self.capture.dropped
        if timing is None:
            return
        speed = f", {1000 * timing.p50:.1f} ms each (median)"
        drops = f"; {dropped} more were dropped, because this machine is too slow for them" if dropped else ""
        log.info("the model saw %s in %.1f seconds of the source%s%s",
                 counted(self.processed, "frame"), self.view.now, speed, drops)

    def _process(self, frame: CapturedFrame) -> None:
        self.view.now = frame.time
        if frame.restart:
            self._reset()
        draws = self.window is not None or self.recorder is not None
        if not (frame.due or draws):
            return
        image = frame.read()
        if frame.due:
            self._decide(frame, image)
        if draws:
            self._draw(image)

    def _decide(self, frame: CapturedFrame, image: Image.Image) -> None:
        decision = self.stream.push(self.transform(image))[0]
        now = time.perf_counter()
        self.processed += 1
        self._decided.append(now)
        if len(self._decided) > 1:
            self.view.rate = (len(self._decided) - 1) / (now - self._decided[0])
        self.view.latency = now - frame.arrived
        prediction = decision.index if decision.probability >= self.threshold else None
        self.view.add(frame.time, prediction, decision.probabilities.numpy())
        self.show(make_report(decision, self.view.names, time=frame.time, latency=self.view.latency,
                              threshold=self.threshold, topk=self.view.topk))

    def _draw(self, image: Image.Image) -> None:
        self.size = self.size or canvas_size(*image.size)
        self.canvas = draw(np.asarray(image), self.view, self.size)
        if self.window is not None:
            self.window.show(self.canvas)
        if self.recorder is not None:
            self.recorder.write(self.canvas, self.view.now)

    def _reset(self) -> None:
        self.stream.reset()
        self.view.clear()
        self._decided.clear()

    def _handle_keys(self, keys: str) -> bool:
        """Do what each key stands for; False to quit."""
        assert self.window is not None
        for key in keys:
            if key == "q":
                return False
            if key == "f":
                self.window.toggle_fullscreen()
            elif key == "r":
                self._reset()
            elif key == "m":
                self.view.mirror = not self.view.mirror
            elif key == "s":
                self._save_snapshot()
        return True

    def _save_snapshot(self) -> None:
        """Save the canvas as a PNG in the current directory, named after the time of day."""
        if self.canvas is None:
            return
        now = time.time()
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        path = Path(f"snapshot_{stamp}_{int(1000 * now) % 1000:03}.png")
        try:
            with atomic_write(path, "wb") as f:
                Image.fromarray(self.canvas).save(f, "PNG")
        except OSError as error:
            log.warning("no snapshot: %s cannot be written: %s", path, error.strerror or error)
        else:
            log.info("snapshot: %s", path.absolute())
