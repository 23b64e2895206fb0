"""Scores of an online model on a long video: its predictions over time against the gestures in the video."""
import json
from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from ops.common.errors import UserError
from ops.common.words import counted

GRACE = 0.5  # seconds: the shortest pause that ops.prepare.gestures.render.render_stream makes
ROUNDING = 1e-6  # seconds: the demo writes times with four digits


class Gesture(NamedTuple):
    """A gesture from `start` to `end`, seconds; its last frame is shown until `end`."""
    start: float
    end: float
    name: str


class Prediction(NamedTuple):
    """A predicted class, which holds from `time` (seconds) until the next prediction. None: no class."""
    time: float
    name: Optional[str]


class GroundTruth(NamedTuple):
    """The gestures of a long video, in order and without overlap. fps: frames per second. seconds: length."""
    fps: float
    seconds: float
    gestures: list[Gesture]


class StreamScore(NamedTuple):
    """Scores of a stream, in percent, 0-100.

    top1: share of gestures that were recognised. A gesture is recognised if its class is predicted at its last frame,
    or becomes the prediction within GRACE seconds after its end. known: (gestures,), which ones were recognised.
    frames: share of the frames inside gestures at which the prediction is right.
    chance: the top1 of predictions that have nothing to do with the video: the mean over all cyclic shifts of the
    sequence of true classes.
    """
    top1: float
    frames: float
    chance: float
    known: list[bool]


def score_stream(truth: GroundTruth, predictions: Sequence[Prediction]) -> StreamScore:
    """predictions: ordered by time. UserError if there are no gestures or no predictions."""
    if not truth.gestures or not predictions:
        raise UserError(f"{counted(len(truth.gestures), 'gesture')} and {counted(len(predictions), 'prediction')}: a score"
                        " needs both")
    names = [gesture.name for gesture in truth.gestures]
    final = [_final_predictions(gesture, predictions, truth.fps) for gesture in truth.gestures]
    known = [name in near_end for name, near_end in zip(names, final)]
    shifted = [[name in near_end for name, near_end in zip(names[k:] + names[:k], final)] for k in range(1, len(names))]
    correct = [prediction_at(predictions, frame / truth.fps) == gesture.name for gesture in truth.gestures
               for frame in range(round(gesture.start * truth.fps), round(gesture.end * truth.fps))]
    return StreamScore(100 * float(np.mean(known)), 100 * float(np.mean(correct)),
                       100 * float(np.mean(shifted)) if shifted else 0.0, known)


def prediction_at(predictions: Sequence[Prediction], seconds: float) -> Optional[str]:
    """The class predicted at this time; None before the first prediction."""
    index = bisect_right(predictions, seconds + ROUNDING, key=lambda prediction: prediction.time)
    return predictions[index - 1].name if index else None


def _final_predictions(gesture: Gesture, predictions: Sequence[Prediction], fps: float) -> set[Optional[str]]:
    """The class predicted at the gesture's last frame, and those predicted until GRACE seconds after its end."""
    last = gesture.end - 1 / fps
    return {prediction_at(predictions, last),
            *(p.name for p in predictions if last < p.time < gesture.end + GRACE - ROUNDING)}


def merge_repeats(predictions: Sequence[Prediction], seconds: float) -> list[tuple[float, float, Optional[str]]]:
    """(start, end, class) of each run of equal predictions; the last one ends with the video, after `seconds`."""
    merged = [p for i, p in enumerate(predictions) if not i or p.name != predictions[i - 1].name]
    ends = [prediction.time for prediction in merged[1:]] + [seconds]
    return [(prediction.time, end, prediction.name) for prediction, end in zip(merged, ends)]


# ---- files --------------------------------------------------------------------------------------------------

def make_ground_truth(segments: Sequence[tuple[int, int, int]], names: Sequence[str], *, num_frames: int,
                      fps: float) -> GroundTruth:
    """segments: (first frame, last frame, label) of each gesture, 0-based, as `render_stream` returns them. names: of
    the classes."""
    return GroundTruth(fps, num_frames / fps, [Gesture(first / fps, (last + 1) / fps, names[label])
                                               for first, last, label in segments])


def ground_truth_to_json(truth: GroundTruth) -> dict[str, Any]:
    return {"fps": truth.fps, "seconds": truth.seconds,
            "gestures": [{"start": start, "end": end, "class": name} for start, end, name in truth.gestures]}


def read_ground_truth(path: Path) -> GroundTruth:
    """Read a file of `ground_truth_to_json`. UserError for any other file."""
    try:
        found = json.loads(path.read_text())
        return GroundTruth(float(found["fps"]), float(found["seconds"]),
                           [Gesture(float(g["start"]), float(g["end"]), str(g["class"])) for g in found["gestures"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as the ground truth of a stream ({error}): write it with"
                        " tools/showcase/stream.py") from None


def read_predictions(path: Path) -> list[Prediction]:
    """Read the JSON lines of online_demo/main.py, ordered by time. UserError for any other file."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return sorted((Prediction(float(row["time"]), row["class"]) for row in rows), key=lambda row: row.time)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as predictions of a stream ({error}): write it with"
                        " online_demo/main.py and its json option") from None
