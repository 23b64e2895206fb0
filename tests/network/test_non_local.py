"""ops/non_local.py: the three kinds of block against plain loops, and their places in every ResNet."""
import math

import pytest
import torch
import torchvision
from torch import nn

from ops.common.errors import UserError
from ops.non_local import NON_LOCAL_TYPES, NL3DWrapper, NonLocalBlock3D, make_non_local, non_local_places, out_channels
from ops.temporal_shift import TemporalShift, make_temporal_pool, make_temporal_shift
from tests.helpers.golden_model import clip, fill

PLACES = {"resnet18": [[0], [0]], "resnet34": [[0, 2], [0, 2, 4]], "resnet50": [[0, 2], [0, 2, 4]],
          "resnet101": [[0, 2], [0, 8, 16]], "resnet152": [[0, 4], [0, 12, 24]]}
BLOCKS = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3],
          "resnet101": [3, 4, 23, 3], "resnet152": [3, 8, 36, 3]}
SHIFTS = [None, "block", "blockres"]


def build(arch, **options):
    """A network in shapes alone, without memory or arithmetic."""
    with torch.device("meta"):
        return torchvision.models.get_model(arch, **options)


def live_block(channels, kind):
    """A block in eval mode whose last norm is not zero."""
    torch.manual_seed(0)
    block = NonLocalBlock3D(channels, kind).eval()
    block.load_state_dict(fill(block.state_dict()))
    return block


def stages(net):
    return [stage.net if hasattr(stage, "net") else stage for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]


# ---- one block -----------------------------------------------------------------------------------------------

def linear(conv, vector):
    return conv.weight.flatten(1) @ vector + conv.bias


def pooled_positions(x, conv):
    """The values (C,) at each sub-sampled position of x (C, T, H, W), after `conv` if there is one."""
    channels, frames, height, width = x.shape
    tall, wide = min(2, height), min(2, width)
    rows = []
    for t in range(frames):
        for i in range(height // tall):
            for j in range(width // wide):
                window = [x[:, t, tall * i + a, wide * j + b] for a in range(tall) for b in range(wide)]
                rows.append(torch.stack([linear(conv, v) if conv else v for v in window]).amax(0))
    return rows


def naive_block(block, x):
    """Equations 1 to 6 of arXiv:1711.07971, position by position; x: (C, T, H, W)."""
    embedded = block.non_local_type != "gaussian"
    keys = pooled_positions(x, block.phi[0] if embedded else None)
    values = pooled_positions(x, block.g[0])
    out = x.clone()
    norm = block.W[1]
    for t, i, j in torch.cartesian_prod(*(torch.arange(side) for side in x.shape[1:])).tolist():
        query = linear(block.theta, x[:, t, i, j]) if embedded else x[:, t, i, j]
        likeness = [torch.dot(query, key) for key in keys]
        if block.non_local_type == "dot_product":
            weights = [value / len(keys) for value in likeness]
        else:
            largest = max(value.item() for value in likeness)
            powers = [torch.exp(value - largest) for value in likeness]
            weights = [power / sum(powers) for power in powers]
        y = linear(block.W[0], sum(weight * value for weight, value in zip(weights, values)))
        y = (y - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight + norm.bias
        out[:, t, i, j] = x[:, t, i, j] + y
    return out


@pytest.mark.parametrize("kind", NON_LOCAL_TYPES)
@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 5, 3), (2, 1, 4), (1, 1, 1)])
def test_block_equals_the_equations(kind, shape):
    block = live_block(6, kind)
    x = torch.randn(2, 6, *shape)
    expected = torch.stack([naive_block(block, clip) for clip in x])
    assert torch.allclose(block(x), expected, atol=1e-5, rtol=1e-5)
    assert (expected - x).abs().max() > 0.1  # it does something


@pytest.mark.parametrize("kind", NON_LOCAL_TYPES)
def test_gradients_equal_those_of_the_equations(kind):
    block, x = live_block(4, kind), torch.randn(1, 4, 2, 4, 3, requires_grad=True)
    weights = [x] + list(block.parameters())
    probe = torch.randn_like(x)
    got = torch.autograd.grad((block(x) * probe).sum(), weights)
    expected = torch.autograd.grad((naive_block(block, x[0])[None] * probe).sum(), weights)
    for a, b in zip(got, expected):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["embedded_gaussian", "dot_product"])
