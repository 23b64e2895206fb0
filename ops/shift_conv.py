"""A 1x1 convolution behind the temporal shift as one operator, in which the shift is nothing but address arithmetic.

`torch.ops.tsm.shift_conv` runs the Triton kernels of `ops.shift_kernels` on NVIDIA GPUs, and a plain shift with a plain
convolution elsewhere. Autograd and torch.compile know the operator and its gradients.
"""
import importlib.util

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ops.shift_moves import Moves, Shift, clips_of, move_by_plain_ops

HALF = (torch.bfloat16, torch.float16)
LEAST_FOLD = 8  # channels, 16 bytes: what a thread loads at once
LEAST_CAPABILITY = (8, 0)  # of the GPU: the first generation that computes in bf16 and copies asynchronously
# Triton compiles the kernels; PyTorch brings it for NVIDIA GPUs on Linux.
HAS_TRITON = importlib.util.find_spec("triton") is not None and torch.version.cuda is not None


def is_pointwise(net: nn.Module) -> bool:
    """Whether `net` is a 1x1 convolution and nothing more: no bias or stride, no subclass, no hooks that see its calls."""
    return (type(net) is nn.Conv2d and net.bias is None and not net._forward_hooks and not net._forward_pre_hooks
            and (net.kernel_size, net.stride, net.padding, net.groups) == ((1, 1), (1, 1), (0, 0), 1))


def can_fuse(x: Tensor, net: nn.Module, fold: int) -> bool:
    """Whether the kernels compute `net`, behind a shift of x: a pointwise convolution in half precision on a GPU."""
    if not (x.is_cuda and x.dtype in HALF and is_pointwise(net)):
        return False
    # The compiler cannot look at the device; it needs a recent one itself.
    recent = torch.compiler.is_compiling() or torch.cuda.get_device_capability(x.device) >= LEAST_CAPABILITY
    weight = net.weight
    return (recent and fold % LEAST_FOLD == 0 and HAS_TRITON and x.is_contiguous(memory_format=torch.channels_last)
            and (weight.dtype == x.dtype or torch.is_autocast_enabled("cuda")))


def shift_conv(x: Tensor, weight: Tensor, n_segment: int, moves: Moves) -> Tensor:
    """The pointwise convolution of shifted frames: x (N*T, C, H, W), weight (O, C, 1, 1) -> (N*T, O, H, W).

    n_segment: T. moves: see `ops.shift_moves`. Raises UserError unless T divides the batch.
    """
    clips_of(x, n_segment)  # raises unless the clips are whole
    first, second = moves[0][2], moves[1][2] if len(moves) == 2 else 0
    return torch.ops.tsm.shift_conv(x, weight.to(x.dtype), n_segment, moves[0][1], first, second)


# ---- the operators --------------------------------------------------------------------------------------------

@torch.library.custom_op("tsm::shift_conv", mutates_args=())
def _shift_conv(x: Tensor, weight: Tensor, n_segment: int, fold: int, first: int, second: int) -> Tensor:
    shift = Shift(n_segment, fold, first, second)
    if x.is_cuda:
        return _kernels().forward(_last(x), weight.contiguous(), shift)
    return _last(F.conv2d(_shifted(x, shift), weight))


@torch.library.custom_op("tsm::shift_conv_input_gradient", mutates_args=())
def _input_gradient(gradient: Tensor, weight: Tensor, n_segment: int, fold: int, first: int, second: int) -> Tensor:
    shift = Shift(n_segment, fold, first, second)
    if gradient.is_cuda:
        return _kernels().input_gradient(_last(gradient), weight.contiguous(), shift)
    back = shift._replace(first=-first, second=-second)
    return _last(_shifted(F.conv2d(gradient, weight.transpose(0, 1)), back))


@torch.library.custom_op("tsm::shift_conv_weight_gradient", mutates_args=())
def _weight_gradient(gradient: Tensor, x: Tensor, n_segment: int, fold: int, first: int, second: int) -> Tensor:
    shift = Shift(n_segment, fold, first, second)
    if x.is_cuda:
        return _kernels().weight_gradient(_last(gradient), _last(x), shift)
    return torch.einsum("nohw,nchw->oc", gradient, _shifted(x, shift))[:, :, None, None]


def _shifted(x: Tensor, shift: Shift) -> Tensor:
    return move_by_plain_ops(x, shift.n_segment, shift.moves)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _kernels():
    from ops import shift_kernels  # not at the top: it needs Triton
    return shift_kernels


# ---- for the compiler and autograd ----------------------------------------------------------------------------

@_shift_conv.register_fake
def _(x, weight, n_segment, fold, first, second):
    return x.new_empty((x.shape[0], weight.shape[0], *x.shape[2:])).contiguous(memory_format=torch.channels_last)


@_input_gradient.register_fake
def _(gradient, weight, n_segment, fold, first, second):
    shape = (gradient.shape[0], weight.shape[1], *gradient.shape[2:])
    return gradient.new_empty(shape).contiguous(memory_format=torch.channels_last)


@_weight_gradient.register_fake
def _(gradient, x, n_segment, fold, first, second):
    return x.new_empty((gradient.shape[1], x.shape[1], 1, 1))


def _setup_context(ctx, inputs, output) -> None:
    x, weight, *ctx.shift = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx, gradient):
    x, weight = ctx.saved_tensors
    dx = torch.ops.tsm.shift_conv_input_gradient(gradient, weight, *ctx.shift) if ctx.needs_input_grad[0] else None
    dw = torch.ops.tsm.shift_conv_weight_gradient(gradient, x, *ctx.shift) if ctx.needs_input_grad[1] else None
    return dx, dw, None, None, None, None


_shift_conv.register_autograd(_backward, setup_context=_setup_context)
