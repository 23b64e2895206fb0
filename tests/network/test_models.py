"""ops/models.py: TSN against the published implementation's numbers, partial BN, and refused options."""
import copy
import logging

import pytest
import torch
from torch import nn

from ops.common.errors import UserError
from ops.models import TSN
from ops.temporal_shift import shift_layers
from tests.helpers.golden_model import clip, fill
from tests.helpers.processes import ranks


def make(**changes):
    options = dict(num_class=11, num_segments=8, modality="RGB", base_model="resnet50", pretrain="", is_shift=True,
                   shift_div=8, shift_place="blockres", partial_bn=False, dropout=0.5, consensus_type="avg",
                   print_spec=False)
    return TSN(**{**options, **changes})


def empty(**changes):
    """The model in shapes alone: random weights would take longer than what is tested."""
    with torch.device("meta"):
        return make(**changes)


CONFIGURATIONS = {
    "resnet18_tsn": dict(base_model="resnet18", is_shift=False),
    "resnet18_blockres": dict(base_model="resnet18"),
    "resnet18_block": dict(base_model="resnet18", shift_place="block"),
    "resnet50_tsn": dict(is_shift=False),
    "resnet50_blockres": dict(),
    "resnet50_block": dict(shift_place="block"),
    "resnet50_blockres_div4": dict(shift_div=4),
    "resnet50_blockres_nodropout": dict(dropout=0),
    "resnet50_identity": dict(consensus_type="identity"),
    "resnet101_blockres": dict(base_model="resnet101"),
    "resnet50_blockres_nl": dict(non_local=True),
    "resnet50_blockres_tpool": dict(temporal_pool=True),
    "resnet50_flow": dict(modality="Flow"),
    "bninception_tsn": dict(base_model="BNInception", is_shift=False),
    "bninception_block": dict(base_model="BNInception", shift_place="block"),
    "bninception_mask": dict(base_model="BNInception", shift_place="011111111111"),
    "mobilenetv2_tsn": dict(base_model="mobilenetv2", is_shift=False),
    "mobilenetv2_shift": dict(base_model="mobilenetv2"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_keys_and_logits_are_the_published_ones(name, golden):
    model = empty(**CONFIGURATIONS[name]).to_empty(device="cpu").eval()  # the weights come below
    keys = [[key, list(value.shape)] for key, value in model.state_dict().items()]
    assert keys == golden("state_dict_keys")[name]
    model.load_state_dict(fill(model.state_dict()))
    with torch.no_grad():
        # Huge attention scores make the non-local row ill-conditioned: float32 rounding differs between machines.
        precision = torch.float64 if name == "resnet50_blockres_nl" else torch.float32
        frames = clip(1, 8, 3, 224) if "bninception" in name else clip(2, 8, 10 if "flow" in name else 3, 64)
        logits = model.to(precision)(frames.to(precision)).float()
    wanted = torch.tensor(golden("logits")[name])
    assert logits.shape == wanted.shape
    assert (logits - wanted).abs().max() <= 1e-4 * wanted.abs().max()


POLICIES = {
    "resnet50_blockres_npb": dict(),
    "resnet50_blockres_pbn": dict(partial_bn=True),
    "resnet50_fc_lr5": dict(fc_lr5=True),
    "mobilenetv2": dict(base_model="mobilenetv2", fc_lr5=True),
    "resnet50_flow": dict(modality="Flow", fc_lr5=True),
    "resnet50_nl": dict(non_local=True, fc_lr5=True),
}


@pytest.mark.parametrize("name", POLICIES)
def test_optimizer_groups_are_the_published_ones(name, golden):
    groups = empty(**POLICIES[name]).get_optim_policies()
    found = [{"name": g["name"], "lr_mult": g["lr_mult"], "decay_mult": g["decay_mult"],
              "tensors": len(g["params"]), "numel": sum(p.numel() for p in g["params"])} for g in groups]
    assert found == golden("optim_policies")[name]


def test_every_parameter_is_in_exactly_one_group():
    model = empty(base_model="resnet18")
    listed = [id(p) for group in model.get_optim_policies() for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())


def test_input_forms_agree():
    model = make(base_model="resnet18").eval()
    frames = clip(2, 8, 3, 32)
    with torch.no_grad():
        packed = model(frames)
        assert torch.equal(packed, model(frames.view(16, 3, 32, 32)))
        assert torch.equal(packed, model(frames.view(16, 3, 32, 32), no_reshape=True))
        assert torch.equal(packed, model(frames.view(2, 8, 3, 32, 32)))


def test_softmax_before_consensus_averages_probabilities():
    model = make(base_model="resnet18", before_softmax=False, is_shift=False).eval()
    frames = clip(1, 8, 3, 32)
    with torch.no_grad():
        features = model.base_model(frames.view(8, 3, 32, 32))
        wanted = model.new_fc(features).softmax(1).mean(0)
        assert torch.allclose(model(frames)[0], wanted, atol=1e-6)


# ---- partial BN ------------------------------------------------------------------------------------------------

def later_norms(model):
    return [module for module in model.base_model.modules() if isinstance(module, nn.BatchNorm2d)][1:]


def learns(modules):
    return [parameter.requires_grad for module in modules for parameter in module.parameters()]


def test_partial_bn_freezes_all_but_the_first_and_thaws():
    model = make(base_model="resnet18", partial_bn=True)
    first, later = model.base_model.bn1, later_norms(model)
    assert not any(learns(later)) and all(learns([first, model.base_model.conv1])), "from the beginning"
    model.train()
    assert first.training and not any(norm.training for norm in later)
    model.eval()
    assert not first.training and not any(learns(later)) and all(learns([first]))
    model.partialBN(False)
    assert all(learns(later))
    model.train()
    assert all(norm.training for norm in [first, *later])
    model.eval()
    assert not any(norm.training for norm in [first, *later]) and all(learns([first, *later]))
    model.partialBN(True)
    model.train()
    assert not any(norm.training for norm in later) and not any(learns(later))


def test_partial_bn_survives_the_conversion_to_sync_bn():
    model = make(base_model="resnet18", partial_bn=True).train()
    frozen = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d) and not module.training]
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.eval().train()
    assert [name for name, module in model.named_modules()
            if isinstance(module, nn.SyncBatchNorm) and not module.training] == frozen and len(frozen) == 19
    model.partialBN(False)
    assert all(module.train(True).training for module in model.modules() if isinstance(module, nn.SyncBatchNorm))


