"""mmaction2's checkpoints: the same weights under its names give the same logits."""
import re

import pytest
import torch

from archs.mobilenet_v2 import STAGES
from ops.checkpoints import inspect_file, load_checkpoint
from ops.checkpoints.matching import tune_from
from ops.checkpoints.online_format import load_streamable
from ops.models import TSN
from ops.spec import ModelSpec
from tests.helpers.golden_model import fill
from tests.helpers.weight_files import assert_equal_weights, refusal, save

SPEC = ModelSpec(num_class=5, num_segments=8, arch="resnet18", shift=True, shift_place="blockres", input_size=32)


def to_mmaction(weights):
    """Our names -> mmaction2's, by hand: the scheme of its ResNetTSM, MobileNetV2TSM, NL3DWrapper and TSMHead."""
    renamed = {}
    for key, value in weights.items():
        name = key.replace("base_model.", "backbone.").replace("new_fc.", "cls_head.fc_cls.")
        if ".features." in key:
            name = _mobilenet_name(name)
        elif ".nl." in name:
            if name.endswith("nl.W.0.bias"):  # a ConvModule in front of a norm has no bias
                assert not value.any()
                continue
            name = name.replace(".nl.W.0.", ".non_local_block.conv_out.conv.").replace(
                ".nl.W.1.", ".non_local_block.conv_out.bn.").replace(".nl.theta.", ".non_local_block.theta.conv.")
            name = re.sub(r"\.nl\.(g|phi)\.0\.", r".non_local_block.\1.0.conv.", name)
        else:
            name = re.sub(r"\.conv(\d)\.", r".conv\1.conv.", name)
            name = re.sub(r"\.bn(\d)\.", r".conv\1.bn.", name)
            name = name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample.bn.")
        renamed[name] = value
    return renamed


def _mobilenet_name(name):
    _, _, index, *rest = name.split(".")
    index = int(index)
    if index in (0, 18):
        layer, entry = rest
        return f"backbone.conv{1 if index == 0 else 2}.{['conv', 'bn'][int(layer)]}.{entry}"
    stage = 0
    while index > STAGES[stage][2]:
        index, stage = index - STAGES[stage][2], stage + 1
    part, kind = divmod(int(rest[1]), 3)
    wrapped = stage > 0 and index > 1 and part == 0  # its shift wraps the norm too: blocks with a shortcut, but the first
    return f"backbone.layer{stage + 1}.{index - 1}.conv.{part}.{'net.' * wrapped}{['conv', 'bn'][kind]}.{rest[-1]}"


def filled(spec):
    model = TSN.from_spec(spec).eval()
    model.load_state_dict(fill({key: value for key, value in model.state_dict().items()}))
    for key, parameter in model.named_parameters():
        if key.endswith("nl.W.0.bias"):
            parameter.data.zero_()
    return model


@pytest.mark.parametrize("changes", [
    {}, {"shift_place": "block"}, {"shift": False, "shift_place": ""}, {"arch": "resnet50"}, {"arch": "mobilenetv2"},
    {"arch": "resnet18", "non_local": True}, {"temporal_pool": True}], ids=str)
def test_equal_weights_give_equal_logits(changes, tmp_path):
    model = filled(SPEC.with_(**changes))
    weights = to_mmaction(model.state_dict())
    found = load_checkpoint(save({"meta": {"epoch": 50}, "state_dict": weights}, tmp_path / "tsm_1x1x8_50e.pth"))
    assert (found.source, found.kind) == ("mmaction2 form", "clip")
    assert found.spec.with_(input_size=32) == model.spec
    clips = torch.randn(1, 24, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(found.build()(clips), model(clips))


def test_the_names_are_mmaction2s():
    keys = to_mmaction(filled(SPEC.with_(arch="resnet50")).state_dict())
    assert {"backbone.conv1.conv.weight", "backbone.conv1.bn.running_mean", "backbone.layer1.0.conv1.conv.net.weight",
            "backbone.layer1.0.downsample.bn.bias", "backbone.layer4.2.conv3.conv.weight",
            "cls_head.fc_cls.bias"} <= set(keys)
    keys = to_mmaction(filled(SPEC.with_(arch="mobilenetv2")).state_dict())
    assert {"backbone.layer1.0.conv.0.conv.weight", "backbone.layer2.0.conv.0.conv.weight",
            "backbone.layer2.1.conv.0.net.conv.weight", "backbone.layer2.1.conv.0.net.bn.weight",
            "backbone.layer7.0.conv.2.bn.weight", "backbone.conv2.conv.weight"} <= set(keys)


@pytest.fixture
def checkpoint(tmp_path):
    return save({"state_dict": to_mmaction(filled(SPEC).state_dict())}, tmp_path / "best.pth")


def test_what_the_file_does_not_hold_is_assumed_with_a_message(checkpoint, caplog):
    caplog.set_level("INFO")
    found = load_checkpoint(checkpoint, num_segments=4)
    assert (found.spec.num_segments, found.spec.shift_div) == (4, 8)
    assert "assumed shift_div 8;" in caplog.text
    renamed = checkpoint.rename(checkpoint.with_name("tsm_r18_1x1x16_50e_kinetics400_rgb.pth"))
    assert load_checkpoint(renamed, shift_div=4).spec == SPEC.with_(num_segments=16, shift_div=4, input_size=224)
    assert "assumed num_segments 16;" in caplog.text
    ours = renamed.rename(renamed.with_name("TSM_kinetics_RGB_resnet18_shift4_blockres_avg_segment4_e50.pth"))
    assert load_checkpoint(ours).spec == SPEC.with_(num_segments=4, shift_div=4, input_size=224)


def test_tuning_and_inspection_take_it(checkpoint):
    model = TSN.from_spec(SPEC)
    assert tune_from(model, checkpoint, dataset="kinetics", class_names=None, evaluate=True)
    assert_equal_weights(model.state_dict(), filled(SPEC).state_dict())
    report = inspect_file(checkpoint)
    assert report.loads and report.facts["shift_place"].value == "blockres"
    assert any("mmaction2" in note for note in report.notes)


def test_it_streams_by_force_only(checkpoint):
    assert "two-way shift" in refusal(load_streamable, checkpoint)
    assert load_streamable(checkpoint, force=True).spec.shift_direction == "unidirectional"


@pytest.mark.parametrize("key, shape", [
    ("backbone.conv1.conv.weight", (64, 3, 1, 7, 7)), ("backbone.layer1.0.conv4.conv.weight", (8, 8, 1, 1)),
    ("neck.temporal.weight", (8, 8, 1, 1)), ("cls_head.fc_cls.running_mean", (5,))])
def test_other_networks_of_mmaction2_are_refused(key, shape, tmp_path):
    weights = {**to_mmaction(filled(SPEC).state_dict()), key: torch.zeros(shape)}
    message = refusal(load_checkpoint, save(weights, tmp_path / "x.pth"))
    assert "not of a TSM or TSN on a ResNet or MobileNetV2" in message and key in message and str(shape) in message
