"""When a run saves within an epoch."""
import pytest

from ops.common.errors import UserError
from ops.training import saving
from ops.training.saving import SaveSchedule


def test_every_so_many_steps():
    schedule = SaveSchedule("3")
    assert [step for step in range(1, 10) if schedule.due(step)] == [3, 6, 9]
    assert not any(SaveSchedule("").due(step) for step in range(1, 10))


def test_every_so_many_minutes(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    schedule = SaveSchedule("0.5m")
    assert not schedule.due(1)
    now[0] += 30
    assert schedule.due(2)
    schedule.saved()
    assert not schedule.due(3)


@pytest.mark.parametrize("text", ["0", "0m", "-1", "m", "10 m", "1.5", "1h", "nan"])
def test_other_words_are_refused(text):
    with pytest.raises(UserError, match="choose a number of steps") as info:
        SaveSchedule(text)
    assert info.value.for_command_line().startswith("--save_freq ")
