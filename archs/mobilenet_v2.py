"""MobileNetV2 (arXiv:1801.04381) with the state-dict keys of the published TSM weights.

Input: RGB in 0-1, normalized by mean 0.485/0.456/0.406 and std 0.229/0.224/0.225. At `width_mult` 1, keys and shapes are
the published ones. Other widths round channels as torchvision does, so its weights fit there too.
"""
from typing import Iterator, Mapping

import torch
from torch import Tensor, nn

# One row per stage: expansion, output channels at width 1, blocks, stride of the first block (table 2).
STAGES: tuple[tuple[int, int, int, int], ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280

# torchvision's names of the layers at index i of our `InvertedResidual.conv`. Ours is flat (activations have an index
# too); torchvision nests convolution, norm and activation.
_TORCHVISION_PLAIN = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
_TORCHVISION_EXPANDED = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and never more than 10% below `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def inverted_residuals(width_mult: float = 1.0) -> Iterator[tuple[int, int, int, int]]:
    """(in channels, out channels, stride, expansion) of each of the 17 blocks, from the image to the classifier."""
    channels = round_channels(STEM_CHANNELS * width_mult)
    for expansion, width, blocks, first_stride in STAGES:
        out_channels = round_channels(width * width_mult)
        for index in range(blocks):
            yield channels, out_channels, first_stride if index == 0 else 1, expansion
            channels = out_channels


def _conv_norm(inp: int, oup: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inp, oup, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(oup)]


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), project without activation (1x1).

    `use_res_connect`: whether the input is added to the output, which needs equal shapes. `conv`: the flat list of
    layers, 8 in blocks with expansion, whose `conv[0]` TSM shifts.
    """

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: float) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"InvertedResidual: stride {stride}: choose 1 or 2")
        self.stride = stride
        self.use_res_connect = stride == 1 and inp == oup
        hidden = int(round(inp * expand_ratio))
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers += _conv_norm(inp, hidden, 1) + [nn.ReLU6(inplace=True)]
        layers += _conv_norm(hidden, hidden, 3, stride, groups=hidden) + [nn.ReLU6(inplace=True)]
        layers += _conv_norm(hidden, oup, 1)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


def is_expanded_residual(module: nn.Module) -> bool:
    """Whether a module is one of the blocks that TSM shifts: with a shortcut and an expansion."""
    return isinstance(module, InvertedResidual) and module.use_res_connect and len(module.conv) == 8


class MobileNetV2(nn.Module):
    """Images (N, 3, H, W) of any size in, scores (N, n_class) out.

    `input_size` changes nothing, because the last pooling adapts; the published class takes it.
    """

    def __init__(self, n_class: int = 1000, input_size: int = 224, width_mult: float = 1.0) -> None:
        super().__init__()
        if width_mult <= 0:
            raise ValueError(f"MobileNetV2: width_mult {width_mult}: must be above 0")
        self.input_size = input_size
        self.last_channel = round_channels(LAST_CHANNELS * max(1.0, width_mult))
        plan = list(inverted_residuals(width_mult))
        stem = nn.Sequential(*_conv_norm(3, plan[0][0], 3, stride=2), nn.ReLU6(inplace=True))
        top = nn.Sequential(*_conv_norm(plan[-1][1], self.last_channel, 1), nn.ReLU6(inplace=True))
        self.features = nn.Sequential(stem, *(InvertedResidual(*row) for row in plan), top)
        self.classifier = nn.Linear(self.last_channel, n_class)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)  # (N, last_channel, H/32, W/32)
        return self.classifier(features.mean((2, 3)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


def mobilenet_v2(pretrained: bool = False, n_class: int = 1000, input_size: int = 224,
                 width_mult: float = 1.0) -> MobileNetV2:
    """MobileNetV2 from random weights. Raises ValueError for `pretrained`: architectures load no files."""
    if pretrained:
        raise ValueError("mobilenet_v2(pretrained=True): archs/ holds no weights and downloads none; "
                         "use --pretrain imagenet, or load torchvision's file through from_torchvision()")
    return MobileNetV2(n_class, input_size, width_mult)


def from_torchvision(state_dict: Mapping[str, Tensor], width_mult: float = 1.0) -> dict[str, Tensor]:
    """torchvision's MobileNetV2 weights under our keys, in our order; the tensors are shared, not copied.

    The number of classes is the file's. Raises ValueError with the first keys or shapes that do not fit if
    `state_dict` is not exactly torchvision's MobileNetV2 of this width.
    """
    if "classifier.1.weight" not in state_dict:
        raise ValueError("these are not torchvision's MobileNetV2 weights: missing: classifier.1.weight")
    with torch.device("meta"):  # shapes without memory
        ours = MobileNetV2(state_dict["classifier.1.weight"].shape[0], width_mult=width_mult).state_dict()
    theirs = {key: _torchvision_key(key) for key in ours}
    _compare(state_dict, {theirs[key]: value.shape for key, value in ours.items()}, width_mult)
    # Files older than torch 0.4.1 have no batch counters; ours start at 0, and eval mode never reads them.
    return {key: state_dict.get(theirs[key], torch.zeros((), dtype=torch.long)) for key in ours}


def _torchvision_key(key: str) -> str:
    """`features.2.conv.3.weight` -> `features.2.conv.1.0.weight`, and so on."""
    parts = key.split(".")
    if parts[0] == "classifier":
        parts[0] = "classifier.1"
    elif parts[2] == "conv":
        table = _TORCHVISION_PLAIN if parts[1] == "1" else _TORCHVISION_EXPANDED
        parts[3] = table[parts[3]]
    return ".".join(parts)


def _compare(got: Mapping[str, Tensor], expected: Mapping[str, torch.Size], width_mult: float) -> None:
    missing = [key for key in expected if key not in got and not key.endswith("num_batches_tracked")]
    unknown = [key for key in got if key not in expected]
    shapes = [f"{key} {tuple(got[key].shape)} instead of {tuple(shape)}"
              for key, shape in expected.items() if key in got and got[key].shape != shape]
    for what, keys in (("missing", missing), ("unknown", unknown), ("wrong shape", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(f"these are not torchvision's MobileNetV2 weights of width {width_mult}: "
                             f"{what}: {', '.join(keys[:3])}{more}")
