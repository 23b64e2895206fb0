"""ModelSpec: one record from the command line to the checkpoint, checked in one place."""
import dataclasses

import pytest
import torch

from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from opts import parse_train
from tests.helpers.networks import on_meta

# One value for each option that is not its default.
OTHER = dict(num_class=5, num_segments=3, modality="Flow", arch="resnet18", shift=True, shift_div=4, shift_place="block",
             shift_direction="unidirectional", consensus_type="identity", dropout=0.0, img_feature_dim=7,
             temporal_pool=True, non_local=True, non_local_type="gaussian", input_size=64, new_length=3,
             before_softmax=False, multi_label=True, shift_stages="3,4")


def test_a_model_keeps_the_spec_it_was_built_from():
    spec = ModelSpec(**{**OTHER, "before_softmax": True})
    assert on_meta(spec).spec is spec


@pytest.mark.parametrize("exclusive", [{"before_softmax": True}, {"multi_label": False}])
def test_the_published_constructor_passes_every_option_on(exclusive):
    assert {field.name for field in dataclasses.fields(ModelSpec)} == OTHER.keys()
    published = {"arch": "base_model", "shift": "is_shift"}
    wanted = {**OTHER, "consensus_type": "avg", **exclusive}
    with torch.device("meta"):
        model = TSN(**{published.get(key, key): value for key, value in wanted.items()}, pretrain="none")
    assert model.spec == ModelSpec(**wanted)
    for name, value in wanted.items():
        attribute = {"arch": "base_model_name", "shift": "is_shift"}.get(name, name)
        assert getattr(model, attribute) == value
    assert model.crop_size == model.input_size == 64 and model.scale_size == 73 and model.frame_channels == 6


def test_dict_and_back():
    spec = ModelSpec(**OTHER)
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    newer = {"new_length", "before_softmax", "multi_label", "shift_stages"}
    assert ModelSpec(5, 8).to_dict().keys() == OTHER.keys() - newer, "earlier versions read it"


@pytest.mark.parametrize("damage", [dict(num_class="5"), dict(shift="yes"), dict(dropout=None), dict(arch=18),
                                    dict(num_segments=True), dict(num_segments=4.0), dict(shift=1)])
def test_entries_of_the_wrong_type_are_refused(damage):
    with pytest.raises(UserError, match=f"the checkpoint is damaged: its setting {next(iter(damage))} is "):
        ModelSpec.from_dict({**ModelSpec(5, 8).to_dict(), **damage})
    assert ModelSpec.from_dict({**ModelSpec(5, 8).to_dict(), "dropout": 0}).dropout == 0


def test_options_of_a_command_line():
    args = parse_train(["something", "RGB", "--arch", "resnet18", "--shift", "--num_segments", "4"])
    spec = ModelSpec.from_options(vars(args), num_class=3)
    assert spec == ModelSpec(3, 4, arch="resnet18", shift=True)
    assert ModelSpec.from_options(vars(args), num_class=3, arch="resnet34").arch == "resnet34"


@pytest.mark.parametrize("changes, message", [
    (dict(num_class=0), "num_class 0: a model needs at least one class"),
    (dict(num_segments=0), "--num_segments 0: choose 1 or more frames per clip (published: 8 or 16)"),
    (dict(input_size=31), "--input_size 31: choose 32 or more pixels (published: 224)"),
    (dict(input_size=10 ** 9), "--input_size 1000000000: choose at most 10000 pixels (published: 224)"),
    (dict(modality="rgb"), "modality 'rgb': choose RGB or Flow or RGBDiff"),
    (dict(arch="vgg16"), "--arch 'vgg16': choose one of resnet18, "),
    (dict(consensus_type="max"), "--consensus_type 'max': choose avg or identity"),
    (dict(shift_direction="up"), "--shift_direction 'up': choose bidirectional or unidirectional"),
    (dict(non_local_type="x"), "--non_local_type 'x': choose embedded_gaussian or gaussian or dot_product"),
    (dict(dropout=1.0), "--dropout 1.0: choose 0 (none) to below 1"),
    (dict(new_length=-1), "--new_length -1: choose 1 or more images per segment"),
])
def test_options_that_cannot_work(changes, message):
    spec = ModelSpec(**{"num_class": 3, "num_segments": 8, **changes})
    with pytest.raises(UserError) as found:
        spec.check()
    assert found.value.for_command_line().startswith(message)
