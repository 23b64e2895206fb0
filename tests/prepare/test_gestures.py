import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import av
import numpy as np
import pytest

from ops.common.errors import UserError
from ops.data.list_files import read_list
from ops.dataset_config import resolve_dataset
from ops.prepare.gestures import dataset as gestures_data
from ops.prepare.gestures import make as gestures
from ops.prepare.gestures.make import VIDEOS, make_gestures
from ops.prepare.gestures.render import CLASSES, render_clip
from tests.conftest import ROOT
from tests.helpers.programs import assert_refused, run

TOOL = [sys.executable, str(ROOT / "tools" / "make_gestures.py")]
SMALL = (64, 48)


def decoded(path):
    """Frames (T, H, W, 3), codec name, and the packets' sizes of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames, sizes = [], []
        for packet in container.demux(stream):
            sizes += [packet.size] if packet.size else []
            assert packet.is_keyframe or not packet.size
            frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
        return np.stack(frames), stream.codec_context.name, np.array(sizes)


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("gestures") / "data"
    return out, make_gestures(out, videos=36, seed=5, val=0.25, workers=1)


# ---------------------------------------------------------------- made on first use

def test_made_on_first_use_equals_what_the_tools_make(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ops.prepare.gestures.dataset.VIDEOS", 9)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    capfd.readouterr()
    located = resolve_dataset("gestures", "RGB", str(tmp_path / "used"), needed=["train_list", "val_list"])
    said = capfd.readouterr().err
    assert "gestures: 100%" in said and "9/9" in said
    assert located.class_names == list(CLASSES) and len(read_list(located.train_list)) == 7
    monkeypatch.undo()
    directory = tmp_path / "tools" / "gestures"
    for program, *argv in (["make_gestures", "--out", directory, "--videos", 9],
                           ["vid2img_sthv2", directory / "videos", directory / "frames", "--height", 0],
                           ["gen_label_sthv2", "--labels", directory, "--frames", directory / "frames", "--out", directory]):
        assert run(monkeypatch, capfd, f"tools.{program}", *argv).status == 0
    made = contents(directory)
    assert contents(tmp_path / "used" / "gestures") == made and len(made) > 200
    monkeypatch.setattr("ops.prepare.gestures.dataset.make_gestures", lambda *args: pytest.fail("made again"))
    resolve_dataset("gestures", "RGB", str(tmp_path / "used"))


def test_first_use_the_command_and_the_quickstart_make_equally_many_videos():
    import tools.make_gestures
    import tools.quickstart
    assert tools.quickstart.build_parser().parse_args([]).videos == VIDEOS == gestures_data.VIDEOS
    assert tools.make_gestures.build_parser().parse_args(["--out", "x"]).videos == VIDEOS


@pytest.mark.parametrize("more, words", [
    (["--arch", "resnet19"], "--arch 'resnet19'"), (["--shift_place", "foo"], "--shift_place 'foo'"),
    (["--resume", "nowhere.pth"], "no such checkpoint: nowhere.pth"), (["--dropout", 1], "--dropout 1.0"),
    (["--tune_from", "nowhere.pth"], "no such checkpoint: nowhere.pth"),
    (["--pretrain", "nowhere.pth"], "no such checkpoint: nowhere.pth")])
def test_wrong_flags_are_told_before_a_data_set_is_made(more, words, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ops.prepare.gestures.dataset.prepare_gestures", lambda root: pytest.fail("made the data set first"))
    assert_refused(run(monkeypatch, capfd, "main", "gestures", "RGB", "--shift", "--root_dataset", tmp_path, *more), words)


# ---------------------------------------------------------------- the files

def test_lists_have_the_form_of_something_something_v2(made):
    out, summary = made
    assert {key: summary[key] for key in ("videos", "train", "validation", "made", "kept")} == {
        "videos": 36, "train": 27, "validation": 9, "made": 36, "kept": 0}
    labels = json.loads((out / "labels.json").read_text())
    assert labels == {name: str(index) for index, name in enumerate(CLASSES)}
    ids = []
    for part, count in (("train", 27), ("validation", 9)):
        entries = json.loads((out / f"{part}.json").read_text())
        assert len(entries) == count
        ids += [entry["id"] for entry in entries]
        found = Counter()
        for entry in entries:
            assert set(entry) == {"id", "label", "template", "placeholders"}
            found[labels[entry["template"].replace("[", "").replace("]", "")]] += 1  # as the label tools do
            assert len(entry["placeholders"]) == entry["template"].count("[")
            filled = entry["template"]
            for thing in entry["placeholders"]:
                filled = re.sub(r"\[\w+\]", thing, filled)
            assert entry["label"] == filled.lower()
        assert max(found.values()) - min(found[str(label)] for label in range(8)) <= 1
    assert sorted(ids, key=int) == [str(index) for index in range(1, 37)]


def test_videos_are_h264_of_the_right_size_and_length(made):
    out, summary = made
    lengths = set()
    for index in range(1, 37):
        frames, codec, sizes = decoded(out / "videos" / f"{index}.mp4")
        assert (codec, frames.shape[1:]) == ("h264", (72, 96, 3))
        assert 20 <= len(frames) == len(sizes) <= 60
        lengths.add(len(frames))
    assert len(lengths) > 10
    assert sorted(entry.name for entry in (out / "videos").iterdir()) == sorted(f"{i}.mp4" for i in range(1, 37))
    assert summary["bytes"] == sum(entry.stat().st_size for entry in (out / "videos").iterdir())


def test_videos_show_what_was_rendered(made):
    """Video 7 is render_clip of its label, from the generator that the seed and its number give."""
    out, _ = made
    template = json.loads((out / "train.json").read_text())[6]["template"]
    label = CLASSES.index(re.sub(r"[\[\]]", "", template))
    clip = render_clip(label, np.random.default_rng(np.random.SeedSequence(5, spawn_key=(7,))))
    frames, _, _ = decoded(out / "videos" / "7.mp4")
    assert frames.shape == clip.shape
    assert np.abs(frames.astype(int) - clip).mean() < 8


def test_webm_holds_vp9(tmp_path):
    make_gestures(tmp_path / "data", videos=8, size=SMALL, fmt="webm", workers=1)
    for index in range(1, 9):
        frames, codec, _ = decoded(tmp_path / "data" / "videos" / f"{index}.webm")
        assert (codec, frames.shape[1:]) == ("vp9", (48, 64, 3)) and 20 <= len(frames) <= 60


def test_the_number_of_workers_changes_no_byte(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        make_gestures(tmp_path / name, videos=24, seed=1, size=SMALL, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    make_gestures(tmp_path / "other", videos=8, seed=2, size=SMALL, workers=1)
    ours, other = contents(tmp_path / "one"), contents(tmp_path / "other")
    assert all(ours[f"videos/{i}.mp4"] != other[f"videos/{i}.mp4"] for i in range(1, 9))


# -------------------------------------------------- interruptions and refusals

def test_a_second_call_makes_only_what_is_missing(tmp_path):
    out = tmp_path / "data"
    settings = dict(videos=16, seed=3, size=SMALL, workers=1)
    make_gestures(out, **settings)
    before = contents(out)
    for index in (2, 9):
        (out / "videos" / f"{index}.mp4").unlink()
    (out / "videos" / "11.mp4").write_bytes(b"")  # a power cut
    (out / "videos" / ".9.mp4.partial-0a1b2c3d").write_bytes(b"half a video")  # a kill
    (out / "train.json").unlink()
    kept = (out / "videos" / "5.mp4").stat().st_mtime_ns
    summary = make_gestures(out, **settings)
    assert (summary["made"], summary["kept"]) == (3, 13)
    assert contents(out) == before
    assert (out / "videos" / "5.mp4").stat().st_mtime_ns == kept


def test_killed_between_its_first_two_files(tmp_path, monkeypatch):
    settings = dict(videos=8, size=(32, 32), workers=1)
    written = []

    def killed(path, *settings, **words):
        written.append(path.name)
        write(path, *settings, **words)
        raise KeyboardInterrupt
    write = gestures.agree_on_settings
    monkeypatch.setattr(gestures, "agree_on_settings", killed)
    with pytest.raises(KeyboardInterrupt):
        make_gestures(tmp_path / "data", **settings)
    assert written == ["gestures.json"] and not (tmp_path / "data" / "videos").exists()
    monkeypatch.undo()
    assert make_gestures(tmp_path / "data", **settings)["made"] == 8


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupted_and_started_again(tmp_path, sent, status):
    out = tmp_path / "data"
    command = [*TOOL, "--out", str(out), "--videos", "2000", "--size", "64x48", "-j", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(list(out.glob("videos/*.mp4"))) < 8:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sent)
    error = process.communicate(timeout=20)[1]  # ends once the workers have closed it too
    assert process.returncode == status
    if sent == signal.SIGINT:
        assert error.splitlines() == ["make_gestures.py: interrupted"]
        assert not list(out.glob("videos/.*"))
    assert not (out / "train.json").exists()
    done = contents(out)
    for name in [name for name in done if name.endswith(".mp4")]:
        decoded(out / name)
    time.sleep(0.3)
    assert contents(out) == done  # nobody is still writing


@pytest.mark.parametrize("change, message", [
    (dict(videos=7), "^videos 7: choose 8 or more"),
    (dict(val=0.0), "^val 0.0: choose a fraction between 0 and 1"),
    (dict(val=0.01), "^val 0.01: .* on either side"),
    (dict(size=(97, 72)), "^size 97x72: choose two even numbers from 32 to 1024"),
    (dict(size=(96, 30)), "^size 96x30: choose two even numbers"),
    (dict(size=(2048, 72)), "^size 2048x72: choose two even numbers"),
    (dict(fmt="avi"), "^format 'avi': choose mp4 or webm"),
    (dict(seed=-1), "^seed -1: choose 0 or more"),
    (dict(workers=0), "^workers 0: choose 1 or more"),
])
def test_impossible_settings_are_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        make_gestures(tmp_path / "data", **{"videos": 16, "workers": 1, **change})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("change, message", [
    (dict(seed=4), r"made with other settings \(seed 3 there, 4 now\): use the same settings, or name another directory"),
    (dict(videos=9), "videos 8 there, 9 now"),
    (dict(size=SMALL), r"size \[32, 32\] there, \[64, 48\] now"),
    (dict(fmt="webm"), "fmt mp4 there, webm now"),
])
def test_a_directory_of_other_settings_is_refused(tmp_path, change, message):
    settings = dict(videos=8, seed=3, size=(32, 32), workers=1)
    make_gestures(tmp_path, **settings)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message):
        make_gestures(tmp_path, **{**settings, **change})
    assert contents(tmp_path) == before


def test_directories_that_are_not_ours_are_refused(tmp_path):
    (tmp_path / "real" / "videos").mkdir(parents=True)
    with pytest.raises(UserError, match="holds videos, made by another program .*no gestures.json"):
        make_gestures(tmp_path / "real", videos=8, workers=1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "gestures.json").write_text("{")
    with pytest.raises(UserError, match="gestures.json is damaged"):
        make_gestures(tmp_path / "broken", videos=8, workers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot write the data set there"):
        make_gestures(tmp_path / "file", videos=8, workers=1)


@pytest.mark.parametrize("arguments, message", [
    (["--videos", "0"], "error: --videos 0: choose 8 or more"),
    (["--size", "96by72"], "error: --size '96by72': choose WIDTHxHEIGHT"),
    (["--format", "avi"], "error: --format 'avi': choose mp4 or webm"),
])
def test_the_tool_refuses_with_one_line_and_status_2(tmp_path, arguments, message):
    done = subprocess.run([*TOOL, "--out", str(tmp_path / "data"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_the_tool_ends_with_a_summary(tmp_path):
    done = subprocess.run([*TOOL, "--out", str(tmp_path / "data"), "--videos", "8", "--size", "32x32", "-j", "1"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert re.fullmatch(r".*data: 8 videos \(6 train, 2 validation\), 8 made, 0 kept, 0\.\d MB, \d+\.\d s\n",
                        done.stdout)
