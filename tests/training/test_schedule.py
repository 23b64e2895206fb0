"""The published schedules of the learning rate."""
import pytest

from ops.training.schedule import learning_rate


def rate(epoch, lr, lr_type, lr_steps, **options):
    """The learning rate of a run of 50 epochs."""
    return learning_rate(epoch, lr=lr, lr_type=lr_type, lr_steps=lr_steps, epochs=50, **options)


def test_schedules_are_the_published_ones():
    assert [rate(e, 0.02, "step", [20, 40]) for e in (0, 19, 20, 39, 40)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002])
    assert [rate(e, 0.02, "cos", []) for e in (0, 25, 50)] == pytest.approx([0.02, 0.01, 0.0])


def test_percent_falls_after_two_and_four_fifths():
    assert [rate(e, 0.02, "percent", []) for e in (0, 19, 20, 39, 40, 49)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])


def test_the_rate_changes_with_the_epoch_or_with_every_step():
    assert rate(3.9, 0.02, "cos", []) == rate(3, 0.02, "cos", []) > rate(3.9, 0.02, "cos", [], lr_update="step")
    assert rate(3, 0.02, "cos", [], lr_update="step") == rate(3, 0.02, "cos", [])


def test_a_warm_up_rises_step_by_step_to_the_schedule():
    rates = [rate(e, 0.02, "step", [20], warmup_epochs=2) for e in (0, 0.5, 1, 1.5, 2, 3, 20)]
    assert rates == pytest.approx([0.0002, 0.00515, 0.0101, 0.01505, 0.02, 0.02, 0.002])
