"""What a weight file is, by what it says of itself, its name and its tensors, and whether it loads.

Each fact carries its source: "metadata" (ours, and the published entries), "file name", "tensors". Tensors tell the
architecture, the classes, the modality, where the shift sits, non-local blocks and a temporal pool; they do not tell
the number of frames, the shift's div and direction, the consensus, and of BNInception's shift nothing at all.
"""
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import torch
from torch import Tensor, nn

from ops.backbones import BACKBONES, load_imagenet
from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint, parse_name
from ops.checkpoints.online_format import is_bare_online, open_model
from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import load_weights, shift_in_keys

VIDEO, ONLINE, IMAGE = "video model", "online model", "image network"
IMAGENET_CLASSES = 1000
_HEADS = ("new_fc", "fc", "classifier", "classifier.1", "last_linear")
_MODALITIES = {3: "RGB", 10: "Flow", 15: "RGBDiff"}  # by the first convolution's channels
_ORDER = ("arch", "dataset", "modality", "num_class", "class_names", "num_segments", "shift", "shift_place",
          "shift_div", "shift_direction", "consensus_type", "temporal_pool", "non_local", "non_local_type", "dropout",
          "input_size")
_ENOUGH = 0.5  # share of an architecture's tensors that a file must have to count as one of its kind


@dataclass(frozen=True)
class Fact:
    """One thing known of a file, and from where."""
    value: Any
    source: str


@dataclass
class Inspection:
    """A file's report. facts: by `ModelSettings` field, or published entry; what is unknown is absent.

    notes: contradictions and oddities, a sentence each. loads: what it loads into, or "" and `problem` says why not.
    """
    path: Path
    kind: str
    tensors: int
    parameters: int
    dtypes: list[str]
    facts: dict[str, Fact]
    notes: list[str] = field(default_factory=list)
    loads: str = ""
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rest = {key: value for key, value in vars(self).items() if key not in ("path", "facts", "loads")}
        return {"file": str(self.path), **rest, "loads": bool(self.loads), "loads_as": self.loads,
                "facts": {key: vars(fact) for key, fact in self.facts.items()}}


def inspect_file(path: Path) -> Inspection:
    """Open, recognise and try a weight file. UserError when it is none, or of no network we know."""
    found = load_checkpoint(path)
    kind, arch, score = recognise(found.weights, bool(found.content.get("online")))
    if not arch:
        raise UserError(f"{path} is of no network known here: it has {len(found.weights)} tensors, the first are"
                        f" {', '.join(list(found.weights)[:3])}")
    by_tensors = {"arch": arch, **read_tensors(found.weights, kind, arch)}
    said = _said(found)
    learnt = [value for key, value in found.weights.items()
              if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    result = Inspection(
        path, kind, len(found.weights), sum(value.numel() for value in learnt),
        sorted({str(value.dtype).removeprefix("torch.") for value in learnt}), _merged(said, by_tensors))
    if score < 1:
        result.notes.append(f"{arch} is a guess: {score:.0%} of the tensors are {arch}'s")
    result.notes += [f"{key} is {said[key].value!r} by its {said[key].source}, {value!r} by its tensors"
                     for key, value in by_tensors.items() if key in said and said[key].value != value
                     and (key, value) != ("shift", False)]  # names without `.net` are another spelling, no proof
    broken = [key for key, value in found.weights.items() if not _finite(value)]
    if broken:
        result.notes.append(f"{len(broken)} tensors hold NaN or Inf, the first is {broken[0]}")
    _try(result, found, by_tensors)
    return result


def _finite(value: Tensor) -> bool:
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())  # a sum is much cheaper, but may overflow


def _merged(said: Mapping[str, Fact], by_tensors: Mapping[str, Any]) -> dict[str, Fact]:
    """What the file says, confirmed or completed by its tensors, in a reader's order."""
    facts = dict(said)
    for key, value in by_tensors.items():
        if key not in facts:
            facts[key] = Fact(value, "tensors")
        elif facts[key].value == value:
            facts[key] = Fact(value, f"{facts[key].source} and tensors")
    return {key: facts[key] for key in sorted(facts, key=lambda key: _ORDER.index(key) if key in _ORDER else 99)}


def _said(found: Checkpoint) -> dict[str, Fact]:
    """What the file's metadata say, else its name."""
    published = {key: found.content[key] for key in ("epoch", "best_prec1", "commit", "arch") if key in found.content}
    facts: dict[str, Fact] = {key: Fact(value.item() if isinstance(value, Tensor) else value, "metadata")
                              for key, value in published.items()}
    if found.source == "metadata" and found.settings is not None:
        facts |= {key: Fact(value, "metadata") for key, value in found.settings.to_dict().items()}
        facts["shift_place"] = Fact(found.settings.place, "metadata")
        if found.class_names:
            facts["class_names"] = Fact(found.class_names, "metadata")
    elif named := parse_name(found.path):
        facts |= {key: Fact(value, "file name") for key, value in named[1].items()}
    if found.dataset:
        facts["dataset"] = Fact(found.dataset, found.source)
    if "shift" in facts and not facts["shift"].value:  # how to shift says nothing where nothing shifts
        for key in ("shift_place", "shift_div", "shift_direction"):
            facts.pop(key, None)
    return facts


# ---- by the tensors ------------------------------------------------------------------------------------------

