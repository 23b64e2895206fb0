"""A report on a weight file: what its metadata, its name and its tensors show, and whether it loads.

Each fact carries its source: "metadata" (ours, and the published entries), "file name", "tensors".
"""
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ops.backbones import BACKBONES
from ops.checkpoints.checkpoint import (
    DEFAULT_SEGMENTS,
    METADATA,
    MMACTION,
    RELEASED_ONLINE,
    Checkpoint,
    load_checkpoint,
)
from ops.checkpoints.online_format import load_streamable
from ops.checkpoints.store_name import parse_name
from ops.checkpoints.tensors import IMAGE, ONLINE, count_classes, read_tensors, recognize
from ops.common.errors import UserError, shown
from ops.models import TSN
from ops.pretrained import load_imagenet
from ops.spec import ModelSpec
from ops.weights import load_weights, non_finite

_ORDER = ("arch", "dataset", "modality", "num_class", "multi_label", "class_names", "num_segments", "shift", "shift_place",
          "shift_stages", "shift_div", "shift_direction", "consensus_type", "temporal_pool", "non_local", "non_local_type",
          "dropout", "input_size")  # in which a reader looks for the facts


@dataclass(frozen=True)
class Fact:
    """One thing known of a file, and from where."""
    value: Any
    source: str


@dataclass
class Inspection:
    """A file's report. kind: as in `Checkpoint`. facts: by `ModelSpec` option, or published entry; what is unknown is
    absent.

    notes: contradictions and oddities, a sentence each. loads: whether it loads into the model of its kind; if not,
    `problem` is the reason. named: whether its metadata or its name describe it; if not, `name_form` is a name that
    would.
    """
    path: Path
    kind: str
    tensors: int
    parameters: int
    dtypes: list[str]
    facts: dict[str, Fact]
    notes: list[str] = field(default_factory=list)
    loads: bool = False
    problem: str = ""
    named: bool = True
    name_form: str = ""


