"""The entries of weight files: a damaged one is refused in a line that names the file and the entry."""
import json

import pytest
import torch

from ops.checkpoints.checkpoint import load_checkpoint
from ops.checkpoints.inspect import inspect_file
from tests.helpers.weight_files import SPEC, refusal, save
from tools.inspect_checkpoint import as_json, in_words


def described(weights, path, **changes):
    return save({"state_dict": weights, "settings": SPEC.to_dict(), "dataset": "gestures", "class_names": list("abcd"),
                 "epoch": 3, "best_prec1": torch.tensor(50.0), "commit": "abc", "train": {"dense_sample": True},
                 "online": False, "trained_direction": "bidirectional", **changes}, path)


def test_whole_entries_are_accepted(weights, tmp_path):
    assert load_checkpoint(described(weights, tmp_path / "a.pth")).spec == SPEC
    empty = dict.fromkeys(("dataset", "class_names", "online", "trained_direction", "train", "commit"))
    assert load_checkpoint(described(weights, tmp_path / "b.pth", **empty)).class_names is None


@pytest.mark.parametrize("entry, value", [
    ("dataset", 5), ("dataset", ["jester"]), ("class_names", 4), ("class_names", "abcd"), ("class_names", []),
    ("class_names", list("abc")), ("class_names", ["a", "b", "c", 4]), ("online", torch.zeros(2)), ("online", "no"),
    ("trained_direction", "up"), ("trained_direction", torch.zeros(2)), ("train", [1]), ("train", {1: 2}),
    ("train", {"lr": torch.zeros(2)})])
def test_a_damaged_entry_is_named(entry, value, weights, tmp_path):
    path = described(weights, tmp_path / "a.pth", **{entry: value})
    assert refusal(load_checkpoint, path).startswith(f"{path} is damaged: its entry {entry} ")


@pytest.mark.parametrize("option, value", [
    ("num_segments", None), ("num_segments", 4.0), ("num_segments", True), ("num_segments", 0), ("num_segments", 10 ** 9),
    ("dropout", "x"), ("dropout", float("nan")), ("dropout", 1.5), ("input_size", 1e9), ("input_size", 10 ** 9),
    ("num_class", 5), ("num_class", 10 ** 9), ("num_class", -1), ("shift", 1), ("arch", "vgg16"), ("arch", ["a\nb"]),
    ("shift_place", "everywhere"), ("new_length", 10 ** 9), ("consensus_type", torch.zeros(2))])
def test_a_damaged_setting_is_named(option, value, weights, tmp_path):
    path = described(weights, tmp_path / "a.pth", settings={**SPEC.to_dict(), option: value})
    message = refusal(load_checkpoint, path)
    assert message.startswith(f"{path} is damaged: its setting") and option in message


def test_a_shift_that_does_not_fit_names_the_file(weights, tmp_path):
    path = described(weights, tmp_path / "a.pth", settings={**SPEC.to_dict(), "shift_div": 10 ** 9})
    assert refusal(load_checkpoint(path).build).startswith(f"{path}: shift_div 1000000000 does not fit")


@pytest.mark.parametrize("entries", [{}, {4: 5}])
def test_settings_that_are_no_settings(entries, weights, tmp_path):
    path = described(weights, tmp_path / "a.pth", settings={**SPEC.to_dict(), **entries} if entries else [])
    assert str(path) in refusal(load_checkpoint, path)


@pytest.mark.parametrize("tensor", [torch.zeros(()), torch.zeros(4, 1280).to_sparse(), torch.zeros(4, 1280) * 1j,
                                    torch.quantize_per_tensor(torch.zeros(4, 1280), 1, 0, torch.qint8)],
                         ids=["a number", "sparse", "complex", "quantized"])
def test_a_tensor_that_is_no_weight_is_named(tensor, weights, tmp_path):
    path = described({**weights, "new_fc.weight": tensor}, tmp_path / "a.pth")
    message = refusal(lambda: load_checkpoint(path).build())
    assert message.startswith(str(path)) and "new_fc.weight" in message


@pytest.mark.parametrize("value", [float("nan"), torch.zeros(2), torch.zeros(0), {"a"}, 1j, b"x", "a\nb"], ids=repr)
@pytest.mark.parametrize("entry", ["epoch", "best_prec1", "commit", "arch"])
def test_inspection_shows_an_odd_entry_in_one_line_and_as_json(entry, value, weights, tmp_path):
    report = inspect_file(described(weights, tmp_path / "a.pth", **{entry: value}))
    assert json.loads(json.dumps(as_json(report), allow_nan=False))["loads"]
    assert in_words(report).count(f"\n    {entry} ") == 1
