"""A forked program has the arguments, the surroundings and the end of one that Python starts."""
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.fork_server import ROOT, Forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux only")
SURROUNDINGS = """
import os, signal, sys
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print(sys.argv, sys.path[0], os.getcwd(), sorted(os.environ.items()), handlers, os.getsid(0) == os.getpid(), __name__)
print(sys.stdin.read(), sys.modules["__main__"].__dict__ is globals(), file=sys.stderr)
sys.stdout.reconfigure(errors="backslashreplace")
"""
THREAD = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
WORKERS = """
import multiprocessing

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(abs, [-1]))
"""


def both_ways(argv, directory, how=None):
    """(status, output, errors) of a forked and of a started program; how: the signal sent once it has printed a line."""
    for kind in Forked, subprocess.Popen:
        process = kind([sys.executable, *map(str, argv)], cwd=directory, env={**os.environ, "ONE_MORE": "1"}, text=True,
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        if how:
            process.stdout.readline()
            assert process.poll() is None
            os.killpg(process.pid, how)
        yield process.communicate("given", timeout=60), process.returncode


@pytest.mark.parametrize("code", [SURROUNDINGS, WORKERS])
def test_a_file_runs_in_the_same_surroundings(code, tmp_path):
    (tmp_path / "program.py").write_text(code)
    forked, started = both_ways(["program.py", "a b", "ä"], tmp_path)
    assert forked == started and forked[1] == 0, forked


@pytest.mark.parametrize("code, status", [
    ("print(1)", 0), ("import sys; sys.exit(3)", 3), ("import sys; sys.exit('why')", 1), ("import os; os._exit(4)", 4),
    ("import atexit; atexit.register(print, 'at the end')", 0), (THREAD, 0), ("import os; os.abort()", -signal.SIGABRT)])
def test_it_ends_with_the_same_status(code, status):
    forked, started = both_ways(["-c", SURROUNDINGS + code, "argument"], ROOT)
    assert forked == started and forked[1] == status, forked


@pytest.mark.parametrize("how, status", [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM),
                                         (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_ends_it(how, status):
    results = [*both_ways(["-c", "import time; print('up', flush=True); time.sleep(60)"], ROOT, how)]
    assert [(returned, errors.splitlines()[-1:]) for (_, errors), returned in results] == 2 * [
        (status, ["KeyboardInterrupt"] if how == signal.SIGINT else [])]


def test_an_error_is_printed():
    for (_, errors), status in both_ways(["-m", "tests.helpers.no_such_module"], ROOT):
        assert status == 1 and "No module named tests.helpers.no_such_module" in errors.splitlines()[-1]
