"""Reading label files as they are published: text, CSV and JSON; every error names the file and the line."""
import json
import os
from pathlib import Path
from typing import Any, Optional, Sequence
from unicodedata import normalize

from ops.common.errors import UserError
from ops.data.list_files import can_be_listed


def find_label_file(labels: Path, *names: str) -> Path:
    """The first of `names` that is a file in the directory `labels`. UserError when none is."""
    found = find_optional(labels, *names)
    if found is None:
        raise UserError(f"no label file {' or '.join(names[:2])} in {labels}: put it there, or set labels to its directory",
                        "labels")
    return found


def find_optional(labels: Path, *names: str) -> Optional[Path]:
    """The first of `names` that is a file in the directory `labels`; None when none is."""
    return next((labels / name for name in names if os.path.isfile(labels / name)), None)


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the label file {file}: {error}") from None


def read_lines(file: Path) -> list[tuple[int, str]]:
    """(line number from 1, stripped text) of the lines that are not blank. UserError when all are."""
    lines = [(number, text.strip()) for number, text in enumerate(read_text(file).split("\n"), start=1) if text.strip()]
    if not lines:
        raise UserError(f"the label file {file} is empty")
    return lines


def read_json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # numbers with thousands of digits, deeply nested brackets
        raise UserError(f"{file}: cannot be read as JSON: {error}") from None


def number_classes(classes: Sequence[str], file: Path) -> dict[str, int]:
    """class -> its label, from 0, for `class_number`. UserError for a class that is named twice or cannot be a line of a
    list. Names that differ only in how Unicode spells an accent are one.
    """
    numbers = {normalize("NFC", check_name(name, str(file), "a class")): number for number, name in enumerate(classes)}
    if len(numbers) != len(classes):
        twice = next(name for number, name in enumerate(classes) if numbers[normalize("NFC", name)] != number)
        raise UserError(f"{file}: the class {twice!r} appears twice")
    return numbers


def class_number(name: str, numbers: dict[str, int], where: str) -> int:
    """The label of a class. UserError, with the place `where` it was read, for an unknown one."""
    name = normalize("NFC", name)
    if name not in numbers:
        raise UserError(f"{where}: {name[:80]!r} is not one of the {len(numbers)} classes")
    return numbers[name]


def check_name(name: str, where: str, what: str = "a video") -> str:
    """`name`, if it can be part of a list's line and a relative path. UserError otherwise."""
    if not can_be_listed(name) or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise UserError(f"{where}: {ascii(name[:80])} cannot be the name of {what}")
    return name
