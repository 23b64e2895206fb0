"""ImageNet weights of a backbone: download, renaming, comparison, and widening to inputs other than RGB."""
import logging
import urllib.error
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn

from ops.backbones import Backbone, find_backbone
from ops.common.errors import UserError
from ops.weights import check_finite, check_fit, find_state_dict, read_checkpoint

log = logging.getLogger(__name__)


def build_backbone(arch: str, pretrain: Optional[str]) -> nn.Module:
    """A new network with its 1000-class head. pretrain: "imagenet", a weight file, or "none" for random weights."""
    backbone = find_backbone(arch)
    net = backbone.build()
    if pretrain and pretrain != "none":
        path = imagenet_file(arch) if pretrain == "imagenet" else Path(pretrain)
        load_imagenet(net, path, backbone)
        log.info("backbone weights: %s", path)
    return net


def imagenet_file(arch: str) -> Path:
    """The ImageNet weight file in torch hub's cache, downloaded if it is not there. UserError if the download fails."""
    url = find_backbone(arch).weights_url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (urllib.error.URLError, OSError) as error:
            raise UserError(
                f"pretrain imagenet: cannot download {url} ({error}): put that file at {path}, or name a copy with"
                " pretrain PATH, or start from random weights with pretrain none", "pretrain") from None
    return path


def load_imagenet(net: nn.Module, path: Path, backbone: Backbone) -> None:
    """Load image weights into a new network of this backbone. UserError that names the keys and shapes that differ.

    path: a state dict under the names of `weights_url` or the network's own. The classifier may be absent or of another
    size, because a TSN replaces it.
    """
    weights = find_state_dict(read_checkpoint(path), path)
    own = net.state_dict()
    head = tuple(f"{backbone.head}.{end}" for end in ("weight", "bias"))
    try:
        weights = dict(backbone.convert(weights))
    except (KeyError, ValueError) as error:
        raise UserError(f"pretrain {path}: these are not weights of this network: {error}", "pretrain") from None
    for key in head:
        if key not in weights or weights[key].shape != own[key].shape:
            weights[key] = own[key]
    # Files older than this counter (torchvision's of 2017) lack it; it does not affect the output.
    weights.update({k: v for k, v in own.items() if k.endswith("num_batches_tracked") and k not in weights})
    check_fit(weights, own, f"pretrain {path}", "pretrain")
    check_finite(weights, f"pretrain {path}", "pretrain")
    net.load_state_dict(weights)


def inflate_first_conv(net: nn.Module, channels: int) -> None:
    """Widen the first convolution to `channels` inputs, each with the mean of its RGB kernels (TSN, sec. 3.2)."""
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
    """(O, C, kh, kw) -> (O, channels, kh, kw): the mean over C, repeated."""
    return weight.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
