"""Traps of the published network code, each with a test that bears its name."""
import pytest
import torch
from torch import nn

from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import TemporalShift, shift_layers
from tests.helpers.golden_model import clip


def small(**options):
    torch.manual_seed(0)
    return TSN.from_spec(ModelSpec(**{"num_class": 4, "num_segments": 4, "arch": "resnet18", "shift": True,
                                      "input_size": 32, **options}), inplace=False)


def test_inplace_shift_does_not_change_the_residuals_input():
    block = small().base_model.layer1[0]
    block.conv1 = TemporalShift(block.conv1.net, 4, inplace=True)
    x = torch.randn(8, 64, 8, 8, requires_grad=True)
    before = x.detach().clone()
    block(x).sum().backward()
    assert torch.equal(x, before)


def test_unidirectional_shifts_from_the_past_not_the_future():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 8, 1, 1).contiguous()  # every channel contains the frame's number
    shifted = TemporalShift.shift(x, 4, 8, direction="unidirectional")
    assert shifted[:, 0, 0, 0].tolist() == [0, 0, 1, 2]
    assert torch.equal(shifted[:, 1:], x[:, 1:])


def test_an_unknown_shift_place_is_refused_not_ignored():
    with pytest.raises(UserError, match="blockres"):
        small(shift_place="stage")


def test_zeros_are_zeros_even_if_the_input_is_infinite():
    x = torch.full((2, 8, 1, 1), float("inf"))
    shifted = TemporalShift.shift(x, 2, 8)
    assert shifted[1, 0, 0, 0] == 0 and shifted[0, 1, 0, 0] == 0


@pytest.mark.parametrize("arch, blocks", [("resnet18", [2, 2, 2, 2]), ("resnet34", [3, 4, 6, 3]),
                                          ("resnet101", [3, 4, 23, 3])])
def test_non_local_keeps_every_block(arch, blocks):
    net = small(arch=arch, non_local=True).base_model
    assert [len(getattr(net, f"layer{i}")) for i in (1, 2, 3, 4)] == blocks
    assert any("nl.g" in key for key in net.state_dict())


def test_non_local_is_in_the_optimizer_under_partial_bn():
    model = TSN.from_spec(ModelSpec(4, 4, arch="resnet18", non_local=True), partial_bn=True)
    listed = {id(p) for group in model.get_optim_policies() for p in group["params"]}
    wanted = [p for name, p in model.named_parameters() if ".nl." in name]
    assert wanted and all(id(p) in listed for p in wanted)
    model.train()
    assert all(p.requires_grad for p in wanted)


def test_mobilenetv2_with_shift_raises_no_attributeerror():
    model = TSN(4, 4, "RGB", base_model="mobilenetv2", is_shift=True, pretrain="none")
    assert len(list(shift_layers(model))) == 10
    assert model(clip(1, 4, 3, 32)).shape == (1, 4)


def test_rgbdiff_raises_no_typeerror_and_reads_differences():
    model = TSN(4, 2, "RGBDiff", base_model="resnet18", pretrain="none").eval()
    still = torch.rand(1, 1, 3, 32, 32).expand(1, 12, 3, 32, 32).reshape(1, 36, 32, 32)  # T=2, 6 equal images each
    with torch.no_grad():
        assert torch.equal(model(still), model(torch.zeros(1, 36, 32, 32)))
        assert not torch.equal(model(still), model(torch.rand(1, 36, 32, 32)))


@pytest.mark.parametrize("segments", [3, 5, 8])
@pytest.mark.parametrize("shift", [True, False])
def test_temporal_pool_takes_odd_t(segments, shift):
    model = small(num_segments=segments, temporal_pool=True, shift=shift)
    assert model(clip(2, segments, 3, 32)).shape == (2, 4)


def test_partial_bn_false_really_thaws():
    model = TSN.from_spec(ModelSpec(4, 4, arch="resnet18"), partial_bn=True)
    model.train()
    model.partialBN(False)
    model.train()
    assert all(m.training and m.weight.requires_grad for m in model.modules() if isinstance(m, nn.BatchNorm2d))
