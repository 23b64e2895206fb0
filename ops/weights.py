"""Files of weights: written whole, read without running code in them, compared key by key."""
import logging
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from ops.common.errors import UserError
from ops.common.files import CannotWrite, whole_file

log = logging.getLogger(__name__)

# What torch.load raises for a file that is no checkpoint, or a damaged one (found by fuzzing it).
UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
              struct.error, zipfile.BadZipFile)


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write under a temporary name, then rename: a kill leaves the old file or the new one, never half of one.

    Raises CannotWrite, a UserError, when the disk does not take it.
    """
    with whole_file(path) as temporary:
        try:
            torch.save(dict(content), temporary)
        except RuntimeError as error:  # so torch's own writer says what the disk said
            raise CannotWrite(path, str(error).splitlines()[0]) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU, without running any code in it (weights_only).

    UserError when there is no such file, it is no checkpoint, or it holds more than plain values and tensors.
    """
    path = Path(path)
    if not path.is_file():
        released = ": the released ones come by tools/download_weights.py" if path.name.startswith("TSM_") else ""
        raise UserError(f"no such checkpoint: {path}{released}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own text advises to turn the safety off
        raise UserError(f"{path} is not a checkpoint that can be read safely: it was not written by torch.save, or holds"
                        " more than tensors and plain values") from None
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable checkpoint: {(str(error) or 'it ends early').splitlines()[0]}"
                        ) from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a dict")
    return dict(content)


def strip_prefix(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keys without DataParallel's `module.`."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def find_state_dict(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, wrapped or bare, without `module.`. UserError when there are none."""
    wrapped = content.get("state_dict", content)
    if not isinstance(wrapped, Mapping):
        wrapped = {}
    weights = {key: value for key, value in wrapped.items() if isinstance(value, Tensor) and isinstance(key, str)}
    if not weights or len(weights) != len(wrapped):
        raise UserError(f"{path} holds no weights: expected a state dict, or a dict with one as 'state_dict'; its"
                        f" entries are {', '.join(map(str, list(content)[:8])) or 'none'}")
    return strip_prefix(weights)


def shift_in_keys(weights: Mapping[str, Any]) -> str:
    """Where the `.net` in a ResNet's or MobileNetV2's keys says that it shifts: blockres, block, or "" (nothing says).

    BNInception's shift has no key; files about without `.net` may be of either kind.
    """
    keys = [key.replace(".block.", ".").replace("layer2.net.", "layer2.") for key in weights]
    if any(re.search(r"\.(conv1|conv\.0)\.net\.", key) for key in keys):
        return "blockres"
    return "block" if any(".net." in key for key in keys) else ""


def fit_names(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str = "the file") -> dict[str, Tensor]:
    """Rename keys to the model's where the only difference is a shift's `.net`, or where the head is kept.

    The head is `new_fc`, or with dropout 0 the backbone's own last layer (`fc`, `classifier`). Warns where weights
    that shifted lose their shift by it, or get it elsewhere.
    """
    theirs, ours = shift_in_keys(weights), shift_in_keys(own)
    if theirs and theirs != ours:
        log.warning("warning: %s: its keys say that it was trained with a shift (%s), this model has %s: --shift with"
                    " --shift_place %s would fit it", what, theirs, f"another ({ours})" if ours else "none", theirs)
    by_plain = {_plain(key): key for key in own}
    return {by_plain.get(_plain(key), key): value for key, value in weights.items()}


def _plain(key: str) -> str:
    key = key.replace(".net.", ".")
    return re.sub(r"^base_model\.(fc|classifier)\.(?=(weight|bias)$)", "new_fc.", key)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load every key into the model; UserError that names keys and shapes when they do not fit exactly."""
    own = model.state_dict()
    fitted = fit_names(weights, own, what)
    # Counters do not change what a network computes; files older than torch 0.4.1 lack them.
    fitted.update({key: own[key] for key in own if key.endswith("num_batches_tracked") and key not in fitted})
    check_fit(fitted, own, what)
    model.load_state_dict(fitted)


def check_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    """UserError that names which keys and shapes disagree, if any do."""
    missing = [key for key in own if key not in weights]
    surplus = [key for key in weights if key not in own]
    shapes = [f"{key} is {tuple(weights[key].shape)}, the model's is {tuple(own[key].shape)}"
              for key in own if key in weights and weights[key].shape != own[key].shape]
    found = [f"{len(rows)} {title}: {', '.join(rows[:3])}{', ...' if len(rows) > 3 else ''}"
             for title, rows in (("shapes differ", shapes), ("keys missing", missing), ("keys unknown", surplus))
             if rows]
    if found:
        raise UserError(f"{what}: the weights do not fit this model: {'; '.join(found)}")
