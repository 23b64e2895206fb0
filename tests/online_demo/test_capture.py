"""Capture: the mailbox, slow machines, and live addresses that fail and come back."""
import threading
import time

import numpy as np
import pytest

from online_demo import capture
from online_demo.capture import CapturedFrame, Mailbox
from ops.common.errors import UserError
from ops.streaming import sources
from ops.streaming.stream import Stream
from tests.helpers.clips import clip, coded_image, encode
from tests.helpers.programs import assert_refused
from tests.helpers.streaming import FAST_START, camera, decoded, file, served


def frame(number, due=True, restart=False):
    return CapturedFrame(lambda: number, number, due, restart, 0.0)


def test_a_newer_frame_inherits_due_and_restart():
    box = Mailbox()
    box.put(frame(0, restart=True), wait=False)
    for number in range(1, 5):
        box.put(frame(number, due=number == 2), wait=False)
    taken = box.take(0)
    assert (taken.time, taken.due, taken.restart, box.dropped) == (4, True, True, 1)
    assert box.take(0.01) is None and not box.ended
    box.put(frame(5, due=False), wait=False)
    box.close(UserError("unplugged"))
    assert box.take(0).time == 5 and not box.ended
    with pytest.raises(UserError, match="unplugged"):
        box.take(0)


def test_a_waiting_put_loses_no_frame_and_ends_when_the_mailbox_is_closed():
    box = Mailbox()
    thread = threading.Thread(target=lambda: [box.put(frame(number), wait=True) for number in range(50)])
    thread.start()
    assert [box.take(5).time for _ in range(40)] == list(range(40)) and box.dropped == 0
    box.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_slow_machine_drops_frames_in_real_time_only(tmp_path, monkeypatch, play):
    path = clip(tmp_path / "two_seconds.mp4", 50)
    push = Stream.push

    def slow(self, frames):
        time.sleep(0.25)
        return push(self, frames)
    monkeypatch.setattr(Stream, "push", slow)
    begin = time.perf_counter()
    done, decisions = play(path, "--realtime", "--rate", 12)
    assert time.perf_counter() - begin < 15
    seen, dropped = len(decisions), int(done.err.split(" more were dropped")[0].rsplit(maxsplit=1)[-1])
    assert seen + dropped == 24 and dropped >= 14
    assert f"the model saw {seen} frames" in done.err and "too slow" in done.err
    # The model always gets a new frame: no delay builds up.
    assert decisions[-1]["time"] > 1.5 and max(row["latency"] for row in decisions[1:]) < 1.5

    done, decisions = play(path, "--rate", 5)
    assert len(decisions) == 10 and "dropped" not in done.err


def test_a_live_address_is_reconnected_with_an_empty_state(tmp_path, monkeypatch, play):
    monkeypatch.setattr(capture, "RETRY", 0.2)
    image = coded_image(5)
    with served(cam=camera(lambda: [image] * 4, 0.03)) as url:
        done, decisions = play(f"{url}/cam", "--reconnect", "--rate", 1000, "--max_seconds", 1.5, "--smooth", "none")
    assert done.status == 0
    assert done.err.count("trying again every 0.2 s") >= 2
    times = [row["time"] for row in decisions]
    assert times == sorted(times) and 1 < times[-1] < 1.5 and len(times) <= 32
    # The state is reset after each gap: the first frame of a connection, and only that one, gives the first probability.
    first = [row["time"] for row in decisions if row["probability"] == decisions[0]["probability"]]
    assert 2 <= len(first) < len(times) and min(np.diff(first)) > 0.2


def test_a_file_behind_an_address_is_played_once_although_the_connection_breaks(tmp_path, monkeypatch, play):
    monkeypatch.setattr(capture, "RETRY", 0.1)
    path = encode(tmp_path / "v.mp4", [coded_image(number) for number in range(40)], {"g": "5"}, **FAST_START)
    content = path.read_bytes()
    with served(whole=file(content), broken=file(content, [len(content) // 2]),
                dies=file(content, [len(content) // 2] * 9)) as url:
        wanted = [row["time"] for row in play(path)[1]]
        assert [row["time"] for row in play(f"{url}/whole.mp4")[1]] == wanted
        done, decisions = play(f"{url}/broken.mp4", "--reconnect")
        assert done.status == 0 and "trying again" in done.err
        assert [row["time"] for row in decisions] == wanted
        done, decisions = play(f"{url}/dies.mp4")
        assert_refused(done, "dies.mp4")
        assert 0 < len(decisions) < len(wanted)


def test_a_live_address_that_changes_size_and_ends(tmp_path, play):
    output = tmp_path / "out.mp4"
    images = [coded_image(255, *size) for size in [(96, 64)] * 8 + [(64, 96)] * 8]  # white
    with served(cam=camera(lambda: images, 0.1)) as url:
        done, decisions = play(f"{url.replace('//', '//user:secret@')}/cam", "--output", output, "--rate", 10000)
    assert_refused(done, "/cam", "cannot be read" if "cannot" in done.err else "the stream ended")
    assert "secret" not in done.err
    times, shown = decoded(output)
    assert shown.shape[1:] == (564, 1060, 3)  # the size of the first frame
    assert len(decisions) == len(times) > 5 and times == sorted(times)
    assert shown[0][240, 30].min() > 200 and shown[0][240, 360].min() > 200
    assert shown[-1][240, 30].max() < 30 and shown[-1][240, 360].min() > 200  # upright, between black bars


def test_an_address_that_falls_silent_is_one_line(tmp_path, monkeypatch, play):
    monkeypatch.setattr(sources, "TIMEOUT", 0.5)
    end = threading.Event()
    with served(cam=camera(lambda: [coded_image(1)] * 5, 0.03, stays=end)) as url:
        done, decisions = play(f"{url}/cam")
        end.set()
    assert_refused(done, "no data for 0.5 seconds")
    assert decisions
