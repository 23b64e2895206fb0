"""Checkpoints, both ways: the published layout plus what rebuilds a model, read from any known form.

Ours is a dict with the published entries (epoch, arch, state_dict with `module.` keys, optimizer, best_prec1) and:
settings (`ModelSettings`), dataset, class_names, preprocessing, shift_layers, train (options and seed), version.
"""
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

from torch import Tensor

from ops.backbones import inflate_kernel
from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import find_state_dict, fit_names, load_weights, read_checkpoint

log = logging.getLogger(__name__)
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint opened: its weights, the settings found (None: nothing says), and from where they are."""
    path: Path
    weights: dict[str, Tensor]
    settings: Optional[ModelSpec]
    dataset: Optional[str]
    class_names: Optional[list[str]]
    source: str
    content: dict[str, Any]


def load_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint; its own metadata wins over its file name."""
    content = read_checkpoint(path)
    weights = find_state_dict(content, path)
    if "settings" in content:
        names = content.get("class_names")
        return Checkpoint(path, weights, ModelSpec.from_dict(content["settings"]), content.get("dataset"),
                          list(names) if names else None, "metadata", content)
    found = parse_name(path)
    if found is None:
        return Checkpoint(path, weights, None, None, None, "nothing", content)
    dataset, options = found
    settings = ModelSpec(num_class=count_classes(weights, path), dropout=head_dropout(weights), **options)
    return Checkpoint(path, weights, settings, dataset, None, "file name", content)


def head_dropout(weights: Mapping[str, Tensor]) -> float:
    """0 where the classifier lies in the backbone, which is how dropout 0 is stored; else the default."""
    return 0.0 if any(key.startswith(("base_model.fc.", "base_model.classifier.")) for key in weights) else 0.5


def count_classes(weights: Mapping[str, Tensor], path: Path) -> int:
    """The classifier's number of outputs."""
    for key in ("new_fc.weight", "base_model.fc.weight", "base_model.classifier.weight", "classifier.weight"):
        if key in weights:
            return weights[key].shape[0]
    raise UserError(f"{path} has no classifier: none of its keys is new_fc.weight, base_model.fc.weight or"
                    " base_model.classifier.weight")


_NAME = re.compile(
    r"TSM_(?P<dataset>.+?)_(?P<modality>RGBDiff|RGB|Flow)_(?P<arch>[^_]+)"
    r"(?:_shift(?P<div>\d+)_(?P<place>blockres|block|[01]{12})(?P<uni>_uni)?)?(?P<tpool>_tpool)?"
    r"_(?P<consensus>avg|identity)_segment(?P<segments>\d+)(?:_e\d+)?(?P<rest>(?:_[^_]+)*)$")


def parse_name(path: Path) -> Optional[tuple[str, dict[str, Any]]]:
    """(data set, model options) that a published file or store name tells, or None.

    Only the file's own name counts, or for ckpt*.pth.tar its directory's: nothing else in the path.
    """
    name = path.absolute().parent.name if path.name.startswith("ckpt") else path.name
    match = _NAME.match(re.sub(r"(\.best)?\.(pth|pt)(\.tar)?$", "", name))
    if not match:
        return None
    rest = match["rest"].split("_")
    return match["dataset"], {
        "modality": match["modality"], "arch": match["arch"], "shift": match["div"] is not None,
        "shift_div": int(match["div"] or 8), "shift_place": match["place"] or "",
        "shift_direction": "unidirectional" if match["uni"] else "bidirectional",
        "consensus_type": match["consensus"], "num_segments": int(match["segments"]),
        "temporal_pool": bool(match["tpool"]), "non_local": "nl" in rest}


# ---- fitting a checkpoint to what is asked for --------------------------------------------------------------

def check_same_settings(found: Checkpoint, wanted: ModelSpec) -> None:
    """UserError that names the options in which a checkpoint's model differs from the one asked for."""
    if found.settings is None:
        return  # nothing is said; the weights' keys and shapes decide
    old, new = dict(vars(found.settings)), dict(vars(wanted))
    old["shift_place"], new["shift_place"] = found.settings.place, wanted.place
    if found.source == "file name":  # which tells no more than this; the weights tell whether there is dropout
        named = parse_name(found.path)
        compared = {"num_class", "dropout", *(named[1] if named else ())}
        if old["dropout"]:
            old["dropout"] = new["dropout"] or "above 0"
    else:
        compared = set(new) - {"img_feature_dim"}  # on which no layer depends
    if not wanted.shift:  # how to shift says nothing where nothing shifts
        for side in (old, new):
            side.update(shift_div=0, shift_place="", shift_direction="")
    differing = [f"{key} {old[key]!r} there, {new[key]!r} here" for key in new
                 if key in compared and old[key] != new[key]]
    if differing:
        raise UserError(f"{found.path} ({found.source}) is another model than the flags ask for:"
                        f" {'; '.join(differing)}: use the flags it was trained with")


def same_classes(found: Checkpoint, dataset: str, class_names: Optional[list[str]]) -> bool:
    """Whether a checkpoint's classes are the data set's: by their names, or where they are unknown, its name."""
    if found.class_names and class_names:
        return found.class_names == class_names
    return found.dataset in (None, dataset)


def tune_from(model: TSN, path: Path, dataset: str, class_names: Optional[list[str]]) -> bool:
    """Load a checkpoint's weights into a model for another task; True if the classifier came along.

    The classifier is kept when it has the same shape and the same classes (`same_classes`), and is else the
    model's fresh one. A first layer for RGB is widened for Flow or RGBDiff (TSN, sec. 3.2). Every other key must be
    there with its shape.
    """
    found = load_checkpoint(path)
    own = model.state_dict()
    weights = fit_names(found.weights, own, f"--tune_from {path}")
    head = [key for key in own if re.search(r"(^new_fc|^base_model\.(fc|classifier))\.(weight|bias)$", key)]
    kept = same_classes(found, dataset, class_names) and all(
        key in weights and weights[key].shape == own[key].shape for key in head)
    if not kept:
        weights.update({key: own[key] for key in head})
    first = next(key for key in own if own[key].dim() == 4)
    if first in weights and weights[first].shape[1] == 3 < own[first].shape[1]:
        weights[first] = inflate_kernel(weights[first], own[first].shape[1])
        log.info("first layer: RGB weights widened to %d channels", own[first].shape[1])
    load_weights(model, weights, f"--tune_from {path}")
    log.info("tuned from %s: the classifier is %s", path, "kept" if kept else "new (other classes)")
    return kept


def store_name(settings: ModelSpec, dataset: str, epochs: int, pretrain: str = "imagenet", lr_type: str = "step",
               dense_sample: bool = False, suffix: Optional[str] = None) -> str:
    """The published directory name of a run."""
    s = settings
    shift = f"shift{s.shift_div}_{s.place}{'_uni' if s.shift_direction == 'unidirectional' else ''}"
    parts = ["TSM", dataset, s.modality, s.arch, shift if s.shift else "", "tpool" if s.temporal_pool else "",
             s.consensus_type, f"segment{s.num_segments}", f"e{epochs}",
             _pretrain_name(pretrain), lr_type if lr_type != "step" else "", "dense" if dense_sample else "",
             "nl" if s.non_local else "", suffix or ""]
    return "_".join(part for part in parts if part)


def _pretrain_name(pretrain: str) -> str:
    """A path becomes its file's stem: a directory name cannot hold a path."""
    name = pretrain.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]
    return "" if pretrain == "imagenet" else name
