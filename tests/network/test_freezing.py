"""Frozen stages: which layers they are, and that training changes neither their weights nor their statistics."""
import copy

import pytest
import torch

from ops.backbones import BACKBONES, find_backbone
from ops.common.errors import UserError
from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step
from tests.helpers.golden_model import clip
from tests.network.test_backbones import ARCHS

WITH_WRAPPERS = {"shift": True, "shift_place": "block", "non_local": True, "temporal_pool": True}


def build(arch, partial_bn=False, **changes):
    torch.manual_seed(0)
    return TSN.from_spec(ModelSpec(3, 4, **{"arch": arch, "shift": True, "dropout": 0.5, "input_size": 64, **changes}),
                         partial_bn=partial_bn)


@pytest.mark.parametrize("arch, changes", [*((arch, {}) for arch in BACKBONES), ("resnet18", WITH_WRAPPERS)])
def test_every_layer_of_a_backbone_is_in_one_stage_in_order(arch, changes):
    with torch.device("meta"):
        model = build(arch, **changes)
    backbone = find_backbone(arch)
    found = [[stage for stage in backbone.stages if backbone.in_stages(name, [stage])]
             for name, module in model.base_model.named_modules() if list(module.parameters(recurse=False))]
    assert all(len(stages) == 1 for stages in found)
    names = list(backbone.stages)
    order = [names.index(stage) for stage, in found]
    assert order == sorted(order) and set(order) == set(range(len(names)))


def stage_entries(model, stages):
    """(entries of the state dict in these stages, the others)."""
    backbone = find_backbone(model.spec.arch)
    entries = {key: value.clone() for key, value in model.state_dict().items()}
    inside = {key for key in entries if key.startswith("base_model.")
              and backbone.in_stages(key.removeprefix("base_model."), stages)}
    return {key: entries[key] for key in inside}, {key: entries[key] for key in entries.keys() - inside}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("partial_bn", [True, False])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_changes_the_other_layers_alone(arch, partial_bn, ema):
    model = build(arch, partial_bn)
    for name, buffer in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(7)
    model.freeze("2")
    stages = list(find_backbone(arch).stages)[:2]
    frozen, others = stage_entries(model, stages)
    optimizer = torch.optim.SGD(model.get_optim_policies(), 0.1, momentum=0.9, weight_decay=0.01)
    state = TrainState(model, optimizer, ema=ema)
    for seed in range(3):
        model.train()
        train_step(state, [Batch(clip(2, 4, 3, 64, seed=seed), torch.tensor([0, 2]), [])], StepOptions(lambda clips: clips))
    for network in (model, state.validated):
        after, changed = stage_entries(network, stages)
        assert frozen and after.keys() == frozen.keys()
        assert all(torch.equal(value, frozen[key]) for key, value in after.items())
        fixed = {key for key in changed if torch.equal(changed[key], others[key])}
        # Partial BN fixes the statistics of the other norms too, and their weights.
        norms = {f"base_model.{name}." for name, module in network.base_model.named_modules()
                 if isinstance(module, torch.nn.BatchNorm2d)} if partial_bn else set()
        assert fixed == {key for key in changed if any(key.startswith(norm) for norm in norms)}


@pytest.mark.parametrize("arch", ARCHS)
def test_frozen_layers_are_not_in_the_optimizer_and_others_keep_their_groups(arch):
    whole, partly = build(arch, modality="Flow"), build(arch, modality="Flow")
    partly.freeze("1")
    names = {id(parameter): name for model in (whole, partly) for name, parameter in model.named_parameters()}
    backbone = find_backbone(arch)
    stem = [name for name in names.values() if backbone.in_stages(name.removeprefix("base_model."), ["stem"])]
    for ours, theirs in zip(partly.get_optim_policies(), whole.get_optim_policies(), strict=True):
        assert [names[id(p)] for p in ours["params"]] == [
            name for name in (names[id(p)] for p in theirs["params"]) if name not in stem]
    assert stem and not any(parameter.requires_grad for name, parameter in partly.named_parameters() if name in stem)


def test_partial_bn_does_not_thaw_a_frozen_stage():
    model = build("resnet18", partial_bn=True)
    model.freeze("stem,layer1")
    model.partialBN(False)
    model.train()
    norms = dict(model.base_model.named_modules())
    for name, learns in (("bn1", False), ("layer1.0.bn1", False), ("layer2.0.bn1", True)):
        assert norms[name].training == norms[name].weight.requires_grad == learns
    assert copy.deepcopy(model).train().base_model.bn1.training is False


def test_every_stage_can_freeze_so_that_the_classifier_alone_learns():
    model = build("resnet18")
    model.freeze("5")
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "new_fc.weight", "new_fc.bias"]


@pytest.mark.parametrize("chosen, stages", [
    ("", []), ("0", []), ("1", ["stem"]), ("layer1,stem", ["stem", "layer1"]),
    ("5", ["stem", "layer1", "layer2", "layer3", "layer4"])])
def test_stages_are_chosen_by_number_or_names(chosen, stages):
    assert find_backbone("resnet50").first_stages(chosen) == stages


@pytest.mark.parametrize("chosen", ["6", "-1", "1.5", "layer9", "layer1", "stem,layer2", "stem,stem", "stem,", ","])
def test_other_stages_are_refused(chosen):
    with pytest.raises(UserError) as info:
        find_backbone("resnet50").first_stages(chosen)
    assert f"freeze {chosen!r}: choose the first stages of stem, layer1, layer2, layer3, layer4" in str(info.value)
    assert "stem,layer1" in str(info.value) and "0 to 5" in str(info.value)
