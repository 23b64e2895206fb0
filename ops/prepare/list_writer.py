"""Annotations to list files: the frames of each video are counted, the lists written, missing videos listed.

A list has one line `path num_frames label` per video: path relative to the data set's frame root (it may contain
spaces), label 0-based. A video whose frames are missing, or have a gap, is left out and written with the reason
to `missing_<list>.txt` (`path<TAB>reason`).
"""
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path

from ops.common.errors import UserError
from ops.common.files import write_together
from ops.common.progress import progress
from ops.data.list_files import count_frames, format_line
from ops.prepare.annotations import Annotation, Annotations, Split

Counted = tuple[str, int, str]  # directory, number of frames, why the video cannot be used ("" if it can)


@dataclass
class ListSummary:
    """What was written. listed: list file -> number of videos; missing: missing_*.txt -> (video, reason) pairs."""
    out: Path
    classes: int
    listed: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def write_lists(annotations: Annotations, frames: Path, out: Path, *, template: str, workers: int = 8) -> ListSummary:
    """Count the frames of all videos and write the lists, with `category.txt` where the annotations have classes.

    All files or none are written.
    frames: the frame root. template: file name of frame n, such as `{:06d}.jpg`. workers: threads that count frames.
    Raises UserError when no video at all has frames, or when the lists cannot be written.
    """
    counted = _count_all(annotations, frames, template=template, workers=workers)
    if not any(count for _, count, _ in counted.values()):
        directory, _, reason = next(iter(counted.values()), ("", 0, "the label files name no video"))
        raise UserError(f"none of the {len(counted)} videos has frames in {frames} ({directory}: {reason}):"
                        " extract them first, or name the directory they are in")
    summary = ListSummary(out, len(annotations.classes or ()))
    files: dict[Path, list[str]] = {} if annotations.classes is None else {out / "category.txt": annotations.classes}
    for split in annotations.splits:
        files.update(_files_of_split(split, counted, summary))
    try:
        write_together(files)
        for file in {out / split.missing_file for split in annotations.splits} - set(files):
            file.unlink(missing_ok=True)  # of an earlier run
    except OSError as error:
        raise UserError(f"cannot write the lists to {out}: {error}") from None
    return summary


def _count_all(annotations: Annotations, frames: Path, *, template: str, workers: int) -> dict[Annotation, Counted]:
    videos = list(dict.fromkeys(video for split in annotations.splits for video in split.videos))
    counted: dict[Annotation, Counted] = {}
    with ThreadPool(max(1, workers)) as pool, progress(total=len(videos), desc="counting frames", unit="video") as bar:
        results = pool.imap(lambda video: _count(video, frames, template), videos, chunksize=16)
        for video, result in zip(videos, results):
            counted[video] = result
            bar.update()
    return counted


def _count(video: Annotation, frames: Path, template: str) -> Counted:
    for directory in video.directories:
        try:
            return directory, count_frames(frames / directory, template), ""
        except UserError as error:
            return directory, 0, str(error)
        except OSError as error:
            reason = "" if isinstance(error, FileNotFoundError) else f": {error.strerror}"
    return video.directories[0], 0, f"no directory of frames{reason}"


def _files_of_split(split: Split, counted: dict[Annotation, Counted], summary: ListSummary) -> dict[Path, list[str]]:
    """file -> its lines; also counts them in `summary`."""
    found = [(*counted[video], video.label) for video in split.videos]
    lines = [format_line(directory, count, label) for directory, count, reason, label in found if not reason]
    missing = [(directory, reason) for directory, _, reason, _ in found if reason]
    summary.listed[split.file] = len(lines)
    files = {summary.out / split.file: lines}
    if missing:
        summary.missing[split.missing_file] = missing
        files[summary.out / split.missing_file] = [f"{directory}\t{reason}" for directory, reason in missing]
    return files
