"""The demo from sources to decisions and videos: real codecs, a real server, real processes that are killed."""
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from online_demo import capture as capture_module
from online_demo import main as demo
from online_demo.capture import Capture, Frame, Mailbox
from online_demo.recorder import Recorder
from ops.common.errors import UserError
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.streaming import sources as stream_sources
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import Address, Camera, Directory, Ticks, VideoFile, open_source
from ops.streaming.stream import Stream, frame_transform
from tests.conftest import ROOT
from tests.helpers.clips import clip, coded_image, encode, number_of, real_video
from tests.helpers.programs import assert_refused, run
from tests.helpers.streaming import assert_no_capture_left, camera, decoded, file, make_weights, served

FAST_START = {"container_options": {"movflags": "faststart"}}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    assert_no_capture_left()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights") / "small.pth.tar")


@pytest.fixture
def play(monkeypatch, capfd, weights):
    """play(source, *flags): the program without a window; gives its status, decisions and standard error."""
    def play(source, *flags):
        done = run(monkeypatch, capfd, "online_demo.main", source, "--weights", weights, "--headless", "--json", *flags)
        return done, [json.loads(line) for line in done.out.splitlines()]
    return play


def frames_of(source, rate=1000.0, **options):
    with Capture(source, rate, **options) as capture:
        while not capture.ended:
            if (frame := capture.take(0.5)) is not None:
                yield frame


# ---- what the model sees ------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_preprocessing_is_that_of_the_data_set(tmp_path, weights, name):
    """The demo on a video, and on its frames in a directory, bit for bit as the data set gives the same frames."""
    online, path = OnlineTSM(weights), real_video(name)
    transform, p = frame_transform(online.preprocessing), online.preprocessing
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    data = TSNDataSet(path.parent, tmp_path / "list.txt", num_segments=6, test_mode=True,
                      transform=TestProtocol().transform(p["scale_size"], p["crop_size"], roll=False))
    shots = list(VideoFile(path).shots())
    numbers = data.segment_frames(len(shots))
    images = [shots[number - 1].read() for number in numbers]
    wanted = data[0][0].view(6, 3, 64, 64)
    assert torch.equal(torch.cat([transform(image) for image in images]), wanted)

    (tmp_path / "frames").mkdir()
    for number, image in zip(numbers, images):
        image.save(tmp_path / "frames" / f"{number}.png")
    in_directory = [transform(frame.read()) for frame in frames_of(Directory(tmp_path / "frames", 12))]
    assert torch.equal(torch.cat(in_directory), wanted)

    # The same by hand, from another conversion to RGB.
    image = Image.fromarray(decoded(path)[1][numbers[2] - 1])
    scale = 73 / min(image.size)
    image = image.resize([73 if side == min(image.size) else int(side * scale) for side in image.size], Image.BILINEAR)
    left, top = round((image.width - 64) / 2), round((image.height - 64) / 2)
    pixels = np.asarray(image.crop((left, top, left + 64, top + 64)), float) / 255
    by_hand = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    seen = online.prepare(transform(images[2]))[0].permute(1, 2, 0).numpy()
    assert np.abs(seen - by_hand).mean() < 0.03
    assert np.abs(seen - by_hand[:, :, ::-1]).mean() > 0.05  # BGR would be seen here


def test_cameras_images_are_rgb_and_an_unplugged_one_is_told(monkeypatch, play):
    opened, read = [], cv2.VideoCapture

    def plugged(index, api):
        """The camera is a file, read by OpenCV itself."""
        opened.append((index, api))
        return read(str(real_video("bikes.mp4")))

    monkeypatch.setattr(stream_sources.cv2, "VideoCapture", plugged)
    _, images = decoded(real_video("bikes.mp4"))
    for image, shot in zip(images[:3], Camera(2).shots()):
        image = np.asarray(shot.read(), float)
        assert np.abs(image - image).mean() < 2 < np.abs(image[:, :, ::-1] - image).mean()
        assert shot.time is None
    assert opened == [(2, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)]

    done, decisions = play("webcam:1")
    assert_refused(done, "webcam:1", "no more images", "plugged in")
    assert opened[1][0] == 1 and decisions and 0 <= decisions[0]["time"] < 0.5


@given(source=st.floats(1, 120), rate=st.floats(1, 60), jitter=st.lists(st.floats(-0.1, 0.1), min_size=200,
                                                                        max_size=200))
