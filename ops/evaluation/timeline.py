"""The timeline of a long video: the part of it that each window's answer stands for, and the stretches of equal answers.

timeline: the windows in order, as `Predictor.report` gives them: `start` and `end` in seconds, and
`predictions`, dicts of `class` and `probability`, best first.
"""
from itertools import groupby
from pathlib import Path
from typing import Any, Sequence

from ops.common.errors import shown
from ops.common.plots import Panel

Timeline = Sequence[dict[str, Any]]
SHOWN_CLASSES = 8


def borders(timeline: Timeline) -> list[float]:
    """Seconds where one window's part of the video ends and the next one's begins: halfway between their middles."""
    middles = [(window["start"] + window["end"]) / 2 for window in timeline]
    return [timeline[0]["start"], *((a + b) / 2 for a, b in zip(middles, middles[1:])), timeline[-1]["end"]]


def spans(timeline: Timeline) -> list[tuple[float, float, str, float]]:
    """(start, end, class, mean probability) of each stretch of windows with the same best class."""
    edges, best = borders(timeline), [window["predictions"][0] for window in timeline]
    found = []
    for name, group in groupby(range(len(best)), key=lambda i: best[i]["class"]):
        windows = list(group)
        mean = sum(best[i]["probability"] for i in windows) / len(windows)
        found.append((edges[windows[0]], edges[windows[-1] + 1], name, mean))
    return found


def presences(timeline: Timeline, least: float = 0.5) -> list[tuple[float, float, str, float]]:
    """(start, end, class, mean probability) of each stretch of windows in which a class has at least the probability
    `least`, for classes that do not exclude each other: stretches may overlap. They come in the order of their starts.
    """
    edges, found = borders(timeline), []
    windows = [{row["class"]: row["probability"] for row in window["predictions"]} for window in timeline]
    for name in dict.fromkeys(name for window in windows for name in window):
        for present, group in groupby(range(len(windows)), key=lambda i: windows[i].get(name, 0.0) >= least):
            stretch = list(group)
            if present:
                mean = sum(windows[i][name] for i in stretch) / len(stretch)
                found.append((edges[stretch[0]], edges[stretch[-1] + 1], name, mean))
    return sorted(found, key=lambda stretch: stretch[0])


def likeliest(timeline: Timeline, topk: int, most: int = SHOWN_CLASSES) -> dict[str, list[float]]:
    """{class: its probability in each window}, of the `most` likeliest classes, the likeliest first.

    timeline: with every class in each window. topk: a class must be among the best `topk` of a window.
    """
    windows = [{row["class"]: row["probability"] for row in window["predictions"]} for window in timeline]
    largest: dict[str, float] = {}
    for window in timeline:
        for row in window["predictions"][:topk]:
            largest[row["class"]] = max(largest.get(row["class"], 0.0), row["probability"])
    names = sorted(largest, key=lambda name: -largest[name])[:most]
    return {name: [window[name] for window in windows] for name in names}


def timeline_panel(result: dict[str, Any]) -> Panel:
    """One video's panel for `ops.common.plots.draw_timelines`. result: from `Predictor.report`, with its timeline."""
    timeline = result["timeline"]
    return Panel(shown(Path(result["video"]).name), borders(timeline),
                 [window["predictions"][0]["class"] for window in timeline], result["probabilities"])
