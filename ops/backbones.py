"""The image networks that a TSN can be built on, and their ImageNet weights."""
import logging
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Optional

import torch
import torchvision
from torch import Tensor, nn

from archs import bn_inception, mobilenet_v2
from ops.common.errors import UserError
from ops.weights import check_fit, find_state_dict, read_checkpoint

log = logging.getLogger(__name__)

# RGB, 0-1 (the torchvision models' own numbers).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """What the rest of the code must know of an image network.

    last_layer: attribute of the classifier. mean, std, color, value_range: of the input, see
    `ops.data.preprocessing.Preprocessing`. default_place: the shift place unless another is named.
    """
    build: Callable[[], nn.Module]
    last_layer: str
    weights_url: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: str = "RGB"
    value_range: float = 1.0
    default_place: str = "blockres"
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict

    @property
    def mean_color(self) -> list[float]:
        """The color that normalization maps to zero: RGB, 0-255."""
        mean = [255 / self.value_range * value for value in self.mean]
        return mean[::-1] if self.color == "BGR" else mean


# Public weights of the network that the TSN code trained from; torchvision has none.
BNINCEPTION_URL = "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth"


def _from_caffe(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BNInception's public files: their classifier is called last_linear, their norms have shape (1, C)."""
    return {key.replace("last_linear.", "fc."): value.flatten() if "_bn." in key and value.dim() else value
            for key, value in weights.items()}


def _from_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's MobileNetV2 names to ours; a classifier that is absent or of another size becomes zeros, because
    a TSN replaces it."""
    head = {"classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}
    fits = all(key in weights and weights[key].shape == value.shape for key, value in head.items())
    theirs = "features.1.conv.0.0.weight" in weights
    return mobilenet_v2.from_torchvision({**weights, **head} if theirs and not fits else weights)


def _resnet(depth: int) -> Backbone:
    name = f"resnet{depth}"
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1  # type: ignore[attr-defined]
    return Backbone(lambda: torchvision.models.get_model(name, weights=None), "fc", weights.url)


BACKBONES: dict[str, Backbone] = {
    **{f"resnet{depth}": _resnet(depth) for depth in (18, 34, 50, 101, 152)},
    "mobilenetv2": Backbone(
        mobilenet_v2.mobilenet_v2, "classifier",
        torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.url, convert=_from_torchvision),
    "BNInception": Backbone(
        bn_inception.bninception, "fc", BNINCEPTION_URL, mean=bn_inception.INPUT_MEAN, std=bn_inception.INPUT_STD,
        color=bn_inception.INPUT_SPACE, value_range=bn_inception.INPUT_RANGE[1], default_place="block", convert=_from_caffe),
}


def find_backbone(arch: str) -> Backbone:
    """The backbone called `arch`; UserError with the allowed names otherwise."""
    if arch not in BACKBONES:
        raise UserError(f"--arch {arch!r}: choose one of {', '.join(BACKBONES)}")
    return BACKBONES[arch]


def build_backbone(arch: str, pretrain: Optional[str]) -> nn.Module:
    """A fresh network with its 1000-class head; weights by `pretrain`: "imagenet", a file, or "none" (random)."""
    backbone = find_backbone(arch)
    net = backbone.build()
    if pretrain and pretrain != "none":
        path = imagenet_file(arch) if pretrain == "imagenet" else Path(pretrain)
        load_imagenet(net, path, backbone)
        log.info("backbone weights: %s", path)
    return net


def imagenet_file(arch: str) -> Path:
    """torchvision's weight file in torch hub's cache, fetched if need be. UserError when that is impossible."""
    url = find_backbone(arch).weights_url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (urllib.error.URLError, OSError) as error:
            raise UserError(
                f"--pretrain imagenet: cannot download {url} ({error}): put that file at {path}, or name a copy with"
                " --pretrain PATH, or train from random weights with --pretrain none") from None
    return path


def load_imagenet(net: nn.Module, path: Path, backbone: Backbone) -> None:
    """Load image weights into `net` (still with its 1000-class head), every key and shape compared.

    path: a state dict in torchvision's names, or in ours. The classifier may be absent or of another size: a
    TSN replaces it anyway.
    """
    weights = find_state_dict(read_checkpoint(path), path)
    own = net.state_dict()
    head = tuple(f"{backbone.last_layer}.{end}" for end in ("weight", "bias"))
    ours = sum(key in weights for key in own) > len(own) / 2  # by their names; BNInception's public files share them
    if not ours or backbone.color == "BGR":
        try:
            weights = dict(backbone.convert(weights))
        except (KeyError, ValueError) as error:
            raise UserError(f"--pretrain {path}: not weights of this network: {error}") from None
    for key in head:
        if key not in weights or weights[key].shape != own[key].shape:
            weights[key] = own[key]
    # Files older than this counter (torchvision's of 2017) lack it; it does not change what a network computes.
    weights.update({k: v for k, v in own.items() if k.endswith("num_batches_tracked") and k not in weights})
    check_fit(weights, own, f"--pretrain {path}")
    net.load_state_dict(weights)


def inflate_first_conv(net: nn.Module, channels: int) -> None:
    """Let the first convolution read `channels` channels, each with the mean of its RGB kernels (TSN, sec. 3.2)."""
    name, conv = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    wide = nn.Conv2d(channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
                     bias=conv.bias is not None)
    with torch.no_grad():
        wide.weight.copy_(inflate_kernel(conv.weight, channels))
        if conv.bias is not None and wide.bias is not None:
            wide.bias.copy_(conv.bias)
    holder, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(holder), attribute, wide)


def inflate_kernel(weight: Tensor, channels: int) -> Tensor:
    """(O, C, kh, kw) -> (O, channels, kh, kw), the mean over C repeated."""
    return weight.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
