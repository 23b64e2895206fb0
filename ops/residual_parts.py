"""Residual blocks whose stream travels in two parts, so that a temporal shift moves little.

As an operation of its own, a shift reads and writes a whole tensor to change a quarter of it. Here the stream between blocks
consists of two tensors, its *parts*: the channels that the shifts move, and the rest. The convolution that ends a block is
cut by output channels and gives one tensor per part; the one that begins the next block is cut by input channels, and its
results are added up, which runtimes do within the second convolution. Only the small part is ever moved.
"""
from typing import Callable, Iterable, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ops.folding import replace

Parts = tuple[Tensor, ...]
LANES = 16  # runtimes process channels in vectors; parts that do not fill them cost more than they save


class Mover(nn.Module):
    """Moves the first `channels` of a stream: (B, channels, H, W) -> the same shape. What a shift does, without the rest."""
    channels: int


MakeMover = Callable[[nn.Module], Optional[Mover]]


# ---- blocks --------------------------------------------------------------------------------------------------

class Block(NamedTuple):
    """What a residual block computes, its norms folded: x -> activation(last(middle(first(x))) + shortcut(x)).

    first: a convolution, or a shift with `net`, a convolution. shortcut: a convolution or an identity.
    """
    first: nn.Module
    middle: nn.Module
    last: nn.Conv2d
    shortcut: nn.Module
    activation: nn.Module

    def first_conv(self) -> nn.Conv2d:
        """`first` without its shift."""
        conv = self.first if isinstance(self.first, nn.Conv2d) else self.first.net
        assert isinstance(conv, nn.Conv2d)
        return conv


def _bottleneck(block: Bottleneck) -> Block:
    middle = nn.Sequential(block.relu, block.conv2, block.relu)
    return Block(block.conv1, middle, block.conv3, _shortcut(block), block.relu)


def _basic(block: BasicBlock) -> Block:
    return Block(block.conv1, block.relu, block.conv2, _shortcut(block), block.relu)


def _shortcut(block: nn.Module) -> nn.Module:
    return block.downsample[0] if isinstance(block.downsample, nn.Sequential) else nn.Identity()


# How a type of block is read. Blocks of other types keep their form, with whole tensors in and out.
READERS: dict[type, Callable[..., Block]] = {Bottleneck: _bottleneck, BasicBlock: _basic}


# ---- parts ---------------------------------------------------------------------------------------------------

