"""mmaction2's checkpoints of TSM and TSN: its names of the tensors, and ours.

Its names follow from its modules: a ConvModule holds a convolution as `conv` and its norm as `bn`; a temporal shift, a
temporal pool and a non-local block hold what they wrap as `net` or `block`; the classifier is `cls_head.fc_cls`. The
networks compute the same as ours: the same shift, the same places, RGB with ImageNet's mean and std.
"""
import re
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple

from torch import Tensor

from archs.mobilenet_v2 import STAGES
from ops.common.errors import UserError, shown

# Tensors of a layer: name -> number of dimensions. 3D networks have these names too, but kernels of another dimension.
_CONV, _CONV3D, _LINEAR = {"weight": 4}, {"weight": 5, "bias": 1}, {"weight": 2, "bias": 1}
_NORM = {"weight": 1, "bias": 1, "running_mean": 1, "running_var": 1, "num_batches_tracked": 0}


class _Row(NamedTuple):
    """One kind of layer. theirs: regular expression of its name in mmaction2. ours: what `re.Match.expand` makes of it."""
    theirs: str
    ours: str
    tensors: Mapping[str, int]


_HEAD = _Row(r"cls_head\.fc_cls", "new_fc", _LINEAR)
_BLOCK = r"backbone\.(layer[1-4](?:\.net)?\.\d+(?:\.net|\.block)*)"
_RESNET = (
    _Row(r"backbone\.conv1\.conv", "base_model.conv1", _CONV),
    _Row(r"backbone\.conv1\.bn", "base_model.bn1", _NORM),
    _Row(rf"{_BLOCK}\.conv([123])\.conv(\.net)?", r"base_model.\1.conv\2\3", _CONV),
    _Row(rf"{_BLOCK}\.conv([123])\.bn", r"base_model.\1.bn\2", _NORM),
    _Row(rf"{_BLOCK}\.downsample\.conv", r"base_model.\1.downsample.0", _CONV),
    _Row(rf"{_BLOCK}\.downsample\.bn", r"base_model.\1.downsample.1", _NORM),
    _Row(rf"{_BLOCK}\.non_local_block\.(g|phi)\.0\.conv", r"base_model.\1.nl.\2.0", _CONV3D),
    _Row(rf"{_BLOCK}\.non_local_block\.theta\.conv", r"base_model.\1.nl.theta", _CONV3D),
    _Row(rf"{_BLOCK}\.non_local_block\.conv_out\.conv", r"base_model.\1.nl.W.0", _CONV3D),
    _Row(rf"{_BLOCK}\.non_local_block\.conv_out\.bn", r"base_model.\1.nl.W.1", _NORM),
    _HEAD,
)


def _mobilenet_rows() -> Iterable[_Row]:
    """Its blocks are numbered within a stage, ours from the image on; our layers in a block are numbered one by one."""
    index = 0
    yield from _conv_norm(r"conv1", index, "")
    for stage, (_, _, blocks, _) in enumerate(STAGES, start=1):
        for block in range(blocks):
            index += 1
            for part in range(3):  # convolution, norm and activation each
                yield from _conv_norm(rf"layer{stage}\.{block}\.conv\.{part}", index, "conv.", 3 * part)
    yield from _conv_norm(r"conv2", index + 1, "")
    yield _HEAD


def _conv_norm(theirs: str, index: int, inner: str, layer: int = 0) -> Iterable[_Row]:
    ours = f"base_model.features.{index}.{inner}"
    yield _Row(rf"backbone\.{theirs}(\.net)?\.conv", rf"{ours}{layer}\1", _CONV)
    yield _Row(rf"backbone\.{theirs}(?:\.net)?\.bn", f"{ours}{layer + 1}", _NORM)  # its shift wraps both, ours the first


TABLES = {"ResNet": _RESNET, "MobileNetV2": tuple(_mobilenet_rows())}


def is_mmaction(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of an mmaction2 recognizer."""
    return any(key.startswith(("backbone.", "cls_head.")) for key in weights)


def from_mmaction(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights under our names. UserError for those of another network than a TSM or TSN on one of `TABLES`."""
    ours, unknown = min((_rename(weights, rows) for rows in TABLES.values()), key=lambda result: len(result[1]))
    if unknown:
        raise UserError(f"{path} is a checkpoint of mmaction2, but not of a TSM or TSN on a {' or '.join(TABLES)}: its"
                        f" tensor {shown(unknown[0])} of shape {tuple(weights[unknown[0]].shape)} is another network's")
    for key in [key for key in ours if key.endswith(".nl.W.0.weight")]:  # there without a bias, because a norm follows
        ours.setdefault(key.replace("weight", "bias"), ours[key].new_zeros(len(ours[key])))
    return ours


def _rename(weights: Mapping[str, Tensor], rows: Iterable[_Row]) -> tuple[dict[str, Tensor], list[str]]:
    """(weights under our names, keys that no row has)"""
    ours, unknown = {}, []
    for key, value in weights.items():
        layer, _, tensor = key.rpartition(".")
        found = next((row for row in rows if row.tensors.get(tensor) == value.dim() and re.fullmatch(row.theirs, layer)),
                     None)
        if found is None:
            unknown.append(key)
        else:
            ours[re.sub(found.theirs, found.ours, layer) + f".{tensor}"] = value
    return ours, unknown


def segments_in_name(path: Path) -> int:
    """T in one of mmaction2's file names, whose `1x1x8` is frames per segment x interval x segments; 0 without one."""
    match = re.search(r"(?<!\d)1x1x(\d{1,3})(?!\d)", path.name)
    return int(match[1]) if match else 0
