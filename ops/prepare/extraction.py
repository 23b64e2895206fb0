"""Extracting a directory per video: the jobs, resuming after an interruption, and the summary; for frames and for flow.

A video's directory appears under its name only when it is complete, so an interrupted run is resumed by running it again.
A video that cannot be read is a failure of the summary. A file that cannot be written ends the run: the disk is full or
read-only, and nothing is known about the videos.
"""
import io
import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from PIL import Image

from ops.common.errors import UserError, shown
from ops.common.files import CannotWrite, agree_on_settings, remove_leftovers, remove_leftovers_of
from ops.common.locks import one_at_a_time, only_run
from ops.common.part import WHOLE, Part
from ops.common.pool import run_jobs
from ops.common.progress import progress
from ops.common.words import counted
from ops.video.discovery import DATASET_SUFFIXES

EXTENSIONS = tuple(suffix.lstrip(".") for suffix in DATASET_SUFFIXES)
# Of frames. Measured on real videos: the lowest quality that is never worse than ffmpeg's `-q:v 0`, the published setting.
QUALITY = 92


class NoVideos(UserError):
    """A directory in which there is nothing to extract."""


class Job(NamedTuple):
    """One video (a file or a directory of frames), the directory to extract it to, and its name in messages."""
    video: Path
    directory: Path
    name: str


@dataclass
class ExtractionSummary:
    """What a run did. images: number of images that it wrote; failures: (name, reason) of videos without a directory."""
    videos: int = 0
    extracted: int = 0
    existing: int = 0
    images: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{counted(self.videos, 'video')}: {self.extracted} extracted, {self.existing} already there,"
                f" {len(self.failures)} failed; {counted(self.images, 'frame')}; {self.seconds:.1f} s")


# ---- jobs ---------------------------------------------------------------------------------------------------------

def video_file_jobs(src: Path, dst: Path, *, extensions: Sequence[str], by_class: bool) -> list[Job]:
    """A job per video file in `src` (by_class: in `src/<class>/`), sorted by name; hidden files are ignored.

    UserError when there are none, or when two would share a directory.
    """
    suffixes = {"." + extension.lower().lstrip(".") for extension in extensions}
    jobs: dict[Path, Job] = {}
    for parent in _parents(src, by_class):
        for entry in _visible(parent):
            if Path(entry.name).suffix.lower() not in suffixes or os.path.isdir(entry.path):
                continue
            directory = (dst / parent.name if by_class else dst) / Path(entry.name).stem
            job = Job(Path(entry.path), directory, shown(Path(entry.path).relative_to(src)))
            if directory in jobs:
                raise UserError(f"{jobs[directory].name} and {job.name} in {shown(src)} would share the directory"
                                f" {shown(directory)}: rename or remove one, or choose one extension with ext", "ext")
            jobs[directory] = job
    if not jobs:
        raise NoVideos(f"no videos ({', '.join(sorted(suffixes))}) in {shown(src)}" + ("/<class>/" if by_class else ""))
    return list(jobs.values())


def frame_directory_jobs(src: Path, dst: Path, *, by_class: bool) -> list[Job]:
    """A job per directory in `src` (by_class: in `src/<class>/`), sorted by name; hidden ones are ignored.

    UserError when there are none.
    """
    jobs = [Job(Path(entry.path), dst / Path(entry.path).relative_to(src), shown(Path(entry.path).relative_to(src)))
            for parent in _parents(src, by_class) for entry in _visible(parent) if os.path.isdir(entry.path)]
    if not jobs:
        raise NoVideos(f"no directories of frames in {shown(src)}" + ("/<class>/" if by_class else ""))
    return jobs


def _parents(src: Path, by_class: bool) -> list[Path]:
    return [Path(entry.path) for entry in _visible(src) if os.path.isdir(entry.path)] if by_class else [src]


def _visible(directory: Path) -> list[os.DirEntry]:
    """The entries of a directory that are not hidden, sorted by name. UserError when it cannot be read."""
    try:
        return sorted((e for e in os.scandir(directory) if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise UserError(f"cannot read the directory {shown(directory)}: {error.strerror}") from None


# ---- running them -------------------------------------------------------------------------------------------------

def extract_all(jobs: Sequence[Job], dst: Path, work: Callable[[Job], int], *, first_file: Callable[[Job], Path],
                settings: Mapping[str, Any], record: str, content: str, workers: Optional[int],
                part: Part = WHOLE) -> ExtractionSummary:
    """Run `work` on every job that is not done yet, in `workers` processes (None: one per core).

    work: extracts one video and returns the number of images; a UserError (other than CannotWrite) makes the video a
    failure of the summary.
    first_file: a file that exists once the job is done. settings: what decides the images; they are recorded in the
    file `dst/record`. content: what is extracted, in words. part: of the jobs, whose order must be the same in all parts,
    which may run at the same time.
    UserError when `dst` has content of other settings, another run is writing to it, or it cannot be written.
    """
    started = time.monotonic()
    try:
        dst.mkdir(parents=True, exist_ok=True)
        with only_run(dst, part):
            own = part.take(jobs)
            with one_at_a_time(dst, part):
                _remove_leftovers(dst / record, own, part)
                # Of all jobs: another part records the settings, and would take what is there for ours.
                done = 0 if (dst / record).exists() else sum(first_file(job).exists() for job in jobs)
                agree_on_settings(dst / record, settings, content=content,
                                  foreign=f"{content} of {done} of these videos" if done else "")
            waiting = [job for job in own if not first_file(job).exists()]
            summary = ExtractionSummary(videos=len(own), existing=len(own) - len(waiting))
            _run(waiting, work, summary, workers=workers, description=f"extracting {content}")
    except OSError as error:
        raise UserError(f"cannot write the {content} to {dst}: {error.strerror or error} (finished videos are kept: start"
                        " again to resume)") from None
    summary.seconds = time.monotonic() - started
    return summary


def _remove_leftovers(record: Path, jobs: Sequence[Job], part: Part) -> None:
    """Remove what killed runs left; a part leaves alone what other parts may be writing."""
    if part == WHOLE:
        for parent in {record.parent, *(job.directory.parent for job in jobs)}:
            remove_leftovers(parent)
    else:
        remove_leftovers_of([record, *(job.directory for job in jobs)])


def _run(jobs: Sequence[Job], work: Callable[[Job], int], summary: ExtractionSummary, *, workers: Optional[int],
         description: str) -> None:
    with closing(run_jobs(partial(_attempt, work), jobs, workers, name=lambda job: job.name)) as outcomes, \
            progress(total=len(jobs), desc=description, unit="video") as bar:
        for job, (images, reason) in outcomes:
            summary.extracted += not reason
            summary.images += images
            summary.failures += [(job.name, reason)] if reason else []
            bar.update()
    summary.failures.sort()


def _attempt(work: Callable[[Job], int], job: Job) -> tuple[int, str]:
    """(number of images, why the video failed: "" if it did not)"""
    try:
        return work(job), ""
    except CannotWrite:
        raise
    except UserError as error:
        return 0, shown(error)


def save_jpeg(image: Image.Image, file: Path, **options: Any) -> None:
    """Write a JPEG; `options` go to Pillow. OSError if the file cannot be written.

    It is encoded in memory first: Pillow reports a full disk as "Success" where a part of the file still fits.
    """
    content = io.BytesIO()
    image.save(content, "JPEG", **options)
    file.write_bytes(content.getbuffer())
