"""Lists of videos for TSNDataSet: counting the frames of directories, writing the lists and what is missing.

A list has a line `path num_frames label` per video: path relative to the data set's frame directory (it may hold
spaces), label 0-based. A video whose frames are not there, or have a gap, is left out and written with the reason
to `missing_<list>.txt` (`path<TAB>reason`).
"""
import os
import re
import sys
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple, Optional, Sequence
from ops.common.cli import progress
from ops.common.errors import UserError
from typing import Any, NamedTuple, Optional, Sequence, Union
from ops.video.discovery import is_video_name


class Clip(NamedTuple):
    """One labelled video. directories: where its frames may lie under the frame root, the first that exists counts."""
    directories: tuple[str, ...]
    label: int


@dataclass
class Split:
    """One list to write: its file, and the file for the videos without frames."""
    file: str
    missing_file: str
    clips: list[Clip]


@dataclass
class ListSummary:
    """What was written. listed: videos per list file; missing: (video, reason) per missing_*.txt that has any."""
    out: Path
    classes: int
    listed: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def video_directory_list(split: str, clips: list[Clip]) -> Split:
    return Split(f"{split}_videofolder.txt", f"missing_{split}.txt", clips)


def named_list(name: str, clips: list[Clip]) -> Split:
    return Split(f"{name}.txt", f"missing_{name}.txt", clips)


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


def _count(clip: Clip, frames: Path, template: str) -> tuple[str, int, str]:
    """(directory, its number of frames, "") of a clip, or (directory, 0, why it cannot be used)."""
    for directory in clip.directories:
        try:
            return directory, count_frames(frames / directory, template), ""
        except UserError as error:
            return directory, 0, str(error)
        except OSError as error:
            reason = "" if isinstance(error, FileNotFoundError) else f": {error.strerror}"
    return clip.directories[0], 0, f"no directory of frames{reason}"


def write_lists(frames: Path, template: str, out: Path, splits: list[Split], classes: Optional[list[str]],
                workers: int) -> ListSummary:
    """Count the frames of all clips and write the lists. classes None: category.txt is not ours to write.

    Raises UserError when no video at all has frames, or the lists cannot be written.
    """
    clips = list(dict.fromkeys(clip for split in splits for clip in split.clips))
    counted: dict[Clip, tuple[str, int, str]] = {}
    with ThreadPool(max(1, workers)) as pool, progress(total=len(clips), desc="counting frames", unit="video") as bar:
        for clip, result in zip(clips, pool.imap(lambda clip: _count(clip, frames, template), clips, chunksize=16)):
            counted[clip] = result
            bar.update()
    if not any(count for _, count, _ in counted.values()):
        directory, _, reason = next(iter(counted.values()), ("", 0, "the label files name no video"))
        raise UserError(f"none of the {len(clips)} videos has frames in {frames} ({directory}: {reason}):"
                        " extract them first, or name their directory with --frames")
    summary = ListSummary(out, len(classes or ()))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if classes is not None:
            write_lines(out / "category.txt", classes)
        for split in splits:
            _write_split(split, counted, out, summary)
    except OSError as error:
        raise UserError(f"cannot write the lists to {out}: {error}") from None
    return summary


def _write_split(split: Split, counted: dict[Clip, tuple[str, int, str]], out: Path, summary: ListSummary) -> None:
    found = [(*counted[clip], clip.label) for clip in split.clips]
    lines = [f"{directory} {count} {label}" for directory, count, reason, label in found if not reason]
    missing = [(directory, reason) for directory, _, reason, _ in found if reason]
    write_lines(out / split.file, lines)
    summary.listed[split.file] = len(lines)
    (out / split.missing_file).unlink(missing_ok=True)
    if missing:
        write_lines(out / split.missing_file, [f"{directory}\t{reason}" for directory, reason in missing])
        summary.missing[split.missing_file] = missing


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """Write the lines; the file appears under its name when it is complete."""
    partial = file.with_name(f".{file.name}.part")
    partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(partial, file)


def report(summary: ListSummary, allow_missing: bool) -> int:
    """Print what was written. Returns the exit status: 2 when videos are missing, unless that is allowed."""
    if summary.classes:
        print(f"{summary.out / 'category.txt'}: {summary.classes} classes")
    for name, count in summary.listed.items():
        print(f"{summary.out / name}: {count} videos")
    for name, missing in summary.missing.items():
        print(f"{summary.out / name}: {len(missing)} videos left out, the first is {missing[0][0]}: {missing[0][1]}",
              file=sys.stderr)
    return 2 if summary.missing and not allow_missing else 0




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
