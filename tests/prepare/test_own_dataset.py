"""tools/make_dataset.py and datasets.yaml: found, split by source, listed, registered, trained on."""
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ops import dataset_config
from ops.common.errors import UserError
from ops.data.list_files import read_list
from ops.dataset_config import DATASETS, resolve_dataset
from ops.prepare.own_dataset import Item, class_order, read_csv, shared_sources, split_items
from ops.prepare.splitting import choose_sources, compile_pattern, group, source_of, validation_share
from ops.prepare.user_file import UserDataSet, read_dataset_file, register
from ops.video.discovery import FrameNames, find_videos, frame_names
from ops.video.encode import encode_video
from tests.helpers.clips import clip, images_in, number_of, real_video
from tests.helpers.programs import assert_refused, make_frames, run

SMALL = ["--arch", "resnet18", "--num_segments", 2, "--pretrain", "none", "--input_size", 32, "-b", 2, "--epochs", 1,
         "--device", "cpu", "-j", 0]


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Neither the user's datasets.yaml nor the user's cache is touched."""
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

def test_directories_become_a_data_set_that_main_trains_and_test_models_scores(videos, tmp_path, monkeypatch, capfd):
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
    assert rows[3] == ["all", "12", "3", "8", "4"]  # `day a` is one source, of whatever class
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


def test_the_same_split_again_and_another_with_another_seed(videos, monkeypatch, capfd):
    make(monkeypatch, capfd, videos)
    first, yaml = lists(videos), (videos.parent / "own.yaml").read_text()
    make(monkeypatch, capfd, videos)
    assert lists(videos) == first and (videos.parent / "own.yaml").read_text() == yaml
    others = set()
    for seed in range(1, 5):
        make(monkeypatch, capfd, videos, "--seed", seed)
        others.add(tuple(lists(videos)["val"]))
    assert others - {tuple(first["val"])}


def test_real_videos_in_place_and_extracted_hold_the_same_frames(tmp_path, monkeypatch, capfd):
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


def test_a_killed_extraction_goes_on(videos, monkeypatch, capfd):
    frames = videos / ".tsm" / "mine" / "frames_32"
    make(monkeypatch, capfd, videos, "--extract", "--height", 32)
    wanted = lists(videos)
    kept = frames / "waving" / "day a_part01"
    stamp = (kept / "000001.jpg").stat().st_mtime_ns
    shutil.rmtree(frames / "waving" / "day b_part02")
    (frames / "waving" / ".day b_part02.partial-0a1b2c3d").mkdir()  # what SIGKILL leaves
    assert make(monkeypatch, capfd, videos, "--extract", "--height", 32).status == 0
    assert lists(videos) == wanted and (kept / "000001.jpg").stat().st_mtime_ns == stamp
    assert not list(frames.rglob(".*"))


def test_videos_that_cannot_be_read_are_left_out_and_listed(videos, monkeypatch, capfd):
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


def test_frame_directories_keep_their_names(tmp_path, monkeypatch, capfd):
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
    assert "left out: b/other: frames are named {:06d}.jpg, those of other videos img_{:05d}.jpg" in done.err
    assert resolve_dataset("mine", "RGB", dataset_file=str(tmp_path / "own.yaml")).template == "img_{:05d}.jpg"
    assert {path: n for rows in lists(root).values() for path, (n, _) in rows.items()} == {
        f"{label}/v{i}": 3 + i for label in "ab" for i in range(3)}


def test_split_directories_are_kept_as_they_are(recorded, tmp_path, monkeypatch, capfd):
    root = tmp_path / "v"
    for split in ("train", "validation", "test"):
        shutil.copytree(recorded, root / split)
    done = make(monkeypatch, capfd, root, "--val", 0.5, "--seed", 0, "--height", 99)
    assert done.status == 0
    assert [line for line in done.err.splitlines() if "no effect" in line] == [
        "warning: --val has no effect: a directory says which videos are for validation",
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


def test_csv_says_file_label_and_split(videos, tmp_path, monkeypatch, capfd):
    rows = [("waving/day a_part01.mp4", "hello, you", ""), (f"{videos}/waving/day a_part02.mp4", "hello, you", "val"),
            ("kick off/day a_part01.mp4", "kick", "train"), ("kick off/day b_part01.mp4", "kick", "Validation"),
            ("kick off/day c_part01.mp4", "kick", "test"), ("kick off/gone.mp4", "kick", "train")]
    table = tmp_path / "labels.csv"
    table.write_text("label,file,split\n" + "".join(f'"{label}",{file},{split}\n' for file, label, split in rows))
    done = make(monkeypatch, capfd, videos, "--csv", table)
    assert done.status == 2 and "left out: kick off/gone.mp4: no file" in done.err
    assert "warning: 1 sources have clips in training and in validation: day a" in done.err
    assert lists(videos) == {"train": {"kick off/day a_part01.mp4": (15, 1), "waving/day a_part01.mp4": (11, 0)},
                             "val": {"kick off/day b_part01.mp4": (15, 1), "waving/day a_part02.mp4": (12, 0)},
                             "test": {"kick off/day c_part01.mp4": (15, 1)}}
    assert (videos / ".tsm/mine/category.txt").read_text() == "hello, you\nkick\n"


@pytest.mark.parametrize("text, words", [
    ("a.mp4\n", "line 1"), ("a.mp4,x\nb.mp4,\n", "line 2"), ("a.mp4,x,y,z\n", "line 1"),
    ("a.mp4,x,maybe\n", "train, val or test"), ("a.mp4,x\n./a.mp4,y\n", "stands in line 1"),
    ("../a.mp4,x\n", "not within"), ('"a.mp4,x\n', "line 1"), ("", "no videos")])
def test_csv_errors_name_the_line(videos, tmp_path, monkeypatch, capfd, text, words):
    (tmp_path / "t.csv").write_text(text)
    assert_refused(make(monkeypatch, capfd, videos, "--csv", tmp_path / "t.csv"), words)


@pytest.mark.parametrize("flags, words", [
    (["--val", 0], "--val"), (["--val", 1], "--val"), (["--val", "nan"], "--val"), (["--split-by", "x"], "source or"),
    (["-j", 0], "workers"), (["--source-pattern", "("], "regular expression"), (["--csv", "/nowhere"], "/nowhere"),
    (["--source-pattern", "zzz"], "matches none"), (["--out", "/dev/null/x"], "--out"),
    (["--dataset_file", "/dev/null/x.yaml"], "--dataset_file")])
def test_wrong_options_are_one_line(videos, monkeypatch, capfd, flags, words):
    assert_refused(make(monkeypatch, capfd, videos, *flags), words)


def test_what_is_no_data_set_is_one_line(videos, tmp_path, monkeypatch, capfd):
    assert_refused(make(monkeypatch, capfd, tmp_path / "nowhere"), "no directory", "nowhere")
    assert_refused(make(monkeypatch, capfd, videos, name="ucf101"), "ucf101", "table")
    assert_refused(make(monkeypatch, capfd, videos, name="a/b"), "a/b")
    assert_refused(make(monkeypatch, capfd, videos, name="my_RGB"), "my_RGB")
    assert_refused(make(monkeypatch, capfd, videos / "waving"), "no videos")
    shutil.rmtree(videos / "waving")
    assert_refused(make(monkeypatch, capfd, videos), "two classes")
    make_frames(videos, {"images": (3, 0)})
    assert_refused(make(monkeypatch, capfd, videos), "images")
    assert not (tmp_path / "own.yaml").exists()


# ---- splitting ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path, source", [
    ("Archery/v_Archery_g01_c02.avi", "v_Archery_g01"), ("a/name_part03.mp4", "name"), ("a/name-Clip 3", "name"),
    ("a/video_0001_clip3.mp4", "video_0001"), ("a/abcdefghij-_000010_000020.mp4", "abcdefghij-"),
    ("a/take.scene.2.mkv", "take"), ("a/x_clip_1_seg_2.webm", "x_clip_1"), ("a/name.part3", "name"),
    ("a/clip_03.mp4", None), ("a/part1.mp4", None), ("a/walk_17.mp4", None), ("a_part1/x.mp4", None)])
def test_names_that_tell_their_source(path, source):
    assert source_of(path) == source


@pytest.mark.parametrize("pattern, source", [(r"subject\d+", "subject12"), (r"(subject\d+)/(.*)", "subject12"),
                                             (r"(?:walk)/(x)?(?P<source>\w+)", "subject12"), (r"nothing", None)])
def test_patterns_of_ones_own(pattern, source):
    assert source_of("walk/subject12/take_03.mp4", compile_pattern(pattern)) == source


labelled = st.dictionaries(st.integers(0, 60), st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1,
                           max_size=25)


@given(labelled, st.floats(0.05, 0.6), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_sources_stay_whole_and_every_class_keeps_training_videos(sources, share, seed):
    sources = {f"s{key}": labels for key, labels in sources.items()}
    chosen = choose_sources(sources, share, seed)
    total = Counter(label for labels in sources.values() for label in labels)
    taken = Counter(label for source in chosen for label in sources[source])
    assert chosen <= set(sources) and all(taken[label] < total[label] for label in total)
    assert chosen == choose_sources(dict(reversed(sources.items())), share, seed)
    for label in total:  # sources of one class alone: each class has videos on both sides, near its share
        own = [source for source, labels in sources.items() if label in labels]
        if len(own) > 1 and all(set(sources[source]) == {label} for source in own):
            assert taken[label]
            largest = max(len(sources[source]) for source in own)
            assert abs(taken[label] - max(1, round(total[label] * share))) <= largest


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.integers(0, 5)), min_size=4, unique=True),
       st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_no_source_is_on_both_sides(names, seed):
    items = [Item(f"{label}/{label}{source}_part{part}.mp4", label) for label, source, part in names]
    try:
        splits = split_items(items, "source", 0.3, seed)
    except UserError as error:
        assert "no video is left" in str(error)
        assert max(Counter(item.label for item in {Item(source_of(i.path), i.label) for i in items}).values()) == 1
        return
    assert sorted(item.path for rows in splits.values() for item in rows) == sorted(item.path for item in items)
    assert shared_sources(splits) == []


def test_by_file_every_class_gets_its_share_and_at_random_all_do_together():
    labels = {f"{'ab'[i % 10 == 0]}/v_part{i}.mp4": "ab"[i % 10 == 0] for i in range(1000)}
    assert len(group(labels)) == 1  # by source there would be nothing to split: all are parts of `v`
    chosen = validation_share(labels, "file", 0.2, 0)
    assert Counter(labels[path] for path in chosen) == {"a": 180, "b": 20}
    tossed = validation_share(labels, "random", 0.2, 0)
    assert 160 <= len(tossed) <= 240 and tossed != validation_share(labels, "random", 0.2, 1)
    more = {**labels, "a/new.mp4": "a"}
    assert validation_share(more, "random", 0.2, 0) - {"a/new.mp4"} == tossed  # others stay where they were


def test_classes_are_numbered_in_order():
    assert class_order(["b", "a", "B", "a"]) == ["B", "a", "b"]
    assert class_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert class_order(["10", "9", "x"]) == ["10", "9", "x"]


# ---- finding ------------------------------------------------------------------------------------------------

def test_videos_and_frame_directories_are_found_at_any_depth(tmp_path):
    for name in ("a.mp4", "deep/er/b.MOV", "deep/notes.txt", ".hidden/c.mp4", "deep/.d.mp4", "f/1.jpg", "mixed/e.avi",
                 "mixed/cover.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(find_videos(tmp_path)) == ["a.mp4", "deep/er/b.MOV", "f", "mixed/e.avi"]


@pytest.mark.parametrize("names, wanted", [
    (["000001.jpg", "000002.jpg", "notes.txt"], FrameNames("{:06d}.jpg", 1, 2)),
    ([f"{i}.png" for i in range(8, 12)], FrameNames("{:01d}.png", 8, 4)),
    (["frame-00.JPEG", "frame-01.JPEG"], FrameNames("frame-{:02d}.JPEG", 0, 2)),
    (["v2_f001.jpg"], FrameNames("v2_f{:03d}.jpg", 1, 1)),
    (["img_1.jpg", "img_3.jpg"], "img_2.jpg is missing"), (["img_1.jpg", "flow_1.jpg"], "several ways"),
    (["1.jpg", "02.jpg"], "several ways"), (["cover.jpg"], "no number"), (["a.txt"], "no images"),
    (["{}1.jpg"], "several ways")])
def test_how_frames_are_called(tmp_path, names, wanted):
    for name in names:
        (tmp_path / name).touch()
    if isinstance(wanted, FrameNames):
        assert frame_names(tmp_path) == wanted
    else:
        with pytest.raises(UserError, match=wanted):
            frame_names(tmp_path)


# ---- datasets.yaml ------------------------------------------------------------------------------------------

def yaml_file(tmp_path, text):
    (tmp_path / "lists").mkdir(exist_ok=True)
    for name in ("train.txt", "val.txt"):
        (tmp_path / "lists" / name).write_text("a 3 0\nb 4 1\n")
    (tmp_path / "lists" / "category.txt").write_text("first\nsecond\n")
    (tmp_path / "own.yaml").write_text(text)
    return tmp_path / "own.yaml"


GOOD = """# mine
007:
  root: .
  train_list: lists/train.txt
  val_list: lists/val.txt
  categories: lists/category.txt
  template: "img_{:05d}.jpg"
