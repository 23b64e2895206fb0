"""How long a training run will still take, from the durations of its own steps."""
from collections import deque
from typing import Optional

WINDOW = 100  # steps whose mean duration is the speed, so that a change of speed shows soon
VALIDATION_STEP = 1 / 3  # of a training step, until one has been timed: no backward pass


class RunClock:
    """Counts down the steps and validations of a run.

    steps: training steps of an epoch, and val_steps: of one validation; epochs: that are left, of which the first has `done`
    steps behind it. validations: that are left.
    """

    def __init__(self, *, steps: int, val_steps: int, epochs: int, validations: int, done: int = 0) -> None:
        self.steps_left, self.validations_left = steps * epochs - done, validations
        self.val_steps = val_steps
        self._durations: deque[float] = deque(maxlen=WINDOW)
        self._first: Optional[float] = None  # the first step starts workers and warms up: used only while it is alone
        self._validation: Optional[float] = None

    def step(self, seconds: Optional[float]) -> None:
        """A training step is done; it took this long, with the wait for its data. None: it had no readable video, so that
        its duration means nothing."""
        self.steps_left -= 1
        if seconds is None:
            return
        if self._first is None:
            self._first = seconds
        else:
            self._durations.append(seconds)

    def validation(self, seconds: float) -> None:
        """A validation is done."""
        self.validations_left -= 1
        self._validation = seconds

    @property
    def seconds_left(self) -> Optional[float]:
        """None before the first step."""
        if self._first is None:
            return None
        step = sum(self._durations) / len(self._durations) if self._durations else self._first
        validation = self.val_steps * step * VALIDATION_STEP if self._validation is None else self._validation
        return self.steps_left * step + self.validations_left * validation
