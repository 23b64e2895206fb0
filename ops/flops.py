"""Count a model's parameters and multiply-adds, without its weights and without computing anything.

One multiply-add counts as 1; the papers' tables call it a FLOP. Counted are convolutions, linear layers and matrix
products (the attention of non-local blocks). Batch norm, activations, pooling, biases and the consensus are not counted;
the temporal shift multiplies and adds nothing.
"""
from typing import Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from ops.models import TSN

COUNTED = "convolutions, linear layers and the matrix products of non-local blocks"


def count_parameters(model: nn.Module) -> int:
    """The number of learned scalars, so without batch norm's running statistics."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-adds of one forward pass in eval mode, for an input of this shape.

    The pass runs on shapes alone (torch's meta device) and leaves the model unchanged. Raises what the model's forward
    raises for a shape that does not fit.
    """
    meta = {name: torch.empty_like(value, device="meta")
            for name, value in [*model.named_parameters(), *model.named_buffers()]}
    dtype = next((value.dtype for value in meta.values() if value.is_floating_point()), torch.float32)
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:  # one by one, so that the modes can be restored
            module.training = False
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(model, meta, (torch.empty(tuple(input_shape), dtype=dtype, device="meta"),))
    finally:
        for module in training:
            module.training = True
    return int(counter.get_total_flops()) // 2


def view_shape(model: TSN, size: int) -> tuple[int, int, int, int]:
    """Shape of one view, a clip of T segments in one crop of size x size pixels: (1, T*C, size, size)."""
    return 1, model.spec.clip_channels, size, size


def gflops_per_view(model: TSN, size: int) -> float:
    """Multiply-adds of one view of size x size pixels, in 10^9."""
    return count_multiply_adds(model, view_shape(model, size)) / 1e9
