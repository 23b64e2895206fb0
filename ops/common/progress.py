"""Progress of long steps: a bar on a terminal; otherwise log lines with the count, the speed and the time left."""
import io
import logging
import os
import sys
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, Optional

from tqdm import tqdm

log = logging.getLogger(__name__)

FIRST_LINE, NEXT_LINES = 5.0, 30.0  # seconds until the first line, and between two lines; a shorter step has none


def progress(items: Optional[Iterable] = None, *, lines: bool = True, disable: bool = False,
             **options: Any) -> tqdm:
    """A tqdm over `items`, which are counted as they are taken, or to be counted with `update`.

    lines: False where the step logs its own lines, so that only a terminal shows anything. disable: show nothing.
    options: of tqdm, such as total, desc, unit ("video"), initial, unit_scale and leave.
    """
    disable = disable or os.environ.get("RANK", "0") != "0"  # of torchrun's processes, one shows it
    if sys.stderr.isatty():
        return tqdm(items, dynamic_ncols=True, disable=disable, **options)
    return _ProgressLines(items, disable=disable or not lines, **options)


@contextmanager
def above_bars() -> Iterator[None]:
    """Inside, text may be printed: a bar is erased first and drawn again below the text."""
    with tqdm.external_write_mode(file=sys.stdout):
        yield


class _ProgressLines(tqdm):
    """Logs lines such as `extracting frames: 1200 of 24000 videos, 35.2 per second, 11 min left`."""

    def __init__(self, items: Optional[Iterable] = None, **options: Any) -> None:
        self._last_line = ""
        # miniters: look at the clock after every item. smoothing 0: the speed is the mean since the start.
        super().__init__(items, file=io.StringIO(), delay=FIRST_LINE, mininterval=FIRST_LINE, miniters=1, smoothing=0,
                         **options)

    def __iter__(self) -> Iterator[Any]:
        """Each item, counted when the next one is asked for.

        tqdm's own loop keeps a copy of mininterval: once `display` has raised it, that loop counts items repeatedly.
        """
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def display(self, msg: Optional[str] = None, pos: Optional[int] = None) -> bool:
        line = str(self) if msg is None else msg
        if line not in ("", self._last_line):
            log.info("%s", line)
        self._last_line, self.mininterval = line, NEXT_LINES
        return True

    def __str__(self) -> str:
        elapsed, done = self.format_dict["elapsed"], self.n - self.initial
        total = f" of {self._amount(self.total)}" if self.total else ""
        counted = f"{self._amount(self.n)}{total} {self._units(self.total or self.n)}"
        head = f"{self.desc.rstrip(': ')}: {counted}" if self.desc else counted
        if not done or not elapsed:
            return head
        if self.total and self.n >= self.total:
            return f"{head} in {duration(elapsed)}"
        speed = done / elapsed
        pace = f"{self._amount(speed)} per second" if speed >= 1 else f"{1 / speed:.1f} s each"
        left = f", {duration((self.total - self.n) / speed)} left" if self.total else ""
        return f"{head}, {pace}{left}"

    def _units(self, count: float) -> str:
        if self.unit_scale or count == 1:
            return self.unit
        return f"{self.unit}{'es' if self.unit.endswith('ch') else 's'}"

    def _amount(self, value: float) -> str:
        if self.unit_scale:
            return str(tqdm.format_sizeof(value, divisor=self.unit_divisor))
        return str(value) if isinstance(value, int) else f"{value:.1f}"


def duration(seconds: float) -> str:
    """A duration in words: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
