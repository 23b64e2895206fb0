"""A user's labeled videos to a data set that main.py can train on: checked or extracted, numbered, written as lists."""
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from typing import Callable, Iterable, Optional, Sequence

from ops.common.errors import UserError, shown
from ops.common.files import write_together
from ops.common.progress import progress
from ops.common.words import counted
from ops.data.list_files import can_be_listed, format_line
from ops.prepare.extract import extract_jobs
from ops.prepare.extraction import Job
from ops.prepare.inspect_video import inspect_video
from ops.prepare.labeled_videos import LabeledVideo
from ops.prepare.shared_frames import Look
from ops.prepare.splitting import SPLITS, group_by_source
from ops.prepare.user_file import UserDataSet
from ops.video.discovery import TEMPLATE, frame_names, without_extension

CATEGORIES, UNREADABLE = "category.txt", "unreadable.txt"
_UNLISTABLE = "cannot be written to a list: rename it without line breaks or spaces at its ends"


@dataclass
class UsableVideos:
    """The videos that can be read.

    root, template: where their frames are. counts: video -> frames. looks: path -> `VideoReport.looks`. bad: (path, reason).
    """
    root: Path
    template: str = TEMPLATE
    counts: dict[LabeledVideo, int] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)


# ---- checking and extracting --------------------------------------------------------------------------------

def check_videos(root: Path, videos: Sequence[LabeledVideo], workers: int) -> UsableVideos:
    """Count every video's frames and decode the first, middle and last one. workers: threads.

    UserError, before any work, for a class name that cannot be listed.
    """
    _check_labels(label for video in videos for label in video.classes)
    templates = {video: _find_template(root / video.path) for video in videos
                 if can_be_listed(video.path) and os.path.isdir(root / video.path)}
    usual = Counter(name for name, _ in templates.values() if name).most_common(1)
    usable = UsableVideos(root, usual[0][0] if usual else TEMPLATE)

    def check(video: LabeledVideo) -> tuple[int, str]:
        if not can_be_listed(video.path):
            return 0, f"its name {_UNLISTABLE}"
        name, reason = templates.get(video, (usable.template, ""))
        if reason or name != usable.template:
            return 0, reason or f"its frames are named {name}, those of other videos {usable.template}"
        return _inspect(usable, video.path)

    _collect(usable, videos, check, workers=workers, description="checking")
    return usable


def _inspect(usable: UsableVideos, path: str) -> tuple[int, str]:
    """(number of frames, why the video cannot be used: "" if it can)"""
    report = inspect_video(usable.root, path, usable.template)
    usable.looks[path] = report.looks
    return report.count, "; ".join(report.fatal.values())


def _find_template(directory: Path) -> tuple[str, str]:
    """(template, why the directory cannot be used: "" if it can)"""
    try:
        return frame_names(directory).template, ""
    except UserError as error:
        return "", str(error)


def extract_videos(root: Path, videos: Sequence[LabeledVideo], target: Path, *, height: int, workers: int) -> UsableVideos:
    """Write every frame of every video to `target/<path without extension>/`; existing directories are kept.

    workers: processes. UserError, before any work, for a class name that cannot be listed; and when the frames cannot be
    written, which is never a video's fault.
    """
    _check_labels(label for video in videos for label in video.classes)
    directories = _frame_directories([video.path for video in videos])
    jobs = [Job(root / video.path, target / directories[video.path], video.path) for video in videos
            if can_be_listed(directories[video.path])]
    # Earlier versions kept no record of the settings, but wrote to a directory per height, too.
    failures = dict(extract_jobs(jobs, target, TEMPLATE, height=height, workers=workers, ours=True).failures)
    usable = UsableVideos(target)

    def count(video: LabeledVideo) -> tuple[int, str]:
        if not can_be_listed(directories[video.path]):
            return 0, f"its name {_UNLISTABLE}"
        if reason := failures.get(video.path, ""):
            return 0, reason
        return _inspect(usable, directories[video.path])

    _collect(usable, videos, count, workers=workers, description="counting frames")
    usable.counts = {video._replace(path=directories[video.path]): count for video, count in usable.counts.items()}
    return usable


def _frame_directories(paths: Sequence[str]) -> dict[str, str]:
    """path -> its frame directory: without the extension, unless another video has that directory or is below it."""
    stems = {path: without_extension(path) for path in paths}
    taken = Counter(stems.values())
    taken.update({parent.as_posix() for path in paths for parent in PurePosixPath(path).parents})
    return {path: path if taken[stem] > 1 else stem for path, stem in stems.items()}


