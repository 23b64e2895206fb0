"""The registry of data sets: the built-in table, the user's datasets.yaml, and which one counts."""
from dataclasses import replace

import pytest

from ops import dataset_config
from ops.common.errors import UserError
from ops.dataset_config import DATASETS, JESTER_CLASSES, mirror_labels, read_categories, resolve_dataset, swaps_by_names
from tests.helpers.user_file import GOOD, yaml_file


@pytest.fixture(autouse=True)
def no_default_file(tmp_path, monkeypatch):
    """The user's own datasets.yaml is not read."""
    monkeypatch.setattr(dataset_config, "DATASET_FILE", tmp_path / "default.yaml")


def test_the_yaml_file_adds_to_the_table(tmp_path, monkeypatch):
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


def test_the_default_file_may_be_absent_a_named_one_may_not():
    assert "mine" not in DATASETS
    with pytest.raises(UserError, match="unknown data set 'mine'"):
        resolve_dataset("mine", "RGB")
    with pytest.raises(UserError, match="cannot read the data set file nowhere.yaml: No such file"):
        resolve_dataset("ucf101", "RGB", dataset_file="nowhere.yaml")


def test_jester_pairs_come_from_its_names():
    names = ["Sliding Two Fingers Left", "Sliding Two Fingers Right", "Thumb Up", "Turning Hand Clockwise",
             "Turning Hand Counterclockwise"]
    assert swaps_by_names(names) == ((0, 1), (3, 4))


def test_the_labels_that_a_mirror_swaps_are_known_without_a_file_of_class_names(tmp_path):
    data = resolve_dataset("jester", "RGB", str(tmp_path))
    assert data.class_names is None
    labels = mirror_labels(data)
    swapped = {JESTER_CLASSES[a]: JESTER_CLASSES[b] for a, b in enumerate(labels) if a < b}
    assert swapped == {"Sliding Two Fingers Left": "Sliding Two Fingers Right", "Swiping Left": "Swiping Right",
                       "Turning Hand Clockwise": "Turning Hand Counterclockwise"}
    some = replace(data, num_class=3)
    assert mirror_labels(some) is None
    assert mirror_labels(some, ["Left", "Right", "Up"]) == [1, 0, 2]
    assert mirror_labels(replace(some, class_names=["Left", "Up", "Right"]), ["Left", "Right", "Up"]) == [2, 1, 0]


# ---- class names ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, text, names", [
    ("category.txt", "1 finger\n2 fingers\n3 fingers\n", ["1 finger", "2 fingers", "3 fingers"]),
    ("category.txt", "0 down\n1 up\n", ["0 down", "1 up"]),
    ("classInd.txt", "1 ApplyEyeMakeup\r\n2 Apply Lipstick\r\n", ["ApplyEyeMakeup", "Apply Lipstick"]),
    ("classInd.txt", "1 ApplyEyeMakeup\n3 ApplyLipstick\n", ["1 ApplyEyeMakeup", "3 ApplyLipstick"]),
    ("classInd.txt", "1 ApplyEyeMakeup\n2\n", ["1 ApplyEyeMakeup", "2"]),
    ("category.txt", "\ufeffwave\n\n  thumb up \n", ["wave", "thumb up"])])
def test_numbers_are_stripped_only_in_the_form_of_ucf101(tmp_path, name, text, names):
    (tmp_path / name).write_bytes(text.encode())
    assert read_categories(tmp_path / name) == names


@pytest.mark.parametrize("name, text, twice", [
    ("category.txt", "wave\nclap\nwave\n", "'wave' twice"), ("classInd.txt", "1 wave\n2 wave\n", "'wave' twice"),
    ("category.txt", "caf\u00e9\ncafe\u0301\n", "'caf\u00e9' twice")])
def test_two_classes_of_one_name_are_refused(tmp_path, name, text, twice):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"{name} has {twice}"):
        read_categories(tmp_path / name)
