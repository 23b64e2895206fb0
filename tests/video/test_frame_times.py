"""When frames are shown, from time stamps of every quality."""
from fractions import Fraction

import numpy as np
import pytest

from ops.video.frame_times import FrameClock, display_times

BASE, RATE = Fraction(1, 100), Fraction(25)


def times(shown, decoded=None, *, last=4, rate=RATE):
    decoded = decoded or [None] * len(shown)
    return display_times([(*pair, last) for pair in zip(shown, decoded)], BASE, rate).tolist()


@pytest.mark.parametrize("shown, decoded, wanted", [
    ([50, 54, 90, 91], None, [0, .04, .4, .41, .45]),
    ([50, 58, 54, 62], [1, 2, 3, 4], [0, .01, .02, .03, .07]),  # decoding stamps in order
    ([50, 58, 54, 62], [None] * 4, [0, .04, .08, .12, .16]),  # out of order
    ([None, 50, None, None], None, [0, .04, .08, .12, .16]),
    ([None] * 4, [7, 9, 11, 13], [0, .02, .04, .06, .1]),
    ([None] * 4, None, [0, .04, .08, .12, .16]),  # by the rate
    ([500, 504, 100, 104], None, [0, .04, .08, .12, .16]),  # two recordings
    ([50], None, [0, .04]),
])
def test_times_start_at_zero_and_do_not_decrease(shown, decoded, wanted):
    assert times(shown, decoded) == pytest.approx(wanted)


def test_the_last_frame_lasts_as_long_as_the_file_says():
    assert times([0, 4, 8], last=300)[-1] == pytest.approx(3.08)
    assert times([0, 10, 20], last=0)[-1] == pytest.approx(.3)
    assert times([0], last=0, rate=None) == pytest.approx([0, .04])


def test_without_stamps_and_rate_there_are_no_times():
    assert times([None, None], rate=None) == [] and not len(display_times([], BASE, RATE))
    assert not np.diff(times([5, 5, 5])[:-1]).any()


@pytest.mark.parametrize("shown, decoded, wanted", [
    ([50, 50.1, 50.5], None, [0, .1, .5]),
    ([0, .08, .04, .16, .12], [0, .04, .08, .12, .16], [0, .08, .08, .12, .16]),  # decoding stamps from the first fault on
    ([None, None, 9], None, [0, .04, .08]),
    ([10, 10.04, 3, 3.04, 3.5], [9, 9.04, 2, 2.04, 2.5], [0, .04, .08, .12, .58]),  # two recordings
])
def test_a_clock_never_goes_back_and_never_stops(shown, decoded, wanted):
    clock = FrameClock(0.04)
    assert [clock.time(*pair) for pair in zip(shown, decoded or [None] * len(shown))] == pytest.approx(wanted)
