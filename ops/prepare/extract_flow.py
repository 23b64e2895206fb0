"""Optical flow of whole directories of videos, in parallel, and lists to train on it; see `ops.prepare.optical_flow`."""
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import Any, Generator, Optional, Sequence

from ops.common.cli import progress
from ops.common.errors import UserError, shown
from ops.common.files import only_run
from ops.common.pool import Stopped, cores, interrupted, start_worker, without_interrupts
from ops.data.list_files import count_frames, read_list, write_lines
from ops.prepare.extract import EXTENSIONS, ExtractSummary, Job, find_videos, remove_leftovers, visible, words_of
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
            _agree_on_settings(dst, settings, len(jobs) - len(waiting))
            summary = ExtractSummary(videos=len(jobs), existing=len(jobs) - len(waiting))
            _extract(waiting, {**settings, "template": template}, workers or cores(), summary)
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


def _agree_on_settings(dst: Path, settings: dict[str, Any], existing: int) -> None:
    """Write the settings beside the flow; refuse to mix flow made with different ones."""
    file = dst / SETTINGS_FILE
    if not file.exists():
        if existing:
            raise UserError(f"{dst} holds flow of {existing} of these videos, made by another program, with unknown"
                            f" settings (no {SETTINGS_FILE}): name another directory or delete it")
        write_lines(file, [json.dumps(settings)])
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): delete the flow in {dst} and extract again") from None
    if before != settings:
        raise UserError(f"{dst} holds flow made with {words_of(before)}; asked for is {words_of(settings)}: use the same"
                        " settings, or another directory")


def _extract(jobs: list[Job], options: dict[str, Any], workers: int, summary: ExtractSummary) -> None:
    with closing(_outcomes(jobs, options, min(workers, len(jobs)))) as outcomes, \
            progress(total=len(jobs), desc="computing flow", unit="video") as bar:
        for job, pairs, reason in outcomes:
            summary.extracted += not reason
            summary.frames += pairs
            summary.failures += [(job.name, reason)] if reason else []
            bar.update()
    summary.failures.sort()


def _outcomes(jobs: list[Job], options: dict[str, Any], workers: int) -> Generator[tuple[Job, int, str], None, None]:
    """(job, its number of pairs, why it failed: "" if it did not) of all jobs, as they finish."""
    if workers <= 1:
        yield from ((job, *_work(job, options)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, start_worker, (stop,))
    try:
        with without_interrupts():
            running = {pool.submit(_work, job, options): job for job in jobs}
        for future in as_completed(running):
            yield running[future], *future.result()
    except BrokenProcessPool:
        raise UserError("a worker process died (out of memory?): start again to go on, with a smaller -j where memory"
                        " is short") from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _work(job: Job, options: dict[str, Any]) -> tuple[int, str]:
    try:
        return extract_flow(job.video, job.directory, **options, stopped=interrupted), ""
    except UserError as error:
        return 0, shown(error)
    except Stopped:
        return 0, "interrupted"


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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_lines(out, lines)
    except OSError as error:
        raise UserError(f"cannot write the list {out}: {error}") from None
    return missing
