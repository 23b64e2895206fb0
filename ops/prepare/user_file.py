"""`datasets.yaml`, the registry of a user's own data sets: read by the programs, written by tools/make_dataset.py.

    my_actions:                            # the name, as in `python main.py my_actions RGB`
      root: /videos/actions                # directory of the videos or frame directories that the lists name
      train_list: lists/train.txt          # see ops.data.list_files.read_list for the format
      val_list: lists/val.txt
      test_list: lists/test.txt            # optional; tools/check_dataset.py checks it too
      categories: lists/category.txt       # class names, one per line; or num_class: 12
      template: "img_{:05d}.jpg"           # frame directories only: file name of a frame, 1-based (default {:06d}.jpg)
      multi_label: true                    # a video has any number of classes, `3,17` or `-`, not just one (default false)

Relative paths are relative to the directory of the yaml file. Every value is text, so `no` and `007` are ordinary names.
"""
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Collection, Mapping, Optional

import yaml

from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.common.locks import change_file
from ops.common.yaml_file import compose_yaml, read_yaml_text, yaml_pairs
from ops.video.discovery import TEMPLATE, is_template

KEYS = ("root", "train_list", "val_list", "test_list", "categories", "num_class", "template", "multi_label")
_HEADER = "# Your own data sets; ops/prepare/user_file.py documents the format.\n"


@dataclass(frozen=True)
class UserDataSet:
    """One data set of the file, with absolute paths. Either categories or num_class is None."""
    name: str
    root: Path
    train_list: Path
    val_list: Path
    categories: Optional[Path] = None
    num_class: Optional[int] = None
    template: str = TEMPLATE
    test_list: Optional[Path] = None
    multi_label: bool = False
    place: str = field(default="", compare=False)  # file and line, for messages

    def check_paths(self, *unused: str) -> None:
        """UserError for the first file or directory that does not exist; `unused` keys are not checked."""
        for key in ("root", "train_list", "val_list", "categories"):
            path = getattr(self, key)
            if path is None or key in unused:
                continue
            if not (os.path.isdir(path) if key == "root" else os.path.isfile(path)):
                kind = "directory" if key == "root" else "file"
                raise UserError(f"{self.place}: data set {self.name!r}: {key}: there is no {kind} {path}: correct the"
                                " path, or make the data set again with tools/make_dataset.py")


def read_dataset_file(path: Path, taken: Collection[str] = ()) -> dict[str, UserDataSet]:
    """The data sets of a yaml file by name. taken: names that it must not use.

    UserError, with file and line: an unreadable file, invalid yaml, an unknown, repeated or missing key, a value that is
    not text, a bad number or template.
    """
    return _parse(read_yaml_text(Path(path), "data set file"), Path(path), taken)


def _parse(text: str, path: Path, taken: Collection[str] = ()) -> dict[str, UserDataSet]:
    pairs = yaml_pairs(compose_yaml(text, path), path)
    return {key: _entry(key, node, path, line=line, taken=taken) for key, node, line in pairs}


def _entry(name: str, node: yaml.Node, path: Path, *, line: int, taken: Collection[str]) -> UserDataSet:
    place = f"{path}:{line}"
    if reason := unusable_name(name, taken):
        raise UserError(f"{place}: {reason}")
    values: dict[str, Any] = {}
    for key, value, number in yaml_pairs(node, path, f"data set {name!r}"):
        if key not in KEYS:
            raise UserError(f"{path}:{number}: unknown key {key!r} of data set {name!r}: choose from {', '.join(KEYS)}")
        if not isinstance(value, yaml.ScalarNode) or not value.value:
            raise UserError(f"{path}:{number}: {key} of data set {name!r} must be text (in quotes if it contains braces)")
        values[key] = _value(key, value.value, path, line=number)
    missing = [key for key in KEYS[:3] if key not in values]
    if ("categories" in values) == ("num_class" in values):
        missing.append("either categories or num_class")
    if missing:
        raise UserError(f"{place}: data set {name!r} needs {', '.join(missing)}")
    return UserDataSet(name, **values, place=place)


