"""Ctrl-C and SIGTERM as a request: the step in progress is finished and saved before the program ends."""
import contextlib
import signal
from types import FrameType
from typing import Iterator, Optional

from ops.common.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal has asked this process to stop. signal: its number, 0 if none has."""

    def __init__(self) -> None:
        self.signal = 0

    def check(self) -> None:
        """Raise Interrupted if a signal has come; to be called between two pieces of work that need not be finished."""
        if self.signal:
            raise Interrupted("stopped", self.signal)

    def receive(self, number: int, frame: Optional[FrameType]) -> None:
        """The signal handler. A second Ctrl-C ends the program at once; a scheduler and torchrun each send a SIGTERM."""
        self.signal = number
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within this context, Ctrl-C and SIGTERM set the request instead of ending the program."""
    request = StopRequest()
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
