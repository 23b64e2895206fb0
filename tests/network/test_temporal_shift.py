"""ops/temporal_shift.py: the shift, its gradient and its module against loops; whole networks: test_inplace_networks.py."""
import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from ops.common.errors import UserError
from ops.temporal_shift import (
    InplaceShift,
    StandaloneShift,
    TemporalPool,
    TemporalShift,
    make_moves,
    make_temporal_pool,
    make_temporal_shift,
    pooled_segments,
)

TWO_WAYS, ONE_WAY = "bidirectional", "unidirectional"


def naive_shift(x, n_segment, fold_div, direction=TWO_WAYS):
    """Value by value: frame i's channel c comes from frame i + offset of the same clip."""
    fold = x.shape[1] // fold_div
    rows = []
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            if direction == TWO_WAYS:
                offset = 1 if c < fold else -1 if c < 2 * fold else 0
            else:
                offset = -1 if c < fold else 0
            inside = 0 <= i % n_segment + offset < n_segment
            rows.append(x[i + offset, c] if inside else torch.zeros_like(x[0, 0]))
    return torch.stack(rows).view(x.shape)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@st.composite
def shift_cases(draw):
    """(frames (N*T, C, H, W), T, div, direction, memory format) that fit each other."""
    direction = draw(st.sampled_from([TWO_WAYS, ONE_WAY]))
    least = 2 if direction == TWO_WAYS else 1
    clips, t, channels = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(least, 12))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    memory = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    x = noise(clips * t, channels, height, width, seed=draw(st.integers(0, 999))).contiguous(memory_format=memory)
    return x, t, draw(st.integers(least, channels)), direction, memory


# ---- the function ---------------------------------------------------------------------------------------------

@settings(max_examples=80, deadline=None)
@given(shift_cases())
def test_shift_and_its_gradient_equal_a_loop(case):
    x, t, div, direction, memory = case
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, wanted = TemporalShift.shift(ours, t, div, direction=direction), naive_shift(theirs, t, div, direction)
    assert torch.equal(out, wanted)
    assert out.is_contiguous(memory_format=memory)
    weights = noise(*x.shape, seed=1)
    (out * weights).sum().backward()
    ((wanted * weights).sum() + 0 * theirs.sum()).backward()  # for a single frame, the loop may leave no gradient
    assert torch.equal(ours.grad, theirs.grad)


@settings(max_examples=80, deadline=None)
@given(shift_cases())
def test_shift_in_place_equals_a_loop(case):
    x, t, div, direction, memory = case
    leaf, wanted_leaf = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = TemporalShift.shift(leaf * 2, t, div, inplace=True, direction=direction)
    wanted = naive_shift(wanted_leaf * 2, t, div, direction)
    assert torch.equal(out, wanted)
    assert out.is_contiguous(memory_format=memory)
    weights = noise(*x.shape, seed=1)
    (out * weights).sum().backward()
    ((wanted * weights).sum() + 0 * wanted_leaf.sum()).backward()
    assert torch.equal(leaf.grad, wanted_leaf.grad)


@pytest.mark.parametrize("direction", [TWO_WAYS, ONE_WAY])
@pytest.mark.parametrize("t, channels, div", [(1, 4, 2), (2, 3, 3), (3, 8, 4), (5, 7, 3)])
def test_gradient_by_finite_differences(t, channels, div, direction):
    x = noise(2 * t, channels, 1, 2, dtype=torch.float64).requires_grad_()

    def plain(x):
        return TemporalShift.shift(x, t, div, direction=direction)

    def inplace(x):
        return TemporalShift.shift(x * 1, t, div, inplace=True, direction=direction)

    assert torch.autograd.gradcheck(plain, x)
    assert torch.autograd.gradgradcheck(lambda x: plain(x).pow(3), x)
    assert torch.autograd.gradcheck(inplace, x)


