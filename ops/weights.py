"""Weight files: written whole, read without running code in them, and compared with a model key by key."""
import logging
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, Iterable, Mapping

import torch
from torch import Tensor, nn

from ops.backbones import HEADS
from ops.common.errors import UserError, shown
from ops.common.files import CannotWrite, whole_file

log = logging.getLogger(__name__)

# What torch.load raises for a file that is not a checkpoint, or is damaged (found by fuzzing it).
UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
              struct.error, zipfile.BadZipFile)

_SHIFTED_CONV = re.compile(r"\.net\.(weight|bias)$")
_POOLED = re.compile(r"\.net(\.\d)")
_HEAD = re.compile(rf"^(new_fc|base_model\.({'|'.join(map(re.escape, HEADS))}))\.(?=(weight|bias)$)")


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write under a temporary name, then rename: a killed program leaves the old file or the new one, never a part.

    Raises CannotWrite, a UserError, if the disk refuses the file.
    """
    with whole_file(path, durable=True) as temporary:
        try:
            torch.save(dict(content), temporary)
        except RuntimeError as error:  # torch's own writer reports the disk's error this way
            raise CannotWrite(path, str(error).splitlines()[0]) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU, without running any code in it (weights_only).

    UserError if the file does not exist, is not a checkpoint, or holds more than plain values and tensors.
    """
    path = Path(path)
    if not path.is_file():
        remedy = ": tools/download_weights.py downloads the released ones" if path.name.startswith("TSM_") else ""
        raise UserError(f"no such checkpoint: {path}{remedy}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message advises to turn the safety off
        raise UserError(f"{path} is not a checkpoint that can be read safely: it was not written by torch.save, or holds"
                        " more than tensors and plain values") from None
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable checkpoint: {(str(error) or 'it ends early').splitlines()[0]}"
                        ) from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a dict")
    return dict(content)


def find_state_dict(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, wrapped or bare, without DataParallel's `module.`. UserError if it has none."""
    wrapped = content.get("state_dict", content)
    if not isinstance(wrapped, Mapping):
        wrapped = {}
    weights = {key: value for key, value in wrapped.items() if isinstance(value, Tensor) and isinstance(key, str)}
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise UserError(f"{path}: its tensor {shown(key)} is sparse, quantized or complex: weights are plain numbers")
    if not weights or len(weights) != len(wrapped):
        raise UserError(f"{path} holds no weights: expected a state dict, or a dict with one as 'state_dict'; its"
                        f" entries are {', '.join(map(str, list(content)[:8])) or 'none'}")
    return strip_prefix(weights)


def strip_prefix(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keys without DataParallel's `module.`."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


# ---- what keys show -----------------------------------------------------------------------------------------

def shift_in_keys(keys: Iterable[str]) -> str:
    """The place of the shift that the keys show: "blockres", "block", or "" if they show none.

    A `TemporalShift` adds `.net` to the keys of what it wraps: one convolution ("blockres": `conv1.net.weight`) or a
    whole block ("block": `layer1.0.net.conv1.weight`). A file without `.net` may still be of a network that shifts:
    other code leaves it out, and BNInception's shift wraps nothing.
    """
    shifted = [key for key in (_POOLED.sub(r"\1", key) for key in keys) if ".net." in key]
    if any(_SHIFTED_CONV.search(key) for key in shifted):
        return "blockres"
    return "block" if shifted else ""


def shifted_modules(keys: Iterable[str]) -> set[str]:
    """The names of the modules that the keys show inside a `TemporalShift`, without the `.net` of a `TemporalPool`."""
    return {key.split(".net.")[0] for key in (_POOLED.sub(r"\1", key) for key in keys) if ".net." in key}


def pool_in_keys(keys: Iterable[str]) -> bool:
    """Whether the keys show a `TemporalPool`: its `.net` is a stage, whose blocks are numbered."""
    return any(_POOLED.search(key) for key in keys)


def head_keys(keys: Iterable[str]) -> list[str]:
    """A TSN's classifier among its keys: `new_fc`, or with dropout 0 the backbone's own head."""
    return [key for key in keys if _HEAD.match(key)]


# ---- fitting a file to a model ------------------------------------------------------------------------------

def fit_names(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str = "the file") -> dict[str, Tensor]:
    """Rename keys to the model's if they differ only in a shift's `.net`, or in the head's name (`head_keys`).

    Warns if the weights were trained with a shift that the model lacks or has at another place.
    """
    theirs, ours = shift_in_keys(weights), shift_in_keys(own)
    if theirs and theirs != ours:
        log.warning("warning: %s: its keys show that it was trained with a shift (%s), but this model has %s: the options"
                    " shift and shift_place %s would fit", what, theirs, f"another ({ours})" if ours else "none", theirs)
    elif theirs and shifted_modules(weights) != shifted_modules(own):
        log.warning("warning: %s: its keys show that it shifts in other layers than this model: the option shift_stages"
                    " chooses them", what)
    renamed = {_plain_name(key): key for key in own}
    return {renamed.get(_plain_name(key), key): value for key, value in weights.items()}


def _plain_name(key: str) -> str:
    """The key as it would be without a shift, in a model with dropout."""
    return _HEAD.sub("new_fc.", key.replace(".net.", "."))


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load every key into the model.

    UserError that names keys and shapes if they do not fit exactly, or the tensors that hold NaN or Inf.
    """
    own = model.state_dict()
    fitted = fit_names(weights, own, what)
    # Counters do not change what a network computes; files older than torch 0.4.1 lack them.
    fitted.update({key: own[key] for key in own if key.endswith("num_batches_tracked") and key not in fitted})
    check_fit(fitted, own, what)
    check_finite(fitted, what)
    model.load_state_dict(fitted)


def check_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str, *options: str) -> None:
    """UserError that names the keys and shapes that disagree, if any do. options: those that `what` mentions."""
    missing = [key for key in own if key not in weights]
    surplus = [key for key in weights if key not in own]
    shapes = [f"{key} is {tuple(weights[key].shape)}, the model's is {tuple(own[key].shape)}"
              for key in own if key in weights and weights[key].shape != own[key].shape]
    found = [f"{len(rows)} {title}: {', '.join(rows[:3])}{', ...' if len(rows) > 3 else ''}"
             for title, rows in (("shapes differ", shapes), ("keys missing", missing), ("keys unknown", surplus))
             if rows]
    if found:
        raise UserError(f"{what}: the weights do not fit this model: {'; '.join(found)}", *options)


# ---- NaN and Inf ----------------------------------------------------------------------------------------------

def check_finite(weights: Mapping[str, Tensor], what: str, *options: str) -> None:
    """UserError that names the first tensor that holds NaN or Inf, if any does. options: those that `what` mentions."""
    broken = non_finite(weights)
    if broken:
        raise UserError(f"{what}: {len(broken)} of {len(weights)} tensors hold NaN or Inf, the first is {broken[0]}: its"
                        " training diverged or the file is damaged: use an earlier checkpoint", *options)


def non_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """The keys of the tensors that hold NaN or Inf in float32, in which models compute."""
    return [key for key, value in weights.items() if value.is_floating_point() and not _is_finite(value.float())]


def _is_finite(value: Tensor) -> bool:
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())  # a sum is much cheaper, but may overflow
