"""Clip checkpoints and online files: the same weights under other names, both ways.

An online file of ours is a dict with `online: True`, `state_dict`, `settings`, `class_names`, `dataset`,
`preprocessing`, `trained_direction` and, where it is known, `frame_rate` (frames per second to feed the model with).
Its keys are the published online model's where that model computes the same (MobileNetV2 shifted in its residual
branches), else the clip model's without the shifts' `.net`. The released Jester file is such a state dict bare: no
metadata, MobileNetV2, 27 classes, 1/8 of the channels.
"""
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Optional

from torch import Tensor

from ops.checkpoints.checkpoint import KEYS, RELEASED_ONLINE_DIV, VERSION, Checkpoint, load_checkpoint
from ops.checkpoints.tensors import has_released_online_names
from ops.common.choices import FRAME_RATE
from ops.common.errors import UserError
from ops.dataset_config import JESTER_CLASSES
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import shift_layers
from ops.weights import read_checkpoint

log = logging.getLogger(__name__)


# ---- what can stream ------------------------------------------------------------------------------------------

def load_streamable(path: Path, force: bool = False, **overrides: Any) -> Checkpoint:
    """Open a clip checkpoint or an online file for streaming; `spec` is the model as it streams.

    overrides: options that the file does not describe (`load_checkpoint`). UserError when the file cannot be read,
    nothing describes its model, an override contradicts its metadata, or the model cannot stream (`check_streamable`,
    which also explains force).
    """
    found = load_checkpoint(path, strict=True, **overrides)
    if found.source == KEYS and not found.spec.shift and overrides.get("shift") is None:
        raise UserError(f"{path}: nothing in it shows whether it shifts: give shift if it is a TSM, no-shift if it is not",
                        "shift", "no-shift")
    spec = check_streamable(found.spec, str(path), force)
    trained = trained_direction(found)
    if found.content.get("online") and trained != spec.shift_direction:
        log.warning("warning: %s was converted from a two-way shift by force: its accuracy is not what was trained", path)
    return replace(found, known_spec=spec, content={**found.content, "trained_direction": trained})


def trained_direction(found: Checkpoint) -> str:
    """The direction of the shift in training: the spec's, except for a model that was made to stream by force."""
    return str(found.content.get("trained_direction", found.spec.shift_direction))


def check_streamable(spec: ModelSpec, what: str, force: bool = False) -> ModelSpec:
    """The spec under which a model streams; UserError with the reason when it cannot stream.

    force: a model trained with the two-way shift streams too, as if it were one-way: channels [0, C // div) come
    from the past instead of the future, the other fold stays. A warning points this out.
    """
    if spec.modality != "RGB":
        raise UserError(f"{what}: only RGB models can stream, this is a {spec.modality} model")
    if not spec.before_softmax:
        raise UserError(f"{what} averages probabilities (before_softmax=False): only one that averages scores can stream")
    if spec.temporal_pool:
        raise UserError(f"{what}: a model with temporal pooling cannot stream, because it halves the number of frames by"
                        " looking at several at once: train one without temporal_pool", "temporal_pool")
    if spec.non_local:
        raise UserError(f"{what}: a model with non-local blocks cannot stream, because every frame looks at every other,"
                        " future ones too: train one without non_local", "non_local")
    if not spec.shift or spec.shift_direction == "unidirectional":
        return spec
    if not force:
        raise UserError(f"{what} was trained with the two-way shift: 1/{spec.shift_div} of its channels come from the next"
                        " frame, which a stream does not have yet: train one with shift_direction unidirectional, or"
                        " convert it with force and lose accuracy", "shift_direction", "force")
    log.warning("warning: %s was trained with the two-way shift; as an online model it is another network than the one"
                " trained, and its accuracy is not what was trained", what)
    return spec.with_(shift_direction="unidirectional")


# ---- the frame rate -------------------------------------------------------------------------------------------

def frame_rate_of(path: Path) -> float:
    """Frames per second to feed the model in this file with: the file's own rate, else 12, and then a log line says so.

    UserError when the file's rate is not a number above 0.
    """
    content = read_checkpoint(path)
    rate = known_frame_rate(content, path)
    if rate is None and not _is_released_jester(content):
        log.info("%s does not hold its model's frame rate: assuming %g per second, that of Jester's and Something-"
                 "Something's videos; the demo's option rate sets another, tools/convert_to_online.py writes it into the"
                 " file", path, FRAME_RATE)
    return rate or FRAME_RATE


def known_frame_rate(content: Mapping[str, Any], path: Path) -> Optional[float]:
    """A file's `frame_rate`, None where it has none. UserError when it is not a number above 0."""
    rate = content.get("frame_rate")
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise UserError(f"{path}: its frame_rate is {str(rate)[:40]!r}, not a number of frames per second above 0: write"
                        " the file again with tools/convert_to_online.py, which sets the rate")
    return float(rate)


def _is_released_jester(content: Mapping[str, Any]) -> bool:
    """Whether this is the released Jester model, whose rate is known though its file cannot hold it."""
    return has_released_online_names(content) and len(content["classifier.weight"]) == len(JESTER_CLASSES)


# ---- what files hold ------------------------------------------------------------------------------------------

def online_content(found: Checkpoint) -> dict[str, Any]:
    """The entries of an online file of ours."""
    model = found.build()
    return {"online": True, **_common_entries(found, model, to_online_names(model.state_dict(), found.spec)),
            "trained_direction": trained_direction(found)}


def bare_content(found: Checkpoint) -> dict[str, Any]:
    """The released form: a state dict and nothing else. UserError for a model that it cannot describe."""
    spec = found.spec
    if not has_published_names(spec) or spec.shift_div != RELEASED_ONLINE_DIV:
        stages = f" in stages {spec.shift_stages}" * bool(spec.shift_stages)
        shift = f"1/{spec.shift_div} {spec.place}{stages}" if spec.shift else "none"
        raise UserError(f"{found.path} is {spec.arch} with shift {shift}; the released form carries no metadata and means"
                        f" mobilenetv2 with shift 1/{RELEASED_ONLINE_DIV} blockres: leave out bare", "bare")
    return to_online_names(found.build().state_dict(), spec)


def clip_content(found: Checkpoint) -> dict[str, Any]:
    """The entries of a clip checkpoint, to be scored or tuned from; without an optimizer state."""
    model = found.build()
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    return {"epoch": 0, "optimizer": None, "best_prec1": 0.0, **_common_entries(found, model, weights),
            "shift_layers": [list(row) for row in shift_layers(model)]}


def _common_entries(found: Checkpoint, model: TSN, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    spec = found.spec
    return {"version": VERSION, "arch": spec.arch, "state_dict": weights, "settings": spec.to_dict(),
            "dataset": found.dataset, "class_names": found.class_names, "preprocessing": model.preprocessing.to_dict(),
            "frame_rate": known_frame_rate(found.content, found.path)}


# ---- names ----------------------------------------------------------------------------------------------------

def has_published_names(spec: ModelSpec) -> bool:
    """Whether the published online MobileNetV2 (of whatever div) computes this model."""
    return spec.arch == "mobilenetv2" and spec.shift and spec.place == "blockres" and not spec.shift_stages


def to_online_names(weights: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """Clip model -> online file."""
    plain = {key.replace(".net.", "."): value for key, value in weights.items()}
    if not has_published_names(spec):
        return plain
    plain = {key.removeprefix("base_model.").replace("new_fc.", "classifier."): value for key, value in plain.items()}
    head = [key for key in plain if key.startswith("classifier.")]  # last, as published
    return {key: plain[key] for key in [*(key for key in plain if key not in head), *head]}
