"""The evaluation loop: the predictions of a model for a list of videos."""
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ops.common.cli import progress
from ops.data.loader import first_batches
from ops.evaluation.metrics import Predictions

# A batch's uint8 clips (N, T*C, H, W) -> the network's input: `Preprocessing.apply`, with a device or without.
Preprocessor = Callable[[Tensor], Tensor]


def clip_scores(output: Tensor) -> Tensor:
    """(N, num_class), whatever the consensus."""
    return output.mean(dim=1) if output.dim() == 3 else output


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, prepare: Preprocessor, mirrored: Sequence[bool] = (False,),
             mirror_labels: Optional[Sequence[int]] = None, softmax: bool = False, max_steps: Optional[int] = None,
             desc: str = "test") -> Predictions:
    """Scores of every video of `loader`, in its order.

    mirrored: of each of an item's views (crops x clips, in its channels) whether it is a mirror image; the views'
    scores are averaged. mirror_labels: label -> the mirrored video's, so that a mirror image's score for "left" counts
    as one for "right". softmax: of the average.
    """
    model.eval()
    views = len(mirrored)
    flipped = torch.tensor(mirrored)
    logits, labels = [], []
    total = min(len(loader), max_steps or len(loader))
    for batch in progress(first_batches(loader, total), total=total, desc=desc, unit="batch"):
        clips = batch.clips.unflatten(1, (views, -1)).flatten(0, 1)  # (N * views, T*C, H, W)
        output = clip_scores(model(prepare(clips))).float()
        output = output.unflatten(0, (-1, views))  # (N, views, num_class)
        if mirror_labels is not None and any(mirrored):
            output[:, flipped] = output[:, flipped][:, :, list(mirror_labels)]
        output = output.mean(dim=1)
        logits.append((output.softmax(dim=1) if softmax else output).cpu())
        labels.append(batch.labels)
    return Predictions(torch.cat(logits), torch.cat(labels), probabilities=softmax)
