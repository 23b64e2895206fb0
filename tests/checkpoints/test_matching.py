"""A checkpoint's classes against a data set's, and models that start from its weights."""
from dataclasses import replace

import pytest
import torch

from ops.checkpoints.checkpoint import load_checkpoint
from ops.checkpoints.matching import check_same_classes, same_classes, tune_from
from ops.dataset_config import DatasetPaths
from ops.models import TSN
from tests.helpers.weight_files import RELEASED, SPEC, refusal, save, save_described


@pytest.mark.parametrize("dataset, names, num_class, kept", [
    ("gestures", ["a", "b", "c", "d"], 4, True),
    ("renamed", ["a", "b", "c", "d"], 4, True),  # the names decide
    ("gestures", ["a", "b", "d", "c"], 4, False),
    ("gestures", ["a", "b"], 2, False),
    ("gestures", None, 4, True),
    ("gestures2", None, 4, False),  # no substring decides
    ("gesture", None, 4, False),
])
def test_tuning_keeps_the_classifier_of_the_same_classes(dataset, names, num_class, kept, weights, tmp_path):
    path = save_described(weights, tmp_path / "tuned.pth.tar")
    torch.manual_seed(0)
    model = TSN.from_spec(SPEC.with_(num_class=num_class))
    fresh = model.new_fc.weight.detach().clone()
    assert tune_from(model, path, dataset=dataset, class_names=names) is kept
    state = model.state_dict()
    for key in state:
        if not key.startswith("new_fc."):
            assert torch.equal(state[key], weights[key]), key
    assert torch.equal(model.new_fc.weight, weights["new_fc.weight"] if kept else fresh)


def test_tuning_from_a_released_file(weights, tmp_path):
    path = save(weights, tmp_path / RELEASED.replace("kinetics", "somethingv2"))
    assert not tune_from(TSN.from_spec(SPEC), path, dataset="something", class_names=None)
    assert tune_from(TSN.from_spec(SPEC), path, dataset="somethingv2", class_names=None)


def test_tuning_refuses_another_network(weights, tmp_path):
    path = save_described(weights, tmp_path / "tuned.pth.tar")
    message = refusal(tune_from, TSN.from_spec(SPEC.with_(arch="resnet18")), path, dataset="x", class_names=None)
    assert "tuned.pth.tar: " in message and "keys missing: base_model.conv1.weight" in message


def test_same_classes_by_names_then_by_data_set(weights, tmp_path):
    named = load_checkpoint(save_described(weights, tmp_path / "tuned.pth.tar"))
    nameless = load_checkpoint(save_described(weights, tmp_path / "nameless.pth.tar", names=None))
    assert same_classes(named, "other", ["a", "b", "c", "d"]) and not same_classes(named, "gestures", ["b", "a"])
    assert same_classes(nameless, "gestures", ["b", "a"]) and not same_classes(nameless, "other", ["a"])


def paths(name, class_names, num_class=4):
    """A data set of which only its name and its classes matter."""
    return DatasetPaths(name, num_class, class_names, train_list=None, val_list=None, frames=None, template="",
                        entry=None)


@pytest.mark.parametrize("dataset, names, num_class, words", [
    ("gestures", ["a", "b", "d", "c"], 4, "class 2 is 'c' in the checkpoint, 'd' in the data set: use the data set that"),
    ("gestures", ["a", "b"], 2, "has 4 classes, data set gestures has 2"),
    ("gestures", None, 5, "has 4 classes, data set gestures has 5"),
    ("others", None, 4, "was trained on gestures, whose classes are not others's"),
    ("gestures", None, 4, ""), ("renamed", ["a", "b", "c", "d"], 4, "")])
def test_other_classes_are_refused_with_the_difference(dataset, names, num_class, words, weights, tmp_path):
    found = load_checkpoint(save_described(weights, tmp_path / "tuned.pth.tar"))
    data = paths(dataset, names, num_class)
    if words:
        assert words in refusal(check_same_classes, found, data)
    else:
        check_same_classes(found, data)


@pytest.mark.parametrize("several", [True, False])
def test_classes_that_exclude_each_other_are_not_those_that_do_not(several, weights, tmp_path):
    found = load_checkpoint(save_described(weights, tmp_path / "tuned.pth.tar"))
    if several:
        found = replace(found, known_spec=found.spec.with_(multi_label=True))
    words = ["one class per video", "any number of classes per video"]
    message = refusal(check_same_classes, found, replace(paths("gestures", None), multi_label=not several))
    assert message.index(words[several]) < message.index(words[not several])
    check_same_classes(found, replace(paths("gestures", None), multi_label=several))


def test_two_spellings_of_an_accent_are_one_name(weights, tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    path = save_described(weights, tmp_path / "tuned.pth.tar", names=[decomposed, "b", "c", "d"])
    found, names = load_checkpoint(path), [composed, "b", "c", "d"]
    assert same_classes(found, "other", names)
    check_same_classes(found, paths("other", names))
    assert tune_from(TSN.from_spec(SPEC), path, dataset="other", class_names=names)


def test_a_file_that_nothing_describes_has_any_classes(weights, tmp_path):
    check_same_classes(load_checkpoint(save(weights, tmp_path / "a.pth")), paths("gestures", ["a"], 1))
