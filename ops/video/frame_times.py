"""When the frames of a video file are shown, from their time stamps."""
from fractions import Fraction
from typing import Optional, Sequence

import numpy as np

_RESTART = 16  # frames back: a jump of a recording's clock; images out of order are nearer to their place
_DEFAULT_RATE = 25  # frames per second of a video of one frame whose file names no rate


def display_times(stamps: Sequence[tuple[Optional[int], Optional[int], int]], base: Optional[Fraction],
                  rate: Optional[Fraction]) -> np.ndarray:
    """(frames + 1,) float64: the seconds from the first frame on at which each frame is shown, and the end of the last.

    stamps: each frame's presentation stamp, decoding stamp and duration (0: unknown), in units of `base` seconds, in
    display order. rate: the stream's frames per second, for files without stamps. The times never decrease. Empty if
    there is neither.
    """
    if not stamps or not base:
        return np.zeros(0)
    shown, decoded = (np.array([np.nan if stamp is None else stamp for stamp in column], np.float64) * float(base)
                      for column in ([row[0] for row in stamps], [row[1] for row in stamps]))
    # Containers without presentation stamps (AVI) still have decoding stamps, which count the frames.
    times = next((times for times in (shown, decoded) if _increases(times)), None)
    if times is None:
        times = _mended(shown if not np.isnan(shown).all() else decoded, rate)
    if times is None:
        return np.arange(len(stamps) + 1) / float(rate) if rate else np.zeros(0)
    last = float(stamps[-1][2] * base) or _period(times, rate)
    return np.append(times, times[-1] + last) - times[0]


def _increases(times: np.ndarray) -> bool:
    return not np.isnan(times).any() and bool((np.diff(times) > 0).all())


def _period(times: np.ndarray, rate: Optional[Fraction]) -> float:
    """Seconds per frame: the usual step between frames whose times are known, else by the rate."""
    steps = np.diff(times)
    steps = steps[steps > 0]  # nor NaN
    return float(np.median(steps)) if len(steps) else float(1 / (rate or _DEFAULT_RATE))


def _mended(times: np.ndarray, rate: Optional[Fraction]) -> Optional[np.ndarray]:
    """Times that do not decrease, from some that are partly missing (NaN), out of order or start again; None from none."""
    known = np.flatnonzero(~np.isnan(times))
    if not len(known):
        return None
    period, numbers = float(1 / rate) if rate else _period(times, rate), np.arange(len(times))
    before = known[np.maximum(np.searchsorted(known, numbers, side="right") - 1, 0)]  # the nearest known one
    times = times[before] + (numbers - before) * period
    parts = np.split(times, np.flatnonzero(np.diff(times) < -_RESTART * period) + 1)
    end, joined = float(parts[0].min()), []
    for part in map(np.sort, parts):
        joined.append(part - part[0] + end)
        end = joined[-1][-1] + period
    return np.concatenate(joined)


class FrameClock:
    """The times of frames that are decoded one after the other. period: seconds per frame where the file tells no more."""

    def __init__(self, period: float) -> None:
        self.period = period
        self._start: Optional[float] = None  # on the recording's clock, of the frame whose time would be 0
        self._last = -period
        self._latest = [-np.inf, -np.inf]
        self._faults = [0, 0]

    def time(self, shown: Optional[float], decoded: Optional[float]) -> float:
        """Seconds from the first frame on at which the next frame is shown; they never decrease.

        shown, decoded: the frame's time stamps, seconds. The kind of stamps that went back less often counts, as in
        FFmpeg: those of an AVI say when frames are decoded. A clock that starts again (joined recordings) goes on.
        """
        for kind, stamp in enumerate((shown, decoded)):
            if stamp is not None:
                self._faults[kind] += stamp <= self._latest[kind]
                self._latest[kind] = stamp
        stamp = shown if shown is not None and (decoded is None or self._faults[0] <= self._faults[1]) else decoded
        following = self._last + self.period
        if stamp is None:
            self._last = following
        else:
            if self._start is None or stamp - self._start < self._last - _RESTART * self.period:
                self._start = stamp - following
            self._last = max(self._last, stamp - self._start)
        return self._last
