"""The demo as a program: decisions, flags, and one line for every wrong input."""
import itertools

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from online_demo import main as demo
from ops.common.errors import UserError
from ops.streaming import sources
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import FrameSelector, VideoFile, open_source
from ops.streaming.stream import Stream, frame_transform
from tests.helpers.clips import clip, coded_image, real_video
from tests.helpers.programs import assert_refused, run
from tests.helpers.streaming import FAST_START, decoded, make_weights, plug_in


def test_headless_decisions_are_those_of_the_stream(tmp_path, play, weights):
    """Every due frame of a real file, in order and at its time, with the decision that the library makes."""
    output = tmp_path / "annotated.mp4"
    path = real_video("carphone_pristine.mp4")
    done, decisions = play(path, "--output", output, "--max_seconds", 1.5, "--topk", 2)
    assert done.status == 0

    online, selector = OnlineTSM(weights), FrameSelector(12)
    stream, transform = Stream(online), frame_transform(online.preprocessing)
    times = [number * 1001 / 30000 for number in range(45)]
    due = [number for number, seconds in enumerate(times) if selector.due(seconds)]
    frames = list(itertools.islice(VideoFile(path).frames(), 45))
    assert [row["time"] for row in decisions] == pytest.approx([times[number] for number in due], abs=1e-4)
    for row, number in zip(decisions, due):
        wanted = stream.push(transform(frames[number].read()))[0]
        assert row["class"] == wanted.name
        assert row["probability"] == pytest.approx(wanted.probability, abs=2e-4)
        assert row["top"][0][1] == pytest.approx(float(wanted.probabilities.max()), abs=2e-4) and len(row["top"]) == 2
        assert 0 < row["latency"] < 5
    assert len({row["probability"] for row in decisions}) > 5  # otherwise the comparison above proves little
    written, images = decoded(output)
    assert written == pytest.approx(times, abs=1e-4)
    assert f"the model saw {len(due)} frames in 1.5 seconds" in done.err and "dropped" not in done.err
    shown = cv2.resize(np.asarray(frames[40].read()), (587, 480), interpolation=cv2.INTER_CUBIC)
    assert np.abs(images[40][:480, :587].astype(float) - shown).mean() < 6  # the colors are right, too


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
    assert slow[0] == slow[1] != slow[2], "below 6 frames per second, 12 frames take too long"
    limit = sorted(row["probability"] for row in raw)[6]
    _, sure = play(path, "--smooth", "none", "--threshold", limit)
    assert [row["class"] is None for row in sure] == [row["probability"] < limit for row in sure]
    assert any(row["class"] is None for row in sure) and any(row["class"] for row in sure)


def test_an_assumed_rate_is_logged(tmp_path, play):
    path = clip(tmp_path / "v.mp4", 3)
    assert "small.pth.tar does not hold its model's frame rate: assuming 12 per second" in play(path)[0].err
    assert "the demo's option rate" in play(path)[0].err and "frame rate" not in play(path, "--rate", 12)[0].err
    stored = make_weights(tmp_path / "rate.pth.tar", frame_rate=5)
    assert "frame rate" not in play(path, "--weights", stored)[0].err


@pytest.mark.parametrize("rate", ["fast", float("nan"), 0, -12.0, float("inf"), True, [12]])
def test_a_stored_rate_that_is_not_a_rate_is_refused(tmp_path, play, rate):
    wrong = make_weights(tmp_path / "rate.pth.tar", frame_rate=rate)
    done, decisions = play(clip(tmp_path / "v.mp4", 3), "--weights", wrong)
    assert_refused(done, "rate.pth.tar: its frame_rate is", "above 0", "convert_to_online.py")
    assert not decisions


def test_a_directory_of_frames_has_its_own_rate(tmp_path, play):
    for number in range(1, 6):
        Image.fromarray(coded_image(number)).save(tmp_path / f"{number}.jpg")
    assert [row["time"] for row in play(tmp_path, "--folder_rate", 4)[1]] == [0, 0.25, 0.5, 0.75, 1]
    (tmp_path / "3.jpg").write_bytes(b"\xff\xd8 cut off")
    done, decisions = play(tmp_path)
    assert_refused(done, "3.jpg", "unreadable frame")
    assert len(decisions) == 2


# ---- sources that fail --------------------------------------------------------------------------------------