def _collect(usable: UsableVideos, videos: Sequence[LabeledVideo], work: Callable[[LabeledVideo], tuple[int, str]], *,
             workers: int, description: str) -> None:
    """work: video -> (number of frames, why it cannot be used: "" if it can)."""
    with ThreadPool(workers) as pool, progress(total=len(videos), desc=description, unit="video") as bar:
        for video, (count, reason) in zip(videos, pool.imap(work, videos)):
            if reason:
                usable.bad.append((shown(video.path), shown(reason)))
            else:
                usable.counts[video] = count
            bar.update()


# ---- classes ------------------------------------------------------------------------------------------------

def class_order(labels: Sequence[str]) -> list[str]:
    """The classes in the order of their numbers: sorted; by value if all are whole numbers."""
    classes = set(labels)
    numeric = all(label.isascii() and label.isdigit() and len(label) < 10 for label in classes)
    return sorted(classes, key=(lambda label: (int(label), label)) if numeric else None)  # type: ignore[arg-type]


def _check_labels(labels: Iterable[str]) -> None:
    """UserError for a class name that cannot be a line of category.txt."""
    for label in sorted(set(labels)):
        if not can_be_listed(label):
            raise UserError(f"the class {label!r} {_UNLISTABLE}")


def class_table(splits: dict[str, list[LabeledVideo]], pattern: Optional[re.Pattern] = None, most: int = 60) -> list[str]:
    """Lines of a table of classes: videos, sources, and videos of each split; of many classes the first and last."""
    videos = [video for rows in splits.values() for video in rows]
    used = [split for split in SPLITS if splits[split]]
    cells = Counter((label, video.split) for video in videos for label in video.classes)
    total = Counter(label for video in videos for label in video.classes)
    pairs = _class_sources(videos, pattern)
    sources = Counter(label for label, _ in pairs)
    width = max(5, *(len(label) for label in total))
    rows = [f"{label:{width}} {total[label]:8} {sources[label]:8} "
            + " ".join(f"{cells[label, split]:6}" for split in used) for label in class_order(list(total))]
    if len(rows) > most:
        rows = [*rows[:most // 2], f"... {counted(len(rows) - most // 2 * 2, 'more class')} ...", *rows[-(most // 2):]]
    head = f"{'class':{width}} {'videos':>8} {'sources':>8} " + " ".join(f"{split:>6}" for split in used)
    foot = f"{'all':{width}} {len(videos):8} {len({source for _, source in pairs}):8} " + " ".join(
        f"{len(splits[split]):6}" for split in used)
    return [head, *map(shown, rows), foot]


def _class_sources(videos: Sequence[LabeledVideo], pattern: Optional[re.Pattern]) -> set[tuple[str, str]]:
    """The (class, source) pairs that occur: a source may have clips of several classes."""
    groups = group_by_source([video.path for video in videos], pattern)
    classes = {video.path: video.classes for video in videos}
    return {(label, source) for source, paths in groups.items() for path in paths for label in classes[path]}


# ---- writing ------------------------------------------------------------------------------------------------

def write_dataset(name: str, usable: UsableVideos, splits: dict[str, list[LabeledVideo]], *, out: Path) -> UserDataSet:
    """Write category.txt, a list per split that has videos, and unreadable.txt if there are unreadable videos: all or none.

    Returns the entry to register in datasets.yaml. UserError for a class name that cannot be listed, CannotWrite.
    """
    classes = class_order([label for video in usable.counts for label in video.classes])
    _check_labels(classes)
    numbers = {label: number for number, label in enumerate(classes)}
    counts = {video.path: count for video, count in usable.counts.items()}
    files = {out / CATEGORIES: classes, out / UNREADABLE: [f"{path}\t{reason}" for path, reason in usable.bad]}
    for split, videos in splits.items():
        files[list_path(out, split)] = [
            format_line(video.path, counts[video.path], tuple(numbers[label] for label in video.classes))
            for video in videos]
    write_together({file: lines for file, lines in files.items() if lines})
    for file in (file for file, lines in files.items() if not lines):
        file.unlink(missing_ok=True)  # of an earlier run
    return UserDataSet(name, Path(os.path.abspath(usable.root)), list_path(out, "train"), list_path(out, "val"),
                       Path(os.path.abspath(out), CATEGORIES), template=usable.template,
                       test_list=list_path(out, "test") if splits["test"] else None,
                       multi_label=any(video.several is not None for video in usable.counts))


def dataset_files(out: Path) -> list[Path]:
    """The files that `write_dataset` may write."""
    return [out / CATEGORIES, out / UNREADABLE, *(list_path(out, split) for split in SPLITS)]


def list_path(out: Path, split: str) -> Path:
    """The absolute path of a split's list."""
    return Path(os.path.abspath(out)) / f"{split}_videofolder.txt"
