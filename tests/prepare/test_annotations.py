"""The parsers of the public data sets' label files: what they read, and what they refuse."""
import json

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.prepare.annotations import (
    kinetics_directory,
    parse_hmdb51,
    parse_jester,
    parse_kinetics,
    parse_sthv1,
    parse_sthv2,
    parse_ucf101,
)
from ops.prepare.list_writer import write_lists
from tests.helpers.label_files import KINETICS, V2, V2_FRAMES, add_frames, lines, write


def test_a_data_set_in_the_v2_format_without_a_test_file(tmp_path):
    home = tmp_path / "gestures"
    write(home, {f"{name}.json": V2[name] for name in ("labels", "train", "validation")})
    add_frames(home / "frames", "{:06d}.jpg", V2_FRAMES)
    summary = write_lists(parse_sthv2(home), home / "frames", home, template="{:06d}.jpg")
    assert summary.listed == {"train_videofolder.txt": 2, "val_videofolder.txt": 1} and summary.missing == {}
    assert lines(home / "val_videofolder.txt") == ["74225 7 0"] and not (home / "test_videofolder.txt").exists()


def test_the_kinetics_label_map_sets_the_class_order(tmp_path):
    write(tmp_path, {"kinetics_label_map.txt": "yoga\nabseiling\nzumba\n",
                     "train.csv": KINETICS + "abseiling,a,1,2,t\n", "validate.csv": KINETICS + "zumba,b,1,2,v\n"})
    add_frames(tmp_path / "f", "img_{:05d}.jpg", {"abseiling/a": 1, "zumba/b": 1})
    write_lists(parse_kinetics(tmp_path), tmp_path / "f", tmp_path, template="img_{:05d}.jpg")
    assert lines(tmp_path / "category.txt") == ["yoga", "abseiling", "zumba"]
    assert lines(tmp_path / "train_videofolder.txt") == ["abseiling/a 1 1"]
    assert lines(tmp_path / "val_videofolder.txt") == ["zumba/b 1 2"]


@pytest.mark.parametrize("name, directory", [
    ("riding a bike", "riding_a_bike"), ("massaging person's head", "massaging_persons_head"),
    ('"shooting goal (soccer)"', "shooting_goal_soccer"), ("pull ups", "pull_ups")])
def test_published_kinetics_directories(name, directory):
    assert kinetics_directory(name) == directory


# ---- missing and malformed label files -----------------------------------------------------------------------

def refused(tmp_path, parse, files, words):
    write(tmp_path / "labels", files)
    (tmp_path / "labels").mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        write_lists(parse(tmp_path / "labels"), tmp_path / "frames", tmp_path / "out", template="{:06d}.jpg")
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
    refused(tmp_path, parse_sthv2, files, words)


V1 = {"something-something-v1-labels.csv": "A\nB\n", "something-something-v1-train.csv": "1;A\n",
      "something-something-v1-validation.csv": "2;B\n"}


def test_videos_may_spell_the_accents_of_their_class_in_another_way(tmp_path):
    write(tmp_path, {"something-something-v1-labels.csv": "caf\u00e9\ntea\n",
                     "something-something-v1-train.csv": "1;cafe\u0301\n2;tea\n",
                     "something-something-v1-validation.csv": "3;tea\n"})
    assert [video.label for video in parse_sthv1(tmp_path).splits[0].videos] == [0, 1]


@pytest.mark.parametrize("changed, words", [
    ({"something-something-v1-labels.csv": "A\nB\nA\n"}, ["labels.csv", "'A' appears twice"]),
    ({"something-something-v1-labels.csv": " \n"}, ["labels.csv", "empty"]),
    ({"something-something-v1-train.csv": "1;A\n\n3,B\n"}, ["train.csv, line 3", "not one of the 2 classes"]),
    ({"something-something-v1-validation.csv": ";B\n"}, ["validation.csv, line 1", "name of a video"]),
    ({"something-something-v1-test.csv": "1;C\n"}, ["test.csv, line 1", "'C'"])])
def test_malformed_csv_files(tmp_path, changed, words):
    refused(tmp_path, parse_sthv1, {**V1, **changed}, words)


