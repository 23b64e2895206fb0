"""The published schedules of the learning rate."""
import pytest

from ops.training.schedule import learning_rate


def rate(epoch, lr, lr_type, lr_steps):
    """The learning rate of a run of 50 epochs."""
    return learning_rate(epoch, lr=lr, lr_type=lr_type, lr_steps=lr_steps, epochs=50)


def test_schedules_are_the_published_ones():
    assert [rate(e, 0.02, "step", [20, 40]) for e in (0, 19, 20, 39, 40)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002])
    assert [rate(e, 0.02, "cos", []) for e in (0, 25, 50)] == pytest.approx([0.02, 0.01, 0.0])
