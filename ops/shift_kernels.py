"""Triton kernels of a 1x1 convolution behind the temporal shift, in which the shift is nothing but address arithmetic.

Channels last, a batch of frames is a matrix of M = N*T*H*W rows (pixels) and C columns (channels), and a 1x1 convolution
is its product with the weights. The shift reads the columns of a fold from the same pixel of a neighbouring frame, H*W rows
further on, so the product reads them there: the shifted tensor never exists. Called through `ops.shift_conv`. The tiles are
those that measured best on an H100 (docs/performance.md).
"""
from typing import Optional

import torch
import triton
import triton.language as tl
from torch import Tensor

from ops.shift_moves import Shift

# Rows, columns and depth of a tile, warps and stages of a program.
Tile = tuple[int, int, int, int, int]


@triton.jit
def _offset(channel, FOLD: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """From which frame, relative to their own, these channels come."""
    return tl.where(channel < FOLD, FIRST, tl.where(channel < 2 * FOLD, SECOND, 0))


@triton.jit
def _load_shifted(x, row, time, offset, channel, rows_in_all, channels, pixels, frames):
    """These rows and channels of shifted frames. offset: of the channels, (1, channels) or a single number."""
    source_time = time[:, None] + offset
    source = (row[:, None] + offset * pixels).to(tl.int64)
    inside = (row < rows_in_all)[:, None] & (source_time >= 0) & (source_time < frames) & (channel < channels)[None, :]
    return tl.load(x + source * channels + channel[None, :], mask=inside, other=0.0)


@triton.jit
def _forward(x, weight, y, rows_in_all, channels, outputs, pixels, frames,
             FOLD: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
             ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """y[m, o] = sum over c of shifted x[m, c] * weight[o, c]."""
    tiles = tl.cdiv(outputs, COLUMNS)  # those of the same rows run one after another and share x in the cache
    row = (tl.program_id(0) // tiles) * ROWS + tl.arange(0, ROWS)
    output = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    time = (row // pixels) % frames
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, channels, DEPTH):
        channel = start + tl.arange(0, DEPTH)
        if FOLD % DEPTH == 0:  # no block crosses the end of a fold
            offset = _offset(start, FOLD, FIRST, SECOND)
        else:
            offset = _offset(channel, FOLD, FIRST, SECOND)[None, :]
        a = _load_shifted(x, row, time, offset, channel, rows_in_all, channels, pixels, frames)
        b = tl.load(weight + output[None, :] * channels + channel[:, None],
                    mask=(output < outputs)[None, :] & (channel < channels)[:, None], other=0.0)
        total = tl.dot(a, b, total)
    tl.store(y + row.to(tl.int64)[:, None] * outputs + output[None, :], total.to(y.dtype.element_ty),
             mask=(row < rows_in_all)[:, None] & (output < outputs)[None, :])


@triton.jit
def _input_gradient(dy, weight, dx, rows_in_all, channels, outputs, pixels, frames, wanted,
                    FOLD: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
                    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """The first `wanted` channels of dx: the sum over o of dy[m, o] * weight[o, c], stored where the forward pass had read.

    A pixel that had read past the end of its clip stores a zero instead, in the frame at the other end, whose channels
    nobody had read. So every element is written once.
    """
    tiles = tl.cdiv(wanted, COLUMNS)
    row = (tl.program_id(0) // tiles) * ROWS + tl.arange(0, ROWS)
    start = (tl.program_id(0) % tiles) * COLUMNS
    channel = start + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, outputs, DEPTH):
        output = first + tl.arange(0, DEPTH)
        a = tl.load(dy + row.to(tl.int64)[:, None] * outputs + output[None, :],
                    mask=(row < rows_in_all)[:, None] & (output < outputs)[None, :], other=0.0)
        b = tl.load(weight + output[:, None] * channels + channel[None, :],
                    mask=(output < outputs)[:, None] & (channel < wanted)[None, :], other=0.0)
        total = tl.dot(a, b, total)
    if FOLD % COLUMNS == 0:
        offset = _offset(start, FOLD, FIRST, SECOND)
    else:
        offset = _offset(channel, FOLD, FIRST, SECOND)[None, :]
    source_time = ((row // pixels) % frames)[:, None] + offset
    read = (source_time >= 0) & (source_time < frames)
    target = row[:, None] + tl.where(read, offset, -offset * (frames - 1)) * pixels
    tl.store(dx + target.to(tl.int64) * channels + channel[None, :],
             tl.where(read, total, 0.0).to(dx.dtype.element_ty),
             mask=(row < rows_in_all)[:, None] & (channel < wanted)[None, :])


@triton.jit
def _weight_gradient(dy, x, parts, rows_in_all, channels, outputs, pixels, frames, rows_per_part,
                     FOLD: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
                     ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """parts[p, o, c] = sum over the rows m of part p of dy[m, o] * shifted x[m, c], DEPTH rows at a time."""
    output = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    start = tl.program_id(1) * COLUMNS
    channel = start + tl.arange(0, COLUMNS)
    if FOLD % COLUMNS == 0:
        offset = _offset(start, FOLD, FIRST, SECOND)
    else:
        offset = _offset(channel, FOLD, FIRST, SECOND)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    begin = tl.program_id(2) * rows_per_part
    for first in range(begin, begin + rows_per_part, DEPTH):
        row = first + tl.arange(0, DEPTH)
        a = tl.load(dy + row.to(tl.int64)[:, None] * outputs + output[None, :],
                    mask=(row < rows_in_all)[:, None] & (output < outputs)[None, :], other=0.0)
        b = _load_shifted(x, row, (row // pixels) % frames, offset, channel, rows_in_all, channels, pixels, frames)
        total = tl.dot(tl.trans(a), b, total)
    part = parts + tl.program_id(2).to(tl.int64) * outputs * channels
    tl.store(part + output[:, None] * channels + channel[None, :], total,
             mask=(output < outputs)[:, None] & (channel < channels)[None, :])


def forward(x: Tensor, weight: Tensor, shift: Shift, tile: Optional[Tile] = None) -> Tensor:
    """x: (N*T, C, H, W), channels last. weight: (O, C, 1, 1). Returns (N*T, O, H, W), channels last."""
    outputs = len(weight)
    rows, columns, depth, warps, stages = tile or ((128, 64, 64, 4, 3) if outputs <= 64 else (128, 128, 64, 8, 3))
    y = _empty_like(x, outputs)
    sizes = _sizes(x, weight, shift)
    grid = (triton.cdiv(sizes[0], rows) * triton.cdiv(outputs, columns),)
    _forward[grid](x, weight, y, *sizes, FOLD=shift.fold, FIRST=shift.first, SECOND=shift.second, ROWS=rows,
                   COLUMNS=columns, DEPTH=depth, num_warps=warps, num_stages=stages)
    return y


def input_gradient(dy: Tensor, weight: Tensor, shift: Shift, tile: Optional[Tile] = None,
                   split: Optional[bool] = None) -> Tensor:
    """The gradient of `forward` for its x, given that of its result.

    split: leave the channels that stay to PyTorch's matrix product, which is the faster one for wide layers (default: for
    those of 512 channels or more).
    """
    outputs, channels = weight.shape[:2]
    rows, columns, depth, warps, stages = tile or (128, 64, 32, 4, 3)
    dx = _empty_like(dy, channels)
    wanted = channels
    if split or split is None and channels >= 512:
        wanted = 2 * shift.fold
        torch.mm(_matrix(dy), weight[:, wanted:, 0, 0], out=_matrix(dx)[:, wanted:])
    sizes = _sizes(dy, weight, shift)
    grid = (triton.cdiv(sizes[0], rows) * triton.cdiv(wanted, columns),)
    _input_gradient[grid](dy, weight, dx, *sizes, wanted, FOLD=shift.fold, FIRST=shift.first, SECOND=shift.second,
                          ROWS=rows, COLUMNS=columns, DEPTH=depth, num_warps=warps, num_stages=stages)
    return dx


def weight_gradient(dy: Tensor, x: Tensor, shift: Shift, tile: Optional[Tile] = None, waves: int = 2) -> Tensor:
    """The gradient of `forward` for its weight (O, C, 1, 1), in x's dtype, given that of its result.

    The rows are divided into parts, so that all multiprocessors have work, `waves` programs each; the sums of the parts are
    added in a fixed order.
    """
    outputs, channels = dy.shape[1], x.shape[1]
    rows, columns, depth, warps, stages = tile or ((64, 128, 64, 4, 3) if outputs <= 64 else (128, 128, 64, 8, 3))
    weight = torch.empty((outputs, channels, 1, 1), dtype=x.dtype, device=x.device)
    sizes = _sizes(x, weight, shift)
    tiles = triton.cdiv(outputs, rows), triton.cdiv(channels, columns)
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 2
    count = max(1, min(waves * processors // (tiles[0] * tiles[1]), triton.cdiv(sizes[0], 8 * depth)))
    rows_per_part = triton.cdiv(triton.cdiv(sizes[0], count), depth) * depth
    count = triton.cdiv(sizes[0], rows_per_part)
    parts = torch.empty((count, outputs, channels), dtype=torch.float32, device=x.device)
    grid = (*tiles, count)
    _weight_gradient[grid](
        dy, x, parts, *sizes, rows_per_part, FOLD=shift.fold, FIRST=shift.first, SECOND=shift.second, ROWS=rows,
        COLUMNS=columns, DEPTH=depth, num_warps=warps, num_stages=stages)
    weight[:, :, 0, 0] = parts.sum(0)
    return weight


def _empty_like(x: Tensor, channels: int) -> Tensor:
    """A tensor of x's frames with another number of channels, channels last."""
    return torch.empty((len(x), channels, *x.shape[2:]), dtype=x.dtype, device=x.device,
                       memory_format=torch.channels_last)


def _matrix(x: Tensor) -> Tensor:
    """(N*T, C, H, W), channels last -> (N*T*H*W, C), in the same memory."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _sizes(x: Tensor, weight: Tensor, shift: Shift) -> tuple[int, int, int, int, int]:
    """(rows, channels, outputs, pixels of a frame, frames of a clip)"""
    pixels = x.shape[2] * x.shape[3]
    return len(x) * pixels, weight.shape[1], weight.shape[0], pixels, shift.n_segment
