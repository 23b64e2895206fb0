"""Optical flow of whole directories of videos, and lists to train on it; one video's flow is in `optical_flow`."""
import os
from functools import partial
from pathlib import Path
from typing import Any, Optional, Sequence

from ops.common.errors import UserError, shown
from ops.common.files import write_lines
from ops.common.part import WHOLE, Part
from ops.common.pool import interrupted
from ops.data.list_files import count_frames, format_line, read_list
from ops.prepare.extraction import (
    EXTENSIONS,
    ExtractionSummary,
    Job,
    NoVideos,
    extract_all,
    frame_directory_jobs,
    video_file_jobs,
)
from ops.prepare.label_files import check_name
from ops.prepare.optical_flow import (
    BOUND,
    HEIGHT,
    QUALITY,
    directory_name,
    extract_flow,
    file_templates,
    flow_function,
    template_error,
)
from ops.video.discovery import without_extension
from ops.video.video_files import VideoFiles

SETTINGS_FILE = ".flow.json"


def extract_flow_directory(src: Path, dst: Path, *, frames: bool = False, by_class: bool = False, template: str = "",
                           extensions: Sequence[str] = EXTENSIONS, workers: Optional[int] = None, layout: str = "ucf",
                           method: str = "dis", bound: float = BOUND, height: int = HEIGHT,
                           quality: int = QUALITY, listed: Sequence[str] = (),
                           part: Part = WHOLE) -> ExtractionSummary:
    """Write the flow of every video in `src` (frames: of every directory of frames) to `dst/<its name>/`.

    by_class: `src/<class>/` to `dst/<class>/`. listed: paths of lists; the videos in `src` that they name are extracted
    too, at any depth, to `dst/<path without a video file's extension>/`. workers: processes (None: one per core). part: of
    the videos. The other options are those of `extract_flow`. Existing flow is kept, so that a killed run is resumed. Broken
    videos are listed in the summary.
    UserError when there are no videos, when an option is impossible, and as for `extract_all`.
    """
    flow_function(method)  # before any work: the method may need a package
    if reason := template_error(template):
        raise UserError(f"template {template!r}: {reason}: choose a file name such as img_{{:05d}}.jpg", "template")
    found = flow_jobs(src, dst, frames=frames, by_class=by_class, extensions=extensions, listed=listed)
    settings = dict(layout=layout, method=method, bound=bound, height=height, quality=quality)
    return extract_all(_in_layout(found, layout), dst, partial(_extract_job, {**settings, "template": template}),
                       first_file=partial(_first_file, layout), settings=settings, record=SETTINGS_FILE, content="flow",
                       workers=workers, part=part)


def flow_jobs(src: Path, dst: Path, *, frames: bool = False, by_class: bool = False, extensions: Sequence[str] = EXTENSIONS,
              listed: Sequence[str] = ()) -> list[Job]:
    """The videos that `extract_flow_directory` reads, given the same options. UserError when there are none."""
    named = _listed_jobs(src, dst, listed, frames=frames)
    try:
        found = (frame_directory_jobs(src, dst, by_class=by_class) if frames else
                 video_file_jobs(src, dst, extensions=extensions, by_class=by_class))
    except NoVideos:
        if not named:
            raise
        found = []
    known = {job.video for job in found}
    return found + [job for job in named if job.video not in known]


def _listed_jobs(src: Path, dst: Path, listed: Sequence[str], *, frames: bool) -> list[Job]:
    jobs = {}
    for path in map(os.path.normpath, listed):
        check_name(path, "the list")
        video = src / path if frames else VideoFiles(src).path(path)
        if os.path.isdir(video) if frames else os.path.isfile(video):
            jobs[video] = Job(video, dst / (path if frames else without_extension(path)), shown(path))
    return list(jobs.values())


def _in_layout(jobs: Sequence[Job], layout: str) -> list[Job]:
    """The jobs with the layout's directories. UserError when two would share one, or overwrite their frames."""
    renamed: dict[Path, Job] = {}
    for job in jobs:
        directory = job.directory.with_name(directory_name(layout, job.directory.name))
        if directory in renamed:
            raise UserError(f"{renamed[directory].name} and {job.name} would share the directory {shown(directory)}: rename"
                            " one of them")
        if layout == "rgb" and directory.absolute() == job.video.absolute():
            raise UserError("layout rgb would overwrite the frames, which have the same names: choose another directory",
                            "layout")
        renamed[directory] = job._replace(directory=directory)
    return list(renamed.values())


def _first_file(layout: str, job: Job) -> Path:
    return job.directory / file_templates(layout, job.directory.name)[0].format(1)


def _extract_job(options: dict[str, Any], job: Job) -> int:
    return extract_flow(job.video, job.directory, **options, stopped=interrupted)


# ---- lists ---------------------------------------------------------------------------------------------------

def _flow_of(path: str, flow: Path, layout: str) -> tuple[str, str]:
    """(directory in `flow`, template) of a listed video's flow.

    The flow of a video file is in a directory without the file's extension. Frames may be in a directory that is named
    like a file; their flow keeps that name.
    """
    places = []
    for video in dict.fromkeys((without_extension(path), path)):
        parent, _, name = os.path.normpath(video).rpartition("/")
        directory = f"{parent}/{directory_name(layout, name)}" if parent else directory_name(layout, name)
        places.append((directory, file_templates(layout, name)[0]))
    return next((place for place in places if os.path.exists(flow / place[0] / place[1].format(1))), places[0])


def write_flow_list(rgb_list: Path, out: Path, *, flow: Path, layout: str) -> list[tuple[str, str]]:
    """Write the list of the flow in the directory `flow` for an RGB list's videos; num_frames is the number of pairs.

    In layout something_v1 it is the number of files, two per pair, as published lists of that layout count.
    The list may name frame directories or video files. Returns (video, reason) of the videos without flow, which are
    left out. UserError when that is all of them.
    """
    lines, missing = [], []
    records = read_list(rgb_list, multi_label=None)
    for record in records:
        try:
            video, template = _flow_of(record.path, flow, layout)
            pairs = count_frames(flow / video, template)
            lines.append(format_line(video, pairs * (2 if layout == "something_v1" else 1), record.labels))
        except (UserError, OSError) as error:
            missing.append((record.path, str(error) if isinstance(error, UserError) else "no directory of flow"))
    if not lines:
        raise UserError(f"none of the {len(records)} videos of {rgb_list} has flow in {flow} ({missing[0][0]}:"
                        f" {missing[0][1]})")
    write_lines(out, lines)
    return missing
