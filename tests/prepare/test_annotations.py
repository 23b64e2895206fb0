"""The label tools: each on a small copy of its data set's real label files, and what they refuse."""
import importlib
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ops.common import cli
from ops.common.errors import UserError
from ops.data.list_files import count_frames
from ops.dataset_config import DATASETS
from ops.prepare.annotations import (
    kinetics_directory,
    write_hmdb51_lists,
    write_jester_lists,
    write_kinetics_lists,
    write_sthv1_lists,
    write_sthv2_lists,
    write_ucf101_lists,
)

ROOT = Path(__file__).resolve().parents[2]

JESTER = """Doing other things|Drumming Fingers|No gesture|Pulling Hand In|Pulling Two Fingers In|Pushing Hand Away|
Pushing Two Fingers Away|Rolling Hand Backward|Rolling Hand Forward|Shaking Hand|Sliding Two Fingers Down|
Sliding Two Fingers Left|Sliding Two Fingers Right|Sliding Two Fingers Up|Stop Sign|Swiping Down|Swiping Left|
Swiping Right|Swiping Up|Thumb Down|Thumb Up|Turning Hand Clockwise|Turning Hand Counterclockwise|
Zooming In With Full Hand|Zooming In With Two Fingers|Zooming Out With Full Hand|Zooming Out With Two Fingers
""".replace("\n", "").split("|")


