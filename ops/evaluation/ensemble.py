"""Ensembles: whether their members score the same videos, and the weighted mean of their scores."""
import os
import posixpath
from pathlib import Path
from typing import NamedTuple, Sequence

import torch

from ops.common.errors import UserError, shown
from ops.common.words import counted
from ops.data.list_files import VideoRecord, format_label
from ops.evaluation.metrics import Predictions
from ops.evaluation.multi_label import make_predictions
from ops.video.discovery import is_video_name


class ScoredList(NamedTuple):
    """The videos that a member scores. name: of the list, for messages."""
    name: str
    videos: Sequence[VideoRecord]


def check_same_videos(lists: Sequence[ScoredList]) -> None:
    """Raise UserError unless all lists name the same videos with the same labels in the same order.

    Videos are compared by their paths below the directory that all videos of their list share, and without the extension
    of a video file, because the lists of RGB, of flow and of video files have different roots. Numbers of frames may
    differ.
    """
    first = lists[0]
    for other in lists[1:]:
        if problem := _difference(first, other):
            raise UserError(f"{problem}: the members of an ensemble score the same videos in the same order: give each"
                            " member a matching list with test_list", "test_list")


def combine(scored: Sequence[Predictions], coeff: Sequence[float]) -> Predictions:
    """The weighted mean of the scores of several members, whose lists have passed `check_same_videos`."""
    # The published mean is over members, not over weights; of probabilities of single classes it must stay one.
    # A member that counts against the others has a negative weight, which must not turn the ranking around.
    whole = sum(map(abs, coeff)) or 1 if scored[0].probabilities and scored[0].labels.dim() == 2 else len(scored)
    logits = sum(scores.logits * weight for scores, weight in zip(scored, coeff)) / whole
    return make_predictions(torch.as_tensor(logits), scored[0].labels, scored[0].probabilities)


def _difference(first: ScoredList, other: ScoredList) -> str:
    """How two lists differ, in words; "" if they name the same videos."""
    if len(first.videos) != len(other.videos):
        return f"{first.name} has {counted(len(first.videos), 'video')}, and {other.name} has {len(other.videos)}"
    names, other_names = _names_below_root(first.videos), _names_below_root(other.videos)
    for number, (a, b) in enumerate(zip(first.videos, other.videos)):
        if names[number] != other_names[number]:
            return f"video {number + 1} is {shown(a.path)!r} in {first.name}, but {shown(b.path)!r} in {other.name}"
        if a.labels != b.labels:
            return (f"video {number + 1}, {shown(a.path)!r}, has label {format_label(a.labels)} in {first.name}, but"
                    f" {format_label(b.labels)} in {other.name}")
    return ""


def _names_below_root(videos: Sequence[VideoRecord]) -> list[tuple[str, ...]]:
    """The parts of each path below the deepest directory that contains all videos, without a video's extension.

    Numbers lose their leading zeros: a layout of optical flow names the directory of video 7 `000007`.
    """
    paths = [Path(posixpath.normpath(video.path)) for video in videos]
    root = os.path.commonprefix([path.parts[:-1] for path in paths])  # compares whole parts, since these are tuples
    names = [path.with_suffix("") if is_video_name(path.name) else path for path in paths]
    return [tuple(str(int(part)) if part.isdecimal() and len(part) < 20 else part for part in name.parts[len(root):])
            for name in names]
