"""Extracting optical flow: known motions, the three layouts, lists, refusals, interrupted runs."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from ops.data.tsn_dataset import TSNDataSet
from ops.prepare.extract import extract_video
from ops.prepare.extract_flow import extract_flow_directory, write_flow_list
from ops.prepare.optical_flow import extract_flow, scale_flow
from ops.video.frames import FlowDirectory
from tests.helpers import processes
from tests.helpers.clips import encode
from tests.helpers.files import tree
from tests.helpers.processes import messages
from tests.helpers.programs import assert_refused, run

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 96)  # height, width


def moving(count=4, dx=3, dy=-2, seed=0, size=SIZE):
    """Frames of a soft texture that moves by (dx, dy) pixels per frame."""
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (height + 200, width + 200), np.uint8)
    soft = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX)
    corners = [(100 - n * dy, 100 - n * dx) for n in range(count)]
    return [np.dstack([soft[y:y + height, x:x + width]] * 3) for y, x in corners]


def write_frames(directory, images, template="img_{:05d}.jpg"):
    directory.mkdir(parents=True)
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(directory / template.format(number), quality=95)


def motion(image):
    """The median displacement in a flow image, in pixels."""
    return float(np.median(np.asarray(image, float)) / 127.5 - 1) * 20


def start(*args):
    return processes.start("tools/extract_flow.py", *args)


# ---- values --------------------------------------------------------------------------------------------------

def test_the_published_scaling():
    pixels = np.array([-100, -20, -19.9, -1, 0, 1, 10, 20, 1e9])
    assert scale_flow(pixels).tolist() == [0, 0, 1, 121, 128, 134, 191, 255, 255]
    assert scale_flow(pixels, bound=10).tolist() == [0, 0, 0, 115, 128, 140, 255, 255, 255]
    assert scale_flow(np.zeros((2, 3, 2), np.float32), bound=7).tolist() == np.full((2, 3, 2), 128).tolist()


@pytest.mark.parametrize("dx, dy", [(3, -2), (-5, 0), (0, 4)])
def test_the_flow_of_a_video_is_its_known_motion(tmp_path, dx, dy):
    video = encode(tmp_path / "v.mp4", moving(4, dx, dy))
    assert extract_flow(video, tmp_path / "flow" / "v", height=0) == 3
    assert sorted(path.name for path in (tmp_path / "flow" / "v").iterdir()) == [
        f"flow_{axis}_{n:05d}.jpg" for axis in "xy" for n in (1, 2, 3)]
    for n in (1, 2, 3):
        pair = FlowDirectory(tmp_path / "flow", "flow_{}_{:05d}.jpg").load("v", [n])
        assert [image.mode for image in pair] == ["L", "L"]
        assert [motion(image) for image in pair] == pytest.approx([dx, dy], abs=0.3)


def test_all_layouts_load_as_the_same_flow(tmp_path):
    video = encode(tmp_path / "42.mp4", moving(3))
    loaded = {}
    forms = {"ucf": "flow_{}_{:05d}.jpg", "something_v1": "{:06d}-{}_{:05d}.jpg", "rgb": "{:06d}.jpg"}
    for layout, form in forms.items():
        summary = extract_flow_directory(tmp_path, tmp_path / layout, workers=1, layout=layout, height=0)
        assert (summary.extracted, summary.images, summary.failures) == (1, 2, [])
        loaded[layout] = FlowDirectory(tmp_path / layout, form).load("42", [1, 2])
    assert (tmp_path / "something_v1" / "000042" / "000042-y_00002.jpg").exists() and video.exists()
    for layout, images in loaded.items():
        assert len(images) == 4
        for image, same in zip(images, loaded["ucf"]):
            assert np.abs(np.asarray(image, int) - np.asarray(same, int)).max() <= 6, layout  # JPEG's own loss
    assert np.asarray(Image.open(tmp_path / "rgb" / "42" / "000001.jpg"))[..., 2].max() <= 6


def test_flow_of_frames_equals_that_of_their_video_and_may_share_their_directory(tmp_path):
    video = encode(tmp_path / "clip a.mp4", moving(4))
    extract_video(video, tmp_path / "jpg" / "clip a", "img_{:05d}.jpg", height=0)
    extract_flow(video, tmp_path / "flow" / "clip a", height=0)
    before = tree(tmp_path / "jpg")
    summary = extract_flow_directory(tmp_path / "jpg", tmp_path / "jpg", frames=True, workers=1, height=0)
    assert (summary.extracted, summary.failures) == (1, [])
    after = tree(tmp_path / "jpg")
    assert len(after) == 4 + 6 + 1 and before.items() <= after.items()
    for name, content in tree(tmp_path / "flow").items():  # the frames were compressed once more than the video
        flow, same = (np.asarray(Image.open(tmp_path / directory / name), int) for directory in ("flow", "jpg"))
        assert np.abs(flow - same).mean() < 3
    again = extract_flow_directory(tmp_path / "jpg", tmp_path / "jpg", frames=True, workers=1, height=0)
    assert (again.extracted, again.existing) == (0, 1)


def test_frames_are_scaled_before_their_flow_is_computed(tmp_path):
    write_frames(tmp_path / "in" / "c" / "v", moving(2, 4, 0, size=(128, 192)), "{:06d}.jpg")
    write_frames(tmp_path / "in" / "c" / "w", moving(2, 4, 0, size=(64, 96)), "{:05d}.jpg")
    summary = extract_flow_directory(tmp_path / "in", tmp_path / "out", frames=True, by_class=True, workers=1, height=64)
    assert summary.failures == []
    half, whole = (Image.open(tmp_path / "out" / "c" / name / "flow_x_00001.jpg") for name in "vw")
    assert half.size == whole.size == (96, 64)
    assert motion(half) == pytest.approx(2, abs=0.3) and motion(whole) == pytest.approx(4, abs=0.3)


def test_tvl1_is_used_if_opencv_has_it_and_refused_otherwise(tmp_path, monkeypatch, capfd):
    write_frames(tmp_path / "in" / "v", moving(2))
    args = (tmp_path / "in", tmp_path / "out", "--frames", "--method", "tvl1", "-j", 1)
    monkeypatch.delattr(cv2, "optflow", raising=False)
    assert_refused(run(monkeypatch, capfd, "tools.extract_flow", *args), "opencv-contrib", "--method dis")
    assert not (tmp_path / "out").exists()
    tvl1 = SimpleNamespace(calc=lambda first, second, flow: np.full(first.shape + (2,), 7, np.float32))
    monkeypatch.setattr(cv2, "optflow", SimpleNamespace(DualTVL1OpticalFlow_create=lambda: tvl1), raising=False)
    assert run(monkeypatch, capfd, "tools.extract_flow", *args).status == 0
    assert motion(Image.open(tmp_path / "out" / "v" / "flow_y_00001.jpg")) == pytest.approx(7, abs=0.2)


@pytest.mark.skipif(not hasattr(cv2, "optflow"), reason="needs opencv-contrib-python-headless")
def test_the_real_tvl1_gives_a_known_motion(tmp_path):
    write_frames(tmp_path / "in" / "v", moving(2, 3, -2))
    assert extract_flow(tmp_path / "in" / "v", tmp_path / "out" / "v", method="tvl1", height=0) == 1
    pair = FlowDirectory(tmp_path / "out", "flow_{}_{:05d}.jpg").load("v", [1])
    assert [motion(image) for image in pair] == pytest.approx([3, -2], abs=0.3)


# ---- runs ----------------------------------------------------------------------------------------------------

def test_broken_videos_are_listed_and_the_others_extracted(tmp_path, monkeypatch, capfd):
    src = tmp_path / "in"
    write_frames(src / "good", moving(3))
    write_frames(src / "one frame", moving(1))
    write_frames(src / "gap", moving(4))
    (src / "gap" / "img_00003.jpg").unlink()
    write_frames(src / "sizes", moving(2))
    Image.new("RGB", (40, 30)).save(src / "sizes" / "img_00002.jpg")
    write_frames(src / "tiny", moving(2, size=(4, 4)))
    write_frames(src / "broken", moving(2))
    (src / "broken" / "img_00002.jpg").write_bytes(b"\xff\xd8 no image")
    (src / "empty").mkdir()
    done = run(monkeypatch, capfd, "tools.extract_flow", src, tmp_path / "out", "--frames", "--height", 0, "-j", 1)
    assert done.status == 2
    assert done.out.startswith("7 videos: 1 extracted, 0 already there, 6 failed; 2 frames;")
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    for name, reason in (("broken", "unreadable frame"), ("empty", "no first frame"),
                         ("gap", "img_00003.jpg is missing"), ("one frame", "only one frame"),
                         ("sizes", "frame 2 has 40x30 pixels, the first 96x64"),
                         ("tiny", "no flow from frame 1")):
        assert any(line.startswith(f"failed: {name}: ") and reason in line for line in failed), (name, failed)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["good"]


def test_lists_count_pairs_of_flow_images(tmp_path, monkeypatch, capfd):
    for name, count in (("a b", 3), ("c", 5)):
        write_frames(tmp_path / "jpg" / "some class" / name, moving(count))
    train, val = tmp_path / "train.txt", tmp_path / "val.txt"
    train.write_text("some class/a b 3 7\nsome class/gone 9 1\n")
    val.write_text("some class/c 5 0\n")
    done = run(monkeypatch, capfd, "tools.extract_flow", tmp_path / "jpg", tmp_path / "flow", "--frames", "--by_class",
               "--layout", "rgb", "-j", 1, "--list", train, tmp_path / "t" / "flow_train.txt",
               "--list", val, tmp_path / "flow_val.txt")
    assert done.status == 2 and "some class/gone: no directory of flow" in done.err
    assert (tmp_path / "t" / "flow_train.txt").read_text() == "some class/a b 2 7\n"
    assert (tmp_path / "flow_val.txt").read_text() == "some class/c 4 0\n"


def test_lists_of_video_files_at_any_depth(tmp_path, monkeypatch, capfd):
    """The lists that make_dataset writes for videos that are read in place."""
    for name in ("train/wave/a b.mp4", "train/wave/sub/c.mov", "val/clap/d.mp4", "val/clap/d.mp4.avi"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        encode(tmp_path / "v" / name, moving(4))
    (tmp_path / "train.txt").write_text("train/wave/a b.mp4 4 1\ntrain/wave/sub/c.mov 4 1\ntrain/gone.mp4 4 0\n")
    (tmp_path / "val.txt").write_text("./val/clap//d.mp4 4 0\nval/clap/d.mp4.avi 4 0\n")
    done = run(monkeypatch, capfd, "tools.extract_flow", tmp_path / "v", tmp_path / "flow", "--layout", "rgb", "-j", 1,
               "--height", 0, "--list", tmp_path / "train.txt", tmp_path / "flow_train.txt", "--list", tmp_path / "val.txt",
               tmp_path / "flow_val.txt")
    assert done.status == 2 and "train/gone.mp4: no directory of flow" in done.err
    assert done.out.startswith("4 videos: 4 extracted")
    assert (tmp_path / "flow_train.txt").read_text() == "train/wave/a b 3 1\ntrain/wave/sub/c 3 1\n"
    assert (tmp_path / "flow_val.txt").read_text() == "val/clap/d 3 0\nval/clap/d.mp4 3 0\n"
    data = TSNDataSet(tmp_path / "flow", tmp_path / "flow_train.txt", 1, 2, "Flow", "{:06d}.jpg", random_shift=False)
    assert [motion(image) for image in data[1][0]] == pytest.approx([3, -2, 3, -2], abs=0.5)


def test_lists_do_not_lead_out_of_the_directories(tmp_path, monkeypatch, capfd):
    write_frames(tmp_path / "in" / "clip", moving(2))
    write_frames(tmp_path / "secret", moving(2))
    (tmp_path / "list.txt").write_text("../secret 2 0\n")
    done = run(monkeypatch, capfd, "tools.extract_flow", tmp_path / "in", tmp_path / "deep" / "out", "--frames", "--list",
               tmp_path / "list.txt", tmp_path / "flow.txt")
    assert_refused(done, "'../secret' cannot be the name of a video")
    assert not (tmp_path / "deep").exists()


def test_lists_of_something_v1_count_files_and_name_numbered_directories(tmp_path):
    write_frames(tmp_path / "jpg" / "7", moving(3), "{:05d}.jpg")
    extract_flow_directory(tmp_path / "jpg", tmp_path / "flow", frames=True, workers=1, layout="something_v1", height=0)
    (tmp_path / "rgb.txt").write_text("7 3 12\n")
    assert write_flow_list(tmp_path / "rgb.txt", tmp_path / "flow.txt", flow=tmp_path / "flow", layout="something_v1") == []
    assert (tmp_path / "flow.txt").read_text() == "000007 4 12\n"  # files, as the published lists of this layout count
    for listed in ("000007 4 12\n", "7 4 12\n"):  # ours, and as published: the number without its zeros
        (tmp_path / "list.txt").write_text(listed)
        data = TSNDataSet(tmp_path / "flow", tmp_path / "list.txt", 1, 2, "Flow", "{:06d}-{}_{:05d}.jpg",
                          random_shift=False)
        clip, label = data[0]
        assert (data.video_list[0].num_frames, label) == (2, 12)  # both pairs, and none beyond
        assert [motion(image) for image in clip] == pytest.approx([3, -2, 3, -2], abs=0.3)


@pytest.mark.parametrize("args, words", [
    (["--layout", "foo"], ["'foo'", "ucf, something_v1 or rgb"]),
    (["--method", "foo"], ["'foo'", "dis or tvl1"]),
    (["--layout", "something_v1"], ["'clip a'", "not a number"]),
    (["--bound", 0], ["--bound 0", "above 0"]),
    (["--height", -1], ["height -1"]),
    (["--quality", 101], ["quality 101"]),
    (["-j", 0], ["workers 0"]),
    (["--template", "img.jpg"], ["'img.jpg'", "img_{:05d}.jpg"]),
    (["--template", "{:05d"], ["'{:05d'"]),
    (["--by_class"], ["no directories of frames", "<class>"]),
    (["--list", "none.txt", "out.txt"], ["cannot read the video list none.txt"]),
])
def test_wrong_arguments_are_a_one_line_error(tmp_path, monkeypatch, capfd, args, words):
    write_frames(tmp_path / "in" / "clip a", moving(2))
    assert_refused(run(monkeypatch, capfd, "tools.extract_flow", tmp_path / "in", tmp_path / "out", "--frames", *args),
                   *words)


def test_unusable_directories_are_refused(tmp_path, monkeypatch, capfd):
    write_frames(tmp_path / "in" / "1", moving(2), "{:06d}.jpg")
    write_frames(tmp_path / "in" / "01", moving(2), "{:06d}.jpg")
    src, tool = tmp_path / "in", "tools.extract_flow"
    assert_refused(run(monkeypatch, capfd, tool, src, src, "--frames", "--layout", "rgb"), "another directory")
    assert_refused(run(monkeypatch, capfd, tool, src, tmp_path / "o", "--frames", "--layout", "something_v1"), "share")
    assert_refused(run(monkeypatch, capfd, tool, src, tmp_path / "o"), "no videos")
    assert_refused(run(monkeypatch, capfd, tool, tmp_path / "none", tmp_path / "o"), "cannot read", "none")
    assert_refused(run(monkeypatch, capfd, tool, src, src / "1" / "000001.jpg" / "x", "--frames"), "cannot write")
    assert run(monkeypatch, capfd, tool, src, tmp_path / "o", "--frames", "-j", 1).status == 0
    assert_refused(run(monkeypatch, capfd, tool, src, tmp_path / "o", "--frames", "--bound", 15), "bound 20")
    (tmp_path / "o" / ".flow.json").write_text("{")
    assert_refused(run(monkeypatch, capfd, tool, src, tmp_path / "o", "--frames"), "damaged")
    (tmp_path / "o" / ".flow.json").unlink()
    assert_refused(run(monkeypatch, capfd, tool, src, tmp_path / "o", "--frames"), "made by another program")


def test_worker_processes_do_not_import_torch():
    """It would cost each of them seconds and hundreds of MB."""
    code = "import sys, ops.prepare.extract_flow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---- interruptions -------------------------------------------------------------------------------------------

COUNT = 30
posix = pytest.mark.skipif(os.name != "posix", reason="needs process groups")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Frame directories, and the flow that an uninterrupted run extracts from them."""
    base = tmp_path_factory.mktemp("many")
    for number in range(COUNT):
        write_frames(base / "frames" / f"clip {number}", moving(10, number % 10 - 5, 2, number))
    summary = extract_flow_directory(base / "frames", base / "whole", frames=True, workers=1, height=0)
    assert summary.extracted == COUNT
    return base / "frames", base / "whole"


