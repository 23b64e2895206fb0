"""Extracting frames with the vid2img commands: odd names, broken videos, refusals, interrupted runs."""
import os
import random
import re
import signal
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ops.common.errors import UserError
from ops.prepare.extract import extract_directory, extract_video
from tests.helpers import processes
from tests.helpers.clips import clip, encode, images_in, number_of
from tests.helpers.files import tree
from tests.helpers.processes import messages, worker_processes

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks up processes in /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="needs process groups and signals")


def leftovers(directory):
    return [path.name for path in directory.rglob(".*") if path.name != ".vid2img.json"]


def start(tool, *args):
    return processes.start(ROOT / "tools" / tool, *args, cwd=Path.cwd())


def call(tool, *args):
    process = start(tool, *args)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, messages(err)


def test_quality_sets_the_jpeg_tables(tmp_path):
    clip(tmp_path / "v.mp4", 1)
    for quality in (40, 92):
        extract_video(tmp_path / "v.mp4", tmp_path / str(quality), quality=quality)
    Image.new("RGB", (8, 8)).save(tmp_path / "reference.jpg", quality=92)
    reference = Image.open(tmp_path / "reference.jpg").quantization
    assert Image.open(tmp_path / "92" / "000001.jpg").quantization == reference
    assert Image.open(tmp_path / "40" / "000001.jpg").quantization != reference


def audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def mixed(tmp_path):
    """(directory, names of good videos, bad videos -> a word of the reason)"""
    source = tmp_path / "videos"
    source.mkdir()
    good = ["plain", "with space", "it's \"quoted\"", "$(touch hacked)", "-rf", "--height", "ünï-日本", "a.b.c",
            "a;b&c|d", "%06d", "concat:x", "new\nline"]
    for number, name in enumerate(good):
        clip(source / (name + (".mp4" if number % 2 else ".mkv")), 3)
    (source / "plain.mkv").rename(source / "plain.MKV")
    (source / "text.mp4").write_text("this is no video\n" * 30)
    (source / "empty.mp4").write_bytes(b"")
    (source / "playlist.mp4").write_text("ffconcat version 1.0\nfile a.b.c.mp4\n")
    (source / "cut.mkv").write_bytes((source / "ünï-日本.mkv").read_bytes()[:-200])
    (source / "dangling.webm").symlink_to("nowhere.webm")
    audio_only(source / "sound.mp4")
    os.mkfifo(source / "pipe.mp4")
    bad = {"text.mp4": "Invalid data", "empty.mp4": "empty", "playlist.mp4": "cannot be read as a video",
           "cut.mkv": "truncated", "dangling.webm": "No such file", "sound.mp4": "no video stream",
           "pipe.mp4": "regular file"}
    (source / "notes.txt").write_text("not asked for")
    (source / ".hidden.mp4").write_text("a file system's own")
    (source / "directory.mp4").mkdir()
    return source, good, bad


@posix
def test_odd_names_and_broken_videos(mixed, tmp_path):
    source, good, bad = mixed
    status, out, err = call("vid2img_sthv2.py", source, tmp_path / "frames", "-j", 2, "--height", 32)
    assert status == 2 and "Traceback" not in err
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == sorted(good + [".vid2img.json"])
    for name in good:
        assert [number_of(image) for image in images_in(tmp_path / "frames" / name)] == [0, 1, 2]
    failures = dict(line[len("failed: "):].split(": ", 1) for line in err.splitlines())
    assert sorted(failures) == sorted(bad)
    for name, word in bad.items():
        assert word in failures[name]
    assert out.startswith(f"{len(good) + len(bad)} videos: {len(good)} extracted, 0 already there, {len(bad)} failed;"
                          f" {3 * len(good)} frames;")
    assert not (tmp_path / "hacked").exists() and not (ROOT / "hacked").exists()


