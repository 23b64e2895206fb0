"""From any labelled videos to a data set that main.py knows: found, looked at, split, listed, registered."""
import csv
import io
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Sequence

from ops.common.cli import progress
from ops.common.errors import UserError, shown
from ops.common.files import remove_leftovers, write_lines
from ops.data.list_files import count_frames
from ops.prepare.extract import extract_video
from ops.prepare.inspect_video import inspect_video
from ops.prepare.splitting import compile_pattern, group, source_of, validation_share
from ops.prepare.user_file import UserDataSet
from ops.video.discovery import TEMPLATE, find_videos, frame_names, is_video_name

SPLITS = ("train", "val", "test")
_SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                "test": "test", "testing": "test"}


class Item(NamedTuple):
    """A labelled video. path: of a video file or frame directory, relative to the root, with slashes. label: its class.
    split: train, val or test; "" where that is to be decided."""
    path: str
    label: str
    split: str = ""


# ---- finding ------------------------------------------------------------------------------------------------

def find_items(root: Path, skip: Path) -> list[Item]:
    """The videos in `root/<class>/`, or `root/<train or val or test>/<class>/`; at any depth below the class.

    skip: a directory (of outputs) that is no class. Hidden directories are none either.
    """
    tops = _directories(root, skip)
    splits = {top: _SPLIT_WORDS[top.lower()] for top in tops if top.lower() in _SPLIT_WORDS}
    if len(splits) < len(tops) and {"train", "val"} <= set(splits.values()):
        other = next(top for top in tops if top not in splits)
        raise UserError(f"{root} holds {', '.join(splits)}, which are splits, and {other!r}, which is not: move it")
    if len(splits) < len(tops) or "train" not in splits.values():
        return _class_items(root, tops, "", "")
    return [item for top, split in splits.items()
            for item in _class_items(root, _directories(root / top, skip), f"{top}/", split)]


def _directories(directory: Path, skip: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(directory)
                      if entry.is_dir() and not entry.name.startswith(".") and not _same(Path(entry.path), skip))
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from None


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def _class_items(root: Path, classes: Sequence[str], prefix: str, split: str) -> list[Item]:
    items = []
    for name in classes:
        found = list(find_videos(root / prefix / name))
        if "." in found:
            raise UserError(f"{root / prefix / name} holds images: each video's frames need a directory of their own in"
                            " the directory of their class")
        items += [Item(f"{prefix}{name}/{video}", name, split) for video in found]
    return items


def read_csv(file: Path, root: Path) -> list[Item]:
    """Items of a csv with lines `file,label[,split]`, maybe below a header with these names in any order.

    file: relative to `root`, or absolute and within it. split: train, val or test, or empty. UserError with the line
    for anything else, and for a file that is named twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the csv {file}: {getattr(error, 'strerror', None) or error}") from None
    columns, items = ["file", "label", "split"], []
    lines: dict[str, int] = {}
    for row, line in _rows(file, text):
        if not lines and {"file", "label"} <= {cell.lower() for cell in row}:
            columns = [cell.lower() for cell in row]
            lines[""] = line
            continue
        where = f"{file}, line {line}"
        item = _item(dict(zip(columns, row)), len(row) > len(columns), root, where)
        if item.path in lines:
            raise UserError(f"{where}: {item.path!r} stands in line {lines[item.path]} already")
        lines[item.path] = line
        items.append(item)
    return items


def _rows(file: Path, text: str) -> Iterator[tuple[list[str], int]]:
    """(cells without white space at their ends, line from 1) of the lines that are not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield [cell.strip() for cell in row], reader.line_num
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None


def _item(cells: dict[str, str], too_many: bool, root: Path, where: str) -> Item:
    path, label, split = (cells.get(column, "") for column in ("file", "label", "split"))
    if not path or not label or too_many or "\0" in path:
        raise UserError(f"{where}: must be `file,label` or `file,label,split`")
    if split and split.lower() not in _SPLIT_WORDS:
        raise UserError(f"{where}: split {split[:40]!r}: choose train, val or test, or leave it empty")
    whole = Path(os.path.normpath(Path(os.path.abspath(root)) / path))
    if not whole.is_relative_to(os.path.abspath(root)):
        raise UserError(f"{where}: {path[:80]!r} is not within {root}: name a ROOT that holds all videos")
    return Item(whole.relative_to(os.path.abspath(root)).as_posix(), label, _SPLIT_WORDS.get(split.lower(), ""))


