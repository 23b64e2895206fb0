"""Plain TSM code under torch's transformations: traces, both ONNX exporters, torch.func and forward-mode gradients."""
import io
import warnings

import onnxruntime
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap

from ops.models import TSN
from ops.temporal_shift import InplaceShift, StandaloneShift, TemporalShift
from tests.network.test_temporal_shift import ONE_WAY, TWO_WAYS, naive_shift, noise

T, SIZE = 3, 32
NETWORKS = [("resnet18", "blockres"), ("resnet18", "block"), ("mobilenetv2", "blockres"), ("BNInception", "block")]


def make_tsn(arch="resnet18", place="blockres", inplace=False, **options):
    torch.manual_seed(0)
    model = TSN(5, T, "RGB", base_model=arch, pretrain="", is_shift=True, shift_place=place, partial_bn=False,
                dropout=0.5, print_spec=False, inplace=inplace, input_size=SIZE, **options)
    nn.init.normal_(model.new_fc.weight)
    return model.eval()


def clips(count, seed=0):
    return noise(count, T * 3, SIZE, SIZE, seed=seed)


@pytest.fixture(params=[False, True], ids=["plain", "inplace"])
def inplace(request):
    return request.param


# ---- the shift alone ------------------------------------------------------------------------------------------

@pytest.fixture(params=[(5, TWO_WAYS), (1, TWO_WAYS), (2, ONE_WAY)], ids=["two ways", "one frame", "one way"])
def shift(request, inplace):
    """(the shift as a function of a tensor that it may write into, T, the naive shift)."""
    t, direction = request.param

    def ours(x):
        return TemporalShift.shift(x * 1, t, 4, inplace=inplace, direction=direction)

    return ours, t, lambda x: naive_shift(x, t, 4, direction)


def test_a_traced_shift_equals_a_loop_for_any_number_of_clips(shift):
    ours, t, naive = shift
    traced = torch.jit.trace(ours, noise(2 * t, 9, 2, 2))
    x = noise(4 * t, 9, 3, 2, seed=1)
    assert torch.equal(traced(x), naive(x))


def test_torch_func_differentiates_the_shift_as_autograd_does(shift):
    ours, t, naive = shift
    x, weights = noise(2 * t, 9, 2, 2), noise(2 * t, 9, 2, 2, seed=1)
    leaf = x.clone().requires_grad_()
    (ours(leaf).pow(2) * weights).sum().backward()

    def loss(x):
        return (ours(x).pow(2) * weights).sum()

    assert torch.equal(grad(loss)(x), leaf.grad)
    second = grad(lambda x: grad(loss)(x).pow(2).sum())(x)
    assert torch.allclose(second, 8 * x * naive_gradient(naive, x, weights).pow(2))


def naive_gradient(naive, x, weights):
    """What reaches each value of x of `weights`, the gradient of the shifted values."""
    leaf = x.clone().requires_grad_()
    ((naive(leaf) * weights).sum() + 0 * leaf.sum()).backward()
    return leaf.grad


def test_jacobians_of_the_shift(shift):
    ours, t, naive = shift
    x = noise(t, 9, 1, 1)
    wanted = torch.autograd.functional.jacobian(lambda x: naive(x) + 0 * x, x)
    assert torch.equal(jacrev(ours)(x), wanted) and torch.equal(jacfwd(ours)(x), wanted)


def test_vmap_shifts_each_sample_by_itself(shift):
    ours, t, naive = shift
    x = noise(3, 2 * t, 9, 2, 2)
    wanted = torch.stack([naive(sample) for sample in x])
    assert torch.equal(vmap(ours)(x), wanted)
    assert torch.equal(vmap(ours, in_dims=2, out_dims=2)(x.movedim(0, 2)), wanted.movedim(0, 2))


