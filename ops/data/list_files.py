"""List files: one video per line, `path num_frames label`. The one place that reads, parses and formats such lines.

The label of a multi-label list is any number of classes: `3`, `3,17,42`, or `-` for none.
"""
import os
import re
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence, Union

from ops.common.errors import UserError
from ops.common.words import counted
from ops.video.discovery import is_video_name

LINE_FORM = "path num_frames label"
NO_LABEL = "-"
_LABEL = r"(-?[0-9]{1,9}(?:,-?[0-9]{1,9})*|-)"
_COUNTED = re.compile(r"(.*\S)\s+(-?[0-9]{1,9})\s+" + _LABEL)
_UNCOUNTED = re.compile(r"(.*\S)\s+" + _LABEL)

Label = Union[int, tuple[int, ...]]  # as it is written: one class, or any other number of them


class VideoRecord:
    """One video of a list. path: relative to the root. num_frames: 0 if the line has none. labels: 0-based, ascending; one
    in a list that is not multi-label.
    """

    def __init__(self, row: Sequence[Any]) -> None:
        self.path, self.num_frames = str(row[0]), int(row[1])
        self.labels = classes_of(row[2]) if isinstance(row[2], tuple) else (int(row[2]),)

    @property
    def label(self) -> int:
        """The class of a video that has exactly one."""
        label, = self.labels
        return label


def read_list(list_file: Union[str, Path], num_class: Optional[int] = None,
              multi_label: Optional[bool] = False) -> list[VideoRecord]:
    """The records of a list file. multi_label: whether a video may have any number of classes, not just one; None: the
    same, where the labels are not used as numbers.

    UserError that names the file and line for: a file that cannot be read, an empty list, a line of another form, a
    video without frames, a label outside 0 .. num_class - 1, a class that a line names twice, a line that needs a
    multi-label list.
    """
    records = [_checked_record(text, f"{list_file}:{number}", num_class, multi_label is not False)
               for number, text in read_lines(list_file)]
    if not records:
        raise UserError(f"the video list {list_file} is empty: it needs lines of the form: {LINE_FORM}")
    return records


def _checked_record(text: str, place: str, num_class: Optional[int], multi_label: bool) -> VideoRecord:
    line = parse_line(text)
    if line is None:
        raise UserError(f"{place}: {text[:80]!r} is not of the form: {LINE_FORM}")
    if line.num_frames is not None and line.num_frames < 1:
        raise UserError(f"{place}: {line.path!r} has {line.num_frames} frames: leave it out of the list")
    if not isinstance(line.label, int) and not multi_label:
        raise UserError(f"{place}: {line.path!r} has {len(line.label) or 'no'} labels ({format_label(line.label)}), but each"
                        " video of this data set has one: correct the line, or give the data set multi_label: true in its"
                        " datasets.yaml")
    labels = classes_of(line.label)
    for label in labels:
        if label < 0 or num_class is not None and label >= num_class:
            classes = "0 and up" if num_class is None else f"0 to {num_class - 1}"
            raise UserError(f"{place}: label {label} is outside the classes {classes}: the list does not belong to"
                            " this data set, or counts from 1")
    if repeated := repeated_class(labels):
        raise UserError(f"{place}: {line.path!r} has label {repeated[0]} twice: name each class once")
    return VideoRecord((line.path, line.num_frames or 0, line.label))


# ---- lines ----------------------------------------------------------------------------------------------------

class ListLine(NamedTuple):
    """A parsed line, its numbers not checked. num_frames: None if the line has none, as only video files may."""
    path: str
    num_frames: Optional[int]
    label: Label


def parse_line(text: str) -> Optional[ListLine]:
    """`path num_frames label`, or `path label` for a video file (by its extension); None for other text.

    Paths may contain spaces. Numbers are whole and may be negative.
    """
    if match := _COUNTED.fullmatch(text.strip()):
        return ListLine(match[1], int(match[2]), _parse_label(match[3]))
    if (match := _UNCOUNTED.fullmatch(text.strip())) and is_video_name(match[1]):
        return ListLine(match[1], None, _parse_label(match[2]))
    return None


def _parse_label(text: str) -> Label:
    if text == NO_LABEL:
        return ()
    numbers = tuple(map(int, text.split(",")))
    return numbers if len(numbers) > 1 else numbers[0]


def format_line(path: str, num_frames: int, label: Label) -> str:
    """A line without its end. `can_be_listed` tells whether `parse_line` returns the same path."""
    return f"{path} {num_frames} {format_label(label)}"


def format_label(label: Label) -> str:
    """The label of a line: `3`, `3,17`, or `-`."""
    return ",".join(map(str, classes_of(label))) or NO_LABEL


def classes_of(label: Label) -> tuple[int, ...]:
    """The classes of a label, ascending."""
    return (label,) if isinstance(label, int) else tuple(sorted(label))


def repeated_class(label: Label) -> tuple[int, ...]:
    """The first class that a label names more than once, as a tuple; () if there is none."""
    classes = classes_of(label)
    return tuple(a for a, b in zip(classes, classes[1:]) if a == b)[:1]


def can_be_listed(path: str) -> bool:
    """Whether a path survives being written to a list and read back."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    # \ufeff at the beginning would be read as a byte order mark.
    return path.strip().splitlines() == [path] and "\0" not in path and not path.startswith("\ufeff")


def read_lines(list_file: Union[str, Path]) -> list[tuple[int, str]]:
    """(line number from 1, text without white space at its ends) of the lines that are not blank."""
    try:
        lines = Path(list_file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the video list {list_file}: {reason}: make it with the data set's"
                        " tools/gen_label_*.py, or name another with train_list, val_list or test_list",
                        "train_list", "val_list", "test_list") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


# ---- frame directories ----------------------------------------------------------------------------------------

def count_frames(directory: Path, template: str) -> int:
    """The number of frames 1, 2, ... in `directory`, named by `template`; other files do not matter.

    Raises UserError when there are none, or one is missing before the last; OSError when there is no directory.
    """
    names = {entry.name for entry in os.scandir(directory)}
    count = 0
    while template.format(count + 1) in names:
        count += 1
    form = re.compile(re.sub(r"\\\{.*?\\\}", r"\\d+", re.escape(template)))
    total = sum(form.fullmatch(name) is not None for name in names)
    if not total:
        raise UserError(f"the directory has no frame like {template.format(1)}")
    if total != count:
        zero = ", they must start at 1, not at 0" if template.format(0) in names else ""
        raise UserError(f"{template.format(count + 1)} is missing, the directory has {counted(total, 'frame')}{zero}")
    return count