# ---- looking ------------------------------------------------------------------------------------------------

@dataclass
class Checked:
    """What of the items can be used. counts: item -> frames; bad: (path, reason) of the others."""
    root: Path
    template: str = TEMPLATE
    counts: dict[Item, int] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)


def check_items(root: Path, items: Sequence[Item], workers: int) -> Checked:
    """Count every video's frames and decode the first, middle and last, where they lie."""
    templates = {item: _template(root / item.path) for item in items if (root / item.path).is_dir()}
    usual = Counter(name for name, _ in templates.values() if name).most_common(1)
    checked = Checked(root, usual[0][0] if usual else TEMPLATE)

    def check(item: Item) -> tuple[int, str]:
        name, reason = templates.get(item, (checked.template, ""))
        if reason or name != checked.template:
            return 0, reason or f"frames are named {name}, those of other videos {checked.template}"
        report = inspect_video(root, item.path, checked.template)
        return report.count, "; ".join(report.fatal.values())

    _collect(checked, items, check, workers, "checking")
    return checked


def _template(directory: Path) -> tuple[str, str]:
    """(template, why the directory cannot be used)"""
    try:
        return frame_names(directory).template, ""
    except UserError as error:
        return "", str(error)


def extract_items(root: Path, items: Sequence[Item], target: Path, height: int, workers: int) -> Checked:
    """Every frame of every video into `target/<path without extension>/`; what is there already is kept."""
    remove_leftovers(target, recursive=True)
    names = Counter(_stem(item.path) for item in items)
    directories = {item: item.path if names[_stem(item.path)] > 1 else _stem(item.path) for item in items}
    checked = Checked(target)

    def extract(item: Item) -> tuple[int, str]:
        directory = target / directories[item]
        try:
            if not directory.exists():
                return extract_video(root / item.path, directory, TEMPLATE, height=height), ""
            return count_frames(directory, TEMPLATE), ""
        except (UserError, OSError) as error:
            return 0, str(error)

    _collect(checked, items, extract, workers, "extracting")
    checked.counts = {item._replace(path=directories[item]): count for item, count in checked.counts.items()}
    return checked


def _stem(path: str) -> str:
    return path.rsplit(".", 1)[0] if is_video_name(path) else path


def _collect(checked: Checked, items: Sequence[Item], work: Callable[[Item], tuple[int, str]], workers: int,
             words: str) -> None:
    with ThreadPool(workers) as pool, progress(total=len(items), desc=words, unit="video") as bar:
        for item, (count, reason) in zip(items, pool.imap(work, items)):
            if not reason and not can_be_listed(item.path):
                reason = "a list cannot hold this name: rename it without line breaks or white space at its ends"
            if reason:
                checked.bad.append((shown(item.path), shown(reason)))
            else:
                checked.counts[item] = count
            bar.update()