def inspect_file(path: Path) -> Inspection:
    """Open, recognize and try a weight file. UserError when it is not one, or of an unknown network."""
    found = load_checkpoint(path)
    arch, score = recognize(found.weights)
    if not arch:
        raise UserError(f"{path} is not of any network known here: it has {len(found.weights)} tensors, the first are"
                        f" {', '.join(list(found.weights)[:3])}")
    shown = {"arch": arch, **read_tensors(found.weights, found.kind, arch)}
    described = _described(found)
    learned = [value for key, value in found.weights.items()
               if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    report = Inspection(
        path, found.kind, len(found.weights), sum(value.numel() for value in learned),
        sorted({str(value.dtype).removeprefix("torch.") for value in learned}), _merged(described, shown))
    if score < 1:
        report.notes.append(f"{arch} is a guess: {score:.0%} of the tensors are {arch}'s")
    if found.source == MMACTION:
        report.notes.append("its tensors have mmaction2's names; T and the shift's div are not in the file")
    report.notes += [f"{key} is {described[key].value!r} by its {described[key].source}, {value!r} by its tensors"
                     for key, value in shown.items() if key in described and described[key].value != value
                     and (key, value) != ("shift", False)]  # names without `.net` are another spelling, no proof
    broken = non_finite(found.weights)
    if broken:
        report.notes.append(f"{len(broken)} tensors hold NaN or Inf, the first is {broken[0]}")
    _try_loading(report, found, shown)
    return report


def _merged(described: Mapping[str, Fact], shown: Mapping[str, Any]) -> dict[str, Fact]:
    """The file's own description, confirmed or completed by what its tensors show, in a reader's order."""
    facts = dict(described)
    for key, value in shown.items():
        if key not in facts:
            facts[key] = Fact(value, "tensors")
        elif facts[key].value == value:
            facts[key] = Fact(value, f"{facts[key].source} and tensors")
    return {key: facts[key] for key in sorted(facts, key=lambda key: _ORDER.index(key) if key in _ORDER else 99)}


def _described(found: Checkpoint) -> dict[str, Fact]:
    """The facts in a file's published entries and in its metadata, or else in its name or its released form."""
    entries = {key: found.content[key] for key in ("epoch", "best_prec1", "commit", "arch") if key in found.content}
    facts = {key: Fact(_plain(value), METADATA) for key, value in entries.items()}
    if found.known_spec is not None:
        options = {**found.known_spec.to_dict(), "shift_place": found.known_spec.place}
        facts |= {key: Fact(options[key], found.source) for key in _described_options(found) if key in options}
    if found.class_names and found.source == METADATA:
        facts["class_names"] = Fact(found.class_names, METADATA)
    if found.dataset:
        facts["dataset"] = Fact(found.dataset, found.source)
    if "shift" in facts and not facts["shift"].value:  # then it does not matter how a shift would be done
        for key in ("shift_place", "shift_div", "shift_direction", "shift_stages"):
            facts.pop(key, None)
    return facts


def _plain(value: Any) -> Any:
    """A published entry as a number or text that fits into one line and into JSON."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    finite = isinstance(value, (int, float)) and math.isfinite(value)
    return value if value is None or finite else shown(value)


def _described_options(found: Checkpoint) -> Iterable[str]:
    """The options that a file's source holds; the rest of its spec is defaults, or taken from the tensors."""
    assert found.known_spec is not None
    if found.source == METADATA:
        return found.known_spec.to_dict()
    if found.source == RELEASED_ONLINE:
        return ("shift", "shift_place", "shift_div", "shift_direction")
    named = parse_name(found.path)
    return named[1] if named else ()


# ---- loading --------------------------------------------------------------------------------------------------

def _try_loading(report: Inspection, found: Checkpoint, shown: Mapping[str, Any]) -> None:
    """Build the model and load the weights; note what happened."""
    try:
        if found.kind == IMAGE:
            backbone = BACKBONES[shown["arch"]]
            load_imagenet(_empty(backbone.build), found.path, backbone)
        elif found.kind == ONLINE:
            load_streamable(found.path).build()
        else:
            _try_clip_model(report, found, shown)
        report.loads = True
    except UserError as error:
        report.problem = str(error)


def _try_clip_model(report: Inspection, found: Checkpoint, shown: Mapping[str, Any]) -> None:
    count_classes(found.weights, found.path)
    if found.known_spec is None:
        report.named, report.name_form = False, _name_form(shown)
    try:
        _load(found.known_spec or ModelSpec(**{"num_segments": DEFAULT_SEGMENTS, **shown}), found)
    except UserError as error:
        if found.known_spec is not None and _fits(found.known_spec.with_(**shown), found):
            report.notes.append(f"it fits a model as its tensors show it, not as its {found.source} describes it")
        raise error


def _name_form(shown: Mapping[str, Any]) -> str:
    """A published name with what the tensors show filled in."""
    place = shown.get("shift_place", "<place>")
    shift = {True: f"_shift<div>_{place}", False: "", None: "[_shift<div>_<place>]"}[shown.get("shift")]
    pool, non_local = "_tpool" * shown["temporal_pool"], "_nl" * shown["non_local"]
    return (f"TSM_<dataset>_{shown.get('modality', '<modality>')}_{shown['arch']}{shift}{pool}_<consensus>"
            f"_segment<frames>_e<epochs>{non_local}.pth")


def _load(spec: ModelSpec, found: Checkpoint) -> None:
    load_weights(_empty(lambda: TSN.from_spec(spec)), found.weights, str(found.path))


def _fits(spec: ModelSpec, found: Checkpoint) -> bool:
    try:
        _load(spec, found)
    except UserError:
        return False
    return True


def _empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A model without its first random weights, which would take most of the time."""
    with torch.device("meta"):
        model = build()
    return model.to_empty(device="cpu")