def write(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def add_frames(root, template, counts):
    for directory, count in counts.items():
        (root / directory).mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            (root / directory / template.format(number)).touch()


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def call(tool, *args, **environment):
    """(status, output, errors) of a program, run in this process: starting one takes seconds."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), \
            pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", [tool, *map(str, args)])
        for name, value in environment.items():
            patch.setenv(name, value)
        cli.run(importlib.import_module(f"tools.{tool.removesuffix('.py')}").main)
    return end.value.code, out.getvalue(), err.getvalue()


def start(tool, *args, **environment):
    """The same in a process of its own."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / tool), *map(str, args)], capture_output=True,
                          text=True, env={**os.environ, **environment}, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


# ---- each tool, in the places of the data set table ----------------------------------------------------------

def test_something_v1(tmp_path):
    home = tmp_path / "something" / "v1"
    write(home, {
        "something-something-v1-labels.csv": "Tearing something\nApproaching something\nHolding something, and\n",
        "something-something-v1-train.csv": "100218;Tearing something\n24413;Holding something, and\n",
        "something-something-v1-validation.csv": "74225;Approaching something\n",
        "something-something-v1-test.csv": "65\n66\n"})
    add_frames(home / "20bn-something-something-v1", "{:05d}.jpg",
               {"100218": 3, "24413": 11, "74225": 2, "65": 4, "66": 1})
    assert start("gen_label_sthv1.py", "--root_dataset", tmp_path)[0] == 0
    assert lines(home / "category.txt") == ["Approaching something", "Holding something, and", "Tearing something"]
    assert lines(home / "train_videofolder.txt") == ["100218 3 2", "24413 11 1"]
    assert lines(home / "val_videofolder.txt") == ["74225 2 0"]
    assert lines(home / "test_videofolder.txt") == ["65 4 0", "66 1 0"]
    assert not list(home.glob("missing_*")) and not list(home.glob(".*"))


V2 = {"labels": {"Holding something": "1", "Approaching something with your camera": "0",
                 "Putting something next to something": "2"},
      "train": [{"id": "78687", "label": "holding potato next to vicks bottle", "placeholders": ["potato", "vicks"],
                 "template": "Putting [something] next to [something]"},
                {"id": "42326", "label": "holding a pen", "placeholders": ["a pen"],
                 "template": "Holding [something]"}],
      "validation": [{"id": "74225", "template": "Approaching [something] with your camera"}],
      "test": [{"id": "1420"}, {"id": "3"}]}
V2_FRAMES = {"78687": 5, "42326": 6, "74225": 7, "1420": 8, "3": 9}


@pytest.mark.parametrize("form", ["something-something-v2-{}.json", "{}.json", "labels/{}.json"])
def test_something_v2(tmp_path, form):
    home = tmp_path / "something" / "v2"
    write(home, {form.format(name): content for name, content in V2.items()})
    add_frames(home / "20bn-something-something-v2-frames", "{:06d}.jpg", V2_FRAMES)
    status, out, err = call("gen_label_sthv2.py", TSM_ROOT=str(tmp_path))
    assert (status, err) == (0, "") and f"{home / 'category.txt'}: 3 classes" in out
    assert f"{home / 'train_videofolder.txt'}: 2 videos" in out
    assert lines(home / "category.txt") == ["Approaching something with your camera", "Holding something",
                                            "Putting something next to something"]
    assert lines(home / "train_videofolder.txt") == ["78687 5 2", "42326 6 1"]
    assert lines(home / "val_videofolder.txt") == ["74225 7 0"]
    assert lines(home / "test_videofolder.txt") == ["1420 8 0", "3 9 0"]


def test_a_data_set_in_the_v2_form_without_a_test_file(tmp_path):
    home = tmp_path / "gestures"
    write(home, {f"{name}.json": V2[name] for name in ("labels", "train", "validation")})
    add_frames(home / "frames", "{:06d}.jpg", V2_FRAMES)
    summary = write_sthv2_lists(home, home / "frames", home)
    assert summary.listed == {"train_videofolder.txt": 2, "val_videofolder.txt": 1} and summary.missing == {}
    assert lines(home / "val_videofolder.txt") == ["74225 7 0"] and not (home / "test_videofolder.txt").exists()


def test_jester_classes_are_in_the_published_order(tmp_path):
    home = tmp_path / "jester"
    as_released = JESTER[16:18] + JESTER[:16][::-1] + JESTER[18:]
    write(home, {"jester-v1-labels.csv": "\n".join(as_released) + "\n",
                 "jester-v1-train.csv": "".join(f"{100 + n};{name}\n" for n, name in enumerate(JESTER)),
                 "jester-v1-validation.csv": "9223;Thumb Up\r\n", "jester-v1-test.csv": "7\n"})
    add_frames(home / "20bn-jester-v1", "{:05d}.jpg", {**{str(100 + n): 1 for n in range(27)}, "9223": 37, "7": 36})
    assert call("gen_label_jester.py", "--root_dataset", tmp_path)[0] == 0
    assert lines(home / "category.txt") == JESTER and len(JESTER) == 27
    assert lines(home / "train_videofolder.txt") == [f"{100 + n} 1 {n}" for n in range(27)]
    assert lines(home / "val_videofolder.txt") == ["9223 37 20"]
    assert lines(home / "test_videofolder.txt") == ["7 36 0"]


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics_copes_with_every_spelling_of_a_directory(tmp_path):
    home = tmp_path / "kinetics"
    write(home / "labels", {
        "kinetics_train.csv": KINETICS + "testifying,---QUuC4vJs,84,94,train\n"
        "passing American football (in game),-0Qj_0,7,17,train\n\"massaging person's head\",_x y,1.0,11.0,train\n",
        "kinetics_val.csv": KINETICS + "eating spaghetti,plain,2,12,val\n",
        "kinetics_test.csv": "youtube_id,time_start,time_end,split\nunseen,3,13,test\n"})
    add_frames(home / "images", "img_{:05d}.jpg", {
        "testifying/---QUuC4vJs_000084_000094": 3, "passing_American_football_in_game/-0Qj_0_7": 4,
        "massaging person's head/_x y_000001_000011": 5, "eating_spaghetti/plain": 6, "test/unseen_000003_000013": 7})
    assert call("gen_label_kinetics.py", "--root_dataset", tmp_path)[0] == 0
    labels = home / "labels"
    assert lines(labels / "category.txt") == ["eating spaghetti", "massaging person's head",
                                              "passing American football (in game)", "testifying"]
    assert lines(labels / "train_videofolder.txt") == [
        "testifying/---QUuC4vJs_000084_000094 3 3", "passing_American_football_in_game/-0Qj_0_7 4 2",
        "massaging person's head/_x y_000001_000011 5 1"]
    assert lines(labels / "val_videofolder.txt") == ["eating_spaghetti/plain 6 0"]
    assert lines(labels / "test_videofolder.txt") == ["test/unseen_000003_000013 7 0"]


def test_kinetics_label_map_sets_the_order(tmp_path):
    write(tmp_path, {"kinetics_label_map.txt": "yoga\nabseiling\nzumba\n",
                     "train.csv": KINETICS + "abseiling,a,1,2,t\n", "validate.csv": KINETICS + "zumba,b,1,2,v\n"})
    add_frames(tmp_path / "f", "img_{:05d}.jpg", {"abseiling/a": 1, "zumba/b": 1})
    write_kinetics_lists(tmp_path, tmp_path / "f", tmp_path)
    assert lines(tmp_path / "category.txt") == ["yoga", "abseiling", "zumba"]
    assert lines(tmp_path / "train_videofolder.txt") == ["abseiling/a 1 1"]
    assert lines(tmp_path / "val_videofolder.txt") == ["zumba/b 1 2"]


@pytest.mark.parametrize("name, directory", [
    ("riding a bike", "riding_a_bike"), ("massaging person's head", "massaging_persons_head"),
    ('"shooting goal (soccer)"', "shooting_goal_soccer"), ("pull ups", "pull_ups")])
def test_published_kinetics_directories(name, directory):
    assert kinetics_directory(name) == directory


@pytest.mark.parametrize("inside", ["", "ucfTrainTestlist/"])
def test_ucf101(tmp_path, inside):
    home = tmp_path / "UCF101"
    write(home / "labels", {
        inside + "classInd.txt": "1 ApplyEyeMakeup\n2 HandstandPushups\n",
        inside + "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n"
                                    "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n",
        inside + "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\n",
        inside + "trainlist03.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi 2\n",
        inside + "testlist03.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n"})
    add_frames(home / "jpg", "img_{:05d}.jpg", {
        "v_ApplyEyeMakeup_g08_c01": 4, "HandstandPushups/v_HandStandPushups_g08_c01": 5,
        "HandstandPushups/v_HandStandPushups_g01_c01": 6})
    (home / "jpg" / "v_ApplyEyeMakeup_g08_c01" / "flow_x_00001.jpg").touch()
    assert call("gen_label_ucf101.py", "--root_dataset", tmp_path)[0] == 0
    lists = home / "file_list"
    assert lines(lists / "ucf101_rgb_train_split_1.txt") == ["v_ApplyEyeMakeup_g08_c01 4 0",
                                                             "HandstandPushups/v_HandStandPushups_g08_c01 5 1"]
    assert lines(lists / "ucf101_rgb_val_split_1.txt") == ["HandstandPushups/v_HandStandPushups_g01_c01 6 1"]
    assert lines(lists / "ucf101_rgb_train_split_3.txt") == ["HandstandPushups/v_HandStandPushups_g01_c01 6 1"]
    assert lines(lists / "ucf101_rgb_val_split_3.txt") == ["v_ApplyEyeMakeup_g08_c01 4 0"]
    assert len(list(lists.iterdir())) == 4


def test_hmdb51(tmp_path):
    home = tmp_path / "HMDB51"
    splits = "testTrainMulti_7030_splits/"
    write(home / "splits", {
        splits + "wave_test_split1.txt": "20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi 1 \nb!(1)_wave.avi 2 \n",
        splits + "brush_hair_test_split1.txt": "April_09 brush#hair_0.avi 2 \nunused.avi 0 \n",
        splits + "wave_test_split2.txt": "b!(1)_wave.avi 1 \n",
        splits + "brush_hair_test_split2.txt": "unused.avi 2 \n"})
    add_frames(home / "images", "img_{:05d}.jpg", {
        "wave/20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0": 3, "b!(1)_wave": 2,
        "brush_hair/April_09 brush#hair_0": 4, "brush_hair/unused": 5})
    assert call("gen_label_hmdb51.py", "--root_dataset", tmp_path)[0] == 0
    lists = home / "splits"
    assert lines(lists / "category.txt") == ["brush_hair", "wave"]
    assert lines(lists / "hmdb51_rgb_train_split_1.txt") == ["wave/20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0 3 1"]
    assert lines(lists / "hmdb51_rgb_val_split_1.txt") == ["brush_hair/April_09 brush#hair_0 4 0", "b!(1)_wave 2 1"]
    assert lines(lists / "hmdb51_rgb_train_split_2.txt") == ["b!(1)_wave 2 1"]
    assert lines(lists / "hmdb51_rgb_val_split_2.txt") == ["brush_hair/unused 5 0"]


def test_the_lists_lie_where_the_table_looks(tmp_path):
    """The files of the tests above, by name: whoever moves the table moves the tools."""
    wanted = {"something": "something/v1/train_videofolder.txt", "somethingv2": "something/v2/train_videofolder.txt",
              "jester": "jester/train_videofolder.txt", "kinetics": "kinetics/labels/train_videofolder.txt",
              "ucf101": "UCF101/file_list/ucf101_rgb_train_split_1.txt",
              "hmdb51": "HMDB51/splits/hmdb51_rgb_train_split_1.txt"}
    assert {name: DATASETS[name].files["RGB"].train_list for name in wanted} == wanted


# ---- videos that are not there -------------------------------------------------------------------------------

@pytest.fixture
def some_missing(tmp_path):
    write(tmp_path, {f"{name}.json": content for name, content in V2.items()})
    add_frames(tmp_path / "f", "{:06d}.jpg", V2_FRAMES)
    for file in (tmp_path / "f" / "3").iterdir():
        file.unlink()
    (tmp_path / "f" / "3").rmdir()
    (tmp_path / "f" / "78687" / "000002.jpg").unlink()
    for file in (tmp_path / "f" / "1420").iterdir():
        file.unlink()
    return ["--labels", tmp_path, "--frames", tmp_path / "f", "--out", tmp_path / "out"]


def test_missing_videos_are_listed_and_left_out(some_missing, tmp_path):
    status, out, err = call("gen_label_sthv2.py", *some_missing)
    assert status == 2 and err.count("\n") == 2
    assert "missing_train.txt: 1 videos left out, the first is 78687: 000002.jpg is missing" in err
    assert "missing_test.txt: 2 videos left out, the first is 1420" in err
    assert lines(tmp_path / "out" / "train_videofolder.txt") == ["42326 6 1"]
    assert lines(tmp_path / "out" / "test_videofolder.txt") == []
    assert lines(tmp_path / "out" / "missing_train.txt") == ["78687\t000002.jpg is missing, the directory has 4 frames"]
    assert lines(tmp_path / "out" / "missing_test.txt") == ["1420\tthe directory has no frame like 000001.jpg",
                                                            "3\tno directory of frames"]
    assert not (tmp_path / "out" / "missing_val.txt").exists()


def test_missing_videos_may_be_allowed_and_the_list_goes_when_they_are_there(some_missing, tmp_path):
    assert call("gen_label_sthv2.py", *some_missing, "--allow_missing")[0] == 0
    add_frames(tmp_path / "f", "{:06d}.jpg", V2_FRAMES)
    assert call("gen_label_sthv2.py", *some_missing)[0] == 0
    assert not list((tmp_path / "out").glob("missing_*"))
    assert lines(tmp_path / "out" / "train_videofolder.txt") == ["78687 5 2", "42326 6 1"]


def test_all_missing_is_an_error_that_writes_nothing(tmp_path):
    write(tmp_path, {f"{name}.json": content for name, content in V2.items()})
    status, out, err = call("gen_label_sthv2.py", "--labels", tmp_path, "--frames", tmp_path / "f", "--out",
                            tmp_path / "out", "--allow_missing")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "none of the 5 videos has frames" in err
    assert not (tmp_path / "out").exists()


def test_counting_frames(tmp_path):
    add_frames(tmp_path, "img_{:05d}.jpg", {"whole": 12, "gap": 12, "zero": 3, "wide": 2})
    (tmp_path / "gap" / "img_00012.jpg").rename(tmp_path / "gap" / "img_00013.jpg")
    (tmp_path / "zero" / "img_00000.jpg").touch()
    for name in ("flow_x_00001.jpg", "img_00001.png", "xximg_00013.jpg", "img_0013.jpg.tmp", "notes"):
        (tmp_path / "whole" / name).touch()
    (tmp_path / "wide" / "img_3.jpg").touch()
    assert count_frames(tmp_path / "whole", "img_{:05d}.jpg") == 12
    with pytest.raises(UserError, match="img_00012.jpg is missing, the directory has 12 frames$"):
        count_frames(tmp_path / "gap", "img_{:05d}.jpg")
    with pytest.raises(UserError, match="must start at 1, not at 0"):
        count_frames(tmp_path / "zero", "img_{:05d}.jpg")
    with pytest.raises(UserError, match="img_00003.jpg is missing"):
        count_frames(tmp_path / "wide", "img_{:05d}.jpg")
    with pytest.raises(UserError, match="no frame like 00001.jpg"):
        count_frames(tmp_path / "whole", "{:05d}.jpg")


# ---- label files that are missing or malformed ---------------------------------------------------------------

def refused(tmp_path, writer, files, words):
    write(tmp_path / "labels", files)
    (tmp_path / "labels").mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        writer(tmp_path / "labels", tmp_path / "frames", tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not (tmp_path / "out").exists()


V2_FILES = {f"{name}.json": content for name, content in V2.items()}


@pytest.mark.parametrize("changed, words", [
    ({"labels.json": None}, ["no label file", "labels.json"]),
    ({"validation.json": None}, ["no label file", "validation.json"]),
    ({"train.json": '[\n{"id": "1",,}\n]'}, ["train.json, line 2", "not JSON"]),
    ({"train.json": {"id": "1"}}, ["train.json", "a list of videos"]),
    ({"train.json": [{"id": "1", "template": "Holding [something]"}, {"label": "x"}]}, ["train.json, entry 2", "id"]),
    ({"train.json": [{"id": "1", "template": "Eating [something]"}]}, ["train.json, entry 1", "Eating something"]),
    ({"train.json": [{"id": "1"}]}, ["train.json, entry 1", "template"]),
    ({"train.json": [{"id": "../1", "template": "Holding [something]"}]}, ["entry 1", "name of a video"]),
    ({"train.json": [{"id": "1\n2 3 4", "template": "Holding [something]"}]}, ["entry 1", "name of a video"]),
    ({"train.json": '[{"id": "\\ud800", "template": "Holding [something]"}]'}, ["entry 1", "name of a video"]),
    ({"train.json": "[" * 100000}, ["train.json"]),
    ({"labels.json": {"A": "0", "B": "2"}}, ["labels.json", "number from 0 on"]),
    ({"labels.json": ["A", "B"]}, ["labels.json", "number from 0 on"]),
    ({"labels.json": {}}, ["labels.json", "number from 0 on"]),
])
def test_malformed_v2_files(tmp_path, changed, words):
    files = {name: content for name, content in {**V2_FILES, **changed}.items() if content is not None}
    refused(tmp_path, write_sthv2_lists, files, words)


V1 = {"something-something-v1-labels.csv": "A\nB\n", "something-something-v1-train.csv": "1;A\n",
      "something-something-v1-validation.csv": "2;B\n"}


@pytest.mark.parametrize("changed, words", [
    ({"something-something-v1-labels.csv": "A\nB\nA\n"}, ["labels.csv", "'A' is there twice"]),
    ({"something-something-v1-labels.csv": " \n"}, ["labels.csv", "empty"]),
    ({"something-something-v1-train.csv": "1;A\n\n3,B\n"}, ["train.csv, line 3", "none of the 2 classes"]),
    ({"something-something-v1-validation.csv": ";B\n"}, ["validation.csv, line 1", "name of a video"]),
    ({"something-something-v1-test.csv": "1;C\n"}, ["test.csv, line 1", "'C'"])])
def test_malformed_csv_files(tmp_path, changed, words):
    refused(tmp_path, write_sthv1_lists, {**V1, **changed}, words)


@pytest.mark.parametrize("writer, files, words", [
    (write_jester_lists, {}, ["no label file jester-v1-labels.csv", "--labels"]),
    (write_kinetics_lists, {"kinetics_train.csv": "a,b\n1,2\n", "kinetics_val.csv": KINETICS},
     ["kinetics_train.csv, line 1", "youtube_id"]),
    (write_kinetics_lists, {"kinetics_train.csv": KINETICS + "yoga,x,1\n", "kinetics_val.csv": KINETICS},
     ["kinetics_train.csv, line 2", "time_end"]),
    (write_kinetics_lists, {"kinetics_train.csv": KINETICS + "yoga,x,1,soon,train\n", "kinetics_val.csv": KINETICS},
     ["kinetics_train.csv, line 2", "seconds"]),
    (write_kinetics_lists, {"kinetics_train.csv": KINETICS + "yoga,x,1,2,train\n", "kinetics_val.csv": KINETICS,
                            "kinetics_label_map.txt": "zumba\n"}, ["kinetics_train.csv, line 2", "'yoga'"]),
    (write_ucf101_lists, {"classInd.txt": "1 A\n3 B\n"}, ["classInd.txt, line 2", "2 ClassName"]),
    (write_ucf101_lists, {"classInd.txt": "1 A\n2 B\n"}, ["trainlist01.txt"]),
    (write_ucf101_lists, {"classInd.txt": "1 A\n2 B\n", "trainlist01.txt": "A/v.avi 1\nA/w.avi 2\n",
                          "testlist01.txt": "B/x.avi\n"}, ["trainlist01.txt, line 2", "class 2", "number 1"]),
    (write_ucf101_lists, {"classInd.txt": "1 A\n", "trainlist01.txt": "C/v.avi 1\n", "testlist01.txt": "A/x.avi\n"},
     ["trainlist01.txt, line 1", "'C'"]),
    (write_hmdb51_lists, {}, ["_test_split1.txt"]),
    (write_hmdb51_lists, {"wave_test_split1.txt": "a.avi 1\nb.avi 3\n"}, ["wave_test_split1.txt, line 2", "0, 1 or 2"]),
    (write_hmdb51_lists, {"wave_test_split1.txt": "a.avi 1\n", "wave_test_split2.txt": "a.avi 1\n",
                          "run_test_split1.txt": "c.avi 1\n"}, ["run_test_split2.txt"]),
])
def test_malformed_label_files(tmp_path, writer, files, words):
    refused(tmp_path, writer, files, words)


def test_a_label_file_that_is_no_text_ends_in_one_line(tmp_path):
    write(tmp_path, V2_FILES)
    (tmp_path / "train.json").write_bytes(b"\xff\xfe\x00")
    status, out, err = call("gen_label_sthv2.py", "--labels", tmp_path)
    assert (status, out) == (2, "") and err.count("\n") == 1 and "train.json" in err


WHOLE = {
    "sthv1": (write_sthv1_lists, V1), "sthv2": (write_sthv2_lists, {n: json.dumps(c) for n, c in V2_FILES.items()}),
    "kinetics": (write_kinetics_lists, {"kinetics_train.csv": KINETICS + "yoga,1,1,2,t\n",
                                        "kinetics_val.csv": KINETICS + "yoga,2,1,2,v\n"}),
    "ucf101": (write_ucf101_lists, {"classInd.txt": "1 A\n2 B\n", "trainlist01.txt": "A/1.avi 1\nB/2.avi 2\n",
                                    "testlist01.txt": "B/1.avi\n"}),
    "hmdb51": (write_hmdb51_lists, {"wave_test_split1.txt": "1.avi 1 \n2.avi 2 \n"})}
PIECES = ["", "", "", "1", "0", " ", "\n", ";", ",", "A", "[", "]", "{", "}", '"', ":", "/", "..", "\0", "\x85",
          "\\ud800", "é", "1e999", "9" * 5000]


@pytest.fixture(scope="module")
def two_frames_each(tmp_path_factory):
    directory = tmp_path_factory.mktemp("frames")
    for template in ("{:06d}.jpg", "{:05d}.jpg", "img_{:05d}.jpg"):
        add_frames(directory, template, dict.fromkeys(("1", "2", "yoga/1", "yoga/2", *V2_FRAMES), 2))
    return directory


@given(kind=st.sampled_from(sorted(WHOLE)), data=st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_label_files_give_lists_or_one_line(kind, data, tmp_path_factory, two_frames_each):
    directory = tmp_path_factory.mktemp("fuzz")
    writer, files = WHOLE[kind]
    for name, text in files.items():
        for _ in range(data.draw(st.integers(0, 2))):
            begin, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
            text = text[:begin] + data.draw(st.sampled_from(PIECES)) + text[begin + length:]
        write(directory, {name: text})
    try:
        summary = writer(directory, two_frames_each, directory / "out", 1)
    except UserError as error:
        event("refused")
        assert str(error) and "\n" not in str(error) and not (directory / "out").exists()
        return
    event(f"lists, missing: {bool(summary.missing)}")
    for name, count in summary.listed.items():
        assert len(lines(directory / "out" / name)) == count
        assert all(line.rsplit(" ", 2)[1] == "2" for line in lines(directory / "out" / name))
