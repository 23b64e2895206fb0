"""BN-Inception (arXiv:1502.03167) with the state-dict keys of the published TSM and TSN weights.

Every layer is a direct child named `inception_<block>_<layer>`; a table of widths gives the names in the published
order. Input: **BGR** in 0-255, minus the mean 104/117/128, not scaled. A caller inserts shifts at the points
that `SHIFT_POINTS` lists: this file knows nothing of time.
"""
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(NamedTuple):
    """Widths of one inception block: four branches of the same input, concatenated in this order.

    `one` and `proj` are 0 in blocks that halve the image: they have no 1x1 branch and do not project the pooled input.
    """

    name: str
    one: int  # 1x1
    three: tuple[int, int]  # 1x1 reduce, 3x3
    double: tuple[int, int]  # 1x1 reduce, two 3x3 of the same width
    pool: str  # avg, or max
    proj: int  # 1x1 after the pool

    @property
    def stride(self) -> int:
        return 1 if self.one else 2

    def out_channels(self, in_channels: int) -> int:
        return self.one + self.three[1] + self.double[1] + (self.proj or in_channels)


BLOCKS = (
    Block("3a", 64, (64, 64), (64, 96), "avg", 32),
    Block("3b", 64, (64, 96), (64, 96), "avg", 64),
    Block("3c", 0, (128, 160), (64, 96), "max", 0),
    Block("4a", 224, (64, 96), (96, 128), "avg", 128),
    Block("4b", 192, (96, 128), (96, 128), "avg", 128),
    Block("4c", 160, (128, 160), (128, 160), "avg", 128),
    Block("4d", 96, (128, 192), (160, 192), "avg", 128),
    Block("4e", 0, (128, 192), (192, 256), "max", 0),
    Block("5a", 352, (192, 320), (160, 224), "avg", 128),
    Block("5b", 352, (192, 320), (192, 224), "max", 128),
)

# The points whose inputs can shift, in the order of the twelve digits of a mask. The first, the image, never shifts.
SHIFT_POINTS = ("conv1", "conv2") + tuple(f"inception_{block.name}" for block in BLOCKS)


def shift_points(place: str) -> list[str]:
    """The points that the option shift_place selects: all but the first for `block`, or the 1s of a 12-digit mask.

    The first digit of a mask always counts as 0. Raises ValueError for anything else and for a mask that shifts nothing.
    """
    if place == "blockres":
        raise ValueError("shift_place 'blockres' does not work on BNInception, whose blocks change the shape of "
                         "their input: choose block or a 12-digit mask of 0 and 1")
    mask = "1" * len(SHIFT_POINTS) if place == "block" else place
    if len(mask) != len(SHIFT_POINTS) or set(mask) - {"0", "1"}:
        raise ValueError(f"shift_place {place!r}: choose block or a 12-digit mask of 0 and 1 (BNInception)")
    points = [point for point, digit in zip(SHIFT_POINTS[1:], mask[1:]) if digit == "1"]
    if not points:
        raise ValueError(f"shift_place {place!r} shifts nothing (the first digit always counts as 0): "
                         "choose block or another mask, or leave out shift")
    return points


class BNInception(nn.Module):
    """Images (N, 3, H, W) of any size in, scores (N, num_classes) out.

    `shift` holds, for each point in SHIFT_POINTS, the module that its input passes through: the identity until
    `install_shift` replaces it. `shift_channels` holds the number of channels there.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.shift_channels: dict[str, int] = {"conv1": 3, "conv2": 64}
        self._add("conv1_7x7_s2", 3, 64, kernel=7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64)
        self._add("conv2_3x3", 64, 192, kernel=3)
        channels = 192
        for block in BLOCKS:
            self.shift_channels[f"inception_{block.name}"] = channels
            self._add_block(block, channels)
            channels = block.out_channels(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.shift = nn.ModuleDict({point: nn.Identity() for point in SHIFT_POINTS})

    def _add(self, name: str, inp: int, oup: int, kernel: int = 1, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(inp, oup, kernel, stride, kernel // 2))
        # published behaviour: momentum 0.9, so the running statistics are mostly the latest batch's.
        self.add_module(f"{name}_bn", nn.BatchNorm2d(oup, momentum=0.9))

    def _add_block(self, block: Block, channels: int) -> None:
        name = f"inception_{block.name}"
        (three_reduce, three), (double_reduce, double) = block.three, block.double
        if block.one:
            self._add(f"{name}_1x1", channels, block.one)
        self._add(f"{name}_3x3_reduce", channels, three_reduce)
        self._add(f"{name}_3x3", three_reduce, three, 3, block.stride)
        self._add(f"{name}_double_3x3_reduce", channels, double_reduce)
        self._add(f"{name}_double_3x3_1", double_reduce, double, 3)
        self._add(f"{name}_double_3x3_2", double, double, 3, block.stride)
        if block.proj:
            self._add(f"{name}_pool_proj", channels, block.proj)

    def install_shift(self, place: str, make_shift: Callable[[int], nn.Module]) -> list[tuple[str, int]]:
        """Put make_shift(channels), a module without weights that keeps the shape, at the points of `place`.

        Nothing else reads a point's input, so the module may work in place. Other points become the identity again.
        Returns (point, channels) of the points that shift, in order.
        """
        points = shift_points(place)
        for point in SHIFT_POINTS:
            wanted = point in points
            self.shift[point] = make_shift(self.shift_channels[point]) if wanted else nn.Identity()
        return [(point, self.shift_channels[point]) for point in points]

    def _conv(self, name: str, x: Tensor) -> Tensor:
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)), inplace=True)

    def _block(self, block: Block, x: Tensor) -> Tensor:
        name = f"inception_{block.name}"
        branches = [self._conv(f"{name}_1x1", x)] if block.one else []
        branches.append(self._conv(f"{name}_3x3", self._conv(f"{name}_3x3_reduce", x)))
        double = self._conv(f"{name}_double_3x3_1", self._conv(f"{name}_double_3x3_reduce", x))
        branches.append(self._conv(f"{name}_double_3x3_2", double))
        pooled = _pool(x, block.pool, block.stride)
        branches.append(self._conv(f"{name}_pool_proj", pooled) if block.proj else pooled)
        return torch.cat(branches, 1)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 1024, about H/32, about W/32)."""
        x = self._conv("conv1_7x7_s2", self.shift["conv1"](x))
        x = self.shift["conv2"](F.max_pool2d(x, 3, 2, ceil_mode=True))
        x = self._conv("conv2_3x3", self._conv("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for block in BLOCKS:
            x = self._block(block, self.shift[f"inception_{block.name}"](x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def _pool(x: Tensor, kind: str, stride: int) -> Tensor:
    """The 3x3 pool of a block's last branch; its output has the size of the other branches."""
    if stride == 1:
        return F.avg_pool2d(x, 3, 1, 1) if kind == "avg" else F.max_pool2d(x, 3, 1, 1)
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        # For an odd side, the published pool gives one row or column less than the convolutions (at 224 every side is
        # even). A row or column of zeros makes up for it: x comes from ReLUs, so a zero is never the maximum.
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def bninception(num_classes: int = 1000, pretrained: Optional[str] = None) -> BNInception:
    """BNInception from random weights. Raises ValueError for `pretrained`: architectures load no files."""
    if pretrained is not None:
        raise ValueError(f"bninception(pretrained={pretrained!r}): archs/ holds no weights and downloads "
                         "none; load a file with --pretrain PATH")
    return BNInception(num_classes)