@pytest.mark.parametrize("partial_bn", [True, False])
def test_norms_that_the_caller_froze_stay_frozen(partial_bn):
    model = make(base_model="resnet18", partial_bn=False)
    theirs = model.base_model.layer3[0].bn1.requires_grad_(False)
    model.partialBN(partial_bn)
    for mode in (True, False, True):
        model.train(mode)
        assert not any(learns([theirs]))
    model.partialBN(False)
    model.train()
    assert not any(learns([theirs])) and all(learns(norm for norm in later_norms(model) if norm is not theirs))


def test_a_copy_thaws_what_the_original_froze():
    model = copy.deepcopy(make(base_model="resnet18", partial_bn=True))
    model.partialBN(False)
    assert all(learns(later_norms(model)))


def distributed_steps(rank, directory):
    """One of two processes: two steps of a model that is wrapped before train() is called."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = make(base_model="resnet18", num_segments=2, partial_bn=True)
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.get_optim_policies(), lr=0.01)
    for step in range(2):
        parallel.eval()
        parallel.train()
        loss = nn.functional.cross_entropy(parallel(clip(2, 2, 3, 32, seed=10 * rank + step)), torch.tensor([rank, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), f"{directory}/{rank}.pth")
    torch.distributed.destroy_process_group()


def test_two_processes_train_a_model_with_partial_bn(tmp_path):
    """DistributedDataParallel notes what learns when it wraps a model; a later change would stop its second step."""
    code = ("import os, sys; from tests.network import test_models as this;"
            "this.distributed_steps(int(os.environ['RANK']), sys.argv[1])")
    status, _, err = ranks(2, "-c", code, tmp_path)
    assert status == 0, err
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2))
    learnt = dict(make(base_model="resnet18", num_segments=2).named_parameters())
    assert all(torch.equal(first[name], second[name]) for name in learnt)


# ---- attributes and refusals -----------------------------------------------------------------------------------

def test_sizes_follow_the_input_size():
    assert (empty(base_model="resnet18").crop_size, empty(base_model="resnet18").scale_size) == (224, 256)
    model = empty(base_model="resnet18", input_size=64)
    assert (model.crop_size, model.scale_size) == (64, 73)


def test_shift_layers_lists_names_and_channels():
    rows = list(shift_layers(empty(base_model="resnet18")))
    assert rows[0] == ("base_model.layer1.0.conv1", 64, 8)
    assert len(rows) == 8
    assert len(list(shift_layers(empty(base_model="mobilenetv2")))) == 10
    # every second block from 23 blocks in layer3 on: 2 + 2 + 12 + 2
    assert len(list(shift_layers(empty(base_model="resnet101")))) == 18


@pytest.mark.parametrize("changes, words", [
    (dict(shift_place="nowhere"), "choose block or blockres"),
    (dict(base_model="mobilenetv2", shift_place="nowhere"), "choose block or blockres"),
    (dict(shift_div=65), "does not fit 64 channels"),
    (dict(shift_div=1), "choose 2 to"),
    (dict(num_segments=0), "1 or more frames"),
    (dict(base_model="vgg16"), "choose one of resnet18"),
    (dict(consensus_type="max"), "choose avg or identity"),
    (dict(dropout=1.0), "0 (none) to below 1"),
    (dict(before_softmax=False, consensus_type="identity"), "avg consensus only"),
    (dict(shift_direction="backwards"), "choose bidirectional or unidirectional"),
])
def test_refusals_list_what_is_allowed(changes, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        make(**changes)


def test_building_a_model_prints_nothing(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # an earlier test may have run a program, which sets one
    make(base_model="resnet18", print_spec=True)
    assert capsys.readouterr() == ("", "")


def test_a_batch_of_incomplete_clips_is_refused():
    model = make(base_model="resnet18").eval()
    with pytest.raises(ValueError, match="do not divide into clips of 8"):
        model(torch.zeros(7, 3, 32, 32))