@posix
def test_names_that_are_not_utf8(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    clip(tmp_path / "v.mp4", 2).rename(os.fsdecode(os.fsencode(source) + b"/\xff\xfe.mp4"))
    (source / os.fsdecode(b"\xfd.mp4")).write_text("broken")
    summary = extract_directory(source, tmp_path / "frames", workers=1)
    assert (summary.extracted, summary.images) == (1, 2)
    assert len(list((tmp_path / "frames" / os.fsdecode(b"\xff\xfe")).iterdir())) == 2
    summary.failures[0][0].encode("utf-8")  # can be printed
    assert summary.failures[0][0] == r"\udcfd.mp4"


def test_kinetics_keeps_the_class_directories(tmp_path):
    for name in ("riding a bike/x_000001_000011.mp4", "riding a bike/-y.webm", "yoga/x_000001_000011.mp4"):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        clip(tmp_path / "src" / name, 4)
    (tmp_path / "src" / "stray.mp4").write_text("in no class")
    status, out, err = call("vid2img_kinetics.py", tmp_path / "src", tmp_path / "dst")
    assert (status, err) == (0, "") and out.startswith("3 videos: 3 extracted, 0 already there, 0 failed; 12 frames;")
    assert sorted(set(tree(tmp_path / "dst")) - {".vid2img.json"}) == sorted(
        f"{name}/img_{n:05d}.jpg" for name in ("riding a bike/x_000001_000011", "riding a bike/-y",
                                               "yoga/x_000001_000011") for n in (1, 2, 3, 4))
    assert Image.open(tmp_path / "dst/yoga/x_000001_000011/img_00001.jpg").size == (497, 331)  # 96 x 331 / 64 = 496.5


# ---- refusals ------------------------------------------------------------------------------------------------

def test_two_videos_for_one_directory_are_refused_before_anything_is_written(tmp_path):
    clip(tmp_path / "a.mp4", 2)
    clip(tmp_path / "a.webm", 2)
    status, out, err = call("vid2img_sthv2.py", tmp_path, tmp_path / "frames")
    assert status == 2 and err.count("\n") == 1 and "a.mp4 and a.webm" in err
    assert not (tmp_path / "frames").exists()
    assert call("vid2img_sthv2.py", tmp_path, tmp_path / "frames", "--ext", "webm", "-j", 1)[0] == 0


@pytest.mark.parametrize("changed, difference", [
    ({"height": 33}, "height 32 there, 33 now"), ({"quality": 50}, "quality 92 there, 50 now"),
    ({"template": "img_{:05d}.jpg"}, "template {:06d}.jpg there, img_{:05d}.jpg now")])
def test_frames_of_other_settings_do_not_mix(tmp_path, changed, difference):
    (tmp_path / "v").mkdir()
    clip(tmp_path / "v" / "a.mp4", 2)
    extract_directory(tmp_path / "v", tmp_path / "f", height=32, workers=1)
    before = tree(tmp_path / "f")
    with pytest.raises(UserError, match=re.escape(f"holds frames made with other settings ({difference}): ")):
        extract_directory(tmp_path / "v", tmp_path / "f", **{"height": 32, "workers": 1, **changed})
    assert tree(tmp_path / "f") == before


def test_frames_of_another_program_do_not_mix(tmp_path):
    (tmp_path / "v").mkdir()
    clip(tmp_path / "v" / "a.mp4", 2)
    (tmp_path / "f" / "a").mkdir(parents=True)
    (tmp_path / "f" / "a" / "000001.jpg").write_text("from ffmpeg")
    with pytest.raises(UserError, match="by another program"):
        extract_directory(tmp_path / "v", tmp_path / "f", workers=1)


def test_an_empty_directory_is_filled_and_other_content_is_kept(tmp_path):
    (tmp_path / "v").mkdir()
    for name in ("a", "b", "c"):
        clip(tmp_path / "v" / f"{name}.mp4", 2)
        (tmp_path / "f" / name).mkdir(parents=True)
    (tmp_path / "f" / "b" / "notes.txt").write_text("mine")
    (tmp_path / "f" / "c").rmdir()
    (tmp_path / "f" / "c").write_text("a file")
    summary = extract_directory(tmp_path / "v", tmp_path / "f", workers=1)
    assert summary.extracted == 1 and [name for name, _ in summary.failures] == ["b.mp4", "c.mp4"]
    assert all("exists already" in reason for _, reason in summary.failures)
    assert (tmp_path / "f" / "b" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("args, words", [
    (["nowhere", "f"], "cannot read the directory"), (["empty", "f"], "no videos"), (["v", "v/a.mp4"], "cannot write"),
    (["v", "f", "--height", "-1"], "height -1"), (["v", "f", "--quality", "0"], "quality 0"),
    (["v", "f", "-j", "0"], "workers 0"), (["v", "f", "--height", "x"], "invalid int"), (["v"], "required")])
def test_wrong_arguments_are_a_one_line_error(tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v").mkdir()
    (tmp_path / "empty").mkdir()
    clip(tmp_path / "v" / "a.mp4", 2)
    status, out, err = call("vid2img_sthv2.py", *args)
    assert (status, out) == (2, "") and err.count("\n") == 1 and words in err
    assert not (tmp_path / "f").exists()


@posix
def test_a_second_run_in_the_same_directory_is_refused(tmp_path):
    import fcntl
    (tmp_path / "v").mkdir()
    (tmp_path / "f").mkdir()
    clip(tmp_path / "v" / "a.mp4", 2)
    handle = os.open(tmp_path / "f", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another run is writing into"):
        extract_directory(tmp_path / "v", tmp_path / "f", workers=1)
    os.close(handle)
    assert extract_directory(tmp_path / "v", tmp_path / "f", workers=1).extracted == 1


# ---- interruptions -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """Thirty short videos, and the frames that an uninterrupted run extracts from them."""
    base = tmp_path_factory.mktemp("thirty")
    (base / "videos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    for number in range(30):
        images = [np.roll(noise, (number, 3 * n), (0, 1)) for n in range(12)]
        encode(base / "videos" / f"clip {number}.mp4", images)
    status, _, err = call("vid2img_sthv2.py", base / "videos", base / "whole", "-j", 2)
    assert (status, err) == (0, "")
    return base / "videos", base / "whole"


def wait_for(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.002)


def finished(frames):
    return sum(not entry.name.startswith(".") for entry in os.scandir(frames)) if frames.is_dir() else 0


@posix
def test_killed_and_resumed_runs_equal_an_uninterrupted_one(thirty, tmp_path):
    videos, whole = thirty
    seed = random.SystemRandom().randrange(2 ** 32)  # different moments each time; a failure shows the seed
    frames, rng, midway = tmp_path / "frames", random.Random(seed), 0
    # The longest wait comes last: on a fast machine it is enough for all that is left, and no later kill would be midway.
    for target, longest in ((0, 0.1), (3, 0.05), (12, 0.05), (22, 0.05), (0, 0.6)):
        process = start("vid2img_sthv2.py", videos, frames, "-j", 2)
        wait_for(lambda: process.poll() is not None or frames.is_dir() and finished(frames) >= target)
        time.sleep(rng.uniform(0, longest))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        midway += 0 < finished(frames) < 30
        for directory in frames.iterdir():  # a directory under its name is complete at any moment
            if not directory.name.startswith("."):
                assert tree(directory) == tree(whole / directory.name), f"Random({seed})"
    assert midway >= 2, f"Random({seed})"
    status, out, err = call("vid2img_sthv2.py", videos, frames, "-j", 2)
    assert (status, err) == (0, "") and tree(frames) == tree(whole), f"Random({seed})"
    assert sorted(path.name for path in frames.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert call("vid2img_sthv2.py", videos, frames)[1].startswith("30 videos: 0 extracted, 30 already there, 0 failed;")


@linux
def test_a_dead_worker_ends_the_run_with_a_reason(thirty, tmp_path):
    videos, whole = thirty
    process = start("vid2img_sthv2.py", videos, tmp_path / "frames", "-j", 2)
    wait_for(lambda: finished(tmp_path / "frames") >= 3)
    os.kill(worker_processes(process)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2 and messages(err).count("\n") == 1 and "a worker process died" in err and "clip " in err
    assert call("vid2img_sthv2.py", videos, tmp_path / "frames", "-j", 1)[0] == 0
    assert tree(tmp_path / "frames") == tree(whole)


@linux
def test_workers_end_if_only_their_parent_is_killed(thirty, tmp_path):
    process = start("vid2img_sthv2.py", thirty[0], tmp_path / "frames", "-j", 2)
    wait_for(lambda: finished(tmp_path / "frames") >= 3)
    workers = worker_processes(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists()
                             and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() for pid in workers), 10)


@posix
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_clean(thirty, tmp_path, workers):
    process = start("vid2img_sthv2.py", thirty[0], tmp_path / "frames", "-j", workers)
    wait_for(lambda: finished(tmp_path / "frames") >= 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process of the group
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out, messages(err)) == (130, "", "vid2img_sthv2.py: interrupted\n")
    assert 0 < finished(tmp_path / "frames") < 30 and not leftovers(tmp_path / "frames")