@pytest.mark.parametrize("inplace", [False, True])
def test_gradient_through_the_module_by_finite_differences(inplace):
    torch.manual_seed(0)
    module = TemporalShift(nn.Conv2d(3, 2, 2), 3, 3, inplace=inplace).double()
    x = noise(3, 3, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x * 1).tanh(), x)
    assert torch.autograd.gradgradcheck(lambda x: module(x * 1).tanh(), x)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_ends_are_zero_whatever_was_there(value, inplace):
    x = noise(6, 8, 2, 2)
    x[:, :4] = value
    out = TemporalShift.shift(x, 3, 4, inplace=inplace)
    assert torch.equal(out[2::3, :2], torch.zeros(2, 2, 2, 2))
    assert torch.equal(out[::3, 2:4], torch.zeros(2, 2, 2, 2))
    assert not out[:2, :2].isfinite().any() and not out[1:3, 2:4].isfinite().any()
    assert torch.equal(out[:, 4:], noise(6, 8, 2, 2)[:, 4:])


def test_one_non_finite_frame_reaches_only_its_neighbours():
    x = torch.ones(5, 4, 1, 1)
    x[2] = float("nan")
    out = TemporalShift.shift(x, 5, 4).flatten(1)
    lost = {(i, c) for i, c in out.isnan().nonzero().tolist()}
    assert lost == {(1, 0), (3, 1), (2, 2), (2, 3)}


def test_shift_by_hand():
    frames = torch.tensor([[1., 10, 100], [2, 20, 200], [3, 30, 300]])[..., None, None]
    both = TemporalShift.shift(frames, 3, 3).flatten(1).tolist()
    assert both == [[2, 0, 100], [3, 10, 200], [0, 20, 300]]
    past = TemporalShift.shift(frames, 3, 3, direction=ONE_WAY).flatten(1).tolist()
    assert past == [[0, 10, 100], [1, 20, 200], [2, 30, 300]]


@pytest.mark.parametrize("direction", [TWO_WAYS, ONE_WAY])
def test_in_place_writes_into_the_same_memory(direction):
    x = noise(6, 8, 2, 2)
    wanted = naive_shift(x, 3, 4, direction)
    out = TemporalShift.shift(x, 3, 4, inplace=True, direction=direction)
    assert out.data_ptr() == x.data_ptr() and out.untyped_storage().nbytes() == x.untyped_storage().nbytes()
    assert torch.equal(x, wanted)


def test_in_place_leaves_a_leaf_that_requires_grad_alone():
    x = noise(6, 8, 2, 2).requires_grad_()
    before = x.detach().clone()
    out = TemporalShift.shift(x, 3, 4, inplace=True)
    assert torch.equal(out, naive_shift(before, 3, 4)) and torch.equal(x, before)


@pytest.mark.parametrize("view", [
    lambda leaf: leaf[:], lambda leaf: leaf.view(6, 8, 2, 2), lambda leaf: leaf[2:5],
    lambda leaf: leaf.unflatten(0, (2, 3))[1],
    lambda leaf: (leaf * 1).split(3)[0], lambda leaf: (leaf * 1).unflatten(0, (2, 3)).unbind()[1],
], ids=["whole", "view", "part", "index", "split", "unbind"])
def test_in_place_leaves_a_view_alone_that_autograd_protects(view):
    leaf, wanted = noise(6, 8, 2, 2).requires_grad_(), noise(6, 8, 2, 2).requires_grad_()
    before = leaf.detach().clone()
    out = TemporalShift.shift(view(leaf), 3, 4, inplace=True)
    assert torch.equal(out, naive_shift(view(before), 3, 4)) and torch.equal(leaf, before)
    out.pow(2).sum().backward()
    naive_shift(view(wanted), 3, 4).pow(2).sum().backward()
    assert torch.equal(leaf.grad, wanted.grad)


def test_in_place_leaves_a_view_made_without_gradients_and_an_inference_tensor_alone():
    leaf = noise(6, 8, 2, 2).requires_grad_()
    with torch.no_grad():
        view = leaf[:]
    with torch.inference_mode():
        result = noise(6, 8, 2, 2) * 1
    for x in (view, result):
        assert torch.equal(TemporalShift.shift(x, 3, 4, inplace=True), naive_shift(noise(6, 8, 2, 2), 3, 4))
        assert torch.equal(x, noise(6, 8, 2, 2))