def test_the_model_gets_its_rate_or_everything(source, rate, jitter):
    ticks = Ticks(rate)
    times = [(number + off) / source for number, off in enumerate(jitter)]
    taken = [seconds for seconds in times if ticks.due(max(0.0, seconds))]
    wanted = min(200, 200 / source * rate)
    if source < 0.7 * rate:
        assert len(taken) == 200
    elif source > 1.1 * rate:
        assert abs(len(taken) - wanted) <= 2


@pytest.mark.parametrize("source, rate, taken", [
    (24, 12, [0, 2, 4, 6, 8]), (12, 12, [0, 1, 2, 3, 4]), (30, 12, [0, 3, 5, 8, 10]), (25, 10, [0, 3, 5, 8, 10])])
def test_every_tick_has_its_image(source, rate, taken):
    ticks = Ticks(rate)
    rounded = [round(number / source, 3) for number in range(60)]  # as Matroska writes times
    assert [number for number, seconds in enumerate(rounded) if ticks.due(seconds)][:5] == taken


# ---- from capture to decisions ------------------------------------------------------------------------------

def frame(number, due=True, fresh=False):
    return Frame(lambda: number, number, due, fresh, 0.0)


def test_the_mailbox_holds_the_newest_frame_and_hands_its_turn_on():
    box = Mailbox()
    box.put(frame(0, fresh=True), wait=False)
    for number in range(1, 5):
        box.put(frame(number, due=number == 2), wait=False)
    taken = box.take(0)
    assert (taken.time, taken.due, taken.fresh, box.dropped) == (4, True, True, 1)
    assert box.take(0.01) is None and not box.ended
    box.put(frame(5, due=False), wait=False)
    box.close(UserError("unplugged"))
    assert box.take(0).time == 5 and not box.ended
    with pytest.raises(UserError, match="unplugged"):
        box.take(0)


def test_a_waiting_mailbox_loses_nothing_and_lets_go_when_closed():
    box = Mailbox()
    thread = threading.Thread(target=lambda: [box.put(frame(number), wait=True) for number in range(50)])
    thread.start()
    assert [box.take(5).time for _ in range(40)] == list(range(40)) and box.dropped == 0
    box.close()
    thread.join(5)
    assert not thread.is_alive()


def test_headless_decisions_are_those_of_the_stream(tmp_path, play, weights):
    """Every image of a real file, in order, at its own time; each decision as the library gives it."""
    output = tmp_path / "annotated.mp4"
    path = real_video("carphone_pristine.mp4")
    done, decisions = play(path, "--output", output, "--max_seconds", 1.5, "--topk", 2)
    assert done.status == 0

    online, ticks = OnlineTSM(weights), Ticks(12)
    stream, transform = Stream(online), frame_transform(online.preprocessing)
    times = [number * 1001 / 30000 for number in range(45)]
    due = [number for number, seconds in enumerate(times) if ticks.due(seconds)]
    shots = list(itertools.islice(VideoFile(path).shots(), 45))
    assert [row["time"] for row in decisions] == pytest.approx([times[number] for number in due], abs=1e-4)
    for row, number in zip(decisions, due):
        wanted = stream.push(transform(shots[number].read()))[0]
        assert row["class"] == wanted.name
        assert row["probability"] == pytest.approx(wanted.probability, abs=2e-4)
        assert row["top"][0][1] == pytest.approx(float(wanted.probabilities.max()), abs=2e-4) and len(row["top"]) == 2
        assert 0 < row["latency"] < 5
    assert len({row["probability"] for row in decisions}) > 5  # or the comparison above says little
    written, images = decoded(output)
    assert written == pytest.approx(times, abs=1e-4)
    assert f"the model saw {len(due)} frames in 1.5 seconds" in done.err and "dropped" not in done.err
    shown = cv2.resize(np.asarray(shots[40].read()), (587, 480), interpolation=cv2.INTER_CUBIC)
    assert np.abs(images[40][:480, :587].astype(float) - shown).mean() < 6  # the colors survived, too


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
    # What the model gets is new however slow it is: no delay builds up.
    assert decisions[-1]["time"] > 1.5 and max(row["latency"] for row in decisions[1:]) < 1.5

    done, decisions = play(path, "--rate", 5)
    assert len(decisions) == 10 and "dropped" not in done.err


