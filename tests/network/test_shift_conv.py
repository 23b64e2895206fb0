"""The convolution that reads its input shifted: the operator, and its kernels in Triton's interpreter and on a GPU."""
import copy
import importlib
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from ops.common.errors import UserError
from ops.models import TSN
from ops.shift_conv import HAS_TRITON, can_fuse, is_pointwise, shift_conv
from ops.shift_moves import Shift, make_moves, move_by_plain_ops
from ops.spec import ModelSpec
from ops.temporal_shift import TemporalShift
from tests.helpers.processes import ROOT, environment

pytestmark = pytest.mark.usefixtures("one_thread")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SHAPES = [  # clips, frames, channels, outputs, height, width, direction
    (2, 3, 64, 16, 5, 5, "bidirectional"), (2, 8, 256, 64, 6, 7, "bidirectional"),
    (1, 4, 128, 40, 5, 4, "unidirectional"),
    (3, 1, 64, 16, 3, 3, "bidirectional"), (1, 3, 96, 24, 4, 4, "unidirectional")]


def problem(shape, dtype=torch.float64, device="cpu"):
    """(x, weight, gradient of the result, T, moves) of a convolution behind a shift."""
    clips, frames, channels, outputs, height, width, direction = shape

    def last(*size):
        return torch.randn(size).to(device, dtype).contiguous(memory_format=torch.channels_last)

    return (last(clips * frames, channels, height, width), last(outputs, channels, 1, 1) / channels ** 0.5,
            last(clips * frames, outputs, height, width), frames, make_moves(channels, 8, direction))


def expected(x, weight, gradient, n_segment, moves):
    """(result, gradient of x, of the weight) in double precision, by autograd."""
    x, weight = (tensor.detach().double().cpu().requires_grad_() for tensor in (x, weight))
    y = F.conv2d(move_by_plain_ops(x, n_segment, moves), weight)
    return y.detach(), *torch.autograd.grad(y, (x, weight), gradient.double().cpu())


def assert_close(got, wanted, error):
    for one, other in zip(got, wanted):
        assert one.shape == other.shape
        assert float((one.double().cpu() - other).norm() / other.norm()) < error


@pytest.mark.parametrize("shape", SHAPES)
def test_the_operator_and_its_gradients_without_a_gpu(shape):
    torch.manual_seed(0)
    x, weight, gradient, n_segment, moves = problem(shape)
    x.requires_grad_(), weight.requires_grad_()
    y = shift_conv(x, weight, n_segment, moves)
    assert y.is_contiguous(memory_format=torch.channels_last)
    got = y.detach(), *torch.autograd.grad(y, (x, weight), gradient)
    assert_close(got, expected(x, weight, gradient, n_segment, moves), 1e-12)


def test_what_the_compiler_is_told_about_the_operator_is_true():
    torch.manual_seed(0)
    x, weight, *_ = problem(SHAPES[0], torch.float32)
    x.requires_grad_(), weight.requires_grad_()
    torch.library.opcheck(torch.ops.tsm.shift_conv, (x, weight, 3, 8, 1, -1))


def test_incomplete_clips_are_refused():
    x, weight, _, _, moves = problem(SHAPES[0])
    with pytest.raises(UserError, match="6 frames do not divide into clips of 4"):
        shift_conv(x, weight, 4, moves)


def test_only_half_precision_on_a_gpu_is_fused():
    x = torch.zeros(8, 64, 2, 2, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    assert not can_fuse(x, nn.Conv2d(64, 8, 1, bias=False, dtype=torch.bfloat16), 8)


def test_a_convolution_that_is_more_than_pointwise_is_not_fused():
    assert is_pointwise(nn.Conv2d(64, 8, 1, bias=False))
    hooked, weighted = nn.Conv2d(64, 8, 1, bias=False), parametrizations.weight_norm(nn.Conv2d(64, 8, 1, bias=False))
    hooked.register_forward_hook(print)
    for more in (nn.Conv2d(64, 8, 1), nn.Conv2d(64, 8, 1, stride=2, bias=False), nn.Conv2d(64, 8, 3, bias=False), hooked,
                 weighted, nn.Identity()):
        assert not is_pointwise(more)


# ---- the kernels ----------------------------------------------------------------------------------------------

def results(kernels, x, weight, gradient, n_segment, moves):
    """What the three kernels compute, each in all of its ways."""
    offsets = [offset for _, _, offset in moves] + [0]
    shift = Shift(n_segment, moves[0][1], *offsets[:2])
    return (kernels.forward(x, weight, shift),
            *(kernels.input_gradient(gradient, weight, shift, split=split) for split in (False, True)),
            kernels.weight_gradient(gradient, x, shift))


def check_kernels(device="cpu", dtype=torch.float16, error=2e-3, shapes=SHAPES):
    """Compare the kernels with double precision; without a GPU in Triton's interpreter."""
    kernels = importlib.import_module("ops.shift_kernels")
    for shape in shapes:
        torch.manual_seed(0)
        given = problem(shape, dtype, device)
        y, dx, dw = expected(*given)
        assert_close(results(kernels, *given), (y, dx, dx, dw), error)


@pytest.mark.skipif(not HAS_TRITON, reason="Triton comes with PyTorch's CUDA builds only")
def test_the_kernels_in_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # which Triton reads when it is imported: in a new process
    done = subprocess.run([sys.executable, "-c", "from tests.network.test_shift_conv import check_kernels; check_kernels()"],
                          cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernels_on_a_gpu(dtype):
    larger = (2, 8, 2048, 512, 7, 7, "bidirectional"), (3, 8, 512, 128, 28, 28, "bidirectional")
    check_kernels("cuda", dtype, 1e-2, [*SHAPES, *larger])


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_trains_with_the_kernels_as_without(compiled, monkeypatch):
    torch.manual_seed(0)
    plain = TSN.from_spec(ModelSpec(5, 4, arch="resnet50", shift=True, dropout=0.0)).cuda()
    # With BatchNorm over so few clips, rounding alone would change some gradients beyond recognition.
    plain = plain.to(memory_format=torch.channels_last).eval()
    clips = torch.randn(2, 12, 64, 64, device="cuda")
    gradients = []
    for fused in (False, True):
        network = copy.deepcopy(plain)
        monkeypatch.setattr(TemporalShift, "fuse", fused)
        run = torch.compile(network) if compiled else network
        with torch.autocast("cuda", torch.bfloat16), torch.profiler.profile() as profile:
            loss = F.cross_entropy(run(clips).float(), torch.tensor([1, 2], device="cuda"))
        loss.backward()
        names = {event.key for event in profile.key_averages()}
        assert any("shift_conv" in name for name in names) == fused, sorted(names)
        gradients.append((loss.detach(), network.base_model.layer4[2].conv1.net.weight.grad))
    # On a CPU, bf16 in another memory format changes this gradient by 0.09, and those of the first layers by 0.2.
    for one, other, error in zip(*gradients, (0.01, 0.2)):
        assert float((one - other).norm() / other.norm()) < error
