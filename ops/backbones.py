"""The image networks that a TSN can be built on. To add one: its module in archs/, unless torchvision has it, and a row.

The table itself imports neither torch nor torchvision, which takes seconds: the names of its rows are choices of flags. A
row names functions as "module:function", and they are imported when they are needed.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Callable, Iterable, Mapping

from ops.common.choices import suggestion
from ops.common.errors import UserError
from ops.shift_places import BlockPlaces, BNInceptionPlaces, ResNetPlaces, ShiftPlaces

if TYPE_CHECKING:
    from torch import Tensor, nn

    Weights = Mapping[str, Tensor]

# RGB, 0-1 (the torchvision models' own numbers).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Public weights of the network that the TSN code trained from; torchvision has none.
BNINCEPTION_URL = "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth"


@dataclass(frozen=True)
class Backbone:
    """What the rest of the code must know about an image network.

    builder: "module:function" that makes it with random weights and 1000 classes. head: name of its classifier, a Linear.
    weights: the address of its ImageNet weights, or "module:name" of that address. shift: where and how it can shift.
    mean, std, color, value_range: of its input, see `ops.data.preprocessing.Preprocessing`. stages: its parts from the
    image to the classifier, which can be frozen: name -> regular expression of the modules that the part consists of. The
    first is the stem; the numbers of those that `shift.stages` names are their places in this order.
    resnet: whether it has a ResNet's layer1 to layer4, which non-local blocks and the temporal pool need. convert: the
    keys of `weights_url` to the network's own, which it leaves as they are.
    """
    builder: str
    head: str
    weights: str
    shift: ShiftPlaces
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: str = "RGB"
    value_range: float = 1.0
    stages: Mapping[str, str] = field(default_factory=dict)
    resnet: bool = False
    convert: Callable[[Weights], Weights] = dict

    def build(self) -> nn.Module:
        """The network with random weights and 1000 classes."""
        return resolve_name(self.builder)()

    @property
    def weights_url(self) -> str:
        """The address of its ImageNet weights."""
        return self.weights if self.weights.startswith("http") else resolve_name(self.weights)

    def first_stages(self, chosen: str) -> list[str]:
        """The first stages that the option `freeze` names: their names with commas between them, or how many they are.

        "" or "0": none. UserError for other text, and for names that leave out a stage nearer to the image.
        """
        names = list(self.stages)
        count = int(chosen) if re.fullmatch("[0-9]{1,4}", chosen) else None
        given = names[:count] if count is not None else [name for name in chosen.split(",") if chosen]
        if (count or 0) > len(names) or sorted(given) != sorted(names[:len(given)]):
            raise UserError(f"freeze {chosen!r}: choose the first stages of {', '.join(names)}, by their names with commas"
                            f" between them ({','.join(names[:2])}) or by their number, 0 to {len(names)}", "freeze")
        return names[:len(given)]

    def numbered_stages(self, chosen: str) -> list[str]:
        """The names of the stages of these numbers, which have commas between them."""
        names = list(self.stages)
        return [names[int(number)] for number in chosen.split(",")]

    def in_stages(self, module: str, stages: Iterable[str]) -> bool:
        """Whether the module of this name, in the network, is in one of the stages."""
        return any(re.fullmatch(rf"({self.stages[stage]})(\..+)?", module) for stage in stages)

    @property
    def mean_color(self) -> list[float]:
        """The color that normalization maps to zero: RGB, 0-255."""
        mean = [255 / self.value_range * value for value in self.mean]
        return mean[::-1] if self.color == "BGR" else mean


def _from_caffe(weights: Weights) -> Weights:
    """BNInception's public file calls the classifier last_linear and stores norms in shape (1, C)."""
    return {key.replace("last_linear.", "fc."): value.flatten() if "_bn." in key and value.dim() else value
            for key, value in weights.items()}


def _from_torchvision(weights: Weights) -> Weights:
    """torchvision's MobileNetV2. A classifier that is absent or of another size becomes zeros: a TSN replaces it."""
    import torch

    from archs import mobilenet_v2
    if "features.1.conv.0.weight" in weights:  # our names
        return weights
    head = {"classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}
    fits = all(key in weights and weights[key].shape == value.shape for key, value in head.items())
    theirs = "features.1.conv.0.0.weight" in weights
    return mobilenet_v2.from_torchvision({**weights, **head} if theirs and not fits else weights)


def _resnet(name: str) -> Backbone:
    weights = f"torchvision.models:{name.replace('resnet', 'ResNet')}_Weights.IMAGENET1K_V1.url"
    stages = {"stem": "conv1|bn1", **{f"layer{i}": f"layer{i}" for i in range(1, 5)}}
    return Backbone(f"torchvision.models:{name}", "fc", weights, ResNetPlaces(), stages=stages, resnet=True)


# By the index of the layers in `features`: the rows of archs.mobilenet_v2.STAGES, and the convolution behind them.
_MOBILENET_STAGES = {"stem": "0", "stage1": "1", "stage2": "[23]", "stage3": "[456]", "stage4": "7|8|9|10",
                     "stage5": "11|12|13", "stage6": "14|15|16", "stage7": "17", "top": "18"}


BACKBONES: dict[str, Backbone] = {
    **{name: _resnet(name) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
    "mobilenetv2": Backbone(
        "archs.mobilenet_v2:mobilenet_v2", "classifier", "torchvision.models:MobileNet_V2_Weights.IMAGENET1K_V1.url",
        BlockPlaces("archs.mobilenet_v2:is_expanded_residual", "conv.0", stages=(2, 3, 4, 5, 6)), convert=_from_torchvision,
        stages={name: rf"features\.({indices})" for name, indices in _MOBILENET_STAGES.items()}),
    "regnety400mf": Backbone(
        "archs.regnet:regnet_y_400mf", "fc", "torchvision.models:RegNet_Y_400MF_Weights.IMAGENET1K_V1.url",
        BlockPlaces("archs.regnet:is_block", "f.a.0", stages=(1, 2, 3, 4)),
        stages={"stem": "stem", **{f"block{i}": rf"trunk_output\.block{i}" for i in range(1, 5)}}),
    "BNInception": Backbone(
        "archs.bn_inception:bninception", "fc", BNINCEPTION_URL, BNInceptionPlaces(), mean=(104.0, 117.0, 128.0),
        std=(1.0, 1.0, 1.0), color="BGR", value_range=255.0, convert=_from_caffe,
        stages={"stem": r"conv[12]_\w+", **{f"inception_{i}": rf"inception_{i}\w+" for i in (3, 4, 5)}}),
}
HEADS = tuple(sorted({backbone.head for backbone in BACKBONES.values()}))


def find_backbone(arch: str) -> Backbone:
    """The backbone called `arch`; UserError with the allowed names otherwise."""
    if arch not in BACKBONES:
        raise UserError(f"arch {arch!r}: choose one of {', '.join(BACKBONES)}{suggestion(arch, BACKBONES)}", "arch")
    return BACKBONES[arch]
