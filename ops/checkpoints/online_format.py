"""Clip checkpoints and online files: the same weights under other names, both ways.

An online file of ours is a dict with `online: True`, `state_dict`, `settings`, `class_names`, `dataset`,
`preprocessing` and, where it is known, `frame_rate` (frames per second to feed the model with). Its keys are the
published online model's where that model computes the same (MobileNetV2 shifted in its residual branches), else the
clip model's without the shifts' `.net`. The released Jester file is such a state dict bare: no metadata, MobileNetV2,
27 classes, 1/8 of the channels.
"""
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

from torch import Tensor

from ops.checkpoints.checkpoint import VERSION, Checkpoint, count_classes, load_checkpoint
from ops.common.errors import UserError
from ops.dataset_config import JESTER_CLASSES
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import shift_layers
from ops.weights import load_weights, read_checkpoint

log = logging.getLogger(__name__)

PUBLISHED_DIV = 8  # the released online MobileNetV2's: its file cannot say another
FRAME_RATE = 12.0  # frames per second where a file does not tell: Jester's and Something-Something's videos have it
CLIP_SEGMENTS = 8  # T of a clip model where nothing tells: online files need none
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Opened:
    """A file that can stream: weights under the clip model's names (`.net` or not), and what rebuilds the model.

    online: it is an online file. trained_direction: of the shift, before any --force. frame_rate: frames per second
    that it should be fed with, None where unknown.
    """
    path: Path
    weights: Weights
    settings: ModelSpec
    dataset: Optional[str]
    class_names: Optional[list[str]]
    online: bool
    trained_direction: str
    frame_rate: Optional[float]

    def build(self) -> TSN:
        """The clip model with these weights, in evaluation mode. UserError where they do not fit."""
        model = TSN.from_spec(self.settings)
        load_weights(model, self.weights, str(self.path))
        return model.eval()


# ---- what can stream ----------------------------------------------------------------------------------------

def check_streamable(settings: ModelSpec, what: str, force: bool = False) -> ModelSpec:
    """The settings under which a model streams; UserError with the reason when it cannot.

    force: a model trained with the two-way shift streams too, as if it were one-way: channels [0, C // div) come
    from the past instead of the future, the other fold stays. A warning says so.
    """
    if settings.modality != "RGB":
        raise UserError(f"{what}: only RGB models can stream, this is a {settings.modality} model")
    if not settings.before_softmax:
        raise UserError(f"{what} averages probabilities (before_softmax=False): only one that averages scores can stream")
    if settings.temporal_pool:
        raise UserError(f"{what}: a model with temporal pooling cannot stream: it looks at several frames at once"
                        " to halve their number; train one without --temporal_pool")
    if settings.non_local:
        raise UserError(f"{what}: a model with non-local blocks cannot stream: every frame looks at every other, future"
                        " ones too; train one without --non_local")
    if not settings.shift or settings.shift_direction == "unidirectional":
        return settings
    if not force:
        raise UserError(f"{what} was trained with the two-way shift: 1/{settings.shift_div} of its channels come from"
                        " the next frame, which a stream does not have yet: train one with --shift_direction"
                        " unidirectional, or convert it with --force and lose accuracy")
    log.warning("warning: %s was trained with the two-way shift; as an online model it is another network than the one"
                " trained, and its accuracy is not what was trained", what)
    return settings.with_(shift_direction="unidirectional")


def has_published_names(settings: ModelSpec) -> bool:
    """Whether the published online MobileNetV2 (of whatever div) computes this model."""
    return settings.arch == "mobilenetv2" and settings.shift and settings.place == "blockres"


# ---- names --------------------------------------------------------------------------------------------------

def to_online_names(weights: Mapping[str, Tensor], settings: ModelSpec) -> Weights:
    """Clip model -> online file."""
    plain = {key.replace(".net.", "."): value for key, value in weights.items()}
    if not has_published_names(settings):
        return plain
    plain = {key.removeprefix("base_model.").replace("new_fc.", "classifier."): value for key, value in plain.items()}
    head = [key for key in plain if key.startswith("classifier.")]  # last, as published
    return {key: plain[key] for key in [*(key for key in plain if key not in head), *head]}


def to_clip_names(weights: Mapping[str, Tensor]) -> Weights:
    """Online file -> clip model, less the shifts' `.net` (`ops.weights.load_weights` knows where it goes)."""
    return {f"base_model.{key}" if key.startswith(("features.", "classifier.")) else key: value
            for key, value in weights.items()}