def test_rate_threshold_and_smoothing(tmp_path, play):
    path = clip(tmp_path / "second.mp4", 25)
    frame_rate = make_weights(tmp_path / "rate.pth.tar", frame_rate=5.0)
    assert len(play(path)[1]) == 12  # the default
    assert len(play(path, "--weights", frame_rate)[1]) == 5
    assert len(play(path, "--weights", frame_rate, "--rate", 8)[1]) == 8
    _, raw = play(path, "--smooth", "none")
    _, smooth = play(path)
    assert raw[0]["probability"] == smooth[0]["probability"]
    assert raw[3]["probability"] != smooth[3]["probability"]
    slow = [[row["probability"] for row in play(path, "--weights", frame_rate, *flags)[1]]
            for flags in ([], ["--smooth", "none"], ["--smooth", "published"])]
    assert slow[0] == slow[1] != slow[2], "12 frames are too long a time below 6 frames per second"
    limit = sorted(row["probability"] for row in raw)[6]
    _, sure = play(path, "--smooth", "none", "--threshold", limit)
    assert [row["class"] is None for row in sure] == [row["probability"] < limit for row in sure]
    assert any(row["class"] is None for row in sure) and any(row["class"] for row in sure)


def test_an_assumed_rate_is_said(tmp_path, play):
    path = clip(tmp_path / "v.mp4", 3)
    assert "small.pth.tar does not tell its model's frame rate: taken for 12 per second" in play(path)[0].err
    assert "--rate" in play(path)[0].err and "frame rate" not in play(path, "--rate", 12)[0].err
    told = make_weights(tmp_path / "rate.pth.tar", frame_rate=5)
    assert "frame rate" not in play(path, "--weights", told)[0].err


@pytest.mark.parametrize("rate", ["fast", float("nan"), 0, -12.0, float("inf"), True, [12]])
def test_a_rate_that_is_none_is_refused(tmp_path, play, rate):
    wrong = make_weights(tmp_path / "rate.pth.tar", frame_rate=rate)
    done, decisions = play(clip(tmp_path / "v.mp4", 3), "--weights", wrong)
    assert_refused(done, "rate.pth.tar: its frame_rate is", "above 0", "convert_to_online.py --frame_rate")
    assert not decisions


