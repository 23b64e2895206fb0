"""The entries of a weight file beside its weights, checked when it is read."""
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from ops.common.choices import DIRECTIONS
from ops.common.errors import UserError, shown
from ops.common.words import counted
from ops.spec import ModelSpec


def _is_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(name, str) for name in value)


def _is_options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and _is_plain(option) for name, option in value.items())


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float))


# The entries that programs read: what they accept, and in words. None counts as an absent entry.
_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (lambda value: isinstance(value, str), "the name of a data set"),
    "class_names": (_is_names, "a list of names"),
    "online": (lambda value: isinstance(value, bool), "True or False"),
    "trained_direction": (lambda value: value in DIRECTIONS, " or ".join(DIRECTIONS)),
    "train": (_is_options, "the options of a training run"),
}


def check_entries(content: Mapping[str, Any], path: Path) -> None:
    """UserError that names the file and the entry if an entry that a program reads is not of its type."""
    for name, (accepts, words) in _ENTRIES.items():
        if content.get(name) is not None and not accepts(content[name]):
            raise damaged_entry(path, name, content[name], words)


def damaged_entry(path: Path, name: str, value: Any, words: str) -> UserError:
    """The error for an entry that is not what `words` say."""
    return UserError(f"{path} is damaged: its entry {name} is {shown(value)[:40]!r}, not {words}")


def read_settings(content: Mapping[str, Any], path: Path) -> ModelSpec:
    """The entry `settings`, whose options have the right types and ranges and work together.

    UserError that names the file and the option otherwise.
    """
    spec = ModelSpec.from_dict(content["settings"], what=str(path))
    try:
        spec.check()
    except UserError as error:
        raise UserError(f"{path} is damaged: its settings: {error}") from None
    return spec


def check_class_count(spec: ModelSpec, outputs: int, class_names: Sequence[str], path: Path) -> None:
    """UserError if the settings or the class names are for another number of classes than the classifier's outputs."""
    if spec.num_class != outputs:
        raise UserError(f"{path} is damaged: its setting num_class is {spec.num_class}, but its classifier has {outputs}"
                        " outputs")
    if class_names and len(class_names) != outputs:
        raise UserError(f"{path} is damaged: its entry class_names has {counted(len(class_names), 'name')}, but its"
                        f" classifier has {outputs} outputs")