def can_be_listed(name: str) -> bool:
    """Whether `name` comes back whole from a line of a list file."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return bool(name) and name.splitlines() == [name.strip()]


# ---- splitting ----------------------------------------------------------------------------------------------

def split_items(items: Sequence[Item], way: str, share: float, seed: int,
                pattern_text: Optional[str] = None) -> dict[str, list[Item]]:
    """split -> its items, by path. Where some say val, the undecided ones are for training; else a share is taken.

    UserError when one of train and val would be empty.
    """
    pattern = compile_pattern(pattern_text)
    if pattern is not None and items and all(source_of(item.path, pattern) is None for item in items):
        raise UserError(f"--source-pattern {pattern_text!r} matches none of the {len(items)} names, the first is"
                        f" {items[0].path!r} (without its extension)")
    free = [item for item in items if item.split in ("", "train")]
    chosen = (set() if any(item.split == "val" for item in items) else
              validation_share({item.path: item.label for item in free}, way, share, seed, pattern))
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in sorted(items):
        split = "val" if item.path in chosen else item.split or "train"
        splits[split].append(item._replace(split=split))
    for split in ("train", "val"):
        if not splits[split]:
            raise UserError(f"no video is left for {split}: of the {len(items)} videos all belong to the other side, or"
                            " each class has one source: add videos, or change --val, --split-by or --source-pattern")
    return splits


def shared_sources(splits: dict[str, list[Item]], pattern_text: Optional[str] = None) -> list[str]:
    """The sources with clips in more than one split."""
    pattern = compile_pattern(pattern_text)
    home = {item.path: split for split, items in splits.items() for item in items}
    return [source.removeprefix("source ") for source, paths in group(home, pattern).items()
            if len({home[path] for path in paths}) > 1]


def class_order(labels: Sequence[str]) -> list[str]:
    """The classes in the order of their numbers: sorted; by value where all are whole numbers."""
    classes = set(labels)
    numeric = all(label.isascii() and label.isdigit() and len(label) < 10 for label in classes)
    return sorted(classes, key=(lambda label: (int(label), label)) if numeric else None)  # type: ignore[arg-type]


# ---- writing ------------------------------------------------------------------------------------------------

def write_lists(name: str, checked: Checked, splits: dict[str, list[Item]], out: Path) -> UserDataSet:
    """category.txt, a list per split that has videos, unreadable.txt if there are any. Returns what to register."""
    classes = class_order([item.label for item in checked.counts])
    for label in classes:
        if not can_be_listed(label):
            raise UserError(f"the class {shown(label)!r} cannot stand in a list: rename it without line breaks or white"
                            " space at its ends")
    numbers = {label: number for number, label in enumerate(classes)}
    counts = {item.path: count for item, count in checked.counts.items()}
    files = {"category.txt": classes, "unreadable.txt": [f"{path}\t{reason}" for path, reason in checked.bad]}
    for split, items in splits.items():
        files[list_file(out, split).name] = [f"{item.path} {counts[item.path]} {numbers[item.label]}" for item in items]
    try:
        for file, lines in files.items():
            if not lines:
                (out / file).unlink(missing_ok=True)
                continue
            write_lines(out / file, lines)
    except OSError as error:
        raise UserError(f"cannot write the lists to {out}: {error.strerror}: name a directory with --out") from None
    return UserDataSet(name, Path(os.path.abspath(checked.root)), list_file(out, "train"), list_file(out, "val"),
                       Path(os.path.abspath(out), "category.txt"), template=checked.template,
                       test_list=list_file(out, "test") if splits["test"] else None)


def list_file(out: Path, split: str) -> Path:
    """The list of a split, as an absolute path."""
    return Path(os.path.abspath(out)) / f"{split}_videofolder.txt"


def balance(splits: dict[str, list[Item]], pattern_text: Optional[str] = None, most: int = 60) -> list[str]:
    """A table of classes: videos, sources, and videos of each split; of many classes the largest and smallest."""
    items = [item for rows in splits.values() for item in rows]
    used = [split for split in SPLITS if splits[split]]
    cells = Counter((item.label, item.split) for item in items)
    total = Counter(item.label for item in items)
    pairs = _class_sources(items, compile_pattern(pattern_text))
    sources = Counter(label for label, _ in pairs)
    width = max(5, *(len(label) for label in total))
    rows = [f"{label:{width}} {total[label]:8} {sources[label]:8} "
            + " ".join(f"{cells[label, split]:6}" for split in used) for label in class_order(list(total))]
    if len(rows) > most:
        rows = [*rows[:most // 2], f"... {len(rows) - most // 2 * 2} more classes ...", *rows[-(most // 2):]]
    head = f"{'class':{width}} {'videos':>8} {'sources':>8} " + " ".join(f"{split:>6}" for split in used)
    foot = f"{'all':{width}} {len(items):8} {len({source for _, source in pairs}):8} " + " ".join(
        f"{len(splits[split]):6}" for split in used)
    return [head, *rows, foot]


def _class_sources(items: Sequence[Item], pattern: Optional[re.Pattern]) -> set[tuple[str, str]]:
    """The (class, source) pairs that occur: a source may have clips of several classes."""
    sources = group([item.path for item in items], pattern)
    labels = {item.path: item.label for item in items}
    return {(labels[path], source) for source, paths in sources.items() for path in paths}
