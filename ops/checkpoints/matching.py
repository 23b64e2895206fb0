"""Whether a checkpoint's classes are a data set's, and how a model for another task starts from its weights."""
import logging
from pathlib import Path
from typing import Optional, Sequence
from unicodedata import normalize

from ops.checkpoints.checkpoint import Checkpoint, check_same_spec, load_checkpoint, spec_differences
from ops.common.errors import UserError
from ops.common.words import counted
from ops.dataset_config import DatasetPaths
from ops.models import TSN
from ops.pretrained import inflate_kernel
from ops.weights import fit_names, head_keys, load_weights

log = logging.getLogger(__name__)


def _one_spelling(names: Sequence[str]) -> list[str]:
    """The names with accents as single characters (NFC): file names of macOS, and what was made of them, spell two."""
    return [normalize("NFC", name) for name in names]


def same_classes(found: Checkpoint, dataset: str, class_names: Optional[list[str]]) -> bool:
    """Whether a checkpoint's classes are the data set's: by their names, or where those are unknown, by the data set's."""
    if found.class_names and class_names:
        return _one_spelling(found.class_names) == _one_spelling(class_names)
    return found.dataset in (None, dataset)


def check_same_classes(found: Checkpoint, data: DatasetPaths) -> None:
    """UserError when a checkpoint's classes are not the data set's: other names, another data set, another number."""
    names, expected = _one_spelling(found.class_names or ()), _one_spelling(data.class_names or ())
    if names and len(names) == len(expected) and names != expected:
        i = next(i for i, (a, b) in enumerate(zip(names, expected)) if a != b)
        raise UserError(f"{found.path}: the checkpoint and {data.name} have different classes: class {i} is {names[i]!r} in"
                        f" the checkpoint, {expected[i]!r} in the data set: use the data set that it was trained on, or"
                        f" correct the file of class names of {data.name}")
    if found.known_spec is not None and found.known_spec.num_class != data.num_class:
        raise UserError(f"{found.path} has {counted(found.known_spec.num_class, 'class')}, data set {data.name} has"
                        f" {data.num_class}: name the data set that it was trained on")
    if found.known_spec is not None and found.known_spec.multi_label != data.multi_label:
        words = ("one class per video", "any number of classes per video")
        raise UserError(f"{found.path} was trained for {words[found.known_spec.multi_label]}, and data set {data.name} has"
                        f" {words[data.multi_label]}: name the data set that it was trained on")
    if not same_classes(found, data.name, data.class_names):
        raise UserError(f"{found.path} was trained on {found.dataset}, whose classes are not {data.name}'s: use"
                        f" {found.dataset}")


def tune_from(model: TSN, path: Path, *, dataset: str, class_names: Optional[list[str]],
              evaluate: bool = False) -> bool:
    """Load a checkpoint's weights into a model for another task; True if its classifier was kept.

    The classifier is kept when it has the same shape and the same classes (`same_classes`); otherwise the model's fresh
    one stays. A first layer for RGB is widened for Flow or RGBDiff (TSN, sec. 3.2). Every other key must be there with
    its shape. A model with other options than the checkpoint's learns to use the weights, so they are only logged.

    evaluate: the weights are to be scored as they are. Raises UserError if the classifier is new, or if any option of the
    model differs (`check_same_spec`).
    """
    found = load_checkpoint(path)
    own = model.state_dict()
    weights = fit_names(found.weights, own, str(path))
    head = head_keys(own)
    kept = same_classes(found, dataset, class_names) and all(
        key in weights and weights[key].shape == own[key].shape for key in head)
    if evaluate:
        if not kept:
            raise UserError(f"evaluate: the classifier of {path} was trained for other classes than {dataset}'s, and a new"
                            " one is untrained: train first, without evaluate", "evaluate")
        check_same_spec(found, model.spec)
    differing = [words for option, words in spec_differences(found, model.spec).items() if option != "num_class"]
    if differing:
        log.info("fine-tuning with other options than those of %s: %s", path, "; ".join(differing))
    if not kept:
        weights.update({key: own[key] for key in head})
    first = next(key for key in own if own[key].dim() == 4)
    if first in weights and weights[first].shape[1] == 3 < own[first].shape[1]:
        weights[first] = inflate_kernel(weights[first], own[first].shape[1])
        log.info("first layer: RGB weights widened to %d channels", own[first].shape[1])
    load_weights(model, weights, str(path))
    log.info("tuned from %s: the classifier is %s", path, "kept" if kept else "new (other classes)")
    return kept