def _value(key: str, text: str, path: Path, *, line: int) -> Any:
    if key == "num_class":
        if not re.fullmatch("[1-9][0-9]{0,8}", text):
            raise UserError(f"{path}:{line}: num_class {text[:40]!r}: choose 1 or more classes")
        return int(text)
    if key == "multi_label":
        if text.lower() not in ("true", "false"):
            raise UserError(f"{path}:{line}: multi_label {text[:40]!r}: choose true or false")
        return text.lower() == "true"
    if key == "template":
        if not is_template(text):
            raise UserError(f"{path}:{line}: template {text[:60]!r}: choose a file name with one number, as in"
                            " img_{:05d}.jpg")
        return text
    return Path(os.path.abspath(path)).parent / os.path.expanduser(text)


def unusable_name(name: str, taken: Collection[str] = ()) -> str:
    """Why a data set cannot be called `name`; "" if it can. The names of runs and checkpoints contain it."""
    if name in taken:
        return f"{name!r} is a built-in data set: choose another name"
    if not re.fullmatch(r"[\w][\w.+-]{0,79}", name):
        return f"{name[:80]!r} cannot be a data set's name: choose letters, digits and any of _ . + -"
    if re.search(r"_(RGBDiff|RGB|Flow)(_|$)", name):
        return f"{name!r} cannot be a data set's name: in the names of checkpoints, _RGB, _RGBDiff or _Flow marks its end"
    return ""


# ---- writing ------------------------------------------------------------------------------------------------

def check_name(path: Path, name: str, train_list: Path, *, taken: Collection[str] = (),
               replace: bool = False) -> dict[str, UserDataSet]:
    """Check that a data set can be registered under this name. Returns the file's data sets.

    UserError when the file cannot be read, when no data set can have this name, or when a data set with another list
    has it already (unless `replace`).
    """
    if reason := unusable_name(name, taken):
        raise UserError(reason)
    entries = read_dataset_file(path, taken) if Path(path).exists() else {}
    if name in entries and entries[name].train_list != train_list and not replace:
        raise UserError(f"{entries[name].place}: {name!r} is already the data set with the list {entries[name].train_list}:"
                        " choose another name, or use replace", "replace")
    return entries


def register(path: Path, entry: UserDataSet, *, taken: Collection[str] = (), replace: bool = False) -> None:
    """Add `entry` to the file, or replace the entry of that name; everything else stays unchanged.

    Several processes may register data sets in one file at the same time.
    UserError as for `check_name`, or when the file cannot be edited.
    """
    path = Path(path)
    with change_file(path):
        text = _with_entry(path, entry, taken=taken, replace=replace)
        with atomic_write(path) as file:
            file.write(text)


def _with_entry(path: Path, entry: UserDataSet, *, taken: Collection[str], replace: bool) -> str:
    """The text of the file with `entry`."""
    entries = check_name(path, entry.name, entry.train_list, taken=taken, replace=replace)
    text = path.read_text(encoding="utf-8-sig") if path.exists() else _HEADER
    block = _format_entry(entry, path)
    text = _replace_entry(text, entry.name, block, path=path)
    try:
        written = _parse(text, path, taken)
    except UserError:
        written = {}
    if written != {**entries, entry.name: entry}:
        raise UserError(f"{path} has a form that cannot be extended automatically: add this by hand: "
                        + " / ".join(block.split("\n")))
    return text


def _format_entry(entry: UserDataSet, path: Path) -> str:
    """The entry as yaml; a path inside the file's own directory is written relative to it."""
    base = Path(os.path.abspath(path)).parent
    values: Mapping[str, Any] = {key: asdict(entry)[key] for key in KEYS}
    defaults = {"template": TEMPLATE, "multi_label": False}
    texts = {key: _relative_inside(value, base) if isinstance(value, Path) else value
             for key, value in values.items() if value is not None and value != defaults.get(key)}
    return yaml.safe_dump({entry.name: texts}, sort_keys=False, allow_unicode=True, width=1 << 20)


def _relative_inside(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _replace_entry(text: str, name: str, block: str, *, path: Path) -> str:
    """The file's text with `block` in place of the entry `name`, or at the end if there is none."""
    lines = text.splitlines(keepends=True)
    start = next((line - 1 for key, _, line in yaml_pairs(compose_yaml(text, path), path) if key == name), None)
    if start is None:
        return text + ("\n" if lines and not text.endswith("\n") else "") + block
    end = start + 1
    while end < len(lines) and (lines[end][0] in " \t" or not lines[end].strip()):
        end += 1
    while not lines[end - 1].strip():  # blank lines belong to the next entry
        end -= 1
    return "".join([*lines[:start], block, *lines[end:]])
