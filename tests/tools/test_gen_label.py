"""The gen_label commands: each on a small copy of its data set's label files, and videos that are missing."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.dataset_config import DATASETS
from tests.helpers.label_files import KINETICS, V2, V2_FRAMES, add_frames, lines, write
from tests.helpers.programs import run

ROOT = Path(__file__).resolve().parents[2]

JESTER = """Doing other things|Drumming Fingers|No gesture|Pulling Hand In|Pulling Two Fingers In|Pushing Hand Away|
Pushing Two Fingers Away|Rolling Hand Backward|Rolling Hand Forward|Shaking Hand|Sliding Two Fingers Down|
Sliding Two Fingers Left|Sliding Two Fingers Right|Sliding Two Fingers Up|Stop Sign|Swiping Down|Swiping Left|
Swiping Right|Swiping Up|Thumb Down|Thumb Up|Turning Hand Clockwise|Turning Hand Counterclockwise|
Zooming In With Full Hand|Zooming In With Two Fingers|Zooming Out With Full Hand|Zooming Out With Two Fingers
""".replace("\n", "").split("|")


@pytest.fixture
def call(monkeypatch, capfd):
    """call(tool, *argv): (status, output, errors) of a command, run in this process: starting one takes seconds."""
    return lambda tool, *argv: run(monkeypatch, capfd, f"tools.{tool.removesuffix('.py')}", *argv)


def start(tool, *args, **environment):
    """The same in a separate process."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / tool), *map(str, args)], capture_output=True,
                          text=True, env={**os.environ, **environment}, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


# ---- each command, in the table's directories --------------------------------------------------------------

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


@pytest.mark.parametrize("form", ["something-something-v2-{}.json", "{}.json", "labels/{}.json"])
def test_something_v2(tmp_path, monkeypatch, call, form):
    home = tmp_path / "something" / "v2"
    write(home, {form.format(name): content for name, content in V2.items()})
    add_frames(home / "20bn-something-something-v2-frames", "{:06d}.jpg", V2_FRAMES)
    monkeypatch.setenv("TSM_ROOT", str(tmp_path))
    status, out, err = call("gen_label_sthv2.py")
    assert (status, err) == (0, "") and f"{home / 'category.txt'}: 3 classes" in out
    assert f"{home / 'train_videofolder.txt'}: 2 videos" in out
    assert lines(home / "category.txt") == ["Approaching something with your camera", "Holding something",
                                            "Putting something next to something"]
    assert lines(home / "train_videofolder.txt") == ["78687 5 2", "42326 6 1"]
    assert lines(home / "val_videofolder.txt") == ["74225 7 0"]
    assert lines(home / "test_videofolder.txt") == ["1420 8 0", "3 9 0"]


def test_jester_classes_are_in_the_published_order(tmp_path, call):
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


def test_kinetics_finds_every_spelling_of_a_directory(tmp_path, call):
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


@pytest.mark.parametrize("inside", ["", "ucfTrainTestlist/"])
def test_ucf101(tmp_path, call, inside):
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


def test_hmdb51(tmp_path, call):
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


def test_lists_are_written_where_the_table_looks(tmp_path):
    """The paths that the tests above use: a change of the table must change the commands too."""
    wanted = {"something": "something/v1/train_videofolder.txt", "somethingv2": "something/v2/train_videofolder.txt",
              "jester": "jester/train_videofolder.txt", "kinetics": "kinetics/labels/train_videofolder.txt",
              "ucf101": "UCF101/file_list/ucf101_rgb_train_split_1.txt",
              "hmdb51": "HMDB51/splits/hmdb51_rgb_train_split_1.txt"}
    assert {name: DATASETS[name].files["RGB"].train_list for name in wanted} == wanted


# ---- missing videos -------------------------------------------------------------------------------------------

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


def test_missing_videos_are_listed_and_left_out(some_missing, tmp_path, call):
    status, out, err = call("gen_label_sthv2.py", *some_missing)
    assert status == 2 and err.count("\n") == 2
    assert "missing_train.txt: 1 video left out, the first is 78687: 000002.jpg is missing" in err
    assert "missing_test.txt: 2 videos left out, the first is 1420" in err
    assert lines(tmp_path / "out" / "train_videofolder.txt") == ["42326 6 1"]
    assert lines(tmp_path / "out" / "test_videofolder.txt") == []
    assert lines(tmp_path / "out" / "missing_train.txt") == ["78687\t000002.jpg is missing, the directory has 4 frames"]
    assert lines(tmp_path / "out" / "missing_test.txt") == ["1420\tthe directory has no frame like 000001.jpg",
                                                            "3\tno directory of frames"]
    assert not (tmp_path / "out" / "missing_val.txt").exists()


def test_missing_videos_can_be_allowed_and_their_list_is_deleted_once_they_exist(some_missing, tmp_path, call):
    assert call("gen_label_sthv2.py", *some_missing, "--allow_missing")[0] == 0
    add_frames(tmp_path / "f", "{:06d}.jpg", V2_FRAMES)
    assert call("gen_label_sthv2.py", *some_missing)[0] == 0
    assert not list((tmp_path / "out").glob("missing_*"))
    assert lines(tmp_path / "out" / "train_videofolder.txt") == ["78687 5 2", "42326 6 1"]


def test_if_all_videos_are_missing_nothing_is_written(tmp_path, call):
    write(tmp_path, {f"{name}.json": content for name, content in V2.items()})
    status, out, err = call("gen_label_sthv2.py", "--labels", tmp_path, "--frames", tmp_path / "f", "--out",
                            tmp_path / "out", "--allow_missing")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "none of the 5 videos has frames" in err
    assert not (tmp_path / "out").exists()


def test_a_binary_label_file_is_a_one_line_error(tmp_path, call):
    write(tmp_path, {f"{name}.json": content for name, content in V2.items()})
    (tmp_path / "train.json").write_bytes(b"\xff\xfe\x00")
    status, out, err = call("gen_label_sthv2.py", "--labels", tmp_path)
    assert (status, out) == (2, "") and err.count("\n") == 1 and "train.json" in err
