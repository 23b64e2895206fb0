"""A user's labeled videos: found in a directory per class, or read from a csv file."""
import csv
import io
import os
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence
from unicodedata import normalize

from ops.common.errors import UserError
from ops.video.discovery import find_videos

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "test": "test", "testing": "test"}


class LabeledVideo(NamedTuple):
    """A video of a known class, or of any number of them.

    path: of a video file or frame directory, relative to the root, with slashes. label: the class's name, with accents as
    single characters (NFC): macOS spells them as two in file names, and one class must not become two that look the same.
    split: train, val or test; "" if it is still to be chosen. several: the names of all its classes, in a multi-label data
    set; None in another.
    """
    path: str
    label: str
    split: str = ""
    several: Optional[tuple[str, ...]] = None

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.label,) if self.several is None else self.several


# ---- directories --------------------------------------------------------------------------------------------

def find_labeled_videos(root: Path, skip: Path) -> list[LabeledVideo]:
    """The videos in `root/<class>/` or `root/<train, val or test>/<class>/`, at any depth below the class.

    skip: a directory (of outputs) that is not a class. Hidden directories are ignored.
    """
    tops = _directories(root, skip)
    splits = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    if len(splits) < len(tops) and {"train", "val"} <= set(splits.values()):
        other = next(top for top in tops if top not in splits)
        raise UserError(f"{root} contains {', '.join(splits)}, which are splits, and {other!r}, which is not: move it")
    if len(splits) < len(tops) or "train" not in splits.values():
        return _videos_of_classes(root, tops, prefix="", split="")
    return [video for top, split in splits.items()
            for video in _videos_of_classes(root, _directories(root / top, skip), prefix=f"{top}/", split=split)]


def _directories(directory: Path, skip: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(directory)
                      if os.path.isdir(entry.path) and not entry.name.startswith(".")
                      and os.path.realpath(entry.path) != os.path.realpath(skip))
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from None


def _videos_of_classes(root: Path, classes: Sequence[str], *, prefix: str, split: str) -> list[LabeledVideo]:
    videos = []
    for name in classes:
        found = list(find_videos(root / prefix / name))
        if "." in found:
            raise UserError(f"{root / prefix / name} contains images: put the images of each video into a directory of its"
                            " own inside the class's directory")
        videos += [LabeledVideo(f"{prefix}{name}/{video}", normalize("NFC", name), split) for video in found]
    return videos


# ---- csv ----------------------------------------------------------------------------------------------------

def read_csv(file: Path, root: Path, multi_label: bool = False) -> list[LabeledVideo]:
    """The videos of a csv file with lines `file,label[,split]`, optionally below a header with these names in any order.

    file: relative to `root`, or absolute and inside it. split: train, val or test, or empty. multi_label: the label is any
    number of classes with semicolons between them. UserError, with the line, for anything else and for a file that is named
    twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the csv file {file}: {getattr(error, 'strerror', None) or error}") from None
    columns, videos = ["file", "label", "split"], []
    lines: dict[str, int] = {}
    for row, line in _rows(file, text):
        if not lines and {"file", "label"} <= {cell.lower() for cell in row}:
            columns = [cell.lower() for cell in row]
            lines[""] = line
            continue
        where = f"{file}, line {line}"
        if len(row) > len(columns):
            raise UserError(f"{where}: {_FORMAT}")
        video = _parse_row(dict(zip(columns, row)), root, where, multi_label)
        if video.path in lines:
            raise UserError(f"{where}: {video.path!r} is already in line {lines[video.path]}")
        lines[video.path] = line
        videos.append(video)
    return videos


_FORMAT = "must be `file,label` or `file,label,split`"


def _rows(file: Path, text: str) -> Iterator[tuple[list[str], int]]:
    """(stripped cells, line number from 1) of the lines that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield [cell.strip() for cell in row], reader.line_num
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None


def _parse_row(cells: dict[str, str], root: Path, where: str, multi_label: bool) -> LabeledVideo:
    path, label, split = (cells.get(column, "") for column in ("file", "label", "split"))
    if not path or not (label or multi_label) or "\0" in path:
        raise UserError(f"{where}: {_FORMAT}")
    if split and split.lower() not in SPLIT_NAMES:
        raise UserError(f"{where}: split {split[:40]!r}: choose train, val or test, or leave it empty")
    whole = Path(os.path.normpath(Path(os.path.abspath(root)) / path))
    if not whole.is_relative_to(os.path.abspath(root)):
        raise UserError(f"{where}: {path[:80]!r} is not inside {root}: choose a root that contains all videos")
    label = normalize("NFC", label)
    return LabeledVideo(whole.relative_to(os.path.abspath(root)).as_posix(), label, SPLIT_NAMES.get(split.lower(), ""),
                        _parse_classes(label, where) if multi_label else None)


def _parse_classes(text: str, where: str) -> tuple[str, ...]:
    """The names between semicolons, sorted; () for none. UserError for a name that occurs twice."""
    names = sorted(name.strip() for name in text.split(";") if name.strip())
    for name, following in zip(names, names[1:]):
        if name == following:
            raise UserError(f"{where}: the class {name[:40]!r} is named twice: name each class once")
    return tuple(names)
