"""The temporal shift (TSM, arXiv:1811.08383, sec. 3): a few channels move between neighbouring frames.

Everything here works on (N*T, C, H, W), the T frames of a clip adjacent. A shift is a tuple of moves, see
`ops.shift_moves`. The gradient is the same moves with negated offsets.
"""
from typing import Collection, Iterator, NamedTuple, Union, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ops.common.errors import UserError
from ops.shift_conv import can_fuse, shift_conv
from ops.shift_moves import Moves, clips_of, fold_moves, make_moves, move_by_plain_ops

BLOCK_PLACES = ("block", "blockres")


def _is_transformed() -> bool:
    """Whether the compiler, a trace, an export or torch.func derives its own program from ordinary operations."""
    return (torch.compiler.is_compiling() or torch.jit.is_tracing()
            or torch._C._are_functorch_transforms_active())  # no public name; autograd.Function.apply asks it too


def _move(x: Tensor, n_segment: int, moves: Moves) -> Tensor:
    """A copy of x with its channels moved; each value is read and written once."""
    out = torch.empty_like(x)
    source, target = clips_of(x, n_segment), clips_of(out, n_segment)
    for first, end, offset in moves:
        if offset > 0:
            target[:, :-offset, first:end] = source[:, offset:, first:end]
            target[:, -offset:, first:end] = 0
        else:
            target[:, -offset:, first:end] = source[:, :offset, first:end]
            target[:, :-offset, first:end] = 0
    still = moves[-1][1]
    target[:, :, still:] = source[:, :, still:]
    return out


def _move_inplace(clips: Tensor, moves: Moves) -> None:
    """Move channels within (N, T, C, H, W), frame by frame, so that no fold is ever held twice."""
    frames = range(clips.shape[1])
    for first, end, offset in moves:
        for t in (frames if offset > 0 else reversed(frames)):
            fold = clips[:, t, first:end]
            if 0 <= t + offset < clips.shape[1]:
                fold.copy_(clips[:, t + offset, first:end])
            else:
                fold.zero_()


def _reverse(moves: Moves) -> Moves:
    return tuple((first, end, -offset) for first, end, offset in moves)


class _Move(torch.autograd.Function):
    """`_move` with its gradient in one pass; autograd of slice assignments would take one pass per slice."""

    @staticmethod
    def forward(ctx, x: Tensor, n_segment: int, moves: Moves) -> Tensor:
        ctx.n_segment, ctx.moves = n_segment, moves
        return _move(x, n_segment, moves)

    @staticmethod
    def backward(ctx, grad):
        return _Move.apply(grad, ctx.n_segment, _reverse(ctx.moves)), None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        return _Move.apply(tangent, ctx.n_segment, ctx.moves)


class InplaceShift(torch.autograd.Function):
    """The shift of (N, T, C, H, W) in x's own memory: `InplaceShift.apply(x, fold[, direction])`.

    fold: channels moved each way. Use it only if nothing else reads x: autograd refuses any gradient that needs the
    values that x had before.
    """

    @staticmethod
    def forward(ctx, x: Tensor, fold: int, direction: str = "bidirectional") -> Tensor:
        ctx.moves = fold_moves(fold, direction)
        _move_inplace(x, ctx.moves)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.clone()
        _move_inplace(grad, _reverse(ctx.moves))
        return grad, None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        _move_inplace(tangent, ctx.moves)
        return tangent


def _shifted(x: Tensor, n_segment: int, moves: Moves, inplace: bool = False) -> Tensor:
    """x with its channels moved, and with a gradient; a copy unless `inplace` is asked for and possible."""
    if _is_transformed():
        return move_by_plain_ops(x, n_segment, moves)
    if inplace and _is_writable(x):
        direction = "bidirectional" if len(moves) == 2 else "unidirectional"
        return InplaceShift.apply(clips_of(x, n_segment), moves[0][1], direction).flatten(0, 1)
    return _Move.apply(x, n_segment, moves)


def _is_writable(x: Tensor) -> bool:
    """Whether autograd lets a shift write into x.

    It does not for leaves that require grad, their views, views from split or unbind, and what inference_mode made.
    """
    if x._base is not None and x._base.requires_grad:  # a view
        return False
    return not (x.is_leaf and x.requires_grad) and (torch.is_inference_mode_enabled() or not x.is_inference())