def test_training_does_not_keep_the_matrix_of_all_pairs(kind):
    block, x = live_block(16, kind).train(), torch.randn(1, 16, 8, 16, 16, requires_grad=True)
    positions, sizes = 8 * 16 * 16, []
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept):
        block(x)
    assert max(sizes) <= positions * 16 < positions * positions // 4  # the largest is x itself


def value_and_gradient(block, x):
    out = block(x)
    return out.detach(), torch.autograd.grad(out.square().sum(), x)[0]


@pytest.mark.parametrize("kind", NON_LOCAL_TYPES)
def test_training_computes_what_evaluation_computes(kind):
    """The fused attention of training, with its gradient, against the published order of operations."""
    block, x = live_block(8, kind), torch.randn(2, 8, 3, 6, 5, requires_grad=True)
    expected, expected_grad = value_and_gradient(block, x)
    block.train()
    block.W[1].eval()
    got, got_grad = value_and_gradient(block, x)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (got_grad - expected_grad).abs().max() <= 1e-5 * expected_grad.abs().max()


def test_dot_product_sums_over_many_positions_in_float16():
    """The sum over 8*28*28/4 positions of products of 11 * 11 is beyond float16's 65504, their mean is not."""
    block = live_block(4, "dot_product")
    for conv in (block.theta, block.phi, block.g):
        for parameter in conv.parameters():
            nn.init.constant_(parameter, 1)
    x = torch.full((1, 4, 8, 28, 28), 2.5)
    with torch.inference_mode():
        expected = block(x)
        with torch.autocast("cpu", dtype=torch.float16):
            out = block(x).float()
    assert (out - expected).abs().max() <= 0.01 * expected.abs().max()


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="non_local_type 'foo': choose embedded_gaussian or gaussian or dot_product"):
        NonLocalBlock3D(8, "foo")


# ---- in a network --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arch", PLACES)
@pytest.mark.parametrize("shift", SHIFTS)
def test_every_block_stays_and_places_are_as_documented(arch, shift):
    net = build(arch)
    if shift:
        make_temporal_shift(net, 8, place=shift)
        make_temporal_pool(net, 8)
    blocks = [list(stage) for stage in stages(net)]
    with torch.device("meta"):
        names = make_non_local(net, 8)
    assert [len(stage) for stage in stages(net)] == BLOCKS[arch]
    wrapped = [[i for i, block in enumerate(stage) if isinstance(block, NL3DWrapper)] for stage in stages(net)]
    assert wrapped == [[], *PLACES[arch], []]
    assert names == [f"layer{n + 1}.{i}" for n in range(4) for i in wrapped[n]]
    for stage, old in zip(stages(net), blocks):
        assert [getattr(block, "block", block) for block in stage] == old


@pytest.mark.parametrize("arch, channels", [("resnet18", 256), ("resnet34", 256), ("resnet50", 1024),
                                            ("wide_resnet50_2", 1024), ("resnext50_32x4d", 1024)])
@pytest.mark.parametrize("shift", SHIFTS)
def test_channels_are_the_blocks_output_channels(arch, channels, shift):
    net = build(arch)
    if shift:
        make_temporal_shift(net, 8, place=shift)
    assert out_channels(net.layer3[0]) == channels


def test_places_are_spread_and_never_two_in_a_row():
    assert non_local_places(4, 2) == [0, 2] and non_local_places(6, 3) == [0, 2, 4]
    for blocks in range(1, 40):
        for at_most in (1, 2, 3):
            places = non_local_places(blocks, at_most)
            assert len(places) == min(at_most, math.ceil(blocks / 2)) and places[-1] < blocks
            assert all(b - a >= 2 for a, b in zip(places, places[1:]))


@pytest.mark.parametrize("kind, shift", list(zip(NON_LOCAL_TYPES, SHIFTS)))
def test_new_blocks_change_nothing(kind, shift):
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=5).eval()
    if shift:
        make_temporal_shift(net, 4, place=shift)
    frames = clip(2, 4, 3, 16).reshape(8, 3, 16, 16)  # sides of 1 in layer3
    with torch.inference_mode():
        before = net(frames)
        make_non_local(net, 4, kind)
        assert torch.allclose(net.eval()(frames), before, atol=1e-6)


