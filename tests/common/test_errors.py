"""UserError: one line of text, and the options that it mentions."""
import pickle

import pytest

from ops.common.errors import UserError, shown, worker_died


def test_user_error_is_a_value_error_with_its_text():
    assert issubclass(UserError, ValueError) and str(UserError("what to do")) == "what to do"


def test_user_error_finds_its_line_in_a_workers_report():
    report = ("Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
              "  File \"x.py\", line 1, in y\nops.common.errors.UserError: missing frame: a b/00001.jpg: do this\n")
    assert str(UserError(report)) == "missing frame: a b/00001.jpg: do this"


def test_a_user_error_keeps_its_options_between_processes():
    error = pickle.loads(pickle.dumps(UserError("num_segments 0: choose 1 or more", "num_segments")))
    assert (str(error), error.options) == ("num_segments 0: choose 1 or more", ("num_segments",))


@pytest.mark.parametrize("text, options, typed", [
    ("num_segments 0: choose 1 or more", ["num_segments"], "--num_segments 0: choose 1 or more"),
    ("dense_sample and twice_sample exclude each other", ["dense_sample", "twice_sample"],
     "--dense_sample and --twice_sample exclude each other"),
    ("shift_div 9 (shift_division, my.shift_div, a/shift_div, shift_div.txt)", ["shift_div"],
     "--shift_div 9 (shift_division, my.shift_div, a/shift_div, shift_div.txt)"),
    ("a file", [], "a file"),
])
def test_the_command_line_adds_the_dashes(text, options, typed):
    error = UserError(text, *options)
    assert (str(error), error.for_command_line()) == (text, typed)


def test_names_with_line_breaks_stay_one_line():
    assert shown("a\nb") == r"a\nb" and shown("\udcff.mp4") == r"\udcff.mp4" and shown("naïve 手") == "naïve 手"


def test_a_dead_worker_is_recognized():
    death = worker_died(RuntimeError("DataLoader worker (pid(s) 17, 18) exited unexpectedly"))
    assert "exited unexpectedly" in str(death) and "with --workers 0" in death.for_command_line()
    assert worker_died(RuntimeError("out of memory")) is None
