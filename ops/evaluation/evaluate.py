"""The evaluation loop: a network's predictions for a list of videos."""
from itertools import chain
from typing import Iterator, Optional, Protocol, Sequence

import torch
from torch import Tensor

from ops.common import distributed
from ops.common.part import interleave
from ops.common.progress import progress
from ops.data.loader import first_batches
from ops.data.tsn_dataset import Batch
from ops.evaluation.clip_runtime import ClipRuntime
from ops.evaluation.metrics import Predictions
from ops.evaluation.multi_label import make_predictions, probabilities_of


class Batches(Protocol):
    """A DataLoader, a list of batches, or anything else with a length."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def evaluate(runtime: ClipRuntime, loader: Batches, *, mirrored: Sequence[bool] = (False,),
             mirror_labels: Optional[Sequence[int]] = None, softmax: bool = False, max_steps: Optional[int] = None,
             desc: str = "test") -> Predictions:
    """The predictions for every video of `loader`, in its order; in a run of several processes, for those of all.

    Each process evaluates its own part of the list (`ops.data.loader.RankSampler`) and gets the predictions of the whole.

    mirrored: for each of an item's views (crops x clips, in its channels) whether it is a mirror image; the views'
    scores are averaged. mirror_labels: label -> the mirrored video's label, so that a mirror image's score for "left"
    counts as one for "right". softmax: applied to the average (of a multi-label network, a sigmoid). max_steps: batches
    after which to stop. desc: of the progress bar.
    """
    views = len(mirrored)
    logits, labels = [], []
    total = min(len(loader), max_steps or len(loader))
    for batch in progress(first_batches(loader, total), total=total, desc=desc, unit="batch"):
        clips = batch.clips.unflatten(1, (views, -1)).flatten(0, 1)  # (N * views, T*C, H, W)
        output = mean_of_views(runtime(clips).unflatten(0, (-1, views)), mirrored, mirror_labels)
        logits.append((probabilities_of(output, runtime.spec.multi_label) if softmax else output).cpu())
        labels.append(batch.labels)
    return _in_list_order(distributed.gather((logits, labels)), softmax)


def mean_of_views(output: Tensor, mirrored: Sequence[bool], mirror_labels: Optional[Sequence[int]]) -> Tensor:
    """(N, num_class) of the scores of each view, (N, views, num_class), which may be changed. See `evaluate`."""
    if mirror_labels is not None and any(mirrored):
        flipped = torch.tensor(mirrored)
        output[:, flipped] = output[:, flipped][:, :, list(mirror_labels)]
    return output.mean(dim=1)


def _in_list_order(parts: Sequence[tuple[list[Tensor], list[Tensor]]], softmax: bool) -> Predictions:
    """The predictions of all processes, each given as its batches' logits and labels."""
    logits, labels = (torch.stack(interleave(chain.from_iterable(part[i]) for part in parts)) for i in (0, 1))
    return make_predictions(logits, labels, probabilities=softmax)
