"""The time left of a run, from its steps so far."""
import pytest

from ops.training.run_clock import WINDOW, RunClock


def test_time_left_counts_steps_and_validations():
    clock = RunClock(steps=10, val_steps=6, epochs=3, validations=2)
    assert clock.seconds_left is None
    clock.step(9)  # slow: the workers start
    assert clock.seconds_left == pytest.approx(29 * 9 + 2 * 6 * 3)
    for _ in range(8):
        clock.step(2)
    clock.step(None)
    assert clock.seconds_left == pytest.approx(20 * 2 + 2 * 6 * 2 / 3)  # the first step is left out
    clock.validation(11)
    assert clock.seconds_left == pytest.approx(20 * 2 + 11)


def test_the_speed_is_that_of_the_last_steps():
    clock = RunClock(steps=1000, val_steps=0, epochs=1, validations=0)
    for seconds in [1] * 300 + [3] * WINDOW:
        clock.step(seconds)
    assert clock.seconds_left == pytest.approx(3 * (1000 - 300 - WINDOW))
