"""A long video in which gestures follow one another, and how well the answers of an online model followed them."""
import json
from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from ops.common.errors import UserError

GRACE = 0.5  # seconds: the shortest pause that ops.prepare.gestures.render.render_stream makes


class Gesture(NamedTuple):
    """What happens from `start` to `end`, seconds; its last frame is shown until `end`."""
    start: float
    end: float
    name: str


class Answer(NamedTuple):
    """An answer, which stands from `time` (seconds) until the next one; None: no class."""
    time: float
    name: Optional[str]


class Truth(NamedTuple):
    """What a long video shows: gestures in order, not overlapping. fps: its frames per second. seconds: its length."""
    fps: float
    seconds: float
    gestures: list[Gesture]


class StreamScore(NamedTuple):
    """How well answers followed gestures. All shares are percent, 0-100.

    top1: of the gestures, those that were `known`: theirs was the answer at their last frame, or became it within
    GRACE seconds after their end. frames: of the video's frames inside gestures, those at which the standing answer
    was right. chance: the top1 that the same answers would have if they had nothing to do with the video: the mean
    over all ways to turn the sequence of true names round. known: (gestures,).
    """
    top1: float
    frames: float
    chance: float
    known: list[bool]


def score_stream(truth: Truth, answers: Sequence[Answer]) -> StreamScore:
    """UserError where there is nothing to score."""
    if not truth.gestures or not answers:
        raise UserError(f"{len(truth.gestures)} gestures and {len(answers)} answers: a score needs both")
    names = [gesture.name for gesture in truth.gestures]
    given = [_given_at_end(gesture, answers, truth.fps) for gesture in truth.gestures]
    known = [name in near for name, near in zip(names, given)]
    turned = [[name in near for name, near in zip(names[k:] + names[:k], given)] for k in range(1, len(names))]
    right = [standing(answers, frame / truth.fps) == gesture.name
             for gesture in truth.gestures for frame in _frames(gesture, truth.fps)]
    return StreamScore(100 * float(np.mean(known)), 100 * float(np.mean(right)),
                       100 * float(np.mean(turned)) if turned else 0.0, known)


def standing(answers: Sequence[Answer], seconds: float) -> Optional[str]:
    """The answer that stands at this time: the last one given until then. None before the first."""
    index = bisect_right(answers, seconds + 1e-6, key=lambda answer: answer.time)  # written with four digits
    return answers[index - 1].name if index else None


def _frames(gesture: Gesture, fps: float) -> range:
    """The numbers (from 0) of its frames."""
    return range(round(gesture.start * fps), round(gesture.end * fps))


def _given_at_end(gesture: Gesture, answers: Sequence[Answer], fps: float) -> set[Optional[str]]:
    """The answer at the gesture's last frame, and those given up to GRACE seconds after its end."""
    last = gesture.end - 1 / fps
    return {standing(answers, last), *(a.name for a in answers if last < a.time < gesture.end + GRACE - 1e-6)}


def stretches(answers: Sequence[Answer], seconds: float) -> list[tuple[float, float, Optional[str]]]:
    """(start, end, answer): equal answers that follow one another as one, until the video's end."""
    merged = [answer for i, answer in enumerate(answers) if not i or answer.name != answers[i - 1].name]
    ends = [answer.time for answer in merged[1:]] + [seconds]
    return [(answer.time, end, answer.name) for answer, end in zip(merged, ends)]


# ---- files --------------------------------------------------------------------------------------------------

def truth_of(segments: Sequence[tuple[int, int, int]], names: Sequence[str], frames: int, fps: float) -> Truth:
    """From `ops.prepare.gestures.render.render_stream`'s segments (first frame, last frame, label), 0-based."""
    return Truth(fps, frames / fps, [Gesture(first / fps, (last + 1) / fps, names[label])
                                     for first, last, label in segments])


def truth_to_json(truth: Truth) -> dict[str, Any]:
    return {"fps": truth.fps, "seconds": truth.seconds,
            "gestures": [{"start": start, "end": end, "class": name} for start, end, name in truth.gestures]}


def read_truth(path: Path) -> Truth:
    """The file of `truth_to_json`. UserError when it is none."""
    try:
        found = json.loads(path.read_text())
        return Truth(float(found["fps"]), float(found["seconds"]),
                     [Gesture(float(g["start"]), float(g["end"]), str(g["class"])) for g in found["gestures"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as the truth of a stream ({error}): make it with"
                        " tools/showcase/stream.py") from None


def read_answers(path: Path) -> list[Answer]:
    """The lines that `online_demo/main.py --json` prints, ordered by time. UserError when they are none."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return sorted((Answer(float(row["time"]), row["class"]) for row in rows), key=lambda answer: answer.time)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as answers of a stream ({error}): write it with"
                        " online_demo/main.py ... --json") from None
