"""Videos to directories of JPEG frames, through PyAV: without an ffmpeg binary or a shell, so file names are safe.

A frame directory contains every frame that the decoder returns, in order, numbered from 1, upright, all of one size.
Unlike the published ffmpeg calls, no frame is repeated or dropped to make the frame rate constant.
"""
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

import av
from av.video.reformatter import VideoReformatter

from ops.common.errors import UserError
from ops.common.files import agree_on_settings, put_in_place, temporary_directory
from ops.common.part import WHOLE, Part
from ops.common.pool import Stopped, interrupted
from ops.prepare.extraction import EXTENSIONS, QUALITY, ExtractionSummary, Job, extract_all, save_jpeg, video_file_jobs
from ops.video.container_ends import BrokenVideo
from ops.video.decode import decoded_frames, frame_image, upright_size

SETTINGS_FILE = ".vid2img.json"
_JPEG_MAX_SIDE = 65500


def extract_video(video: Path, directory: Path, template: str = "{:06d}.jpg", *, height: int = 256,
                  quality: int = QUALITY, stopped: Callable[[], bool] = lambda: False) -> int:
    """Write every frame of `video` into the new directory `directory`, which appears only when it is complete.

    template: file name of frame n, n from 1. height: pixels, 0 keeps the video's own. quality: JPEG, 1-100.
    stopped: called for every frame; True gives up the video (Stopped). Returns the number of frames.
    Raises BrokenVideo (no directory is left), UserError when the directory exists, OSError when it cannot be written.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise UserError(f"{directory} exists already and is not empty: delete it to extract the video again")
    with temporary_directory(directory) as temporary:
        count = _write_frames(video, temporary / template, height=height, quality=quality, stopped=stopped)
        put_in_place(temporary, directory)
    return count


def _write_frames(video: Path, template: Path, *, height: int, quality: int, stopped: Callable[[], bool]) -> int:
    scaler, size, number = VideoReformatter(), (0, 0), 0
    for number, frame in enumerate(decoded_frames(video), start=1):
        if stopped():
            raise Stopped
        if number == 1:
            size = upright_size(frame, height)  # all frames get the first one's size
            if max(size) > _JPEG_MAX_SIDE:
                raise BrokenVideo(f"frames of {size[0]}x{size[1]} pixels are too large for JPEG")
        try:
            image = frame_image(frame, size, scaler)
        except av.FFmpegError as error:
            raise BrokenVideo(f"frame {number} cannot be converted: {error.strerror}") from None
        save_jpeg(image, template.with_name(template.name.format(number)), quality=quality, subsampling="4:2:0")
    return number


def extract_directory(src: Path, dst: Path, template: str = "{:06d}.jpg", *, height: int = 256, quality: int = QUALITY,
                      extensions: Sequence[str] = EXTENSIONS, workers: Optional[int] = None,
                      by_class: bool = False, part: Part = WHOLE) -> ExtractionSummary:
    """Extract the videos in `src` to `dst/<name without extension>/` (by_class: `src/<class>/` to `dst/<class>/`).

    template, height, quality: as for `extract_video`. workers: processes (None: one per core). Existing directories are
    kept, so that a killed run is resumed. Broken videos are listed in the summary. part: of the videos.
    UserError when there are no videos, when two share a directory, and as for `extract_all`.
    """
    jobs = video_file_jobs(Path(src), Path(dst), extensions=extensions, by_class=by_class)
    return extract_jobs(jobs, Path(dst), template, height=height, quality=quality, workers=workers, part=part)


def extract_jobs(jobs: Sequence[Job], dst: Path, template: str = "{:06d}.jpg", *, height: int = 256,
                 quality: int = QUALITY, workers: Optional[int] = None, ours: bool = False,
                 part: Part = WHOLE) -> ExtractionSummary:
    """`extract_directory` for given jobs, whose directories are in `dst`.

    ours: frames that are already there are known to have these settings, even if `dst` has no record of them.
    """
    settings = dict(template=template, height=height, quality=quality)
    if ours and dst.is_dir():
        agree_on_settings(dst / SETTINGS_FILE, settings, content="frames")
    return extract_all(jobs, dst, partial(_extract_job, settings), first_file=partial(_first_frame, template),
                       settings=settings, record=SETTINGS_FILE, content="frames", workers=workers, part=part)


def _extract_job(settings: dict[str, Any], job: Job) -> int:
    return extract_video(job.video, job.directory, **settings, stopped=interrupted)


def _first_frame(template: str, job: Job) -> Path:
    return job.directory / template.format(1)