def test_plain_shift_leaves_its_input_alone():
    x = noise(6, 8, 2, 2)
    before = x.clone()
    TemporalShift.shift(x, 3, 4)
    assert torch.equal(x, before)


def test_inplace_shift_takes_clips_and_a_fold():
    x = noise(2, 3, 8, 2, 2)
    wanted = naive_shift(x.flatten(0, 1), 3, 4).view_as(x)
    assert torch.equal(InplaceShift.apply(x.clone(), 2), wanted)
    past = naive_shift(x.flatten(0, 1), 3, 4, ONE_WAY).view_as(x)
    assert torch.equal(InplaceShift.apply(x.clone(), 2, ONE_WAY), past)


def test_in_place_refuses_a_gradient_that_needs_the_old_values():
    leaf = noise(6, 8, 2, 2).requires_grad_()
    x = leaf * 1
    squares = x.pow(2).sum()  # its gradient is 2x
    out = TemporalShift.shift(x, 3, 4, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (squares + out.sum()).backward()


def test_after_an_in_place_shift_the_input_itself_has_the_shifted_gradient():
    leaf, wanted = noise(6, 8, 2, 2).requires_grad_(), noise(6, 8, 2, 2).requires_grad_()
    x = leaf * 1
    TemporalShift.shift(x, 3, 4, inplace=True)
    x.pow(3).sum().backward()
    naive_shift(wanted, 3, 4).pow(3).sum().backward()
    assert torch.equal(leaf.grad, wanted.grad)


def test_an_in_place_shift_leaves_a_gradient_that_others_share_alone():
    first, second, weights = noise(6, 8, 2, 2).requires_grad_(), noise(6, 8, 2, 2).requires_grad_(), noise(6, 8, 2, 2)
    total = second * 1 + TemporalShift.shift(first * 1, 3, 4, inplace=True) + second
    (total * weights).sum().backward()
    assert torch.equal(second.grad, 2 * weights)


@pytest.mark.parametrize("channels, div, direction, wanted", [
    (64, 8, TWO_WAYS, ((0, 8, 1), (8, 16, -1))),
    (24, 8, TWO_WAYS, ((0, 3, 1), (3, 6, -1))),
    (7, 3, TWO_WAYS, ((0, 2, 1), (2, 4, -1))),
    (5, 2, TWO_WAYS, ((0, 2, 1), (2, 4, -1))),
    (64, 8, ONE_WAY, ((0, 8, -1),)),
    (4, 1, ONE_WAY, ((0, 4, -1),)),
])
def test_moves(channels, div, direction, wanted):
    assert make_moves(channels, div, direction) == wanted


@pytest.mark.parametrize("channels, div, direction, words", [
    (8, 9, TWO_WAYS, "shift_div 9 does not fit 8 channels: choose 2 to 8"),
    (8, 1, TWO_WAYS, "choose 2 to 8"),
    (8, 0, ONE_WAY, "choose 1 to 8"),
    (8, -8, TWO_WAYS, "choose 2 to 8"),
    (8, 4, "sideways", "'sideways': choose bidirectional or unidirectional"),
])
def test_moves_that_do_not_fit(channels, div, direction, words):
    with pytest.raises(UserError, match=words):
        make_moves(channels, div, direction)


@pytest.mark.parametrize("frames, n_segment", [(7, 3), (2, 3), (6, 0), (6, -2)])
@pytest.mark.parametrize("inplace", [False, True])
def test_frames_that_are_not_whole_clips(frames, n_segment, inplace):
    with pytest.raises(ValueError, match=f"{frames} frames do not divide into clips of {n_segment}"):
        TemporalShift.shift(torch.zeros(frames, 8, 1, 1), n_segment, 4, inplace=inplace)


# ---- the module -----------------------------------------------------------------------------------------------

def gradients(module, x):
    """(output, gradient of x, gradients of the parameters) of a fixed function of the output."""
    leaf = x.clone().requires_grad_()
    out = module(leaf * 1)
    (out * noise(*out.shape, seed=7)).sum().backward()
    return out.detach(), leaf.grad, [p.grad for p in module.parameters()]


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_module_is_the_shift_and_then_its_net():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(8, 5, 3), noise(6, 8, 4, 4)
    assert torch.equal(TemporalShift(conv, 3, 4)(x), conv(naive_shift(x, 3, 4)))
    assert torch.equal(TemporalShift(conv, 3, 4, direction=ONE_WAY)(x), conv(naive_shift(x, 3, 4, ONE_WAY)))
    assert torch.equal(TemporalShift(nn.Identity())(x), naive_shift(x, 3, 8))  # the published defaults


def test_module_keeps_the_published_attributes():
    conv = nn.Conv2d(8, 5, 3)
    module = TemporalShift(conv, n_segment=4, n_div=2, inplace=True)
    assert module.net is conv and (module.n_segment, module.fold_div, module.inplace) == (4, 2, True)
    assert list(module.state_dict()) == ["net.weight", "net.bias"]


@pytest.mark.parametrize("net", [
    lambda: nn.Conv2d(8, 8, 3, padding=1),
    lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1)),
    lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3)),
    lambda: nn.Sequential(nn.Hardtanh(-0.5, 0.5, inplace=True), nn.Conv2d(8, 4, 3)),
    lambda: torchvision.models.resnet.BasicBlock(8, 8),
], ids=["conv", "stack", "relu_first", "hardtanh_first", "residual"])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_in_place_module_computes_what_the_plain_one_computes(net, memory):
    torch.manual_seed(0)
    plain = TemporalShift(net(), 3, 4)
    inplace = TemporalShift(copy.deepcopy(plain.net), 3, 4, inplace=True)
    x = noise(6, 8, 5, 5).contiguous(memory_format=memory)
    same(gradients(inplace, x), gradients(plain, x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_in_place_module_within_gradient_checkpointing(reentrant):
    torch.manual_seed(0)
    plain = TemporalShift(torchvision.models.resnet.BasicBlock(8, 8), 3, 4)
    inplace = TemporalShift(copy.deepcopy(plain.net), 3, 4, inplace=True)
    forward = inplace.forward
    inplace.forward = lambda x: checkpoint(forward, x, use_reentrant=reentrant)
    x = noise(6, 8, 5, 5)
    same(gradients(inplace, x), gradients(plain, x))


@pytest.mark.parametrize("direction", [TWO_WAYS, ONE_WAY])
def test_a_standalone_shift_works_in_its_inputs_memory(direction):
    x = noise(6, 8, 5, 5)
    plain, inplace = (StandaloneShift(8, 3, 4, inplace, direction) for inplace in (False, True))
    same(gradients(inplace, x), gradients(plain, x))
    wanted = naive_shift(x, 3, 4, direction)
    assert torch.equal(plain(x), wanted) and torch.equal(x, noise(6, 8, 5, 5))
    out = inplace(x)
    assert out.data_ptr() == x.data_ptr() and torch.equal(out, wanted)
    with pytest.raises(UserError, match="does not fit 8 channels"):
        StandaloneShift(8, 3, 9)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_standalone_shift_within_gradient_checkpointing_shifts_once(reentrant):
    """In place, the second forward pass would start from what the first one shifted."""
    torch.manual_seed(0)
    conv, x = nn.Conv2d(8, 4, 3), noise(6, 8, 5, 5)
    plain, inplace = (nn.Sequential(StandaloneShift(8, 3, 4, inplace), copy.deepcopy(conv)) for inplace in (False, True))
    forward = inplace.forward
    inplace.forward = lambda x: checkpoint(forward, x, use_reentrant=reentrant)
    same(gradients(inplace, x), gradients(plain, x))


def test_hooks_around_the_in_place_module_get_every_tensor():
    """So does save_on_cpu: of nested hooks the innermost alone work, and those must not be the module's."""
    torch.manual_seed(0)
    plain = TemporalShift(torchvision.models.resnet.BasicBlock(8, 8), 3, 4)
    inplace = TemporalShift(copy.deepcopy(plain.net), 3, 4, inplace=True)
    x, kept = noise(6, 8, 5, 5), {}
    for module in (plain, inplace):
        def pack(tensor):
            kept.setdefault(module, []).append(tensor.shape)
            return tensor
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            module(x)
    assert kept[inplace] == kept[plain] and len(kept[plain]) > 4
    with torch.autograd.graph.save_on_cpu():
        found = inplace(x)
    found.sum().backward()
    plain(x).sum().backward()
    same([p.grad for p in inplace.parameters()], [p.grad for p in plain.parameters()])


def test_in_place_module_leaves_its_input_alone():
    x = noise(6, 8, 5, 5)
    before = x.clone()
    TemporalShift(nn.Conv2d(8, 4, 3), 3, 4, inplace=True)(x).sum().backward()
    assert torch.equal(x, before)


def test_in_place_module_refuses_an_input_that_changed():
    x = noise(6, 8, 5, 5)
    out = TemporalShift(nn.Conv2d(8, 4, 3), 3, 4, inplace=True)(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="was changed by an in-place operation"):
        out.sum().backward()


def test_module_refuses_a_fold_that_does_not_fit_when_it_is_built():
    with pytest.raises(UserError, match="shift_div 16 does not fit 8 channels"):
        TemporalShift(nn.Conv2d(8, 4, 3), 3, 16)


# ---- in a network --------------------------------------------------------------------------------------------

def shifts_of(model):
    return [module for module in model.modules() if isinstance(module, TemporalShift)]


@pytest.mark.parametrize("place", ["blockres", "block"])
def test_make_temporal_shift_follows_the_pool(place):
    net = torchvision.models.resnet18()
    make_temporal_shift(net, 5, n_div=4, place=place, temporal_pool=True)
    make_temporal_pool(net, 5)
    assert [module.n_segment for module in shifts_of(net)] == [5, 5, 3, 3, 3, 3, 3, 3]
    assert all(module.fold_div == 4 for module in shifts_of(net))
    net.fc = nn.Identity()
    assert net(noise(10, 3, 32, 32)).shape == (6, 512)


def test_make_temporal_shift_refuses_other_nets_and_places():
    with pytest.raises(UserError, match="ResNets, not on Linear"):
        make_temporal_shift(nn.Linear(2, 2), 8)
    with pytest.raises(UserError, match="'everywhere': choose block or blockres"):
        make_temporal_shift(torchvision.models.resnet18(), 8, place="everywhere")


# ---- temporal pool --------------------------------------------------------------------------------------------

def naive_pool(x, n_segment):
    """Frame j of the result: the maximum over frames 2j - 1, 2j, 2j + 1, as far as the clip has them."""
    frames = []
    for first in range(0, x.shape[0], n_segment):
        for middle in range(0, n_segment, 2):
            window = [first + t for t in (middle - 1, middle, middle + 1) if 0 <= t < n_segment]
            frames.append(x[window].amax(dim=0))
    return torch.stack(frames)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_temporal_pool_equals_a_loop(clips, t, channels, last):
    x = noise(clips * t, channels, 2, 3, seed=t)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    out = TemporalPool(nn.Identity(), t)(x)
    assert torch.equal(out, naive_pool(x, t))
    assert out.shape[0] == clips * pooled_segments(t)


@pytest.mark.parametrize("t", [4, 5])
def test_temporal_pool_gradient_by_finite_differences(t):
    x = noise(2 * t, 2, 1, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: TemporalPool.temporal_pool(x, t), x)


def test_make_temporal_pool_pools_once():
    net = torchvision.models.resnet18()
    stage = net.layer2
    make_temporal_pool(net, 8)
    make_temporal_pool(net, 8)
    assert isinstance(net.layer2, TemporalPool) and net.layer2.net is stage
    net.fc = nn.Identity()
    assert net(noise(16, 3, 32, 32)).shape == (8, 512)


def test_make_temporal_pool_refuses_other_nets():
    with pytest.raises(UserError, match="works on ResNets, not on Conv2d"):
        make_temporal_pool(nn.Conv2d(3, 3, 1), 8)
