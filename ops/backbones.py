"""The image networks that a TSN can be built on. To add one: its module in archs/, unless torchvision has it, and a row."""
from dataclasses import dataclass
from typing import Callable, Mapping

import torch
import torchvision
from torch import Tensor, nn

from archs import bn_inception, mobilenet_v2, regnet
from ops.common.errors import UserError
from ops.shift_places import BlockPlaces, BNInceptionPlaces, ResNetPlaces, ShiftPlaces

# RGB, 0-1 (the torchvision models' own numbers).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Public weights of the network that the TSN code trained from; torchvision has none.
BNINCEPTION_URL = "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth"

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Backbone:
    """What the rest of the code must know about an image network.

    build: makes it with random weights and 1000 classes. head: name of its classifier, a Linear. weights_url: of its
    ImageNet weights. shift: where and how it can shift. mean, std, color, value_range: of its input, see
    `ops.data.preprocessing.Preprocessing`. stages: whether it has a ResNet's layer1 to layer4, which non-local blocks
    and the temporal pool need. convert: the keys of `weights_url` to the network's own, which it leaves as they are.
    """
    build: Callable[[], nn.Module]
    head: str
    weights_url: str
    shift: ShiftPlaces
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: str = "RGB"
    value_range: float = 1.0
    stages: bool = False
    convert: Callable[[Weights], Weights] = dict

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
    if "features.1.conv.0.weight" in weights:  # our names
        return weights
    head = {"classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}
    fits = all(key in weights and weights[key].shape == value.shape for key, value in head.items())
    theirs = "features.1.conv.0.0.weight" in weights
    return mobilenet_v2.from_torchvision({**weights, **head} if theirs and not fits else weights)


def _resnet(name: str) -> Backbone:
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1  # type: ignore[attr-defined]
    return Backbone(lambda: torchvision.models.get_model(name, weights=None), "fc", weights.url, ResNetPlaces(), stages=True)


BACKBONES: dict[str, Backbone] = {
    **{name: _resnet(name) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
    "mobilenetv2": Backbone(
        mobilenet_v2.mobilenet_v2, "classifier", torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.url,
        BlockPlaces(mobilenet_v2.is_expanded_residual, "conv.0"), convert=_from_torchvision),
    "regnety400mf": Backbone(
        regnet.regnet_y_400mf, "fc", torchvision.models.RegNet_Y_400MF_Weights.IMAGENET1K_V1.url,
        BlockPlaces(regnet.is_block, "f.a.0")),
    "BNInception": Backbone(
        bn_inception.bninception, "fc", BNINCEPTION_URL, BNInceptionPlaces(), mean=bn_inception.INPUT_MEAN,
        std=bn_inception.INPUT_STD, color=bn_inception.INPUT_SPACE, value_range=bn_inception.INPUT_RANGE[1],
        convert=_from_caffe),
}
HEADS = tuple(sorted({backbone.head for backbone in BACKBONES.values()}))


def find_backbone(arch: str) -> Backbone:
    """The backbone called `arch`; UserError with the allowed names otherwise."""
    if arch not in BACKBONES:
        raise UserError(f"arch {arch!r}: choose one of {', '.join(BACKBONES)}", "arch")
    return BACKBONES[arch]
