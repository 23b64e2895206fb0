"""Weight files of every kind, opened: which model a file holds, and how that is known.

A checkpoint of ours is a dict with the published entries (epoch, arch, state_dict with `module.` keys, optimizer,
best_prec1) and settings (a `ModelSpec`), dataset, class_names, preprocessing, shift_layers, train (options and seed),
version. Released files, bare state dicts, online files (`ops.checkpoints.online_format`) and mmaction2's checkpoints
(`ops.checkpoints.mmaction`) are read as well.
"""
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping, Optional

from torch import Tensor

from ops.checkpoints.metadata import check_class_count, check_entries, read_settings
from ops.checkpoints.mmaction import from_mmaction, is_mmaction, segments_in_name
from ops.checkpoints.store_name import NAME_FORM, parse_name
from ops.checkpoints.tensors import (
    CLIP,
    IMAGE,
    ONLINE,
    count_classes,
    file_kind,
    find_class_count,
    has_released_online_names,
    head_dropout,
    read_tensors,
    recognize,
    to_clip_names,
)
from ops.common.errors import UserError
from ops.dataset_config import JESTER_CLASSES
from ops.model_folder import read_folder
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import find_state_dict, load_weights, read_checkpoint

log = logging.getLogger(__name__)
VERSION = 1

METADATA, FILE_NAME, RELEASED_ONLINE, MMACTION, KEYS, UNKNOWN = (
    "metadata", "file name", "released online form", "mmaction2 form", "keys and the flags", "nothing")
DEFAULT_SEGMENTS = 8  # T where nothing in a file shows it
RELEASED_ONLINE_DIV = 8  # the released online MobileNetV2's shift; its file cannot name another


@dataclass(frozen=True)
class Checkpoint:
    """An opened weight file.

    weights: without `module.`, under the clip model's names. kind: "clip" (a TSN), "online" (a TSN in its streaming
    form) or "image" (a backbone alone). source: how `known_spec` is known, one of the constants above. known_spec: what
    rebuilds the model, None where nothing describes it. dataset, class_names: None where unknown. content: every entry
    of the file.
    """
    path: Path
    weights: dict[str, Tensor]
    kind: str
    source: str = UNKNOWN
    known_spec: Optional[ModelSpec] = None
    dataset: Optional[str] = None
    class_names: Optional[list[str]] = None
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        """What rebuilds the model. UserError where nothing describes it."""
        if self.known_spec is not None:
            return self.known_spec
        if self.kind == IMAGE:
            raise UserError(f"{self.path}: unknown model: its keys are not a video model's (base_model..., new_fc...);"
                            " weights of an image network are for pretrain", "pretrain")
        raise UserError(f"{self.path}: unknown model: it has neither metadata nor a published name ({NAME_FORM}): rename it"
                        " in that form, or give arch and, for TSM, shift, shift_div, shift_place and shift_direction",
                        "arch", "shift", "shift_div", "shift_place", "shift_direction")

    def build(self) -> TSN:
        """The model with these weights, in evaluation mode. UserError where its options or the weights do not fit."""
        try:
            model = TSN.from_spec(self.spec)
        except UserError as error:
            raise UserError(f"{self.path}: {error}", *error.options) from None
        load_weights(model, self.weights, str(self.path))
        model.class_names = self.class_names
        return model.eval()


# ---- opening --------------------------------------------------------------------------------------------------

def load_checkpoint(path: Path, *, strict: bool = False, **overrides: Any) -> Checkpoint:
    """Open a weight file and find out which model it holds: the one place that decides this, for every program.

    path: a file, or a directory that `TSN.save_pretrained` wrote, whose config counts as metadata.

    The spec comes from the first of these that describes the file: its metadata; the released online form, which has
    key names of its own; its published name (or its directory's); mmaction2's key names; its keys and shapes together
    with `overrides`, which must then hold the arch. Where none does, the checkpoint's `spec` raises a UserError.

    overrides: `ModelSpec` options that are not as the file describes them, or that it does not describe; None counts
    as not given. They win over every source. strict: an override that contradicts metadata is refused with a
    UserError instead; num_segments stays free, because no weight depends on it.
    """
    path = Path(path)
    content = read_folder(path) if path.is_dir() else read_checkpoint(path)
    check_entries(content, path)
    weights = find_state_dict(content, path)
    foreign = is_mmaction(weights)
    weights = from_mmaction(weights, path) if foreign else weights
    kind = ONLINE if content.get("online") else file_kind(weights)
    opened = Checkpoint(path, to_clip_names(weights) if kind == ONLINE else weights, kind, content=content)
    given = {key: value for key, value in overrides.items() if value is not None}
    found = (_by_metadata(opened) or _by_released_online_names(opened, weights) or _by_name(opened)
             or (_by_mmaction_names(opened, given) if foreign else _by_keys(opened, given)) or opened)
    if found.known_spec is None:
        return found
    if strict and found.source == METADATA:
        check_no_contradiction(found, {key: value for key, value in given.items() if key != "num_segments"})
    return replace(found, known_spec=found.known_spec.with_(**given))


def _by_metadata(opened: Checkpoint) -> Optional[Checkpoint]:
    content = opened.content
    if "settings" not in content:
        return None
    spec, names = read_settings(content, opened.path), list(content.get("class_names") or [])
    outputs = find_class_count(opened.weights)
    if outputs is not None:
        check_class_count(spec, outputs, names, opened.path)
    return replace(opened, source=METADATA, known_spec=spec, dataset=content.get("dataset"), class_names=names or None)