class TemporalShift(nn.Module):
    """`net` behind a shift of its input: (N*T, C, H, W) -> net((N*T, C, H, W)).

    n_segment: T. n_div: C // n_div channels move each way. direction: see `make_moves`. channels: C, if `net` has no
    convolution to read it from.
    inplace: keep no shifted copy for the backward pass. Autograd then keeps the unshifted input, which the layer before
    `net` keeps anyway, and shifts it again when a gradient needs it. The input itself is never written to, so a residual
    connection may read it too (blockres). If something else decides what autograd keeps (the compiler, gradient
    checkpointing, `save_on_cpu`), a plain copy is made and left to it.

    In half precision on an NVIDIA GPU, a pointwise convolution reads its input shifted: there is no shifted copy, see
    `ops.shift_conv`. `TemporalShift.fuse = False` switches this off in the whole process.
    """
    fuse = True

    def __init__(self, net: nn.Module, n_segment: int = 3, n_div: int = 8, inplace: bool = False,
                 direction: str = "bidirectional", channels: int = 0) -> None:
        super().__init__()
        self.net = net
        self.n_segment = n_segment
        self.fold_div = n_div
        self.inplace = inplace
        self.direction = direction
        self.channels = channels or input_channels(net)
        if self.channels:  # raises when the model is built, not at its first batch
            make_moves(self.channels, n_div, direction)

    def forward(self, x: Tensor) -> Tensor:
        moves = make_moves(self.channels or x.shape[1], self.fold_div, self.direction)
        if self.fuse and _may_fuse() and can_fuse(x, self.net, moves[0][1]):
            return shift_conv(x, cast(Tensor, self.net.weight), self.n_segment, moves)
        shifted = _shifted(x, self.n_segment, moves)
        if not self.inplace or not _free_to_save():
            return self.net(shifted)
        with _remember_unshifted(x, shifted, self.n_segment, moves):
            return self.net(shifted)

    def extra_repr(self) -> str:
        return f"n_segment={self.n_segment}, n_div={self.fold_div}, direction={self.direction}"

    @staticmethod
    def shift(x: Tensor, n_segment: int, fold_div: int = 3, inplace: bool = False,
              direction: str = "bidirectional") -> Tensor:
        """Exchange channel folds between neighbouring frames (TSM, sec. 3.2).

        x: (N*T, C, H, W). n_segment: T, must divide N*T. fold_div: C // fold_div channels move each way. inplace: in
        x's own memory, which nothing else may read. x is copied all the same if it is a leaf that requires grad, a view of
        a tensor that does, or made in inference mode, and under the compiler, a trace, an export or torch.func.
        Returns (N*T, C, H, W): fold 0 from the next frame, fold 1 from the previous one, zeros at the clip's ends.
        Raises UserError (a ValueError) if T does not divide the batch or a fold would be empty.
        """
        return _shifted(x, n_segment, make_moves(x.shape[1], fold_div, direction), inplace)


def _may_fuse() -> bool:
    """Whether an operator of our own may appear: eagerly and under torch.compile, not in traces, exports and torch.func."""
    return torch.compiler.is_dynamo_compiling() or not _is_transformed()


class StandaloneShift(TemporalShift):
    """A shift whose input nothing else reads, such as BNInception's between its blocks: (N*T, C, H, W) -> same.

    inplace: in the input's own memory, unless something else decides what autograd keeps: gradient checkpointing would
    start its second forward pass from the input that the first one shifted.
    """

    def __init__(self, channels: int, n_segment: int, n_div: int = 8, inplace: bool = False,
                 direction: str = "bidirectional") -> None:
        super().__init__(nn.Identity(), n_segment, n_div, inplace, direction, channels)

    def forward(self, x: Tensor) -> Tensor:
        inplace = self.inplace and _free_to_save()
        return _shifted(x, self.n_segment, make_moves(self.channels, self.fold_div, self.direction), inplace)


def _free_to_save() -> bool:
    """Whether autograd saves tensors and this module may decide in what form; a transformation decides by itself."""
    return torch.is_grad_enabled() and not _is_transformed() and not _others_save()


def _others_save() -> bool:
    """Whether saved_tensors_hooks are active. Ours would switch them off: of nested hooks only the innermost work."""
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks("they are in use"):  # raises if any are active
            return False
    except RuntimeError:
        return True


class _Recompute(NamedTuple):
    """How to make a shifted tensor that was not kept; autograd keeps this record in its place."""
    x: Tensor
    version: int
    n_segment: int
    moves: Moves

    def make(self) -> Tensor:
        if self.x._version != self.version:
            raise RuntimeError("the input of an in-place TemporalShift was changed by an in-place operation"
                               " before its gradient was computed")
        return _move(self.x, self.n_segment, self.moves)


