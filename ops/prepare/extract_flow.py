"""Optical flow of whole directories of videos, in parallel, and lists to train on it; see `ops.prepare.optical_flow`."""
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Optional, Sequence

from ops.common.cli import progress
from ops.common.errors import UserError, shown
from ops.common.files import agree_on_settings, only_run, remove_leftovers, write_lines
from ops.common.pool import interrupted, run_jobs
from ops.data.list_files import count_frames, read_list
from ops.prepare.extract import EXTENSIONS, ExtractSummary, Job, find_videos, visible
from ops.prepare.optical_flow import (
    BOUND,
    HEIGHT,
    LAYOUTS,
    QUALITY,
    TEMPLATES,
    directory_name,
    extract_flow,
    file_forms,
    flow_function,
)

SETTINGS_FILE = ".flow.json"


def extract_flow_directory(src: Path, dst: Path, frames: bool = False, by_class: bool = False, template: str = "",
                           extensions: Sequence[str] = EXTENSIONS, workers: Optional[int] = None,
                           **settings: Any) -> ExtractSummary:
    """The flow of every video in `src` (frames: of every directory of frames) to `dst/<its name>/`.

    by_class: `src/<class>/` to `dst/<class>/`. settings: layout, method, bound, height, quality of `extract_flow`.
    What is there already is kept, so a killed run goes on where it was. workers: processes (None: one per core).
    Raises UserError when there is nothing to do, an option cannot work, `dst` holds flow made with other settings, or
    it cannot be written; broken videos are counted and listed.
    """
    started = time.monotonic()
    settings = {"layout": "ucf", "method": "dis", "bound": BOUND, "height": HEIGHT, "quality": QUALITY, **settings}
    _check(settings, template, workers)
    found = _frame_directories(src, dst, by_class) if frames else find_videos(src, dst, extensions, by_class)
    jobs = _in_layout(found, settings["layout"])
    try:
        dst.mkdir(parents=True, exist_ok=True)
        with only_run(dst):
            for parent in {dst, *(job.directory.parent for job in jobs)}:
                remove_leftovers(parent)
            waiting = [job for job in jobs if not _first_file(job, settings["layout"]).exists()]
            existing = len(jobs) - len(waiting)
            agree_on_settings(dst / SETTINGS_FILE, settings, content="flow",
                              foreign=f"flow of {existing} of these videos" if existing else "")
            summary = ExtractSummary(videos=len(jobs), existing=existing)
            _extract_all(waiting, {**settings, "template": template}, workers, summary)
    except OSError as error:
        raise UserError(f"cannot write the flow to {dst}: {error}") from None
    summary.seconds = time.monotonic() - started
    return summary


def _check(settings: dict[str, Any], template: str, workers: Optional[int]) -> None:
    if settings["layout"] not in LAYOUTS:
        raise UserError(f"--layout {settings['layout']!r}: choose {', '.join(LAYOUTS)}")
    if not 0 < settings["bound"] < float("inf"):
        raise UserError(f"--bound {settings['bound']:g}: choose pixels above 0 (published: {BOUND:g})")
    if settings["height"] < 0 or not 1 <= settings["quality"] <= 100 or (workers is not None and workers < 1):
        raise UserError(f"height {settings['height']}, quality {settings['quality']}, workers {workers}: choose a"
                        " height of at least 1 (0 keeps the frames'), a quality from 1 to 100, and at least 1 worker")
    try:
        if template and template.format(1) == template.format(2):
            raise ValueError("no number in it")
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"--template {template!r}: {error}: give a form such as {TEMPLATES[0]}") from None
    flow_function(settings["method"])


def _frame_directories(src: Path, dst: Path, by_class: bool) -> list[Job]:
    """A job per visible directory in `src`, by name. UserError when there are none."""
    parents = [Path(entry.path) for entry in visible(src) if entry.is_dir()] if by_class else [src]
    jobs = [Job(Path(entry.path), dst / Path(entry.path).relative_to(src), shown(Path(entry.path).relative_to(src)))
            for parent in parents for entry in visible(parent) if entry.is_dir()]
    if not jobs:
        raise UserError(f"no directories of frames in {shown(src)}" + ("/<class>/" if by_class else ""))
    return jobs


def _in_layout(jobs: Sequence[Job], layout: str) -> list[Job]:
    """The jobs with the directories that the layout asks for. UserError when two would share one, or overwrite frames."""
    renamed: dict[Path, Job] = {}
    for job in jobs:
        directory = job.directory.with_name(directory_name(layout, job.directory.name))
        if directory in renamed:
            raise UserError(f"{renamed[directory].name} and {job.name} would share the directory {shown(directory)}: rename"
                            " one of them")
        if layout == "rgb" and directory.absolute() == job.video.absolute():
            raise UserError("--layout rgb names its files as frames: name another directory than the frames' own")
        renamed[directory] = job._replace(directory=directory)
    return list(renamed.values())


def _first_file(job: Job, layout: str) -> Path:
    return job.directory / file_forms(layout, job.directory.name)[0].format(1)


def _extract_all(jobs: list[Job], options: dict[str, Any], workers: Optional[int], summary: ExtractSummary) -> None:
    with closing(run_jobs(partial(_extract, options), jobs, workers, lambda job: job.name)) as outcomes, \
            progress(total=len(jobs), desc="computing flow", unit="video") as bar:
        for job, (pairs, reason) in outcomes:
            summary.extracted += not reason
            summary.frames += pairs
            summary.failures += [(job.name, reason)] if reason else []
            bar.update()
    summary.failures.sort()


def _extract(options: dict[str, Any], job: Job) -> tuple[int, str]:
    """(pairs written, why the video failed: "" if it did not)"""
    try:
        return extract_flow(job.video, job.directory, **options, stopped=interrupted), ""
    except UserError as error:
        return 0, shown(error)


# ---- lists ---------------------------------------------------------------------------------------------------

def write_flow_list(rgb_list: Path, out: Path, dst: Path, layout: str) -> list[tuple[str, str]]:
    """The list of the flow in `dst` for an RGB list's videos: lines `path num_frames label`, num_frames counts pairs.

    In layout something_v1 it counts files, two a pair, as its published lists do and every loader of them expects.
    Returns (video, reason) of those without flow, which are left out. UserError when that is all of them.
    """
    lines, missing = [], []
    records = read_list(rgb_list)
    for record in records:
        parent, _, name = record.path.rpartition("/")
        video = f"{parent}/{directory_name(layout, name)}" if parent else directory_name(layout, name)
        try:
            pairs = count_frames(dst / video, file_forms(layout, name)[0])
            lines.append(f"{video} {pairs * (2 if layout == 'something_v1' else 1)} {record.label}")
        except (UserError, OSError) as error:
            missing.append((record.path, str(error) if isinstance(error, UserError) else "no directory of flow"))
    if not lines:
        raise UserError(f"none of the {len(records)} videos of {rgb_list} has flow in {dst} ({missing[0][0]}:"
                        f" {missing[0][1]})")
    write_lines(out, lines)
    return missing
