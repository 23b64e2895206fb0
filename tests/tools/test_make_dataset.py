"""tools/make_dataset.py: videos are found, split by source, listed, registered, and trained on."""
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ops import dataset_config
from ops.data.list_files import read_list
from ops.dataset_config import resolve_dataset
from ops.prepare.user_file import read_dataset_file
from ops.video.decode import decoded_frames
from ops.video.encode import encode_video
from tests.helpers.clips import clip, images_in, number_of, real_video
from tests.helpers.programs import assert_refused, make_frames, run

SMALL = ["--arch", "resnet18", "--num_segments", 2, "--pretrain", "none", "--input_size", 32, "-b", 2, "--epochs", 1,
         "--device", "cpu", "-j", 0]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """The user's datasets.yaml and cache are not used."""
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_config, "DATASET_FILE", tmp_path / "default.yaml")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A directory per class of real videos: three sources a class, two clips each, of which two are pristine files."""
    root = tmp_path_factory.mktemp("my videos")
    for number, name in enumerate(("waving", "kick off")):
        for source in "abc":
            for part in (1, 2):
                count = 10 + 4 * number + part
                path = root / name / f"day {source}_part{part:02d}.mp4"
                path.parent.mkdir(exist_ok=True)
                clip(path, count)
    return root


@pytest.fixture
def videos(recorded, tmp_path):
    return Path(shutil.copytree(recorded, tmp_path / "my videos"))


def make(monkeypatch, capfd, root, *more, name="mine"):
    return run(monkeypatch, capfd, "tools.make_dataset", root, name, "--dataset_file", root.parent / "own.yaml", *more)


def lists(root, name="mine"):
    """split -> {path: (frames, label)} of the written lists."""
    directory = root / ".tsm" / name
    return {split: {r.path: (r.num_frames, r.label) for r in read_list(directory / f"{split}_videofolder.txt")}
            for split in ("train", "val", "test") if (directory / f"{split}_videofolder.txt").exists()}


# ---- from a directory to training ------------------------------------------------------------------------------

def test_directories_become_a_data_set_to_train_and_test_on(videos, tmp_path, monkeypatch, capfd):
    done = make(monkeypatch, capfd, videos)
    assert done.status == 0, done
    assert (videos / ".tsm" / "mine" / "category.txt").read_text() == "kick off\nwaving\n"
    found = lists(videos)
    both = found["train"] | found["val"]
    assert both == {f"{name}/day {s}_part{p:02d}.mp4": (10 + 4 * (name == "kick off") + p, int(name == "waving"))
                    for name in ("waving", "kick off") for s in "abc" for p in (1, 2)}
    assert set(found) == {"train", "val"} and not set(found["train"]) & set(found["val"])
    assert {path[:-6] for path in found["train"]} & {path[:-6] for path in found["val"]} == set()  # no shared source
    assert Counter(label for _, label in found["val"].values()) == {0: 2, 1: 2}
    rows = [line.split() for line in done.out.splitlines()]
    assert ["kick", "off", "6", "3", "4", "2"] in rows and ["waving", "6", "3", "4", "2"] in rows
    assert rows[3] == ["all", "12", "3", "8", "4"]  # `day a` is one source, whatever the class
    assert f"python main.py mine RGB --shift --dataset_file {tmp_path / 'own.yaml'}" in done.out

    own = ["--dataset_file", tmp_path / "own.yaml"]
    trained = run(monkeypatch, capfd, "main", "mine", "RGB", "--shift", *SMALL, *own, "--root_log", tmp_path / "log",
                  "--root_model", tmp_path / "model")
    assert trained.status == 0, trained.err
    weights = tmp_path / "model" / "TSM_mine_RGB_resnet18_shift8_blockres_avg_segment2_e1_none" / "ckpt.pth.tar"
    assert torch.load(weights, weights_only=True)["class_names"] == ["kick off", "waving"]
    scored = run(monkeypatch, capfd, "test_models", "mine", "--weights", weights, *own, "--device", "cpu", "-j", 0,
                 "--out", tmp_path / "report")
    assert scored.status == 0 and "Overall Prec@1" in scored.out.splitlines()[-1]


def test_classes_that_begin_with_their_numbers_keep_their_names(videos, tmp_path, monkeypatch, capfd):
    root, names = tmp_path / "counting", ["1 finger", "2 fingers", "3 fingers"]
    for name in names:
        shutil.copytree(videos / "waving", root / name)
    assert make(monkeypatch, capfd, root, "--split-by", "file").status == 0
    data = resolve_dataset("mine", "RGB", dataset_file=str(tmp_path / "own.yaml"))
    assert data.class_names == names and data.num_class == 3
    (root / ".tsm/mine/category.txt").write_text("finger\nfingers\nfingers\n")
    checked = run(monkeypatch, capfd, "tools.check_dataset", "mine", "--dataset_file", tmp_path / "own.yaml", "-j", 2)
    assert_refused(checked, "category.txt has 'fingers' twice")


def test_two_spellings_of_an_accent_are_one_class(videos, tmp_path, monkeypatch, capfd):
    root = tmp_path / "v"
    composed, decomposed = "caf\u00e9", "cafe\u0301"  # as Linux and as macOS spell a file name
    shutil.copytree(videos / "waving", root / composed)
    shutil.copytree(videos / "kick off", root / decomposed)
    shutil.copytree(videos / "kick off", root / "kick off")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system takes the two spellings for one name")
    assert make(monkeypatch, capfd, root).status == 0
    assert (root / ".tsm/mine/category.txt").read_text(encoding="utf-8") == f"{composed}\nkick off\n"
    found = lists(root)
    assert {label for rows in found.values() for path, (_, label) in rows.items() if path.startswith("caf")} == {0}
    assert {path.split("/")[0] for rows in found.values() for path in rows} == {composed, decomposed, "kick off"}
    table = tmp_path / "t.csv"
    labels = [composed, decomposed, "x"]
    table.write_text("".join(f"{path},{label}\n" for path, label in zip(sorted(found["train"]), labels)))
    assert make(monkeypatch, capfd, root, "--csv", table, "--split-by", "file", "--val", 0.5).status == 0
    assert (root / ".tsm/mine/category.txt").read_text(encoding="utf-8") == f"{composed}\nx\n"


def test_the_split_is_repeatable_and_depends_on_the_seed(videos, monkeypatch, capfd):
    make(monkeypatch, capfd, videos)
    first, yaml = lists(videos), (videos.parent / "own.yaml").read_text()
    make(monkeypatch, capfd, videos)
    assert lists(videos) == first and (videos.parent / "own.yaml").read_text() == yaml
    others = set()
    for seed in range(1, 5):
        make(monkeypatch, capfd, videos, "--seed", seed)
        others.add(tuple(lists(videos)["val"]))
    assert others - {tuple(first["val"])}


@pytest.fixture
def camera(tmp_path):
    """Clips cut from two real recordings, in one class each, under the names that cameras give."""
    for name, label in (("bigbuckbunny", "cartoon"), ("carphone_pristine", "phone")):
        frames = [frame.reformat(128, 96, "rgb24").to_ndarray() for frame in decoded_frames(real_video(f"{name}.mp4"))]
        (tmp_path / "v" / label).mkdir(parents=True)
        for part in range(4):
            encode_video(tmp_path / "v" / label / f"IMG_{part:04d}.mp4", frames[25 * part:25 * part + 25], 25)
    return tmp_path / "v"


@pytest.mark.parametrize("extract", [[], ["--extract", "--height", 64]])
def test_clips_of_one_recording_on_both_sides_are_said(camera, tmp_path, monkeypatch, capfd, extract):
    done = make(monkeypatch, capfd, camera, *extract)
    assert done.status == 0
    assert "8 of 8 names do not show which recording" in done.err
    assert "pairs of videos in different splits share frames" in done.err and "--split-by content" in done.err
    own = ["--dataset_file", tmp_path / "own.yaml", "-j", 2]
    checked = run(monkeypatch, capfd, "tools.check_dataset", "mine", *own)
    assert checked.status == 2 and "recording (" in checked.out and "clean" not in checked.out
    assert "first frame is nearly the last frame of val:" in checked.out
    assert run(monkeypatch, capfd, "tools.check_dataset", "mine", *own, "--ignore", "recording").status == 0
    fixed = run(monkeypatch, capfd, "tools.check_dataset", "mine", *own, "--fix", tmp_path / "clean.txt")
    assert "clean_train.txt: 6 videos of train" in fixed.err  # the split is wrong, not the videos


def test_split_by_content_keeps_clips_of_one_recording_together(camera, tmp_path, monkeypatch, capfd):
    for label, name in (("cartoon", "bikes"), ("phone", "bikes")):  # another recording for either class
        frames = [frame.reformat(128, 96, "rgb24").to_ndarray() for frame in decoded_frames(real_video(f"{name}.mp4"))]
        start = 0 if label == "phone" else 150
        encode_video(camera / label / "IMG_0100.mp4", frames[start:start + 25], 25)
    done = make(monkeypatch, capfd, camera, "--split-by", "content")
    assert done.status == 0 and "share frames" not in done.err
    assert set(lists(camera)["val"]) == {"cartoon/IMG_0100.mp4", "phone/IMG_0100.mp4"}
    checked = run(monkeypatch, capfd, "tools.check_dataset", "mine", "--dataset_file", tmp_path / "own.yaml", "-j", 2)
    assert checked.status == 0 and "clean: 10 videos" in checked.out


def test_real_videos_have_the_same_frames_in_place_and_extracted(tmp_path, monkeypatch, capfd):
    for name, label in (("carphone_pristine.mp4", "phone"), ("bikes.mp4", "street")):
        (tmp_path / "v" / label).mkdir(parents=True)
        shutil.copy(real_video(name), tmp_path / "v" / label)
        clip(tmp_path / "v" / label / "other.webm", 9)
    assert make(monkeypatch, capfd, tmp_path / "v").status == 0
    in_place = lists(tmp_path / "v")
    assert make(monkeypatch, capfd, tmp_path / "v", "--extract", "--height", 48).status == 0
    counts = {"phone/carphone_pristine": 120, "street/bikes": 250, "phone/other": 9, "street/other": 9}
    assert {path.rsplit(".", 1)[0]: n for rows in in_place.values() for path, (n, _) in rows.items()} == counts
    data = resolve_dataset("mine", "RGB", dataset_file=str(tmp_path / "own.yaml"))
    assert data.frames == tmp_path / "v/.tsm/mine/frames_48" and data.template == "{:06d}.jpg"
    records = read_list(data.train_list) + read_list(data.val_list)
    assert {record.path: record.num_frames for record in records} == counts
    assert [number_of(image) for image in images_in(data.frames / "phone" / "other")] == list(range(9))
    assert Image.open(data.frames / "street" / "bikes" / "000250.jpg").height == 48


def test_a_killed_extraction_is_resumed(videos, monkeypatch, capfd):
    frames = videos / ".tsm" / "mine" / "frames_32"
    make(monkeypatch, capfd, videos, "--extract", "--height", 32)
    wanted = lists(videos)
    kept = frames / "waving" / "day a_part01"
    stamp = (kept / "000001.jpg").stat().st_mtime_ns
    shutil.rmtree(frames / "waving" / "day b_part02")
    (frames / "waving" / ".day b_part02.partial-0a1b2c3d").mkdir()  # what SIGKILL leaves
    assert make(monkeypatch, capfd, videos, "--extract", "--height", 32).status == 0
    assert lists(videos) == wanted and (kept / "000001.jpg").stat().st_mtime_ns == stamp
    assert [path.name for path in frames.rglob(".*")] == [".vid2img.json"]
    (frames / ".vid2img.json").unlink()  # as earlier versions left it
    assert make(monkeypatch, capfd, videos, "--extract", "--height", 32).status == 0
    assert lists(videos) == wanted and (kept / "000001.jpg").stat().st_mtime_ns == stamp


def test_a_video_named_like_a_directory_of_videos_gets_a_directory_of_its_own(tmp_path, monkeypatch, capfd):
    for label in ("one", "two"):
        (tmp_path / "v" / label / "day").mkdir(parents=True)
        clip(tmp_path / "v" / label / "day.mp4", 3)
        clip(tmp_path / "v" / label / "day" / "late.mp4", 4)
    assert make(monkeypatch, capfd, tmp_path / "v", "--extract", "--height", 32).status == 0
    assert {path: n for rows in lists(tmp_path / "v").values() for path, (n, _) in rows.items()} == {
        f"{label}/{name}": n for label in ("one", "two") for name, n in (("day.mp4", 3), ("day/late", 4))}


def test_unreadable_videos_are_left_out_and_listed(videos, monkeypatch, capfd):
    whole = (videos / "waving" / "day a_part01.mp4").read_bytes()
    (videos / "waving" / "cut.mp4").write_bytes(whole[:len(whole) // 2])
    (videos / "waving" / "void.mp4").touch()
    (videos / "waving" / "text.mp4").write_text("no video at all")
    (videos / "waving" / "line\nbreak.mp4").write_bytes(whole)
    (videos / "empty class").mkdir()
    (videos / "lost class").mkdir()
    (videos / "lost class" / "only.mkv").touch()
    done = make(monkeypatch, capfd, videos)
    assert done.status == 2 and "Traceback" not in done.err
    listed = dict(line.split("\t") for line in (videos / ".tsm/mine/unreadable.txt").read_text().splitlines())
    assert set(listed) == {"waving/cut.mp4", "waving/void.mp4", "waving/text.mp4", "waving/line\\nbreak.mp4",
                           "lost class/only.mkv"}
    assert "truncated" in listed["waving/cut.mp4"] and "empty" in listed["waving/void.mp4"]
    assert "cannot be read as a video" in listed["waving/text.mp4"] and "rename" in listed["waving/line\\nbreak.mp4"]
    assert all(f"left out: {path}: " in done.err for path in listed) and "no class: 'lost class'" in done.err
    assert len(lists(videos)["train"]) + len(lists(videos)["val"]) == 12
    assert (videos / ".tsm/mine/category.txt").read_text() == "kick off\nwaving\n"
    assert make(monkeypatch, capfd, videos, "--allow_missing").status == 0


def test_frame_directories_keep_their_file_names(tmp_path, monkeypatch, capfd):
    root = tmp_path / "frames"
    make_frames(root, {f"{label}/v{i}": (3 + i, 0) for label in "ab" for i in range(3)})
    for file in root.rglob("*.jpg"):
        file.rename(file.with_name(f"img_{int(file.stem):05d}.jpg"))
    make_frames(root, {"a/zero": (3, 0)})
    for file in sorted((root / "a" / "zero").iterdir()):
        file.rename(file.with_name(f"img_{int(file.stem) - 1:05d}.jpg"))
    make_frames(root, {"b/other": (3, 0)})
    done = make(monkeypatch, capfd, root)
    assert done.status == 2
    assert "left out: a/zero: its first frame is img_00000.jpg" in done.err
    assert "left out: b/other: its frames are named {:06d}.jpg, those of other videos img_{:05d}.jpg" in done.err
    assert resolve_dataset("mine", "RGB", dataset_file=str(tmp_path / "own.yaml")).template == "img_{:05d}.jpg"
    assert {path: n for rows in lists(root).values() for path, (n, _) in rows.items()} == {
        f"{label}/v{i}": 3 + i for label in "ab" for i in range(3)}


def test_directories_per_split_decide_the_split(recorded, tmp_path, monkeypatch, capfd):
    root = tmp_path / "v"
    for split in ("train", "validation", "test"):
        shutil.copytree(recorded, root / split)
    done = make(monkeypatch, capfd, root, "--val", 0.5, "--seed", 0, "--height", 99)
    assert done.status == 0
    assert [line for line in done.err.splitlines() if "no effect" in line] == [
        "warning: --val has no effect: a directory decides which videos are for validation",
        "warning: --height has no effect: no frames are written without --extract"]
    assert {split: len(rows) for split, rows in lists(root).items()} == {"train": 12, "val": 12, "test": 12}
    assert all(path.startswith("validation/") for path in lists(root)["val"])
    own = read_dataset_file(tmp_path / "own.yaml")["mine"]
    assert own.test_list == root / ".tsm" / "mine" / "test_videofolder.txt"
    checked = run(monkeypatch, capfd, "tools.check_dataset", "mine", "--dataset_file", tmp_path / "own.yaml", "-j", 2)
    assert checked.status == 2  # the splits are copies of one another
    assert "leak (" in checked.out and "frame as test:1 test/kick off/day a_part01.mp4" in checked.out
    (root / "waving").mkdir()
    assert_refused(make(monkeypatch, capfd, root), "waving", "splits")


def test_a_csv_file_gives_file_label_and_split(videos, tmp_path, monkeypatch, capfd):
    rows = [("waving/day a_part01.mp4", "hello, you", ""), (f"{videos}/waving/day a_part02.mp4", "hello, you", "val"),
            ("kick off/day a_part01.mp4", "kick", "train"), ("kick off/day b_part01.mp4", "kick", "Validation"),
            ("kick off/day c_part01.mp4", "kick", "test"), ("kick off/gone.mp4", "kick", "train")]
    table = tmp_path / "labels.csv"
    table.write_text("label,file,split\n" + "".join(f'"{label}",{file},{split}\n' for file, label, split in rows))
    done = make(monkeypatch, capfd, videos, "--csv", table)
    assert done.status == 2 and "left out: kick off/gone.mp4: no file" in done.err
    assert "warning: clips of 1 source are in more than one split: day a" in done.err
    assert lists(videos) == {"train": {"kick off/day a_part01.mp4": (15, 1), "waving/day a_part01.mp4": (11, 0)},
                             "val": {"kick off/day b_part01.mp4": (15, 1), "waving/day a_part02.mp4": (12, 0)},
                             "test": {"kick off/day c_part01.mp4": (15, 1)}}
    assert (videos / ".tsm/mine/category.txt").read_text() == "hello, you\nkick\n"


@pytest.mark.parametrize("text, words", [
    ("a.mp4\n", "line 1"), ("a.mp4,x\nb.mp4,\n", "line 2"), ("a.mp4,x,y,z\n", "line 1"),
    ("a.mp4,x,maybe\n", "train, val or test"), ("a.mp4,x\n./a.mp4,y\n", "already in line 1"),
    ("../a.mp4,x\n", "not inside"), ('"a.mp4,x\n', "line 1"), ("", "no videos")])
def test_csv_errors_name_the_line(videos, tmp_path, monkeypatch, capfd, text, words):
    (tmp_path / "t.csv").write_text(text)
    assert_refused(make(monkeypatch, capfd, videos, "--csv", tmp_path / "t.csv"), words)


@pytest.mark.parametrize("flags, words", [
    (["--val", 0], "--val"), (["--val", 1], "--val"), (["--val", "nan"], "--val"), (["--split-by", "x"], "file or random"),
    (["-j", 0], "workers"), (["--source-pattern", "("], "regular expression"), (["--csv", "/nowhere"], "/nowhere"),
    (["--source-pattern", "zzz"], "matches none"), (["--out", "/dev/null/x"], "--out"),
    (["--dataset_file", "/dev/null/x.yaml"], "--dataset_file")])
def test_wrong_options_are_a_one_line_error(videos, monkeypatch, capfd, flags, words):
    assert_refused(make(monkeypatch, capfd, videos, *flags), words)


def test_what_cannot_be_a_data_set_is_a_one_line_error(videos, tmp_path, monkeypatch, capfd):
    assert_refused(make(monkeypatch, capfd, tmp_path / "nowhere"), "no directory", "nowhere")
    assert_refused(make(monkeypatch, capfd, videos, name="ucf101"), "ucf101", "built-in")
    assert_refused(make(monkeypatch, capfd, videos, name="a/b"), "a/b")
    assert_refused(make(monkeypatch, capfd, videos, name="my_RGB"), "my_RGB")
    assert_refused(make(monkeypatch, capfd, videos / "waving"), "no videos")
    shutil.rmtree(videos / "waving")
    assert_refused(make(monkeypatch, capfd, videos), "two or more classes")
    make_frames(videos, {"images": (3, 0)})
    assert_refused(make(monkeypatch, capfd, videos), "images")
    assert not (tmp_path / "own.yaml").exists()


def test_awkward_file_names_survive_in_lists(tmp_path, monkeypatch, capfd):
    root = tmp_path / "v"
    names = ["-dash", "$(touch x)", "quote's \"", "7 8 9", "a  b", "ünï", "x.part1"]
    image = [np.full((32, 32, 3), 90, np.uint8)] * 3
    for label in ("one", "two"):
        (root / label).mkdir(parents=True)
        for name in names:
            encode_video(root / label / f"{name}.mp4", image, 10)
    assert make(monkeypatch, capfd, root).status == 0
    assert {path for rows in lists(root).values() for path in rows} == {
        f"{label}/{name}.mp4" for label in ("one", "two") for name in names}
    assert all((root / path).exists() for rows in lists(root).values() for path in rows)


# ---- several labels per video -----------------------------------------------------------------------------------

def test_a_csv_gives_each_video_any_number_of_classes(videos, monkeypatch, capfd):
    labels = {"a": "running; indoors", "b": "indoors", "c": ""}
    table = videos.parent / "table.csv"
    table.write_text("file,label\n" + "".join(
        f"{name}/day {source}_part{part:02d}.mp4,{labels[source]}{'; Kicking' * (name == 'kick off')}\n"
        for name in ("waving", "kick off") for source in "abc" for part in (1, 2)))
    done = make(monkeypatch, capfd, videos, "--csv", table, "--multi_label", "--val", 0.4, "--split-by", "file")
    assert done.status == 0, done.err
    assert [line.split()[:2] for line in done.out.splitlines()[1:5]] == [
        ["Kicking", "6"], ["indoors", "8"], ["running", "4"], ["all", "12"]]
    own = read_dataset_file(videos.parent / "own.yaml")["mine"]
    assert own.multi_label and own.categories.read_text().split() == ["Kicking", "indoors", "running"]
    found = {record.path: record.labels for file in (own.train_list, own.val_list)
             for record in read_list(file, 3, multi_label=True)}
    assert found == {f"{name}/day {source}_part{part:02d}.mp4": (*([0] if name == "kick off" else []), *numbers)
                     for name in ("waving", "kick off") for part in (1, 2)
                     for source, numbers in (("a", [1, 2]), ("b", [1]), ("c", []))}
    sides = [{label for record in read_list(file, 3, multi_label=True) for label in record.labels}
             for file in (own.train_list, own.val_list)]
    assert sides == [{0, 1, 2}] * 2, "every class is on both sides of the split"
    done = run(monkeypatch, capfd, "main", "mine", "RGB", "--dataset_file", videos.parent / "own.yaml", *SMALL, "--root_log",
               videos.parent / "log", "--root_model", videos.parent / "model")
    assert done.status == 0 and "Testing Results: mAP " in done.out, done.err


def test_wrong_labels_of_several_classes_are_refused(videos, monkeypatch, capfd):
    table = videos.parent / "table.csv"
    table.write_text("waving/day a_part01.mp4,one;two\nwaving/day b_part01.mp4,one; two ;one\n")
    assert_refused(make(monkeypatch, capfd, videos, "--csv", table, "--multi_label"), "table.csv, line 2",
                   "'one' is named twice")
    assert_refused(make(monkeypatch, capfd, videos, "--multi_label"), "--multi_label needs --csv")