def test_an_unplugged_camera_is_one_line(monkeypatch, play):
    opened = plug_in(monkeypatch, real_video("bikes.mp4"))
    done, decisions = play("webcam:1")
    assert_refused(done, "webcam:1", "no more frames", "plugged in")
    assert opened[0][0] == 1 and decisions and 0 <= decisions[0]["time"] < 0.5


def test_decisions_before_a_broken_frame_are_printed(tmp_path, monkeypatch, play):
    whole, seen = sources.frame_image, []

    def convert(*args):
        seen.append(args)
        if len(seen) == 3:
            raise av.error.ArgumentError(22, "Invalid argument")
        return whole(*args)
    monkeypatch.setattr(sources, "frame_image", convert)
    done, decisions = play(clip(tmp_path / "odd.mp4", 25))
    assert_refused(done, "odd.mp4: a frame cannot be converted to an image: Invalid argument")
    assert len(decisions) == 2 and "the model saw 2 frames" in done.err


def test_a_truncated_file_is_played_to_its_end(tmp_path, play):
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


# ---- flags --------------------------------------------------------------------------------------------------

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
    ("VIDEO", ["--output", "VIDEO"], ["--output", "would overwrite the input"]),
    ("VIDEO", ["--output", "no/such/out.mp4"], ["no/such is not a writable directory"]),
    ("VIDEO", ["--weights", "none.pth"], ["no such checkpoint"]),
    ("webcam:77", [], ["webcam:77 cannot be opened", "cameras of this machine"]),
])
def test_wrong_inputs(tmp_path, monkeypatch, play, source, flags, words):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXT").write_text("not a video " * 99)
    path = tmp_path / source
    clip(tmp_path / "VIDEO.mp4", 2).rename(tmp_path / "VIDEO")
    monkeypatch.chdir(tmp_path)
    done, decisions = play(path if path.exists() else source, *flags)
    assert_refused(done, *words)
    assert not decisions and len(done.err.strip().splitlines()) <= 2


def test_flags_without_effect_are_named(tmp_path, play):
    done, _ = play(clip(tmp_path / "v.mp4", 2), "--reconnect", "--fullscreen", "--mirror", "--folder_rate", 3)
    assert done.status == 0
    assert [line.split()[0] for line in done.err.splitlines() if "has no effect here" in line] == [
        "--fullscreen", "--mirror", "--reconnect", "--folder_rate"]


def test_realtime_has_no_effect_on_what_is_real_time_already(tmp_path, caplog):
    def ignored(source, window):
        caplog.clear()
        args = demo.build_parser().parse_args([source, "--realtime"])
        demo.warn_ignored(args, open_source(source, 12), window)
        return caplog.text
    path = str(clip(tmp_path / "v.mp4", 2))
    assert "--realtime has no effect here" in ignored(path, window=object())
    assert "--realtime has no effect here" in ignored("webcam", window=None)
    assert not ignored(path, window=None) and not ignored("http://host/v.mp4", window=None)


def test_the_demo_model_is_described(tmp_path, monkeypatch, weights, capfd):
    monkeypatch.setattr(demo, "DEMO_WEIGHTS", weights)
    path = clip(tmp_path / "v.mp4", 2)
    done = run(monkeypatch, capfd, "online_demo.main", path, "--weights", "demo", "--headless")
    assert done.status == 0
    line = next(line for line in done.err.splitlines() if line.startswith("--weights demo: "))
    assert "rendered gestures (Left, Right, Up, Down)" in line and "does not recognise real hands" in line
    assert line.endswith("gestures.mp4")


def test_missing_weights_come_with_the_command_that_gets_them(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/mobilenetv2_jester_online.pth.tar: get it with python"
                                        " tools/download_weights.py .*--weights FILE.*--weights demo"):
        demo.find_weights(None)
    (tmp_path / "mobilenetv2_jester_online.pth.tar").write_bytes(b"")
    assert demo.find_weights(None) == tmp_path / "mobilenetv2_jester_online.pth.tar"
    monkeypatch.setattr(demo, "DEMO_WEIGHTS", tmp_path / "demo.pth.tar")
    with pytest.raises(UserError, match="demo.pth.tar yet: run bash scripts/quickstart.sh"):
        demo.find_weights("demo")
    (tmp_path / "demo.pth.tar").write_bytes(b"")
    assert demo.find_weights("demo") == tmp_path / "demo.pth.tar"