def test_forward_mode_gradients_of_the_shift(shift):
    ours, t, naive = shift
    x, tangent = noise(2 * t, 9, 2, 2), noise(2 * t, 9, 2, 2, seed=1)
    value, found = jvp(ours, (x,), (tangent,))
    assert torch.equal(value, naive(x)) and torch.equal(found, naive(tangent))
    with forward_ad.dual_level():
        value, found = forward_ad.unpack_dual(ours(forward_ad.make_dual(x, tangent)))
    assert torch.equal(value, naive(x)) and torch.equal(found, naive(tangent))
    double = noise(2 * t, 9, 1, 1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(ours, double, check_forward_ad=True)


def test_forward_mode_gradient_of_the_published_in_place_function():
    x, tangent = noise(2, 3, 8, 2, 2), noise(2, 3, 8, 2, 2, seed=1)
    with forward_ad.dual_level():
        out = InplaceShift.apply(forward_ad.make_dual(x.clone(), tangent.clone()), 2)
        value, found = forward_ad.unpack_dual(out)
    assert torch.equal(value.flatten(0, 1), naive_shift(x.flatten(0, 1), 3, 4))
    assert torch.equal(found.flatten(0, 1), naive_shift(tangent.flatten(0, 1), 3, 4))


def test_a_transformed_shift_in_place_leaves_its_input_alone():
    x = noise(6, 8, 2, 2)
    torch.jit.trace(StandaloneShift(8, 3, 4, inplace=True), x)
    vmap(StandaloneShift(8, 3, 4, inplace=True))(x[None])
    assert torch.equal(x, noise(6, 8, 2, 2))


# ---- whole networks -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arch, place", NETWORKS)
def test_a_network_traces_and_is_saved_and_reloaded(arch, place, inplace):
    model = make_tsn(arch, place, inplace)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=torch.jit.TracerWarning, module=r"ops\.(temporal_shift|models)")
        traced = torch.jit.trace(model, clips(1))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    x = clips(2, seed=1)
    with torch.no_grad():
        assert torch.equal(torch.jit.load(file)(x), model(x))


RESNET, POOLED, INCEPTION = (
    ("resnet18", {}), ("resnet18", {"shift_direction": ONE_WAY, "temporal_pool": True}), ("BNInception", {"place": "block"}))


@pytest.mark.parametrize("network, inplace, dynamo", [
    *((network, inplace, False) for network in (RESNET, POOLED, INCEPTION) for inplace in (False, True)),
    (POOLED, False, True),  # this exporter is slow
])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
def test_a_network_exports_to_onnx_for_any_number_of_clips(network, inplace, dynamo, tmp_path):
    arch, options = network
    model, file = make_tsn(arch, inplace=inplace, **options), str(tmp_path / "tsm.onnx")
    batch = {"dynamic_shapes": [{0: torch.export.Dim("clips", max=1024)}]} if dynamo else {"dynamic_axes": {
        "input": {0: "clips"}, "scores": {0: "clips"}}}
    torch.onnx.export(model, (clips(2),), file, dynamo=dynamo, input_names=["input"], output_names=["scores"], **batch)
    session, x = onnxruntime.InferenceSession(file), clips(3, seed=1)
    found = session.run(None, {"input": x.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch, place", NETWORKS)
def test_torch_func_differentiates_a_network_as_autograd_does(arch, place, inplace):
    model, x = make_tsn(arch, place, inplace), clips(2)
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).pow(2).sum()

    found = grad(loss)(parameters, x)
    loss(dict(model.named_parameters()), x).backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-5 * float(value.grad.abs().max()))
    each = vmap(grad(loss), (None, 0))(parameters, x[:, None])
    torch.testing.assert_close(each["new_fc.weight"].sum(0), found["new_fc.weight"], rtol=1e-4, atol=1e-3)


def test_a_networks_forward_mode_gradient_is_its_reverse_mode_one(inplace):
    model, x, tangent, weights = make_tsn(inplace=inplace), clips(2), clips(2, seed=1), noise(2, 5)
    leaf = x.clone().requires_grad_()
    (model(leaf) * weights).sum().backward()
    wanted = (leaf.grad * tangent).sum()
    _, through_func = jvp(model, (x,), (tangent,))
    with forward_ad.dual_level():
        plain = forward_ad.unpack_dual(model(forward_ad.make_dual(x, tangent))).tangent
    for found in (through_func, plain):
        torch.testing.assert_close((found * weights).sum(), wanted, rtol=1e-3, atol=1e-4)
