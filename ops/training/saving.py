"""When a training run writes a checkpoint within an epoch."""
import re
import time
from typing import Optional

from ops.common.errors import UserError


class SaveSchedule:
    """`save_freq`: every so many optimizer steps of the run ("500") or minutes ("10m"); "": only after each epoch.

    Raises UserError for other text.
    """

    def __init__(self, save_freq: str = "") -> None:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)m|(\d+)", save_freq)
        if save_freq and (not found or not float(found[1] or found[2])):
            raise UserError(f"save_freq {save_freq!r}: choose a number of steps (500) or of minutes (10m)", "save_freq")
        self.seconds: Optional[float] = 60 * float(found[1]) if found and found[1] else None
        self.steps: Optional[int] = int(found[2]) if found and found[2] else None
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save after `step` steps of the whole run."""
        if self.steps:
            return step % self.steps == 0
        return self.seconds is not None and time.monotonic() - self._last >= self.seconds

    def saved(self) -> None:
        """Start the minutes again."""
        self._last = time.monotonic()