def finished(directory):
    return sum(1 for _ in directory.glob("[!.]*/flow_x_00001.jpg"))


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def stopped_midway(src, dst, how):
    """Run the command with two processes, and stop it when three videos are done. Returns its status and output."""
    process = start(src, dst, "--frames", "--height", 0, "-j", 2)
    until = time.monotonic() + 60
    while finished(dst) < 3:
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.002)
    os.killpg(process.pid, how)
    out, err = process.communicate(timeout=240)
    assert finished(dst) < COUNT
    return process.returncode, out, messages(err)


@posix
@pytest.mark.parametrize("beside", [False, True], ids=["own directories", "beside the frames"])
def test_killed_and_resumed_runs_equal_an_uninterrupted_one(many, tmp_path, beside):
    frames, whole = many
    src = shutil.copytree(frames, tmp_path / "flow") if beside else frames
    rgb = tree(src) if beside else {}
    stopped_midway(src, tmp_path / "flow", signal.SIGKILL)
    flow = {name: content for name, content in tree(tmp_path / "flow").items()
            if name not in rgb and "partial" not in name}
    assert flow.items() <= tree(whole).items()  # files under their names are complete at any moment
    there = finished(tmp_path / "flow")
    out, err = start(src, tmp_path / "flow", "--frames", "--height", 0, "-j", 2).communicate(timeout=240)
    assert messages(err) == ""
    assert out.startswith(f"{COUNT} videos: {COUNT - there} extracted, {there} already there, 0 failed; ")
    assert tree(tmp_path / "flow") == {**rgb, **tree(whole)}
    assert names(tmp_path / "flow") == names(whole)


@posix
def test_ctrl_c_is_clean(many, tmp_path):
    done = stopped_midway(many[0], tmp_path / "flow", signal.SIGINT)  # as a terminal does, to every process
    assert done == (130, "", "extract_flow.py: interrupted\n")
    assert set(names(tmp_path / "flow")) < set(names(many[1]))
