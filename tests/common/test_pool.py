"""Jobs in several processes: their outcomes, errors, interruptions, and processes that die."""
import os
import signal
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from ops.common.errors import UserError
from ops.common.pool import Stopped, cores, interrupted, run_jobs


def square(number):
    return number * number, os.getpid()


@pytest.mark.parametrize("workers, processes", [(1, 1), (3, 3), (50, 20)])
def test_every_job_has_its_outcome(workers, processes):
    outcomes = dict(run_jobs(square, range(20), workers))
    assert {job: outcome for job, (outcome, _) in outcomes.items()} == {n: n * n for n in range(20)}
    pids = {pid for _, pid in outcomes.values()}
    assert len(pids) <= processes and (pids == {os.getpid()}) == (workers == 1)


def test_no_jobs_and_one_job_need_no_process():
    assert list(run_jobs(square, [], 4)) == []
    assert list(run_jobs(square, [5], 4)) == [(5, (25, os.getpid()))]


def test_one_process_per_core_is_the_default(monkeypatch):
    monkeypatch.setattr("ops.common.pool.cores", lambda: 1)
    assert list(run_jobs(square, [2, 3])) == [(2, (4, os.getpid())), (3, (9, os.getpid()))]
    assert cores() >= 1


def refuse(number):
    if number == 3:
        raise UserError("num_segments 3: choose 8", "num_segments")
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_the_run_as_itself(workers):
    with pytest.raises(UserError, match="num_segments 3") as info:
        list(run_jobs(refuse, range(100), workers))
    assert info.value.for_command_line() == "--num_segments 3: choose 8"


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return number


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_process_that_dies_is_one_line_with_the_jobs_at_hand():
    with pytest.raises(UserError) as info:
        list(run_jobs(die, range(100), 2, name="clip {}\n".format))
    text = info.value.for_command_line()
    assert "a worker process died" in text and r"clip 3\n" in text and "clip 90" not in text and "fewer --workers" in text
    assert "\n" not in text


def wait_until_interrupted(directory, number):
    (directory / f"{number} {os.getpid()}").touch()
    if number > 1:
        until = time.monotonic() + 60
        while not interrupted():
            assert time.monotonic() < until
            time.sleep(0.01)
        (directory / f"{number} stopped").touch()
        raise Stopped
    return number


def test_closing_stops_what_is_running_and_starts_nothing_more(tmp_path):
    with closing(run_jobs(partial(wait_until_interrupted, tmp_path), range(50), 2)) as outcomes:
        first = {next(outcomes), next(outcomes)}
        while len([path for path in tmp_path.iterdir() if int(path.name.split()[0]) > 1]) < 2:
            time.sleep(0.01)
    assert first == {(0, 0), (1, 1)}
    started = {path.name.split()[0] for path in tmp_path.iterdir()}
    assert {path.name.split()[0] for path in tmp_path.glob("* stopped")} == started - {"0", "1"} and len(started) <= 8
    pids = {int(path.name.split()[1]) for path in tmp_path.iterdir() if not path.name.endswith("stopped")}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids) or not Path("/proc").exists()


def test_the_main_process_is_never_interrupted():
    assert not interrupted()
