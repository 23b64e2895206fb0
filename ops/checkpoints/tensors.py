"""What a weight file's keys and shapes show of its network.

They show the architecture, the number of classes, the modality, where the shift is, non-local blocks and a temporal
pool. They do not show the number of frames, the shift's div and direction or the consensus, and of BNInception's shift
nothing at all.
"""
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping, Optional

import torch
from torch import Tensor

from ops.backbones import BACKBONES, HEADS, find_backbone
from ops.common.errors import UserError
from ops.weights import head_keys, pool_in_keys, shift_in_keys, shifted_modules

# The kinds of weight file: a TSN, a TSN under its streaming form's names, a backbone alone.
CLIP, ONLINE, IMAGE = "clip", "online", "image"

_HEADS = ("new_fc", *HEADS, "classifier.1", "last_linear")  # the last two: in image weight files
_IMAGENET_CLASSES = 1000
_MODALITIES = {3: "RGB", 10: "Flow", 15: "RGBDiff"}  # by the first convolution's input channels
_ENOUGH = 0.5  # share of an architecture's tensors that a file must have to be taken for one


def file_kind(weights: Mapping[str, Tensor]) -> str:
    """CLIP, ONLINE or IMAGE, by the tensors' names."""
    if has_released_online_names(weights):
        return ONLINE
    return CLIP if any(key.startswith(("base_model.", "new_fc.")) for key in weights) else IMAGE


def has_released_online_names(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are the released online MobileNetV2's.

    An image MobileNetV2 may have the same names; it has ImageNet's number of classes.
    """
    return "features.0.0.weight" in weights and "classifier.weight" in weights \
        and len(weights["classifier.weight"]) != _IMAGENET_CLASSES


def to_clip_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An online file's names -> the clip model's, without the shifts' `.net` (`ops.weights.load_weights` adds it)."""
    return {f"base_model.{key}" if key.startswith(("features.", "classifier.")) else key: value
            for key, value in weights.items()}


# ---- the classifier -------------------------------------------------------------------------------------------

def count_classes(weights: Mapping[str, Tensor], path: Path) -> int:
    """The classifier's number of outputs. UserError when the file has no classifier."""
    count = find_class_count(weights)
    if count is None:
        names = ", ".join(f"base_model.{head}.weight" for head in HEADS)
        raise UserError(f"{path} has no classifier: none of its keys is new_fc.weight, {names}")
    return count


def find_class_count(weights: Mapping[str, Tensor]) -> Optional[int]:
    """The classifier's number of outputs, None without a classifier."""
    plain = {key.removeprefix("base_model."): value for key, value in weights.items()}
    heads = (plain[f"{head}.weight"] for head in _HEADS if f"{head}.weight" in plain)
    return next((head.shape[0] for head in heads if head.dim()), None)


def head_dropout(weights: Mapping[str, Tensor]) -> float:
    """0 where the classifier is in the backbone, which is how a model without dropout stores it; else the default."""
    return 0.0 if any(key.startswith("base_model.") for key in head_keys(weights)) else 0.5


# ---- the network ----------------------------------------------------------------------------------------------

def recognize(weights: Mapping[str, Tensor]) -> tuple[str, float]:
    """(architecture, share of its tensors that agree); ("", 0) when less than half of any architecture's do."""
    if any(key.startswith("base_model.") for key in weights):
        return _best_arch(_body(weights), list(BACKBONES))
    return max((_best_arch(_body(form), [name]) for name in BACKBONES for form in _forms(weights, name)),
               key=lambda found: found[1])


def _forms(weights: Mapping[str, Tensor], arch: str) -> list[Mapping[str, Tensor]]:
    """The weights as they are, and in our names where they are another library's of this network."""
    try:
        return [weights, BACKBONES[arch].convert(weights)]
    except (KeyError, ValueError):
        return [weights]


def _best_arch(body: Mapping[str, torch.Size], among: list[str]) -> tuple[str, float]:
    best = ("", 0.0)
    for arch in among:
        own = _own_body(arch)
        common = [own[key] == shape or key == next(iter(own)) for key, shape in body.items() if key in own]
        score = (len(common) + sum(common)) / (2 * max(len(own), len(body), 1))
        best = max(best, (arch, score), key=lambda found: found[1])
    return best if best[1] >= _ENOUGH else ("", 0.0)


@lru_cache(maxsize=None)
def _own_body(arch: str) -> dict[str, torch.Size]:
    with torch.device("meta"):  # shapes without memory
        return _body(BACKBONES[arch].build().state_dict())


def _body(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes of an image network's own tensors: without head, counters, non-local blocks, and wrappers' names."""
    plain = {_unwrapped(key): value.shape for key, value in weights.items()
             if ".nl." not in key and not key.endswith("num_batches_tracked")}
    return {key: shape for key, shape in plain.items() if key.rpartition(".")[0] not in _HEADS}


def _unwrapped(key: str) -> str:
    return key.removeprefix("base_model.").replace(".net.", ".").replace(".block.", ".")


def read_tensors(weights: Mapping[str, Tensor], kind: str, arch: str) -> dict[str, Any]:
    """The `ModelSpec` options that the tensors of a file of this kind and architecture show."""
    options: dict[str, Any] = {}
    classes = find_class_count(weights)
    if classes is not None:
        options["num_class"] = classes
    first = next((value for value in weights.values() if value.dim() == 4), None)
    if first is not None and first.shape[1] in _MODALITIES:
        options["modality"] = _MODALITIES[first.shape[1]]
    if kind != CLIP:
        return options
    options["temporal_pool"] = pool_in_keys(weights)
    options["non_local"] = any(".nl." in key for key in weights)
    if options["non_local"] and not any(".nl.theta." in key for key in weights):
        options["non_local_type"] = "gaussian"
    if "new_fc.weight" not in weights:
        options["dropout"] = 0.0
    if find_backbone(arch).shift.in_keys:
        place = shift_in_keys(weights)
        options |= {"shift": True, "shift_place": place} if place else {"shift": False}
        stages = _shifted_stages(weights, arch)
        options |= {"shift_stages": stages} if stages else {}
    return options


def _shifted_stages(weights: Mapping[str, Tensor], arch: str) -> str:
    """The option `shift_stages` that the keys show: "" where they show no shift, or one in every stage."""
    backbone = find_backbone(arch)
    names = [name.removeprefix("base_model.") for name in shifted_modules(weights)]
    shifted = [str(number) for number in backbone.shift.stages
               if any(backbone.in_stages(name, backbone.numbered_stages(str(number))) for name in names)]
    return ",".join(shifted) if len(shifted) < len(backbone.shift.stages) else ""