def _by_released_online_names(opened: Checkpoint, weights: Mapping[str, Tensor]) -> Optional[Checkpoint]:
    """The released online MobileNetV2. With Jester's number of classes it is taken for the released Jester model."""
    if not has_released_online_names(weights):
        return None
    log.info("%s has no metadata: assumed to be in the released form, MobileNetV2 with 1/%d of the channels from the"
             " past; 27 classes are Jester's", opened.path, RELEASED_ONLINE_DIV)
    spec = ModelSpec(count_classes(weights, opened.path), DEFAULT_SEGMENTS, arch="mobilenetv2", shift=True,
                     shift_div=RELEASED_ONLINE_DIV, shift_place="blockres", shift_direction="unidirectional")
    jester = spec.num_class == len(JESTER_CLASSES)
    return replace(opened, source=RELEASED_ONLINE, known_spec=spec, dataset="jester" if jester else None,
                   class_names=list(JESTER_CLASSES) if jester else None)


def _by_name(opened: Checkpoint) -> Optional[Checkpoint]:
    named = parse_name(opened.path)
    if named is None:
        return None
    dataset, options = named
    spec = ModelSpec(num_class=count_classes(opened.weights, opened.path), dropout=head_dropout(opened.weights),
                     **options)
    return replace(opened, source=FILE_NAME, known_spec=spec, dataset=dataset)


def _by_mmaction_names(opened: Checkpoint, given: Mapping[str, Any]) -> Optional[Checkpoint]:
    """A TSM or TSN of mmaction2, whose names show the arch and where it shifts. A log line says what is assumed."""
    arch = given.get("arch") or recognize(opened.weights)[0]
    if not arch:
        return None
    shown = {"num_class": count_classes(opened.weights, opened.path), "arch": arch,
             "num_segments": segments_in_name(opened.path) or DEFAULT_SEGMENTS, **read_tensors(opened.weights, CLIP, arch)}
    spec = ModelSpec(**shown)
    unseen = ["num_segments", *(["shift_div"] if spec.shift else []), *(["non_local_type"] if spec.non_local else [])]
    assumed = [f"{option} {getattr(spec, option)}" for option in unseen if option not in given]
    if assumed:
        log.info("%s is a checkpoint of mmaction2, which does not hold every option: assumed %s; the options of the same"
                 " names set others", opened.path, ", ".join(assumed))
    return replace(opened, source=MMACTION, known_spec=spec)


def _by_keys(opened: Checkpoint, given: Mapping[str, Any]) -> Optional[Checkpoint]:
    """A TSN of which the file shows nothing but its keys and shapes."""
    if opened.kind != CLIP or "arch" not in given:
        return None
    shown = {"num_class": count_classes(opened.weights, opened.path), "num_segments": DEFAULT_SEGMENTS,
             "arch": given["arch"], **read_tensors(opened.weights, CLIP, given["arch"])}
    if not shown.get("shift") and "shift" not in given:
        log.warning("warning: %s: nothing shows whether it shifts, so it is built without a shift: give shift if it is a"
                    " TSM, no-shift if it is not", opened.path)
    return replace(opened, source=KEYS, known_spec=ModelSpec(**shown))


# ---- comparing with what is asked for -------------------------------------------------------------------------

def check_no_contradiction(found: Checkpoint, given: Mapping[str, Any]) -> None:
    """UserError when one of these options is another in the checkpoint's spec."""
    _refuse(found, _differences(_comparable(found.spec), _comparable(found.spec.with_(**given)), set(given)))


def check_same_spec(found: Checkpoint, wanted: ModelSpec) -> None:
    """UserError that names the options in which a checkpoint's model differs from the one asked for."""
    _refuse(found, spec_differences(found, wanted))


def spec_differences(found: Checkpoint, wanted: ModelSpec) -> dict[str, str]:
    """Option -> its two values in words, for the options in which a checkpoint's model differs from the one asked for.

    Only options that the checkpoint's source holds; the weights' keys and shapes decide the rest.
    """
    if found.known_spec is None:
        return {}
    known, asked = _comparable(found.known_spec), _comparable(wanted)
    compared = set(asked) - {"img_feature_dim"}  # on which no layer depends
    if found.source == RELEASED_ONLINE:
        compared = {"num_class", "arch", "shift", "shift_div", "shift_place", "shift_direction", "shift_stages"}
    if found.source == MMACTION:
        compared = {"num_class", "arch", "modality", "shift", "shift_place", "shift_stages", "temporal_pool", "non_local"}
    if found.source == FILE_NAME:  # which holds no other options; the weights show whether there is dropout
        named = parse_name(found.path)
        compared = {"num_class", "dropout", *(named[1] if named else ())}
        if known["dropout"]:
            known["dropout"] = asked["dropout"] or "above 0"
    return _differences(known, asked, compared)


def _comparable(spec: ModelSpec) -> dict[str, Any]:
    """The spec's options with the default place spelled out."""
    return {**vars(spec), "shift_place": spec.place}


def _differences(known: dict[str, Any], asked: dict[str, Any], compared: set[str]) -> dict[str, str]:
    if not asked["shift"]:  # then it does not matter how a shift would be done
        compared = compared - {"shift_div", "shift_place", "shift_direction", "shift_stages"}
    return {key: f"{key} {known[key]!r} there, {asked[key]!r} here" for key in asked
            if key in compared and known[key] != asked[key]}


def _refuse(found: Checkpoint, differing: Mapping[str, str]) -> None:
    if differing:
        raise UserError(f"{found.path} ({found.source}) is another model than the one asked for:"
                        f" {'; '.join(differing.values())}: use the options it was trained with")
