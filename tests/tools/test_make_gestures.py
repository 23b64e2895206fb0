"""tools/make_gestures.py: interruptions, refusals, its summary."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.helpers.files import tree
from tests.helpers.gestures import decoded
from tests.helpers.processes import messages

TOOL = [sys.executable, str(ROOT / "tools" / "make_gestures.py")]


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_run_leaves_only_complete_files(tmp_path, sent, status):
    out = tmp_path / "data"
    command = [*TOOL, "--out", str(out), "--videos", "2000", "--size", "64x48", "-j", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(list(out.glob("videos/*.mp4"))) < 8:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sent)
    error = process.communicate(timeout=20)[1]  # ends when the workers have closed it too
    assert process.returncode == status
    if sent == signal.SIGINT:
        assert error.splitlines() == ["make_gestures.py: interrupted"]
        assert not list(out.glob("videos/.*"))
    assert not (out / "train.json").exists()
    done = tree(out)
    for name in [name for name in done if name.endswith(".mp4")]:
        decoded(out / name)
    time.sleep(0.3)
    assert tree(out) == done  # no process is still writing


@pytest.mark.parametrize("arguments, message", [
    (["--videos", "0"], "error: --videos 0: choose 8 to 1000000"),
    (["--size", "96by72"], "error: --size '96by72': choose WIDTHxHEIGHT"),
    (["--format", "avi"], "error: --format 'avi': choose mp4 or webm"),
])
def test_wrong_arguments_are_a_one_line_error(tmp_path, arguments, message):
    done = subprocess.run([*TOOL, "--out", str(tmp_path / "data"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_it_prints_a_summary(tmp_path):
    done = subprocess.run([*TOOL, "--out", str(tmp_path / "data"), "--videos", "8", "--size", "32x32", "-j", "1"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and messages(done.stderr) == ""
    assert re.fullmatch(r".*data: 8 videos \(6 train, 2 validation\), 8 made, 0 kept, 0\.\d MB, \d+\.\d s\n",
                        done.stdout)
