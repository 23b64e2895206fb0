"""Killed while they write and started again, the programs that prepare data give what an undisturbed run gives."""
import os
import signal
import time

import numpy as np
import pytest

from tests.helpers import processes
from tests.helpers.clips import encode
from tests.helpers.files import tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")
# program -> its arguments, and what exists once it is at work but not done
PROGRAMS = {
    "make_dataset": ("{src} mine --extract --height 64 -j 2 --out {out}/mine --dataset_file {out}/own.yaml",
                     "mine/frames_64/*/*/000001.jpg"),
    "make_gestures": ("--out {out}/gestures --videos 64 --size 64x64 -j 2", "gestures/videos/*.mp4"),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for label in ("waving", "clapping"):
        (root / label).mkdir()
        for number in range(12):
            encode(root / label / f"{number}.mp4", list(rng.integers(0, 255, (24, 64, 96, 3), np.uint8)))
    return root


def start(program, videos, out):
    out.mkdir(exist_ok=True)
    return processes.start(f"tools/{program}.py", *PROGRAMS[program][0].format(src=videos, out=out).split(),
                           env={"TSM_CACHE": str(out.parent / "cache")})


def stopped_midway(program, videos, out, how):
    """Whether the run was stopped while it was at work; False if it was over by then."""
    process = start(program, videos, out)
    while process.poll() is None and not any(out.glob(PROGRAMS[program][1])):
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, how)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("program", PROGRAMS)
def test_started_again_equals_an_undisturbed_run(videos, tmp_path, program, how):
    out = next(out for attempt in range(5)
               if stopped_midway(program, videos, out := tmp_path / f"attempt_{attempt}", how))
    assert start(program, videos, tmp_path / "whole").wait(timeout=120) == 0
    whole = tree(tmp_path / "whole")
    assert len(tree(out)) < len(whole) and not (out / "own.yaml").exists()
    assert start(program, videos, out).wait(timeout=120) == 0
    again = tree(out)
    assert set(again) == set(whole)
    assert {name for name in whole if again[name] != whole[name]} <= {"own.yaml"}  # the paths in it differ
