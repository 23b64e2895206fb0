"""load_checkpoint: which model a weight file holds, by its metadata, its form, its name or its keys."""
import pytest
import torch

from ops.checkpoints.checkpoint import check_same_spec, load_checkpoint
from ops.checkpoints.online_format import load_streamable
from ops.checkpoints.tensors import count_classes
from ops.dataset_config import JESTER_CLASSES
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import load_weights
from tests.helpers.weight_files import RELEASED, SPEC, assert_equal_weights, make_filled, refusal, save, save_described

NAMELESS = "some name.pth"  # a file name that describes nothing


# ---- the sources of a description -----------------------------------------------------------------------------

def test_a_released_file_is_described_by_its_name(weights, tmp_path):
    path = save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / RELEASED)
    found = load_checkpoint(path)
    assert (found.source, found.dataset, found.class_names) == ("file name", "kinetics", None)
    assert found.spec == SPEC.with_(shift_place="blockres")
    model = TSN.from_spec(found.spec)
    load_weights(model, found.weights, "x")
    assert_equal_weights(model.state_dict(), weights)


def test_a_released_file_without_dropout(tmp_path):
    inside = make_filled(dropout=0.0).state_dict()
    found = load_checkpoint(save(dict(inside), tmp_path / RELEASED))
    assert found.spec.dropout == 0 and found.spec.num_class == 4
    model = TSN.from_spec(found.spec)
    load_weights(model, found.weights, "x")
    assert_equal_weights(model.state_dict(), inside)


def test_metadata_wins_over_the_name(weights, tmp_path):
    path = save({"state_dict": weights, "settings": SPEC.to_dict(), "dataset": "gestures",
                 "class_names": ["a", "b", "c", "d"]},
                tmp_path / "TSM_kinetics_RGB_resnet101_shift8_block_avg_segment16_e45_nl.pth")
    found = load_checkpoint(path)
    assert (found.source, found.dataset, found.class_names) == ("metadata", "gestures", ["a", "b", "c", "d"])
    assert found.spec == SPEC


def test_settings_of_a_newer_version_are_refused(weights, tmp_path):
    path = save({"state_dict": weights, "settings": {**SPEC.to_dict(), "attention": 3}}, tmp_path / "x.pth")
    assert "newer version: unknown settings attention" in refusal(load_checkpoint, path)


@pytest.mark.parametrize("settings", [{}, {"arch": "resnet18"}, None, "resnet18"], ids=repr)
def test_settings_that_are_incomplete_are_refused(settings, weights, tmp_path):
    path = save({"state_dict": weights, "settings": settings}, tmp_path / "x.pth")
    refusal(load_checkpoint, path)


def test_the_released_online_model_is_known_by_its_keys(golden, tmp_path):
    keys = golden("state_dict_keys")["online_mobilenetv2"]
    path = save({key: torch.zeros(shape) for key, shape in keys}, tmp_path / "mobilenetv2_jester_online.pth.tar")
    found = load_checkpoint(path)
    assert list(found.weights) == [f"base_model.{key}" for key, _ in keys]
    assert (found.kind, found.source) == ("online", "released online form")
    assert found.spec == ModelSpec(27, 8, arch="mobilenetv2", shift=True, shift_place="blockres",
                                   shift_direction="unidirectional")
    assert (found.dataset, found.class_names) == ("jester", list(JESTER_CLASSES))


def test_a_nameless_file_is_described_by_its_keys_and_options(weights, tmp_path, caplog):
    path = save(weights, tmp_path / NAMELESS)
    assert load_checkpoint(path).known_spec is None
    assert "unknown model: it has neither metadata nor" in refusal(lambda: load_checkpoint(path).spec)
    found = load_checkpoint(path, arch="mobilenetv2", shift_div=4, num_segments=2)
    assert (found.kind, found.source, found.spec) == ("clip", "keys and the flags", SPEC.with_(shift_place="blockres"))
    assert_equal_weights(found.build().state_dict(), weights)
    assert not caplog.records


def test_keys_without_a_trace_of_the_shift_leave_it_to_the_options(weights, tmp_path, caplog):
    path = save({key.replace(".net.", "."): value for key, value in weights.items()}, tmp_path / NAMELESS)
    assert not load_checkpoint(path, arch="mobilenetv2").spec.shift
    assert "nothing shows whether it shifts" in caplog.text
    caplog.clear()
    assert load_checkpoint(path, arch="mobilenetv2", shift=True).spec.shift
    assert not load_checkpoint(path, arch="mobilenetv2", shift=False).spec.shift and not caplog.records
    assert "give shift if it is a TSM, no-shift if it is not" in refusal(
        lambda: load_streamable(path, arch="mobilenetv2"))