def is_bare_online(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the published online MobileNetV2's names."""
    return "features.0.0.weight" in weights and "classifier.weight" in weights


# ---- files --------------------------------------------------------------------------------------------------

def open_model(path: Path, force: bool = False, **flags: Any) -> Opened:
    """Open a clip checkpoint or an online file for streaming. flags: settings for a file that does not tell them;
    those that are None count as not given.

    UserError when it cannot be read, nothing tells what it is, a flag contradicts its metadata, or it cannot stream
    (`refuse_unstreamable`).
    """
    found = load_checkpoint(path)
    given = {key: value for key, value in flags.items() if value is not None}
    if found.source == "metadata":
        _check_no_contradiction(found, given)
    bare = found.source != "metadata" and is_bare_online(found.weights)
    told = _released(found) if bare else found.settings or _by_flags(found, given)
    asked = told.with_(**given)
    settings = check_streamable(asked, str(path), force)
    trained = str(found.content.get("trained_direction", asked.shift_direction))
    if found.content.get("online") and trained != settings.shift_direction:
        log.warning("warning: %s was converted with --force from the two-way shift: its accuracy is not what was"
                    " trained", path)
    names, dataset = found.class_names, found.dataset
    if bare and settings.num_class == len(JESTER_CLASSES):
        names, dataset = list(JESTER_CLASSES), "jester"
    return Opened(path, to_clip_names(found.weights), settings, dataset, names,
                  bare or bool(found.content.get("online")), trained, _told_rate(found.content, path))


def frame_rate_of(path: Path) -> float:
    """Frames per second that the model in this file should be fed with: what the file says, else 12, and says so.

    UserError when the file says what is no rate.
    """
    content = read_checkpoint(path)
    rate = _told_rate(content, path)
    if rate is None and not _is_released(content):
        log.info("%s does not tell its model's frame rate: taken for %g per second, as of Jester's and Something-"
                 "Something's videos; set it with --rate in the demo, or for good with --frame_rate of"
                 " tools/convert_to_online.py", path, FRAME_RATE)
    return rate or FRAME_RATE


def _told_rate(content: Mapping[str, Any], path: Path) -> Optional[float]:
    """A file's `frame_rate`, None where it has none. UserError when that is no number above 0."""
    rate = content.get("frame_rate")
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise UserError(f"{path}: its frame_rate is {str(rate)[:40]!r}, not a number of frames per second above 0:"
                        " write the file anew with tools/convert_to_online.py --frame_rate")
    return float(rate)


def _is_released(content: Mapping[str, Any]) -> bool:
    """Whether this is the released Jester model, whose rate is known though its file cannot tell it."""
    return is_bare_online(content) and len(content["classifier.weight"]) == len(JESTER_CLASSES)


def _check_no_contradiction(found: Checkpoint, given: Mapping[str, Any]) -> None:
    """The metadata is right about the weights; T alone is free, because no weight depends on it."""
    assert found.settings is not None
    told = {**vars(found.settings), "shift_place": found.settings.place}
    for key, value in given.items():
        if key != "num_segments" and told[key] != value:
            raise UserError(f"{found.path} was trained with {key} {told[key]!r}, its metadata says: leave out --{key}"
                            f" {value}")


def _by_flags(found: Checkpoint, given: Mapping[str, Any]) -> ModelSpec:
    if "arch" not in given:
        raise UserError(f"{found.path}: neither metadata nor a published name (TSM_<dataset>_<modality>_<arch>_...)"
                        " says what it is: rename it in that form, or give --arch, --shift_div and --shift_direction")
    return ModelSpec(count_classes(found.weights, found.path), CLIP_SEGMENTS, arch=given["arch"], shift=True)


def _released(found: Checkpoint) -> ModelSpec:
    """What a bare online file means. With Jester's number of classes it is taken for Jester's."""
    log.info("%s carries no metadata: taken for the released form, MobileNetV2 with 1/%d of the channels from the"
             " past; 27 classes are Jester's", found.path, PUBLISHED_DIV)
    return ModelSpec(count_classes(found.weights, found.path), CLIP_SEGMENTS, arch="mobilenetv2", shift=True,
                     shift_div=PUBLISHED_DIV, shift_place="blockres", shift_direction="unidirectional")


def online_content(opened: Opened) -> dict[str, Any]:
    """What an online file of ours holds."""
    model, settings = opened.build(), opened.settings
    return {"version": VERSION, "online": True, "arch": settings.arch,
            "state_dict": to_online_names(model.state_dict(), settings), "settings": settings.to_dict(),
            "trained_direction": opened.trained_direction, "dataset": opened.dataset,
            "class_names": opened.class_names, "preprocessing": model.preprocessing.to_dict(),
            "frame_rate": opened.frame_rate}


def bare_content(opened: Opened) -> dict[str, Any]:
    """The released form: a state dict and nothing else. UserError for a model that it cannot stand for."""
    settings = opened.settings
    if not has_published_names(settings) or settings.shift_div != PUBLISHED_DIV:
        shift = f"1/{settings.shift_div} {settings.place}" if settings.shift else "none"
        raise UserError(f"--bare: {opened.path} is {settings.arch} with shift {shift}; the released form carries no"
                        f" metadata and means mobilenetv2 with shift 1/{PUBLISHED_DIV} blockres: leave out --bare")
    return dict(online_content(opened)["state_dict"])


def clip_content(opened: Opened) -> dict[str, Any]:
    """A clip checkpoint that `test_models.py` scores and `main.py --tune_from` starts from; no optimizer state."""
    model, settings = opened.build(), opened.settings
    return {"version": VERSION, "epoch": 0, "arch": settings.arch, "optimizer": None, "best_prec1": 0.0,
            "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
            "settings": settings.to_dict(), "dataset": opened.dataset, "class_names": opened.class_names,
            "preprocessing": model.preprocessing.to_dict(), "frame_rate": opened.frame_rate,
            "shift_layers": [list(row) for row in shift_layers(model)]}