@pytest.mark.parametrize("parse, files, words", [
    (parse_jester, {}, ["no label file jester-v1-labels.csv", "set labels to"]),
    (parse_kinetics, {"kinetics_train.csv": "a,b\n1,2\n", "kinetics_val.csv": KINETICS},
     ["kinetics_train.csv, line 1", "youtube_id"]),
    (parse_kinetics, {"kinetics_train.csv": KINETICS + "yoga,x,1\n", "kinetics_val.csv": KINETICS},
     ["kinetics_train.csv, line 2", "time_end"]),
    (parse_kinetics, {"kinetics_train.csv": KINETICS + "yoga,x,1,soon,train\n", "kinetics_val.csv": KINETICS},
     ["kinetics_train.csv, line 2", "seconds"]),
    (parse_kinetics, {"kinetics_train.csv": KINETICS + "yoga,x,1,2,train\n", "kinetics_val.csv": KINETICS,
                      "kinetics_label_map.txt": "zumba\n"}, ["kinetics_train.csv, line 2", "'yoga'"]),
    (parse_ucf101, {"classInd.txt": "1 A\n3 B\n"}, ["classInd.txt, line 2", "2 ClassName"]),
    (parse_ucf101, {"classInd.txt": "1 A\n2 B\n"}, ["trainlist01.txt"]),
    (parse_ucf101, {"classInd.txt": "1 A\n2 B\n", "trainlist01.txt": "A/v.avi 1\nA/w.avi 2\n",
                    "testlist01.txt": "B/x.avi\n"}, ["trainlist01.txt, line 2", "class 2", "number 1"]),
    (parse_ucf101, {"classInd.txt": "1 A\n", "trainlist01.txt": "C/v.avi 1\n", "testlist01.txt": "A/x.avi\n"},
     ["trainlist01.txt, line 1", "'C'"]),
    (parse_ucf101, {"classInd.txt": "1 caf\u00e9\n2 cafe\u0301\n"}, ["classInd.txt", "appears twice"]),
    (parse_hmdb51, {f"{name}_test_split1.txt": "a.avi 1\n" for name in ("caf\u00e9", "cafe\u0301")}, ["appears twice"]),
    (parse_hmdb51, {}, ["_test_split1.txt"]),
    (parse_hmdb51, {"wave_test_split1.txt": "a.avi 1\nb.avi 3\n"}, ["wave_test_split1.txt, line 2", "0, 1 or 2"]),
    (parse_hmdb51, {"wave_test_split1.txt": "a.avi 1\n", "wave_test_split2.txt": "a.avi 1\n",
                    "run_test_split1.txt": "c.avi 1\n"}, ["run_test_split2.txt"]),
])
def test_malformed_label_files(tmp_path, parse, files, words):
    refused(tmp_path, parse, files, words)


WHOLE = {  # name -> parser, file name of a frame, label files
    "sthv1": (parse_sthv1, "{:05d}.jpg", V1),
    "sthv2": (parse_sthv2, "{:06d}.jpg", {name: json.dumps(content) for name, content in V2_FILES.items()}),
    "kinetics": (parse_kinetics, "img_{:05d}.jpg", {"kinetics_train.csv": KINETICS + "yoga,1,1,2,t\n",
                                                    "kinetics_val.csv": KINETICS + "yoga,2,1,2,v\n"}),
    "ucf101": (parse_ucf101, "img_{:05d}.jpg", {
        "classInd.txt": "1 A\n2 B\n", "trainlist01.txt": "A/1.avi 1\nB/2.avi 2\n", "testlist01.txt": "B/1.avi\n"}),
    "hmdb51": (parse_hmdb51, "img_{:05d}.jpg", {"wave_test_split1.txt": "1.avi 1 \n2.avi 2 \n"})}
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
def test_damaged_label_files_give_lists_or_a_one_line_error(kind, data, tmp_path_factory, two_frames_each):
    directory = tmp_path_factory.mktemp("fuzz")
    parse, template, files = WHOLE[kind]
    for name, text in files.items():
        for _ in range(data.draw(st.integers(0, 2))):
            begin, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
            text = text[:begin] + data.draw(st.sampled_from(PIECES)) + text[begin + length:]
        write(directory, {name: text})
    try:
        summary = write_lists(parse(directory), two_frames_each, directory / "out", template=template, workers=1)
    except UserError as error:
        event("refused")
        assert str(error) and "\n" not in str(error) and not (directory / "out").exists()
        return
    event(f"lists, missing: {bool(summary.missing)}")
    for name, count in summary.listed.items():
        assert len(lines(directory / "out" / name)) == count
        assert all(line.rsplit(" ", 2)[1] == "2" for line in lines(directory / "out" / name))