def test_weights_of_an_image_network_are_not_a_video_model(tmp_path):
    found = load_checkpoint(save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(1000, 512)},
                                 tmp_path / "resnet18.pth"), arch="resnet18")
    assert found.kind == "image" and found.known_spec is None
    assert "keys are not a video model's" in refusal(lambda: found.spec)


def test_no_classifier(tmp_path):
    assert "has no classifier" in refusal(count_classes, {"conv.weight": torch.zeros(2)}, tmp_path / "x.pth")


def test_an_unknown_architecture_is_refused_with_the_known_ones(weights, tmp_path):
    path = save(weights, tmp_path / NAMELESS)
    assert "resnet18" in refusal(lambda: load_checkpoint(path, arch="resnet19"))


# ---- overrides ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["ckpt.pth.tar", RELEASED])
def test_overrides_win_over_metadata_and_name(name, weights, tmp_path):
    path = save_described(weights, tmp_path / name) if name != RELEASED else save(weights, tmp_path / name)
    plain = load_checkpoint(path).spec
    assert load_checkpoint(path, shift_div=8, num_segments=5, arch=None).spec == plain.with_(shift_div=8, num_segments=5)


def test_strict_overrides_may_not_contradict_metadata(weights, tmp_path):
    path = save_described(weights, tmp_path / "ckpt.pth.tar")
    found = load_checkpoint(path, strict=True, shift_div=4, shift_place="blockres", num_segments=9)
    assert found.spec == SPEC.with_(shift_place="blockres", num_segments=9)
    message = refusal(lambda: load_checkpoint(path, strict=True, shift_div=8, arch="resnet18"))
    assert "arch 'mobilenetv2' there, 'resnet18' here; shift_div 4 there, 8 here" in message
    released = save(weights, tmp_path / RELEASED)  # a name can be wrong
    assert load_checkpoint(released, strict=True, shift_div=8).spec.shift_div == 8


# ---- the model that is resumed --------------------------------------------------------------------------------

def described(weights, tmp_path, spec=SPEC):
    return load_checkpoint(save_described(weights, tmp_path / "ours.pth.tar", spec))


def test_different_options_are_refused_by_name(weights, tmp_path):
    found = described(weights, tmp_path)
    check_same_spec(found, SPEC)
    check_same_spec(found, SPEC.with_(shift_place="blockres"))  # the default, spelled out
    message = refusal(check_same_spec, found, SPEC.with_(num_segments=8, shift_div=8))
    assert "num_segments 2 there, 8 here" in message and "shift_div 4 there, 8 here" in message
    for change in (dict(shift=False), dict(shift_direction="unidirectional"), dict(num_class=9)):
        assert next(iter(change)) in refusal(check_same_spec, found, SPEC.with_(**change))


def test_shift_options_are_not_compared_without_a_shift(weights, tmp_path):
    still = SPEC.with_(shift=False)
    check_same_spec(described(weights, tmp_path, still), still.with_(shift_div=16))


def test_a_published_file_is_compared_by_what_its_name_gives(weights, tmp_path):
    """The name does not give dropout, input size or the type of the non-local blocks: any option for them is accepted."""
    found = load_checkpoint(save({"state_dict": weights}, tmp_path / RELEASED))
    assert found.source == "file name"
    check_same_spec(found, SPEC.with_(dropout=0.8, input_size=64, non_local_type="dot_product", img_feature_dim=512))
    assert "dropout 'above 0' there, 0 here" in refusal(check_same_spec, found, SPEC.with_(dropout=0))
    for change in (dict(num_segments=8), dict(shift_div=8), dict(num_class=9), dict(arch="resnet50")):
        assert next(iter(change)) in refusal(check_same_spec, found, SPEC.with_(**change))


def test_the_unused_feature_dimension_is_not_compared(weights, tmp_path):
    found = described(weights, tmp_path)
    check_same_spec(found, SPEC.with_(img_feature_dim=512))
    assert "input_size 224 there, 64 here" in refusal(check_same_spec, found, SPEC.with_(input_size=64))
