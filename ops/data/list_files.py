"""List files: one video per line, `path num_frames label`; reading them, and counting the frames they name."""
import os
import re
from pathlib import Path
from typing import Any, Optional, Sequence, Union

from ops.common.errors import UserError
from ops.video.discovery import is_video_name


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
        raise UserError(f"{template.format(count + 1)} is missing, the directory has {total} frames{zero}")
    return count


class VideoRecord:
    """One line of a list file: `path` (relative to the root), `num_frames` (0: the video tells), `label` (0-based)."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.path, self.num_frames, self.label = str(row[0]), int(row[1]), int(row[2])


_FORM = "path num_frames label"
_LINE = re.compile(r"(.*\S)\s+(-?[0-9]{1,9})\s+(-?[0-9]{1,9})")
_UNCOUNTED = re.compile(r"(.*\S)\s+(-?[0-9]{1,9})")


def read_list(list_file: Union[str, Path], num_class: Optional[int] = None) -> list[VideoRecord]:
    """The records of a list file: `path num_frames label` lines; paths may hold spaces; blank lines are nothing.

    A video file (by its extension) may stand without its number of frames: `path label`.
    UserError that names the file and line for: no such file, an empty list, a line of another form, a video
    without frames, a label outside 0 .. num_class - 1.
    """
    try:
        lines = Path(list_file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a name with a null byte
        raise UserError(f"cannot read the video list {list_file}: {_reason(error)}: make it with the data set's"
                        " tools/gen_label_*.py, or name another with --train_list, --val_list or --test_list") from None
    records = [_parse(line, f"{list_file}:{number}", num_class)
               for number, line in enumerate(lines, 1) if line.strip()]
    if not records:
        raise UserError(f"the video list {list_file} is empty: it needs lines of the form: {_FORM}")
    return records


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _parse(line: str, place: str, num_class: Optional[int]) -> VideoRecord:
    if match := _LINE.fullmatch(line.strip()):
        record = VideoRecord(match.groups())
        if record.num_frames < 1:
            raise UserError(f"{place}: {record.path!r} has {record.num_frames} frames: leave it out of the list")
    elif (match := _UNCOUNTED.fullmatch(line.strip())) and is_video_name(match[1]):
        record = VideoRecord((match[1], 0, match[2]))
    else:
        raise UserError(f"{place}: {line.strip()[:80]!r} is not of the form: {_FORM}")
    if record.label < 0 or num_class is not None and record.label >= num_class:
        classes = "0 and up" if num_class is None else f"0 to {num_class - 1}"
        raise UserError(f"{place}: label {record.label} is outside the classes {classes}: the list does not belong to"
                        " this data set, or counts from 1")
    return record