no: {root: ., train_list: lists/train.txt, val_list: lists/val.txt, num_class: 9}
"""


def test_a_yaml_file_is_looked_up_beside_the_table(tmp_path, monkeypatch):
    file = yaml_file(tmp_path, GOOD)
    data = resolve_dataset("007", "RGB", dataset_file=str(file))
    assert (data.frames, data.train_list, data.template) == (tmp_path, tmp_path / "lists/train.txt", "img_{:05d}.jpg")
    assert (data.num_class, data.class_names) == (2, ["first", "second"])
    assert resolve_dataset("no", "RGBDiff", dataset_file=str(file)).num_class == 9
    moved = resolve_dataset("no", "RGB", train_list="x", root_path="y", dataset_file=str(file))
    assert (str(moved.train_list), str(moved.frames)) == ("x", "y")
    assert resolve_dataset("kinetics", "RGB", dataset_file=str(file)).num_class == 400
    monkeypatch.setattr(dataset_config, "DATASET_FILE", file)
    assert resolve_dataset("no", "RGB").num_class == 9
    assert dataset_config.return_dataset("007", "RGB")[0] == 2
    with pytest.raises(UserError, match="unknown data set 'x': choose one of ucf101.*gestures, 007, no,"):
        resolve_dataset("x", "RGB")
    with pytest.raises(UserError, match="no Flow data"):
        resolve_dataset("no", "Flow")


def test_the_default_file_need_not_exist_a_named_one_must():
    assert "mine" not in DATASETS
    with pytest.raises(UserError, match="unknown data set 'mine'"):
        resolve_dataset("mine", "RGB")
    with pytest.raises(UserError, match="cannot read the data set file nowhere.yaml: No such file"):
        resolve_dataset("ucf101", "RGB", dataset_file="nowhere.yaml")


ENTRY = "{root: ., train_list: lists/train.txt, val_list: lists/val.txt, num_class: 2}"


@pytest.mark.parametrize("text, words", [
    ("a: [", "own.yaml:1: not yaml"), ("x: 1\n\ty: 2", "own.yaml:2: not yaml"),
    ("- a", "own.yaml:1: the file must hold"),
    ("a: 3", "own.yaml:1: data set 'a' must hold"), (f"a: {ENTRY}\na: {ENTRY}", "own.yaml:2: 'a' is there twice"),
    (f"ucf101: {ENTRY}", "own.yaml:1: 'ucf101' is a data set of the table"),
    ("'': 3", "own.yaml:1: a name must be text"),
    ("a:\n  rooot: x\n  train_list: y", "own.yaml:2: unknown key 'rooot' of data set 'a': choose of root, train_list"),
    ("a:\n  root: x\n  train_list: y", "own.yaml:1: data set 'a' needs val_list, either categories or num_class"),
    (ENTRY.replace("{", "a: {").replace("2}", "0}"), "num_class '0': choose a number"),
    (ENTRY.replace("{", "a: {").replace("2}", "2, template: x.jpg}"), "template 'x.jpg': must have one number"),
    (ENTRY.replace("{", "a: {").replace("2}", "2, template: {:06d}.jpg}"), "not yaml"),
    ("a:\n  root:\n", "own.yaml:2: root of data set 'a' must be text"),
    ("a:\n  root: [x]\n", "own.yaml:2: root of data set 'a' must be text"), ("a: \x07", "own.yaml: not yaml"),
    ("[" * 5000, "not yaml"), ("a: 1\n--- \nb: 2", "own.yaml:2: not yaml"),
    (ENTRY.replace("{root: .", "a: {root: nowhere"), "own.yaml:1: data set 'a': root: there is no directory"),
    (ENTRY.replace("{", "a: {").replace("train.txt", "none"), "train_list: there is no file"),
    (ENTRY.replace("{", "a: {").replace("num_class: 2", "categories: none"), "categories: there is no file")])
def test_yaml_errors_name_the_line(tmp_path, monkeypatch, capfd, text, words):
    file = yaml_file(tmp_path, text)
    assert_refused(run(monkeypatch, capfd, "main", "a", "RGB", "--dataset_file", file, "--device", "cpu"), words)


def entry(tmp_path, name="new", **changes):
    values = dict(root=tmp_path / "v", train_list=tmp_path / "t", val_list=Path("/else/where: #1"),
                  categories=tmp_path / "ä c")
    return UserDataSet(name, **{**values, **changes})


def test_registering_keeps_everything_else(tmp_path):
    file = yaml_file(tmp_path, GOOD + "# the end\n")
    register(file, entry(tmp_path), DATASETS)
    assert file.read_text().startswith(GOOD + "# the end\nnew:\n")
    assert read_dataset_file(file)["new"] == entry(tmp_path)
    changed = entry(tmp_path, "007", root=tmp_path, train_list=tmp_path / "lists/train.txt", template="f{:03d}.png")
    register(file, changed, DATASETS)
    text = file.read_text()
    assert text.startswith("# mine\n'007':\n  root: .\n") and "\nno: {root: ." in text and "# the end\nnew:\n" in text
    assert list(read_dataset_file(file)) == ["007", "no", "new"] and read_dataset_file(file)["007"] == changed
    with pytest.raises(UserError, match="own.yaml:2: '007' is the name of the data set with the list .*train.txt"):
        register(file, entry(tmp_path, "007", root=tmp_path / "other"), DATASETS)
    register(file, entry(tmp_path, "007", root=tmp_path / "other"), DATASETS, replace=True)
    assert read_dataset_file(file)["007"].root == tmp_path / "other"


def test_a_file_that_cannot_be_added_to_stays_as_it_is(tmp_path):
    file = yaml_file(tmp_path, "{}")
    with pytest.raises(UserError, match="by hand"):
        register(file, entry(tmp_path), DATASETS)
    assert file.read_text() == "{}" and {p.name for p in tmp_path.iterdir()} == {"lists", "own.yaml"}


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_data_sets_or_one_line(text):
    from ops.prepare.user_file import _parse
    try:
        _parse(text, Path("f.yaml"))
    except UserError as error:
        assert str(error).startswith("f.yaml") and "\n" not in str(error)


def test_lists_of_videos_with_awkward_names_come_back_whole(tmp_path, monkeypatch, capfd):
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


def test_csv_paths_may_be_written_in_several_ways(tmp_path):
    (tmp_path / "t.csv").write_text(f"\ufeffFILE,LABEL\n ./a/../b.mp4 ,x\n\n{os.path.abspath(tmp_path)}/c.mp4,y\n")
    assert read_csv(tmp_path / "t.csv", tmp_path) == [Item("b.mp4", "x", ""), Item("c.mp4", "y", "")]
