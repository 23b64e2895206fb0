"""The recorded video: times, colors, and files that play however the program ends."""
import itertools
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from online_demo.recorder import Recorder
from tests.helpers import processes
from tests.helpers.clips import clip, coded_image
from tests.helpers.programs import assert_refused
from tests.helpers.streaming import camera, decoded, served


def test_the_recorder_keeps_times_and_colors(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"an older one")
    times = [0, 0.1, 0.1, 0.5, 0.4, 3.0]
    colors = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]
    with Recorder(path) as recorder:
        assert path.read_bytes() == b"an older one"
        for number, seconds in enumerate(times):
            recorder.write(np.full((64, 96, 3), colors[number % 3], np.uint8), seconds)
    written, images = decoded(path)
    assert written == pytest.approx([0, 0.1, 0.1, 0.5, 0.5, 3.0], abs=1e-3)
    assert np.abs(images.mean((1, 2)) - [colors[number % 3] for number in range(6)]).max() < 6
    with Recorder(tmp_path / "none.mp4"):
        pass
    assert not (tmp_path / "none.mp4").exists()


def test_a_full_disk_is_one_line(tmp_path, play):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    (tmp_path / "out.mp4").symlink_to("/dev/full")
    done, _ = play(clip(tmp_path / "v.mp4", 25), "--output", tmp_path / "out.mp4")
    assert_refused(done, "--output", "out.mp4", "No space left")


def test_sigterm_completes_the_video(tmp_path, play):
    output = tmp_path / "out.mp4"
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))
    with served(cam=camera(lambda: itertools.repeat(coded_image(9), 300), 0.03)) as url:
        timer.start()
        done, decisions = play(f"{url}/cam", "--output", output)
    assert done.status == 143 and "Traceback" not in done.err and "the model saw" in done.err
    times, _ = decoded(output)
    assert len(times) >= len(decisions) > 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # restored


def test_an_interrupted_or_killed_process_leaves_a_video_that_plays(tmp_path, weights):
    def printed(number):
        return [json.loads(line) for line in (tmp_path / f"{number}.json").read_text().splitlines(keepends=True)
                if line.endswith("}\n")]

    def start(number):
        with open(tmp_path / f"{number}.json", "w") as out, open(tmp_path / f"{number}.log", "w") as err:
            return processes.start("online_demo/main.py", f"{url}/cam", "--weights", weights, "--headless", "--json",
                                   "--output", tmp_path / f"{number}.mp4", stdout=out, stderr=err)

    endings = {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}
    with served(cam=camera(lambda: itertools.repeat(coded_image(9), 2000), 0.03)) as url:
        for number, process in {number: start(number) for number in endings}.items():
            while not printed(number) or printed(number)[-1]["time"] < 3:
                time.sleep(0.1)
                assert process.poll() is None
            process.send_signal(number)
            assert process.wait(20) == endings[number]
            assert "Traceback" not in (tmp_path / f"{number}.log").read_text()
            times, images = decoded(tmp_path / f"{number}.mp4")
            assert times == sorted(times) and images.shape[1:] == (564, 1060, 3)
            lost = printed(number)[-1]["time"] - times[-1]
            assert lost < (0.2 if number == signal.SIGINT else 2.5), f"the last {lost:.1f} seconds are lost"