def _remember_unshifted(x: Tensor, shifted: Tensor, n_segment: int, moves: Moves):
    """A context in which autograd keeps x instead of `shifted`."""
    pointer, shape, strides, dtype = shifted.data_ptr(), shifted.shape, shifted.stride(), shifted.dtype
    version = shifted._version  # if `net` changes it in place, it is no longer a shift of x
    again = _Recompute(x.detach(), x._version, n_segment, moves)

    def pack(tensor: Tensor) -> Union[Tensor, _Recompute]:
        same = (tensor.data_ptr() == pointer and tensor.shape == shape and tensor.stride() == strides
                and tensor.dtype == dtype and tensor._version == version)
        return again if same else tensor

    def unpack(kept: Union[Tensor, _Recompute]) -> Tensor:
        return kept.make() if isinstance(kept, _Recompute) else kept

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class TemporalPool(nn.Module):
    """`net` behind a max pool over time, kernel 3, stride 2: T frames in, (T + 1) // 2 out."""

    def __init__(self, net: nn.Module, n_segment: int) -> None:
        super().__init__()
        self.net = net
        self.n_segment = n_segment

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.temporal_pool(x, self.n_segment))

    @staticmethod
    def temporal_pool(x: Tensor, n_segment: int) -> Tensor:
        """(N*T, C, H, W) -> (N * ((T + 1) // 2), C, H, W)."""
        clips = clips_of(x, n_segment).transpose(1, 2)  # (N, C, T, H, W)
        pooled = F.max_pool3d(clips, kernel_size=(3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
        return pooled.transpose(1, 2).flatten(0, 1)


def pooled_segments(n_segment: int) -> int:
    """T behind a TemporalPool, for n_segment frames in front of it."""
    return (n_segment + 1) // 2


def segments_per_layer(n_segment: int, temporal_pool: bool) -> list[int]:
    """T in layer1 to layer4 of a ResNet; the pool is in front of layer2."""
    later = pooled_segments(n_segment) if temporal_pool else n_segment
    return [n_segment, later, later, later]


def check_place(place: str) -> None:
    """UserError for a place that networks of residual blocks do not have."""
    if place not in BLOCK_PLACES:
        raise UserError(f"shift_place {place!r}: choose {' or '.join(BLOCK_PLACES)}, or leave it unset", "shift_place")


def make_temporal_shift(net: nn.Module, n_segment: int, n_div: int = 8, place: str = "blockres",
                        temporal_pool: bool = False, inplace: bool = False,
                        direction: str = "bidirectional", stages: Collection[int] = (1, 2, 3, 4)) -> None:
    """Insert the shift into a torchvision ResNet, in place (sec. 3.3).

    place: "blockres" shifts the input of each block's conv1, inside the residual branch, so that the shortcut keeps the
    frame's own features; only of every second block if layer3 has 23 blocks or more. "block" shifts the input of each
    whole block. temporal_pool: T is halved from layer2 on. stages: the numbers of the layers that shift. Raises UserError
    for another net or place.
    """
    check_place(place)
    if not isinstance(net, torchvision.models.ResNet):
        raise UserError(f"make_temporal_shift works on torchvision ResNets, not on {type(net).__name__}:"
                        " build other backbones through ops.models.TSN")
    every = 2 if len(net.layer3) >= 23 else 1
    layers = net.layer1, net.layer2, net.layer3, net.layer4
    for number, (stage, segments) in enumerate(zip(layers, segments_per_layer(n_segment, temporal_pool)), start=1):
        for i, block in enumerate(stage if number in stages else ()):
            if place == "block":
                stage[i] = TemporalShift(block, segments, n_div, inplace, direction)
            elif i % every == 0:
                block.conv1 = TemporalShift(block.conv1, segments, n_div, inplace, direction)  # type: ignore[arg-type]


def make_temporal_pool(net: nn.Module, n_segment: int) -> None:
    """Put a TemporalPool in front of layer2 of a torchvision ResNet, in place, unless it has one already."""
    if not isinstance(net, torchvision.models.ResNet):
        raise UserError(f"temporal_pool works on ResNets, not on {type(net).__name__}: leave it out", "temporal_pool")
    if not isinstance(net.layer2, TemporalPool):
        net.layer2 = TemporalPool(net.layer2, n_segment)


def input_channels(net: nn.Module) -> int:
    """Input channels of the first convolution in `net`; 0 if it has none."""
    return next((m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d)), 0)


def shift_layers(model: nn.Module) -> Iterator[tuple[str, int, int]]:
    """(name, channels, channels moved in each direction) of every shift in the model."""
    for name, module in model.named_modules():
        if isinstance(module, TemporalShift):
            yield name, module.channels, module.channels // module.fold_div
