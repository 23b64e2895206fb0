"""Non-local blocks (arXiv:1711.07971) for ResNets that see a clip as a batch of frames.

In a block, every position of a clip, in space and time, attends to every other: z_i = x_i + W(sum_j w(x_i, x_j) g(x_j)).
Keys are the published ones (`nl.g.0`, `nl.W.0`, `nl.W.1`, `nl.theta`, `nl.phi.0`). The batch norm in W starts at zero, so
a new block does not change the network's output.
"""
import math
from typing import Sequence, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet

from ops.common.choices import NON_LOCAL_TYPES
from ops.common.errors import UserError

# Blocks per stage at most: 2 in layer2 and 3 in layer3, the paper's "5-block" network (sec. 5.1).
_STAGES = (("layer2", 2), ("layer3", 3))


class SubSample(nn.Module):
    """Max pool of 2x2 in space (sec. 3.3): a quarter of the positions to attend to. A side of 1 stays 1."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return F.max_pool3d(x, (1, min(2, height), min(2, width)))


class NonLocalBlock3D(nn.Module):
    """x: (N, C, T, H, W) -> the same shape.

    non_local_type: the weights w of positions j for position i. embedded_gaussian: softmax over j of
    theta(x_i).phi(x_j), with theta and phi linear maps to C/2 channels; gaussian: softmax over j of x_i.x_j;
    dot_product: theta(x_i).phi(x_j) / (number of positions j). The positions j are sub-sampled in space.
    """

    def __init__(self, in_channels: int, non_local_type: str = "embedded_gaussian") -> None:
        super().__init__()
        if non_local_type not in NON_LOCAL_TYPES:
            raise UserError(f"non_local_type {non_local_type!r}: choose {' or '.join(NON_LOCAL_TYPES)}", "non_local_type")
        self.non_local_type = non_local_type
        inner = max(1, in_channels // 2)
        self.g = nn.Sequential(nn.Conv3d(in_channels, inner, 1), SubSample())
        norm = nn.BatchNorm3d(in_channels)
        nn.init.zeros_(norm.weight)
        self.W = nn.Sequential(nn.Conv3d(inner, in_channels, 1), norm)
        if non_local_type == "gaussian":
            self.theta: nn.Module = nn.Identity()
            self.phi: nn.Module = SubSample()
        else:
            self.theta = nn.Conv3d(in_channels, inner, 1)
            self.phi = nn.Sequential(nn.Conv3d(in_channels, inner, 1), SubSample())

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (_positions(branch(x)) for branch in (self.theta, self.phi, self.g))
        if self.non_local_type == "dot_product":
            # (theta phi^T) g = theta (phi^T g): without softmax, the small product can come first. Dividing before the
            # sum over positions keeps it within float16.
            y = theta @ (phi.transpose(1, 2) @ (g / g.shape[1]))
        elif self.training or g.dtype in (torch.float16, torch.bfloat16):
            y = _fused_attention(theta, phi, g)
        else:
            # published behaviour: this order of operations gives the published float32 outputs to the last bit.
            y = (theta @ phi.transpose(1, 2)).softmax(-1) @ g
        y = y.transpose(1, 2).contiguous().unflatten(2, x.shape[2:])  # (N, C/2, T, H, W)
        return x + self.W(y)


def _positions(x: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N, T*H*W, C)."""
    return x.flatten(2).transpose(1, 2)


def _fused_attention(theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
    """softmax(theta phi^T) g without keeping the matrix of all pairs.

    torch's fused kernels need contiguous (N, heads, positions, channels). Where none applies (on a CPU, the unequal
    widths of "gaussian"), torch computes the matrix after all.
    """
    query, key, value = (part.contiguous().unsqueeze(1) for part in (theta, phi, g))
    y = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # not divided by sqrt(channels)
    return y.squeeze(1)


class NL3DWrapper(nn.Module):
    """A ResNet block, then a non-local block over the clips of its frames.

    x: (N*T, C, H, W), the T = n_segment frames of a clip adjacent. The output has the shape of the ResNet block's.
    Raises ValueError if T does not divide the batch.
    """

    def __init__(self, block: nn.Module, n_segment: int, non_local_type: str = "embedded_gaussian") -> None:
        super().__init__()
        self.block = block
        self.nl = NonLocalBlock3D(out_channels(block), non_local_type)
        self.n_segment = n_segment

    def forward(self, x: Tensor) -> Tensor:
        frames = self.block(x)
        if frames.shape[0] % self.n_segment:
            raise ValueError(f"{frames.shape[0]} frames do not divide into clips of {self.n_segment}: the"
                             " batch of a non-local block must hold whole clips of n_segment frames")
        clips = frames.unflatten(0, (-1, self.n_segment)).transpose(1, 2)  # (N, C, T, H, W)
        return self.nl(clips).transpose(1, 2).flatten(0, 1)


def out_channels(block: nn.Module) -> int:
    """Output channels of a torchvision ResNet block, inside a `TemporalShift` or not."""
    while isinstance(getattr(block, "net", None), nn.Module):
        block = block.net  # type: ignore[assignment]
    last_norm = getattr(block, "bn3", None) or getattr(block, "bn2", None)
    if last_norm is None:
        raise ValueError(f"{type(block).__name__} is not a ResNet block, or has its non-local block already")
    return last_norm.num_features


def non_local_places(num_blocks: int, at_most: int) -> list[int]:
    """The blocks of a stage that get a non-local block: spread evenly from the first on, never two in a row.

    (4, 2) -> 0, 2 and (6, 3) -> 0, 2, 4, the published places in ResNet-50.
    """
    count = min(at_most, (num_blocks + 1) // 2)
    return [math.ceil(index * num_blocks / count) for index in range(count)]


def make_non_local(net: nn.Module, n_segment: Union[int, Sequence[int]],
                   non_local_type: str = "embedded_gaussian") -> list[str]:
    """Add non-local blocks to layer2 and layer3 of a torchvision ResNet, in place.

    n_segment: frames per clip, or four numbers for layer1 to layer4 (a temporal pool halves T in between). Blocks inside
    a `TemporalShift` and stages inside a `TemporalPool` keep them.
    ResNet-34 and 50: blocks 0, 2 of layer2 and 0, 2, 4 of layer3; ResNet-18: 0 and 0; ResNet-101: 0, 2 and
    0, 8, 16; ResNet-152: 0, 4 and 0, 12, 24. Returns their names ("layer2.0", ...).
    """
    if not isinstance(net, ResNet):
        raise UserError(f"non_local works on ResNets, not on {type(net).__name__}: leave it out", "non_local")
    segments = _per_layer(n_segment)
    names = []
    for stage_name, at_most in _STAGES:
        stage = _stage(net, stage_name)
        for index in non_local_places(len(stage), at_most):
            layer_segments = segments[int(stage_name[-1]) - 1]
            stage[index] = NL3DWrapper(stage[index], layer_segments, non_local_type)
            names.append(f"{stage_name}.{index}")
    return names


def _per_layer(n_segment: Union[int, Sequence[int]]) -> tuple[int, ...]:
    segments = (n_segment,) * 4 if isinstance(n_segment, int) else tuple(n_segment)
    if len(segments) != 4 or min(segments) < 1:
        raise ValueError(f"n_segment {n_segment}: one number of frames above 0, or four (layer1 to layer4)")
    return segments


def _stage(net: ResNet, name: str) -> nn.Sequential:
    """The blocks of a stage, which may be inside a wrapper such as TemporalPool."""
    stage = getattr(net, name)
    while not isinstance(stage, nn.Sequential):
        stage = stage.net
    return stage
