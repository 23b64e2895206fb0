"""datasets.yaml: what it may contain, its errors, and entries that are added to it."""
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.dataset_config import DATASETS
from ops.prepare.user_file import UserDataSet, _parse, read_dataset_file, register
from tests.helpers.programs import assert_refused, run
from tests.helpers.user_file import GOOD, yaml_file

ENTRY = "{root: ., train_list: lists/train.txt, val_list: lists/val.txt, num_class: 2}"


@pytest.mark.parametrize("text, words", [
    ("a: [", "own.yaml:1: not yaml"), ("x: 1\n\ty: 2", "own.yaml:2: not yaml"),
    ("- a", "own.yaml:1: the file must hold"),
    ("a: 3", "own.yaml:1: data set 'a' must hold"), (f"a: {ENTRY}\na: {ENTRY}", "own.yaml:2: 'a' appears twice"),
    (f"ucf101: {ENTRY}", "own.yaml:1: 'ucf101' is a built-in data set"),
    ("'': 3", "own.yaml:1: a name must be text"),
    ("a:\n  rooot: x\n  train_list: y", "own.yaml:2: unknown key 'rooot' of data set 'a': choose from root, train_list"),
    ("a:\n  root: x\n  train_list: y", "own.yaml:1: data set 'a' needs val_list, either categories or num_class"),
    (ENTRY.replace("{", "a: {").replace("2}", "0}"), "num_class '0': choose 1 or more"),
    (ENTRY.replace("{", "a: {").replace("2}", "2, template: x.jpg}"), "template 'x.jpg': choose a file name"),
    (ENTRY.replace("{", "a: {").replace("2}", "2, template: {:06d}.jpg}"), "not yaml"),
    (ENTRY.replace("{", "a: {").replace("2}", "2, multi_label: yes}"), "multi_label 'yes': choose true or false"),
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


def test_registering_a_data_set_keeps_everything_else(tmp_path):
    file = yaml_file(tmp_path, GOOD + "# the end\n")
    register(file, entry(tmp_path), taken=DATASETS)
    assert file.read_text().startswith(GOOD + "# the end\nnew:\n")
    assert read_dataset_file(file)["new"] == entry(tmp_path)
    changed = entry(tmp_path, "007", root=tmp_path, train_list=tmp_path / "lists/train.txt", template="f{:03d}.png")
    register(file, changed, taken=DATASETS)
    text = file.read_text()
    assert text.startswith("# mine\n'007':\n  root: .\n") and "\nno: {root: ." in text and "# the end\nnew:\n" in text
    assert list(read_dataset_file(file)) == ["007", "no", "new"] and read_dataset_file(file)["007"] == changed
    several = entry(tmp_path, "several", multi_label=True)
    register(file, several, taken=DATASETS)
    assert file.read_text().endswith("  multi_label: true\n") and read_dataset_file(file)["several"] == several
    with pytest.raises(UserError, match="own.yaml:2: '007' is already the data set with the list .*train.txt"):
        register(file, entry(tmp_path, "007", root=tmp_path / "other"), taken=DATASETS)
    register(file, entry(tmp_path, "007", root=tmp_path / "other"), taken=DATASETS, replace=True)
    assert read_dataset_file(file)["007"].root == tmp_path / "other"


def test_data_sets_registered_at_the_same_time_are_all_kept(tmp_path):
    file = yaml_file(tmp_path, GOOD)
    entries = [entry(tmp_path, f"set{number}") for number in range(40)]
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        list(pool.map(partial(register, file), entries))
    found = read_dataset_file(file)
    assert {name: found[name] for name in found if name.startswith("set")} == {each.name: each for each in entries}
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_cannot_be_extended_stays_unchanged(tmp_path):
    file = yaml_file(tmp_path, "{}")
    with pytest.raises(UserError, match="by hand"):
        register(file, entry(tmp_path), taken=DATASETS)
    assert file.read_text() == "{}" and {p.name for p in tmp_path.iterdir()} == {"lists", "own.yaml"}


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_data_sets_or_a_one_line_error(text):
    try:
        _parse(text, Path("f.yaml"))
    except UserError as error:
        assert str(error).startswith("f.yaml") and "\n" not in str(error)
