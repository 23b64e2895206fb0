"""Progress of long steps: log lines where the output is a file, a bar on a terminal, nothing for short steps."""
import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ops.common import progress as module
from ops.common.progress import duration, progress

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lines(monkeypatch, caplog):
    """lines(): the logged lines of steps that are all long enough for lines."""
    monkeypatch.setattr(module, "FIRST_LINE", 0.0)
    monkeypatch.setattr(module, "NEXT_LINES", 0.0)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_lines_have_the_count_the_speed_and_the_time_left(lines):
    assert list(progress(range(3), desc="extracting frames", unit="video")) == [0, 1, 2]
    assert any(line.startswith("extracting frames: 2 of 3 videos, ") and line.endswith("0 s left") for line in lines())
    assert lines()[-1] == "extracting frames: 3 of 3 videos in 0 s"


def test_speed_and_time_left_are_those_of_the_items_so_far(lines, monkeypatch):
    now = [time.time()]
    monkeypatch.setattr(module._ProgressLines, "__init__", _with_clock(lambda: now[0]))
    with progress(total=1300, initial=100, desc="extracting", unit="video") as bar:
        now[0] += 20
        bar.update(200)
        now[0] += 80
        bar.update(100)
    assert lines()[1:3] == ["extracting: 300 of 1300 videos, 10.0 per second, 2 min left",
                            "extracting: 400 of 1300 videos, 3.0 per second, 5 min left"]
    with progress(total=4, desc="packing", unit="batch") as bar:
        now[0] += 30
        bar.update()
    assert lines()[-1] == "packing: 1 of 4 batches, 30.0 s each, 90 s left"


def test_items_are_counted_once_between_two_lines(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    now = [time.time()]
    monkeypatch.setattr(module._ProgressLines, "__init__", _with_clock(lambda: now[0]))
    for _ in progress(range(12), desc="scoring", unit="video"):
        now[0] += 6
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "scoring: 1 of 12 videos", "scoring: 6 of 12 videos", "scoring: 11 of 12 videos", "scoring: 12 of 12 videos in 72 s"]


def _with_clock(clock):
    original = module._ProgressLines.__init__

    def with_clock(self, *args, **options):
        original(self, *args, **options)
        self._time, self.start_t = clock, clock()
    return with_clock


def test_sizes_and_unknown_totals(lines):
    with progress(total=3_000_000, unit="B", unit_scale=True, desc="downloading") as bar:
        bar.update(1_500_000)
        assert lines()[-1].startswith("downloading: 1.50M of 3.00M B, ")
    with progress(desc="reading", unit="frame") as bar:
        bar.update(7)
    assert lines()[-1].startswith("reading: 7 frames, ")


def test_a_short_step_has_no_lines(caplog):
    caplog.set_level(logging.INFO)
    assert list(progress(range(3), desc="x")) == [0, 1, 2]
    assert not caplog.records


def test_a_step_with_its_own_lines_has_none_of_these(lines):
    assert list(progress(range(3), lines=False)) == list(progress(range(3), disable=True)) == [0, 1, 2]
    assert not lines()


def test_one_of_several_processes_shows_progress(lines, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert list(progress(range(3), desc="x")) == [0, 1, 2] and not lines()
    monkeypatch.setenv("RANK", "0")
    assert list(progress(range(3), desc="x")) == [0, 1, 2] and lines()


@pytest.mark.parametrize("seconds, words", [
    (0.2, "0 s"), (89.4, "89 s"), (99.6, "2 min"), (754, "13 min"), (5940, "99 min"), (6000, "1 h 40 min"),
    (47 * 3600, "47 h 0 min"), (200_000, "2 d 7 h")])
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


PROGRAM = """
import logging
from ops.common.cli import run
from ops.common.progress import above_bars, progress

def main():
    for i in progress(range(3), desc="working", mininterval=0):
        logging.getLogger("x").info("logged %d", i)
        with above_bars():
            print("printed", i, flush=True)

run(main)
"""


def test_on_a_terminal_text_goes_above_the_bar():
    """Without help, a logged line would be written into the bar's own line."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=child, stderr=child, cwd=ROOT)
    os.close(child)
    shown = b""
    try:
        while part := os.read(parent, 4096):
            shown += part
    except OSError:  # Linux: the last process has closed its side
        pass
    os.close(parent)
    assert process.wait() == 0
    screen = [line.rsplit("\r", 1)[-1].strip() for line in shown.decode().replace("\r\n", "\n").split("\n")]
    for i in range(3):
        assert f"logged {i}" in screen and f"printed {i}" in screen, screen
    assert any("working" in line and "3/3" in line for line in screen)