class CutConv(nn.Module):
    """A convolution on parts: inputs and outputs are the channels of the parts in front of it and behind it."""

    def __init__(self, conv: nn.Conv2d, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        assert conv.groups == 1 and sum(inputs) == conv.in_channels and sum(outputs) == conv.out_channels
        biases = [None] * len(outputs) if conv.bias is None else conv.bias.split(list(outputs))
        self.rows = nn.ModuleList(
            nn.ModuleList(_with_weights(conv, weight, None if column else bias)  # the bias is added once
                          for column, weight in enumerate(row.split(list(inputs), dim=1)))
            for row, bias in zip(conv.weight.split(list(outputs)), biases))

    def forward(self, parts: Parts) -> Parts:
        return tuple(_sum(conv(part) for conv, part in zip(row, parts)) for row in self.rows)  # type: ignore


def _with_weights(conv: nn.Conv2d, weight: Tensor, bias: Optional[Tensor]) -> nn.Conv2d:
    """A convolution like `conv` with a part of its weights."""
    part = nn.Conv2d(weight.shape[1], weight.shape[0], conv.kernel_size, conv.stride, conv.padding,  # type: ignore
                     conv.dilation, bias=bias is not None, device="meta")  # type: ignore
    part.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        part.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return part


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """The sum, in the memory of the first."""
    total, *others = terms
    for term in others:
        total += term
    return total


class PartsBlock(nn.Module):
    """A `Block` on parts, which have `inputs` channels in front of it and `outputs` behind it.

    mover: of the shift in front of the first convolution, if there is one and it moves a part.
    """

    def __init__(self, block: Block, inputs: Sequence[int], outputs: Sequence[int], mover: Optional[Mover]) -> None:
        super().__init__()
        first = block.first_conv()
        self.mover = mover
        # Without a mover, a shift stays where it is, in front of the convolution, and its input is whole.
        self.first = (CutConv(first, inputs, [first.out_channels]) if mover is not None or first is block.first
                      else Whole(block.first))
        self.middle = block.middle
        self.last = CutConv(block.last, [block.last.in_channels], outputs)
        self.shortcut = CutConv(block.shortcut, inputs, outputs) if isinstance(block.shortcut, nn.Conv2d) else None
        self.activation = block.activation

    def forward(self, parts: Parts) -> Parts:
        moved = parts if self.mover is None else (self.mover(parts[0]), *parts[1:])
        hidden, = self.first(moved)
        out = self.last((self.middle(hidden),))
        shortcut = parts if self.shortcut is None else self.shortcut(parts)
        return tuple(self.activation(_sum(pair)) for pair in zip(out, shortcut))


class Whole(nn.Module):
    """`net` on a stream of a single part."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, parts: Parts) -> Parts:
        x, = parts
        return (self.net(x),)


class Split(nn.Module):
    """A whole stream into parts of `channels`."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)

    def forward(self, x: Tensor) -> Parts:
        return tuple(x.split(self.channels, dim=1)) if len(self.channels) > 1 else (x,)


class Join(nn.Module):
    """Parts into a whole stream."""

    def forward(self, parts: Parts) -> Tensor:
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


# ---- surgery -------------------------------------------------------------------------------------------------

def cut_blocks(net: nn.Module, run: Callable[[], object], make_mover: MakeMover) -> None:
    """Give the residual blocks of `net` that shift, and those between them, the form on parts, in place.

    Norms must be folded. run: runs the network once, on any input. make_mover: the mover that replaces a shift; None for
    what is not a shift.
    """
    found = [(name, module) for name, module in net.named_modules() if type(module) in READERS]
    blocks = {name: READERS[type(module)](module) for name, module in found}
    for chain in _chains(net, blocks, run) if blocks else ():
        _cut_chain(net, {name: blocks[name] for name in chain}, make_mover)


def _chains(net: nn.Module, names: Iterable[str], run: Callable[[], object]) -> list[list[str]]:
    """The blocks in chains: the input of each is the very tensor that the one before it returned."""
    calls: list[tuple[str, Tensor, Tensor]] = []
    hooks = [net.get_submodule(name).register_forward_hook(
        lambda _, args, out, name=name: calls.append((name, args[0], out))) for name in names]
    run()
    for hook in hooks:
        hook.remove()
    chains: list[list[str]] = []
    for (name, x, _), before in zip(calls, (None, *calls)):
        if before is not None and x is before[2]:
            chains[-1].append(name)
        else:
            chains.append([name])
    return chains


def _cut_chain(net: nn.Module, blocks: dict[str, Block], make_mover: MakeMover) -> None:
    names, chain = list(blocks), list(blocks.values())
    movers = [make_mover(block.first) for block in chain]
    # The channels of the stream in front of each block and behind the last, and how many of them move.
    channels = [block.first_conv().in_channels for block in chain] + [chain[-1].last.out_channels]
    moving = [mover.channels if mover else 0 for mover in movers] + [0]
    for i in (*reversed(range(len(chain))), *range(len(chain))):
        if isinstance(chain[i].shortcut, nn.Identity):  # it needs the same parts in front of its block and behind it
            moving[i] = moving[i + 1] = moving[i] or moving[i + 1]
    moving = [first if first % LANES == count % LANES == 0 else 0 for first, count in zip(moving, channels)]
    if not any(moving):
        return
    movers = [mover if first else None for mover, first in zip(movers, moving)]
    parts = [[part for part in (first, count - first) if part] for first, count in zip(moving, channels)]
    for i, name in enumerate(names):
        replace(net, name, PartsBlock(chain[i], parts[i], parts[i + 1], movers[i]))
    replace(net, names[0], nn.Sequential(Split(parts[0]), net.get_submodule(names[0])))
    replace(net, names[-1], nn.Sequential(net.get_submodule(names[-1]), Join()))
