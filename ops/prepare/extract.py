"""Videos to directories of JPEG frames, through PyAV: no ffmpeg binary, no shell, names are only names.

A frame directory holds every frame that the decoder gives, in order, numbered from 1, upright, all of one size.
Unlike the published ffmpeg calls, no frame is repeated or dropped to make the frame rate constant.
A directory appears under its name only when it is complete, so an interrupted run is simply started again.
"""
import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Sequence

import av
from av.video.reformatter import VideoReformatter

from ops.common.cli import progress
from ops.common.errors import UserError, shown
from ops.common.files import agree_on_settings, only_run, put_in_place, remove_leftovers, temporary_directory
from ops.common.pool import Stopped, interrupted, run_jobs
from ops.video.decode import BrokenVideo, decoded_frames, frame_image, upright_size

EXTENSIONS = ("webm", "mp4", "avi", "mkv")
# Measured on real videos: the lowest quality that is nowhere worse than ffmpeg's `-q:v 0`, the published setting.
QUALITY = 92
SETTINGS_FILE = ".vid2img.json"
_JPEG_MAX_SIDE = 65500


def extract_video(video: Path, directory: Path, template: str = "{:06d}.jpg", height: int = 256,
                  quality: int = QUALITY, stopped: Callable[[], bool] = lambda: False) -> int:
    """Write every frame of `video` into the new directory `directory`, which appears only when it is complete.

    template: file name of frame n, n from 1. height: pixels, 0 keeps the video's own. quality: JPEG, 1-100.
    stopped: asked once a frame; True gives the video up. Returns the number of frames.
    Raises BrokenVideo (no directory is left), UserError when the directory exists, OSError when it cannot be written.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise UserError(f"{directory} exists already and is not empty: delete it to extract the video again")
    with temporary_directory(directory) as temporary:
        count = _write_frames(video, temporary, template, height, quality, stopped)
        put_in_place(temporary, directory)
    return count


def _write_frames(video: Path, directory: Path, template: str, height: int, quality: int,
                  stopped: Callable[[], bool]) -> int:
    scaler, size, number = VideoReformatter(), (0, 0), 0
    for number, frame in enumerate(decoded_frames(video), start=1):
        if stopped():
            raise Stopped
        if number == 1:
            size = upright_size(frame, height)  # of the first frame: a directory holds one size
            if max(size) > _JPEG_MAX_SIDE:
                raise BrokenVideo(f"frames of {size[0]}x{size[1]} pixels are too large for JPEG")
        try:
            image = frame_image(frame, size, scaler)
        except av.FFmpegError as error:
            raise BrokenVideo(f"frame {number} cannot be converted: {error.strerror}") from None
        image.save(directory / template.format(number), "JPEG", quality=quality, subsampling="4:2:0")
    return number


# ---- a directory of videos --------------------------------------------------------------------------------------

class Job(NamedTuple):
    """One video, the directory that its frames go to, and its name in messages."""
    video: Path
    directory: Path
    name: str


@dataclass
class ExtractSummary:
    """What a run did. frames: written by this run; failures: (name, reason) of the videos without a directory."""
    videos: int = 0
    extracted: int = 0
    existing: int = 0
    frames: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.videos} videos: {self.extracted} extracted, {self.existing} already there,"
                f" {len(self.failures)} failed; {self.frames} frames; {self.seconds:.1f} s")


def extract_directory(src: Path, dst: Path, template: str = "{:06d}.jpg", height: int = 256, quality: int = QUALITY,
                      extensions: Sequence[str] = EXTENSIONS, workers: Optional[int] = None,
                      by_class: bool = False) -> ExtractSummary:
    """Extract the videos in `src` to `dst/<name without extension>/` (by_class: `src/<class>/` to `dst/<class>/`).

    Frames as extract_video writes them. Directories that are there already are kept, so a killed run goes on where
    it was. workers: processes (None: one per core). Hidden files are left out.
    Raises UserError when there is nothing to do, two videos share a directory, `dst` holds frames made with other
    settings, another run is at work in it, or it cannot be written; broken videos are counted and listed.
    """
    started = time.monotonic()
    if height < 0 or not 1 <= quality <= 100 or (workers is not None and workers < 1):
        raise UserError(f"height {height}, quality {quality}, workers {workers}: choose a height of at least 1"
                        " (0 keeps the video's), a quality from 1 to 100, and at least 1 worker")
    jobs = find_videos(Path(src), Path(dst), extensions, by_class)
    try:
        Path(dst).mkdir(parents=True, exist_ok=True)
        with only_run(Path(dst)):
            summary = _extract_jobs(jobs, Path(dst), dict(template=template, height=height, quality=quality), workers)
    except OSError as error:
        raise UserError(f"cannot write the frames to {dst}: {error}") from None
    summary.seconds = time.monotonic() - started
    return summary


def find_videos(src: Path, dst: Path, extensions: Sequence[str], by_class: bool) -> list[Job]:
    """The jobs, by name. Raises UserError when there are none or two would go to one directory."""
    endings = {"." + extension.lower().lstrip(".") for extension in extensions}
    directories = [Path(entry.path) for entry in visible(src) if entry.is_dir()] if by_class else [src]
    jobs: dict[Path, Job] = {}
    for parent in directories:
        for entry in visible(parent):
            if Path(entry.name).suffix.lower() not in endings or entry.is_dir():
                continue
            directory = (dst / parent.name if by_class else dst) / Path(entry.name).stem
            job = Job(Path(entry.path), directory, shown(Path(entry.path).relative_to(src)))
            if directory in jobs:
                raise UserError(f"{jobs[directory].name} and {job.name} in {shown(src)} would share the directory"
                                f" {shown(directory)}: rename or remove one, or choose one kind with --ext")
            jobs[directory] = job
    if not jobs:
        raise UserError(f"no videos ({', '.join(sorted(endings))}) in {shown(src)}"
                        + ("/<class>/" if by_class else ""))
    return list(jobs.values())


def visible(directory: Path) -> list[os.DirEntry]:
    """What lies in a directory, by name, hidden files left out. UserError when it cannot be read."""
    try:
        return sorted((e for e in os.scandir(directory) if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise UserError(f"cannot read the directory {shown(directory)}: {error.strerror}") from None


def _extract_jobs(jobs: list[Job], dst: Path, settings: dict, workers: Optional[int]) -> ExtractSummary:
    for parent in {dst, *(job.directory.parent for job in jobs)}:
        remove_leftovers(parent)
    first_frame = settings["template"].format(1)
    waiting = [job for job in jobs if not (job.directory / first_frame).exists()]
    existing = len(jobs) - len(waiting)
    agree_on_settings(dst / SETTINGS_FILE, settings, content="frames",
                      foreign=f"frame directories of {existing} of these videos" if existing else "")
    summary = ExtractSummary(videos=len(jobs), existing=existing)
    with closing(run_jobs(partial(_extract, settings), waiting, workers, lambda job: job.name)) as outcomes, \
            progress(total=len(waiting), desc="extracting frames", unit="video") as bar:
        for job, (frames, reason) in outcomes:
            summary.extracted += not reason
            summary.frames += frames
            summary.failures += [(job.name, reason)] if reason else []
            bar.update()
    summary.failures.sort()
    return summary


def _extract(settings: dict[str, Any], job: Job) -> tuple[int, str]:
    """(frames written, why the video failed: "" if it did not)"""
    try:
        return extract_video(job.video, job.directory, **settings, stopped=interrupted), ""
    except UserError as error:
        return 0, shown(error)