def recognise(weights: Mapping[str, Tensor], online: bool = False) -> tuple[str, str, float]:
    """(kind, architecture, share of the tensors that agree); architecture "" when none does.

    online: the file says that it is an online model. Bare, its names are those of an image MobileNetV2, which has
    ImageNet's number of classes.
    """
    if any(key.startswith("base_model.") for key in weights):
        return (ONLINE if online else VIDEO, *_best_arch(_body(weights)))
    arch, score = max((_best_arch(_body(form), [name]) for name in BACKBONES for form in _forms(weights, name)),
                      key=lambda found: found[1])
    online = online or (arch == "mobilenetv2" and is_bare_online(weights) and _classes(weights) != IMAGENET_CLASSES)
    return (ONLINE if online else IMAGE), arch, score


def _forms(weights: Mapping[str, Tensor], arch: str) -> list[Mapping[str, Tensor]]:
    """The weights as they are, and in our names where they are another library's of this network."""
    try:
        return [weights, BACKBONES[arch].convert(weights)]
    except (KeyError, ValueError):
        return [weights]


def _best_arch(body: Mapping[str, torch.Size], among: Optional[list[str]] = None) -> tuple[str, float]:
    """The backbone whose keys and shapes the body has most of; ("", 0) when it has less than half of any."""
    best = ("", 0.0)
    for arch in among or BACKBONES:
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


def _classes(weights: Mapping[str, Tensor]) -> Optional[int]:
    plain = {key.removeprefix("base_model."): value for key, value in weights.items()}
    return next((plain[f"{head}.weight"].shape[0] for head in _HEADS if f"{head}.weight" in plain), None)


def read_tensors(weights: Mapping[str, Tensor], kind: str, arch: str) -> dict[str, Any]:
    """The `ModelSettings` that the tensors of a recognised file tell."""
    facts: dict[str, Any] = {}
    classes = _classes(weights)
    if classes is not None:
        facts["num_class"] = classes
    first = next((value for value in weights.values() if value.dim() == 4), None)
    if first is not None and first.shape[1] in _MODALITIES:
        facts["modality"] = _MODALITIES[first.shape[1]]
    if kind != VIDEO:
        return facts
    facts["temporal_pool"] = any(key.startswith("base_model.layer2.net.") for key in weights)
    facts["non_local"] = any(".nl." in key for key in weights)
    if facts["non_local"] and not any(".nl.theta." in key for key in weights):
        facts["non_local_type"] = "gaussian"
    if "new_fc.weight" not in weights:
        facts["dropout"] = 0.0
    if arch != "BNInception":
        place = shift_in_keys(weights)
        facts |= {"shift": True, "shift_place": place} if place else {"shift": False}
    return facts


# ---- loading -------------------------------------------------------------------------------------------------

def _try(result: Inspection, found: Checkpoint, by_tensors: Mapping[str, Any]) -> None:
    """Build the model and load the weights; note what happened."""
    try:
        if result.kind == IMAGE:
            arch = by_tensors["arch"]
            load_imagenet(_empty(BACKBONES[arch].build), found.path, BACKBONES[arch])
            result.loads = f"main.py --arch {arch} --pretrain"
        elif result.kind == ONLINE:
            _try_online(result, found)
        else:
            _try_video(result, found, by_tensors)
    except UserError as error:
        result.problem = str(error)


def _try_online(result: Inspection, found: Checkpoint) -> None:
    opened = open_model(found.path)
    if found.settings is None:  # the released form: its names stand for all of this
        told = {"dataset": opened.dataset, "shift": True, "shift_place": opened.settings.place,
                "shift_div": opened.settings.shift_div, "shift_direction": opened.settings.shift_direction}
        result.facts |= {key: Fact(value, "released form") for key, value in told.items() if value is not None}
    opened.build()
    result.loads = "the online demo"


def _try_video(result: Inspection, found: Checkpoint, by_tensors: Mapping[str, Any]) -> None:
    if "num_class" not in by_tensors:
        raise UserError(f"{found.path} has no classifier")
    guessed = ModelSpec(**{"num_segments": 8, **by_tensors})
    settings = found.settings or guessed
    try:
        load_weights(_empty(lambda: TSN.from_spec(settings)), found.weights, str(found.path))
    except UserError as error:
        if found.settings is not None and _fits(found.settings.with_(**by_tensors), found):
            result.notes.append(f"it fits a model as its tensors say, not as its {found.source} says")
        raise error
    result.loads = ("test_models.py, main.py --tune_from" if found.settings is not None else
                    f"main.py --tune_from; test_models.py once it is named {_name_form(by_tensors)}")


def _name_form(by_tensors: Mapping[str, Any]) -> str:
    """The published name that would say what the tensors do not."""
    place = by_tensors.get("shift_place", "<place>")
    shift = {True: f"_shift<div>_{place}", False: "", None: "[_shift<div>_<place>]"}[by_tensors.get("shift")]
    pool, non_local = "_tpool" * by_tensors["temporal_pool"], "_nl" * by_tensors["non_local"]
    return (f"TSM_<dataset>_{by_tensors.get('modality', '<modality>')}_{by_tensors['arch']}{shift}{pool}_<consensus>"
            f"_segment<frames>_e<epochs>{non_local}.pth")


def _fits(settings: ModelSpec, found: Checkpoint) -> bool:
    try:
        load_weights(_empty(lambda: TSN.from_spec(settings)), found.weights, str(found.path))
    except UserError:
        return False
    return True


def _empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A model without its first random weights, which would take most of the time."""
    with torch.device("meta"):
        model = build()
    return model.to_empty(device="cpu")
