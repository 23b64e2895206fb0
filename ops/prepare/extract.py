"""Videos to directories of JPEG frames, through PyAV: no ffmpeg binary, no shell, names are only names.

A frame directory holds every frame that the decoder gives, in order, numbered from 1, upright, all of one size.
Unlike the published ffmpeg calls, no frame is repeated or dropped to make the frame rate constant.
A directory appears under its name only when it is complete, so an interrupted run is simply started again.
"""
import errno
import json
import multiprocessing
import os
import re
import shutil
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Generator, NamedTuple, Optional, Sequence

import av
from av.video.reformatter import VideoReformatter

from ops.common.cli import progress
from ops.common.errors import UserError, shown
from ops.common.files import only_run
from ops.common.pool import Stopped, cores, interrupted, start_worker, without_interrupts
from ops.video.decode import BrokenVideo, decoded_frames, frame_image, upright_size

EXTENSIONS = ("webm", "mp4", "avi", "mkv")
# Measured on real videos: the lowest quality that is nowhere worse than ffmpeg's `-q:v 0`, the published setting.
QUALITY = 92
SETTINGS_FILE = ".vid2img.json"
_JPEG_MAX_SIDE = 65500
_PARTIAL = re.compile(r"\..*\.partial-[0-9a-f]{8}", re.DOTALL)


def extract_video(video: Path, directory: Path, template: str = "{:06d}.jpg", height: int = 256,
                  quality: int = QUALITY, stopped: Callable[[], bool] = lambda: False) -> int:
    """Write every frame of `video` into the new directory `directory`, which appears only when it is complete.

    template: file name of frame n, n from 1. height: pixels, 0 keeps the video's own. quality: JPEG, 1-100.
    stopped: asked once a frame; True gives the video up. Returns the number of frames.
    Raises BrokenVideo (no directory is left), UserError when the directory exists, OSError when it cannot be written.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise UserError(f"{directory} exists already and is not empty: delete it to extract the video again")
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name[:40]}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir()
        count = _write_frames(video, partial, template, height, quality, stopped)
        put_in_place(partial, directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
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


def put_in_place(partial: Path, directory: Path) -> None:
    """Give a complete directory its name. UserError when something else has it meanwhile."""
    try:
        partial.rename(directory)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise UserError(f"{directory} was made by something else meanwhile") from None


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
    _agree_on_settings(dst, settings, len(jobs) - len(waiting))
    summary = ExtractSummary(videos=len(jobs), existing=len(jobs) - len(waiting))
    with closing(_run(waiting, settings, workers or cores())) as outcomes, \
            progress(total=len(waiting), desc="extracting frames", unit="video") as bar:
        for job, frames, reason in outcomes:
            summary.extracted += not reason
            summary.frames += frames
            summary.failures += [(job.name, reason)] if reason else []
            bar.update()
    summary.failures.sort()
    return summary


def remove_leftovers(directory: Path) -> None:
    """Remove what runs that were killed have begun in `directory`."""
    for entry in os.scandir(directory) if directory.is_dir() else ():
        if _PARTIAL.fullmatch(entry.name):
            shutil.rmtree(entry.path, ignore_errors=True) if entry.is_dir() else os.unlink(entry.path)


def _agree_on_settings(dst: Path, settings: dict, existing: int) -> None:
    """Write the settings beside the frames; refuse to mix frames made with different ones."""
    file = dst / SETTINGS_FILE
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file} is damaged ({error}): delete {dst} and extract again") from None
        if before != settings:
            raise UserError(f"{dst} holds frames made with {words_of(before)}; asked for is {words_of(settings)}:"
                            " use the same settings, or another directory")
        return
    if existing:
        raise UserError(f"{dst} holds frame directories of {existing} of these videos, made by another program, with"
                        f" unknown settings (no {SETTINGS_FILE}): name another directory or delete them")
    partial = dst / f".settings.partial-{uuid.uuid4().hex[:8]}"
    partial.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    partial.replace(file)


def words_of(settings: Any) -> str:
    """Settings for a message."""
    return ", ".join(f"{k} {v}" for k, v in settings.items()) if isinstance(settings, dict) else repr(settings)


# ---- processes -----------------------------------------------------------------------------------------------

Outcome = tuple[Job, int, str]  # the job, its number of frames, why it failed ("": it did not)


def _run(jobs: list[Job], settings: dict, workers: int) -> Generator[Outcome, None, None]:
    """The outcomes of all jobs, as they finish."""
    if min(workers, len(jobs)) <= 1:
        return ((job, *_work(job, settings)) for job in jobs)
    return _run_in_processes(jobs, settings, min(workers, len(jobs)))


def _run_in_processes(jobs: list[Job], settings: dict, workers: int) -> Generator[Outcome, None, None]:
    context = multiprocessing.get_context("spawn")  # fork would copy the locks of whatever threads run here
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, start_worker, (stop,))
    queue = iter(jobs)
    running: dict[Future, Job] = {}
    try:
        while True:
            for job in islice(queue, 2 * workers - len(running)):
                with without_interrupts():
                    running[pool.submit(_work, job, settings)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                frames, reason = future.result()
                yield running.pop(future), frames, reason
    except BrokenProcessPool:
        names = ", ".join(sorted(job.name for job in running.values()))
        raise UserError("a worker process died (out of memory?); it was at work on one of: " + names
                        + "; start again to go on, with a smaller -j where memory is short") from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _work(job: Job, settings: dict) -> tuple[int, str]:
    try:
        return extract_video(job.video, job.directory, **settings, stopped=interrupted), ""
    except UserError as error:
        return 0, shown(error)
    except Stopped:
        return 0, "interrupted"