def live_resnet18(n_segment):
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=5)
    make_non_local(net, n_segment)
    for module in net.modules():
        if isinstance(module, NonLocalBlock3D):
            nn.init.ones_(module.W[1].weight)
    return net.eval()


def test_frames_attend_to_their_own_clip_only():
    net, frames = live_resnet18(4), clip(2, 4, 3, 32).reshape(8, 3, 32, 32)
    changed = frames.clone()
    changed[0] += 1
    with torch.inference_mode():
        moved = (net(frames) - net(changed)).abs().amax(1) > 1e-6
    assert moved.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("variant", ["channels_last", "bfloat16"])
def test_memory_format_and_autocast(variant):
    net, frames = live_resnet18(4), clip(2, 4, 3, 32).reshape(8, 3, 32, 32)
    with torch.inference_mode():
        expected = net(frames)
        if variant == "channels_last":
            net.layer3[0].block.to(memory_format=torch.channels_last)
            got = net(frames.to(memory_format=torch.channels_last))
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                got = net(frames).float()
    tolerance = 1e-4 if variant == "channels_last" else 0.05
    assert 0 < (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_segments_per_layer_after_a_temporal_pool():
    net = torchvision.models.resnet18(num_classes=5)
    make_temporal_pool(net, 5)
    make_non_local(net, [5, 3, 3, 3])
    assert [net.layer2.net[0].n_segment, net.layer3[0].n_segment] == [3, 3]
    assert net.eval()(clip(2, 5, 3, 32).reshape(10, 3, 32, 32)).shape == (6, 5)  # 5 frames leave 3
    net = build("resnet18")
    make_non_local(net, (8, 4, 2, 2))
    assert [net.layer2[0].n_segment, net.layer3[0].n_segment] == [4, 2]


def test_the_norm_opens_first_and_then_everything_trains():
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=5)
    make_non_local(net, 4)
    wrapper = net.layer3[0]
    assert isinstance(wrapper.nl.W[1], nn.BatchNorm3d)  # partial BN freezes BatchNorm2d
    optimizer, frames = torch.optim.SGD(net.parameters(), lr=0.1), clip(2, 4, 3, 32).reshape(8, 3, 32, 32)

    def trained():
        optimizer.zero_grad()
        net(frames).square().sum().backward()
        optimizer.step()
        return {name for name, p in wrapper.nl.named_parameters() if p.grad.abs().max() > 1e-9}

    assert trained() == {"W.1.weight", "W.1.bias"}
    assert trained() >= {"g.0.weight", "W.0.weight", "theta.weight", "phi.0.weight"}


# ---- refusals ------------------------------------------------------------------------------------------------

def test_a_batch_of_incomplete_clips_is_refused():
    wrapper = NL3DWrapper(build("resnet18").layer2[0], 4)
    with pytest.raises(ValueError, match="7 frames do not divide into clips of 4"):
        wrapper(torch.zeros(7, 64, 8, 8, device="meta"))


@pytest.mark.parametrize("n_segment", [0, [8, 8], [8, 4, 4, 0]])
def test_wrong_numbers_of_segments_are_refused(n_segment):
    with pytest.raises(ValueError, match="n_segment"):
        make_non_local(build("resnet18"), n_segment)


def test_other_networks_and_kinds_are_refused():
    with pytest.raises(UserError, match="works on ResNets, not on MobileNetV2"):
        make_non_local(build("mobilenet_v2"), 8)
    net = build("resnet18")
    with pytest.raises(UserError, match="'softmax': choose"):
        make_non_local(net, 8, "softmax")
    assert not any(isinstance(m, NL3DWrapper) for m in net.modules())
    make_non_local(net, 8)
    with pytest.raises(ValueError, match="already"):
        make_non_local(net, 8)
    with pytest.raises(ValueError, match="is not a ResNet block"):
        out_channels(TemporalShift(nn.Conv2d(8, 8, 1), 8))