def test_a_directory_in_the_order_of_its_numbers(tmp_path, play):
    for number in (1, 2, 10, 9, 100):
        Image.fromarray(coded_image(number)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._1.jpg").write_bytes(b"what macOS leaves beside an image")
    assert [number_of(frame.read()) for frame in frames_of(Directory(tmp_path, 12))] == [1, 2, 9, 10, 100]
    assert [row["time"] for row in play(tmp_path, "--folder_rate", 4)[1]] == [0, 0.25, 0.5, 0.75, 1]
    (tmp_path / "9.jpg").write_bytes(b"\xff\xd8 cut off")
    done, decisions = play(tmp_path)
    assert_refused(done, "9.jpg", "unreadable frame")
    assert len(decisions) == 2


def test_directories_that_cannot_be_read(monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")
    for name, words in (("listdir", f"cannot read the directory {tmp_path}: Permission denied"), ("stat", "no such source")):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=words):
            patch.setattr(os, name, refuse)
            open_source(str(tmp_path), 12)


def test_a_frame_that_cannot_become_a_image_is_one_line(tmp_path, monkeypatch, play):
    whole, seen = stream_sources.frame_image, []

    def convert(*args):
        seen.append(args)
        if len(seen) == 3:
            raise av.error.ArgumentError(22, "Invalid argument")
        return whole(*args)
    monkeypatch.setattr(stream_sources, "frame_image", convert)
    done, decisions = play(clip(tmp_path / "odd.mp4", 25))
    assert_refused(done, "odd.mp4: a frame cannot be made into an image: Invalid argument")
    assert len(decisions) == 2 and "the model saw 2 frames" in done.err


# ---- sources that fail --------------------------------------------------------------------------------------

def test_a_truncated_file_gives_what_is_there(tmp_path, play):
    whole = clip(tmp_path / "whole.mp4", 50, options={"g": "5"}, **FAST_START)
    cut, output = tmp_path / "cut.mp4", tmp_path / "out.mp4"
    cut.write_bytes(whole.read_bytes()[:-whole.stat().st_size // 3])
    done, decisions = play(cut, "--output", output)
    assert_refused(done, str(cut), "truncated")
    times, _ = decoded(output)
    assert 15 < len(times) < 50 and times[0] == 0
    wanted = play(whole)[1][:len(decisions)]
    assert [row["time"] for row in decisions] == [row["time"] for row in wanted]
    assert [row["probability"] for row in decisions[:-1]] == [row["probability"] for row in wanted[:-1]]


def test_a_live_address_that_changes_size_and_dies(tmp_path, play):
    output = tmp_path / "out.mp4"
    images = [coded_image(255, *size) for size in [(96, 64)] * 8 + [(64, 96)] * 8]  # white
    with served(cam=camera(lambda: images, 0.1)) as url:
        done, decisions = play(f"{url.replace('//', '//user:secret@')}/cam", "--output", output, "--rate", 1000)
    assert_refused(done, "/cam", "cannot be read" if "cannot" in done.err else "the stream ended")
    assert "secret" not in done.err
    times, shown = decoded(output)
    assert shown.shape[1:] == (564, 1060, 3)  # one size, the first one's
    assert len(decisions) == len(times) > 5 and times == sorted(times)
    assert shown[0][240, 30].min() > 200 and shown[0][240, 360].min() > 200
    assert shown[-1][240, 30].max() < 30 and shown[-1][240, 360].min() > 200  # upright, between black bars


def test_reconnecting_to_a_live_address(tmp_path, monkeypatch, play):
    monkeypatch.setattr(capture_module, "RETRY", 0.2)
    image = coded_image(5)
    with served(cam=camera(lambda: [image] * 4, 0.03)) as url:
        done, decisions = play(f"{url}/cam", "--reconnect", "--rate", 1000, "--max_seconds", 1.5, "--smooth", "none")
    assert done.status == 0
    assert done.err.count("trying again every 0.2 s") >= 2
    times = [row["time"] for row in decisions]
    assert times == sorted(times) and 1 < times[-1] < 1.5 and len(times) <= 32
    # Nothing of before a gap is remembered: the same image gives what it gave at first, and no other one does.
    first = [row["time"] for row in decisions if row["probability"] == decisions[0]["probability"]]
    assert 2 <= len(first) < len(times) and min(np.diff(first)) > 0.2


def test_a_file_behind_an_address_is_played_whole_also_when_the_connection_breaks(tmp_path, monkeypatch, play):
    monkeypatch.setattr(capture_module, "RETRY", 0.1)
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


def test_an_address_that_hangs(tmp_path, monkeypatch, play):
    monkeypatch.setattr(stream_sources, "TIMEOUT", 0.5)
    end = threading.Event()
    with served(cam=camera(lambda: [coded_image(1)] * 5, 0.03, stays=end)) as url:
        done, decisions = play(f"{url}/cam")
        end.set()
    assert_refused(done, "no answer for 0.5 seconds")
    assert decisions


@pytest.mark.parametrize("source, flags, words", [
    ("nowhere.mp4", [], ["no such source", "webcam:N", "directory of frames"]),
    ("ftp://host/v", [], ["rtsp://", "not with ftp://"]),
    ("http://127.0.0.1:9/v", [], ["http://127.0.0.1:9/v", "refused"]),
    ("EMPTY", [], ["no frames in this directory", ".jpg"]),
    ("TEXT", [], ["cannot be read as a video"]),
    ("VIDEO", ["--rate", "0"], ["--rate 0", "above 0"]),
    ("VIDEO", ["--rate", "inf"], ["--rate inf"]),
    ("VIDEO", ["--threshold", "1.5"], ["--threshold 1.5", "0 to 1"]),
    ("VIDEO", ["--topk", "0"], ["--topk 0"]),
    ("VIDEO", ["--smooth", "more"], ["--smooth", "published", "none"]),
    ("VIDEO", ["--device", "tpu"], ["--device 'tpu'"]),
    ("VIDEO", ["--output", "out.avi"], ["only .mp4"]),
    ("VIDEO", ["--output", "VIDEO"], ["is the source itself"]),
    ("VIDEO", ["--output", "no/such/out.mp4"], ["no/such is not a directory"]),
    ("VIDEO", ["--weights", "none.pth"], ["no such checkpoint"]),
    ("webcam:77", [], ["webcam:77 cannot be opened", "cameras of this machine"]),
])
def test_wrong_inputs(tmp_path, monkeypatch, play, source, flags, words):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXT").write_text("no video " * 99)
    path = tmp_path / source
    clip(tmp_path / "VIDEO.mp4", 2).rename(tmp_path / "VIDEO")
    monkeypatch.chdir(tmp_path)
    done, decisions = play(path if path.exists() else source, *flags)
    assert_refused(done, *words)
    assert not decisions and len(done.err.strip().splitlines()) <= 2


def test_options_that_do_nothing_are_named(tmp_path, play):
    done, _ = play(clip(tmp_path / "v.mp4", 2), "--reconnect", "--fullscreen", "--mirror", "--folder_rate", 3)
    assert done.status == 0
    assert [line.split()[0] for line in done.err.splitlines() if "does nothing here" in line] == [
        "--fullscreen", "--mirror", "--reconnect", "--folder_rate"]


def test_real_time_does_nothing_where_it_is_so_anyhow(tmp_path, caplog):
    def ignored(source, window):
        caplog.clear()
        args = demo.build_parser().parse_args([source, "--realtime"])
        demo.warn_of_ignored(args, open_source(source, 12), window)
        return caplog.text
    path = str(clip(tmp_path / "v.mp4", 2))
    assert "--realtime does nothing here" in ignored(path, window=object())
    assert "--realtime does nothing here" in ignored("webcam", window=None)
    assert not ignored(path, window=None) and not ignored("http://host/v.mp4", window=None)


def test_the_demo_model_says_what_it_is(tmp_path, monkeypatch, weights, capfd):
    monkeypatch.setattr(demo, "DEMO_WEIGHTS", weights)
    path = clip(tmp_path / "v.mp4", 2)
    done = run(monkeypatch, capfd, "online_demo.main", path, "--weights", "demo", "--headless")
    assert done.status == 0
    told = next(line for line in done.err.splitlines() if line.startswith("--weights demo: "))
    assert "drawn gestures (Left, Right, Up, Down)" in told and "nothing of real hands" in told
    assert told.endswith("gestures.mp4")


def test_the_default_weights_and_the_way_to_them(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/mobilenetv2_jester_online.pth.tar: get it with python"
                                        " tools/download_weights.py .*--weights FILE.*--weights demo"):
        demo.find_weights(None)
    (tmp_path / "mobilenetv2_jester_online.pth.tar").write_bytes(b"")
    assert demo.find_weights(None) == tmp_path / "mobilenetv2_jester_online.pth.tar"
    monkeypatch.setattr(demo, "DEMO_WEIGHTS", tmp_path / "demo.pth.tar")
    with pytest.raises(UserError, match="demo.pth.tar yet: bash scripts/quickstart.sh"):
        demo.find_weights("demo")
    (tmp_path / "demo.pth.tar").write_bytes(b"")
    assert demo.find_weights("demo") == tmp_path / "demo.pth.tar"


@pytest.mark.parametrize("text, kind", [("webcam", Camera), ("webcam:3", Camera), ("/dev/video3", Camera),
                                        ("rtsp://host/a", Address), ("https://host/a.m3u8", Address)])
def test_kinds_of_sources(text, kind):
    source = open_source(text, 12)
    assert type(source) is kind
    assert kind is Address or source.index == (3 if "3" in text else 0)


# ---- the written video --------------------------------------------------------------------------------------

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


def test_a_full_disk_is_one_error(tmp_path, play):
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
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # handed back


def test_real_processes_that_are_interrupted_leave_videos_that_play(tmp_path, weights):
    def said(number):
        return [json.loads(line) for line in (tmp_path / f"{number}.json").read_text().splitlines(keepends=True)
                if line.endswith("}\n")]

    def start(number):
        with open(tmp_path / f"{number}.json", "w") as out, open(tmp_path / f"{number}.log", "w") as err:
            return subprocess.Popen(
                [sys.executable, "online_demo/main.py", f"{url}/cam", "--weights", weights, "--headless", "--json",
                 "--output", tmp_path / f"{number}.mp4"], cwd=ROOT, stdout=out, stderr=err,
                env={**os.environ, "OMP_NUM_THREADS": "1"})

    endings = {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}
    with served(cam=camera(lambda: itertools.repeat(coded_image(9), 2000), 0.03)) as url:
        processes = {number: start(number) for number in endings}
        for number, process in processes.items():
            while not said(number) or said(number)[-1]["time"] < 3:
                time.sleep(0.1)
                assert process.poll() is None
            process.send_signal(number)
            assert process.wait(20) == endings[number]
            assert "Traceback" not in (tmp_path / f"{number}.log").read_text()
            times, images = decoded(tmp_path / f"{number}.mp4")
            assert times == sorted(times) and images.shape[1:] == (564, 1060, 3)
            lost = said(number)[-1]["time"] - times[-1]
            assert lost < (0.2 if number == signal.SIGINT else 2.5), f"the last {lost:.1f} seconds are lost"
