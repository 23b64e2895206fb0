"""List files: one video per line, `path num_frames label`. The one place that reads, parses and formats such lines."""
import os
import re
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence, Union

from ops.common.errors import UserError
from ops.common.words import counted
from ops.video.discovery import is_video_name

LINE_FORM = "path num_frames label"
_COUNTED = re.compile(r"(.*\S)\s+(-?[0-9]{1,9})\s+(-?[0-9]{1,9})")
_UNCOUNTED = re.compile(r"(.*\S)\s+(-?[0-9]{1,9})")


class VideoRecord:
    """One video of a list. path: relative to the root. num_frames: 0 if the line has none. label: 0-based."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.path, self.num_frames, self.label = str(row[0]), int(row[1]), int(row[2])


def read_list(list_file: Union[str, Path], num_class: Optional[int] = None) -> list[VideoRecord]:
    """The records of a list file.

    UserError that names the file and line for: a file that cannot be read, an empty list, a line of another form, a
    video without frames, a label outside 0 .. num_class - 1.
    """
    records = [_checked_record(text, f"{list_file}:{number}", num_class) for number, text in read_lines(list_file)]
    if not records:
        raise UserError(f"the video list {list_file} is empty: it needs lines of the form: {LINE_FORM}")
    return records


def _checked_record(text: str, place: str, num_class: Optional[int]) -> VideoRecord:
    line = parse_line(text)
    if line is None:
        raise UserError(f"{place}: {text[:80]!r} is not of the form: {LINE_FORM}")
    if line.num_frames is not None and line.num_frames < 1:
        raise UserError(f"{place}: {line.path!r} has {line.num_frames} frames: leave it out of the list")
    if line.label < 0 or num_class is not None and line.label >= num_class:
        classes = "0 and up" if num_class is None else f"0 to {num_class - 1}"
        raise UserError(f"{place}: label {line.label} is outside the classes {classes}: the list does not belong to"
                        " this data set, or counts from 1")
    return VideoRecord((line.path, line.num_frames or 0, line.label))


# ---- lines ----------------------------------------------------------------------------------------------------

class ListLine(NamedTuple):
    """A parsed line, its numbers not checked. num_frames: None if the line has none, as only video files may."""
    path: str
    num_frames: Optional[int]
    label: int


def parse_line(text: str) -> Optional[ListLine]:
    """`path num_frames label`, or `path label` for a video file (by its extension); None for other text.

    Paths may contain spaces. Numbers are whole and may be negative.
    """
    if match := _COUNTED.fullmatch(text.strip()):
        return ListLine(match[1], int(match[2]), int(match[3]))
    if (match := _UNCOUNTED.fullmatch(text.strip())) and is_video_name(match[1]):
        return ListLine(match[1], None, int(match[2]))
    return None


def format_line(path: str, num_frames: int, label: int) -> str:
    """A line without its end. `can_be_listed` tells whether `parse_line` returns the same path."""
    return f"{path} {num_frames} {label}"


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
