"""Checking a data set as several jobs: each part inspects some of the videos, the last one to end makes the whole report."""
import hashlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from ops.common.errors import UserError
from ops.common.part import Part, interleave
from ops.common.part_results import part_results
from ops.common.words import counted
from ops.prepare.check import DatasetReport, Rules, finish_report, inspect_videos, read_lists
from ops.prepare.inspect_video import VideoReport


def check_part(files: Mapping[str, Path], rules: Rules, workers: int, *, part: Part,
               results: Path) -> tuple[DatasetReport, list[Part]]:
    """Inspect one part of the videos of the lists and store what was found in the directory `results`.

    Returns (report, missing parts). When all parts have results, the report is that of `check_lists`; before that it
    contains this part's videos and no findings but theirs. UserError as for `check_lists` and `part_results`.
    """
    report = read_lists(files, rules)
    with part_results(results, part, _settings(report)) as stored:
        own = part.take(report.wanted())
        report.videos = inspect_videos(rules, own, workers)
        everything = stored.store([_to_json(video) for video in report.videos.values()])
        if everything is None:
            return _only(report), stored.missing()
    wanted, found = report.wanted(), interleave(everything)
    if len(found) != len(wanted):
        raise UserError(f"{results} has results of {counted(len(found), 'video')}, the lists name {len(wanted)}: name"
                        " another directory")
    report.videos = dict(zip(wanted, map(_from_json, found)))
    return finish_report(report), []


def _settings(report: DatasetReport) -> dict[str, Any]:
    lines = repr([(entry.list, entry.line, entry.path, entry.num_frames, entry.labels) for entry in report.entries])
    rules = {key: str(value) for key, value in asdict(report.rules).items()}
    return {**rules, "lists": {name: str(file) for name, file in report.files.items()},
            "lines": hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()}


def _only(report: DatasetReport) -> DatasetReport:
    """The report with only the lines whose videos were inspected, and what was found in these."""
    report.entries = [entry for entry in report.entries if (entry.path, entry.num_frames) in report.videos]
    report.findings = []
    report.add_video_findings()
    return report


# ---- plain values -----------------------------------------------------------------------------------------------

def _to_json(video: VideoReport) -> dict[str, Any]:
    return {"count": video.count, "findings": video.findings, "sizes": list(video.sizes.items()), "uniform": video.uniform,
            "signature": [digest.hex() for digest in video.signature],
            "looks": [look and look.hex() for look in video.looks]}


def _from_json(values: dict[str, Any]) -> VideoReport:
    try:
        return VideoReport(
            count=values["count"], findings=dict(values["findings"]), uniform=values["uniform"],
            sizes=Counter({(width, height): number for (width, height), number in values["sizes"]}),
            signature=[bytes.fromhex(digest) for digest in values["signature"]],
            looks=[None if look is None else bytes.fromhex(look) for look in values["looks"]])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"a part's results are damaged ({error!r}): name another directory and run all parts again"
                        ) from None
