"""Predictions for videos with any number of classes: average precision and its mean. Percent, 0-100."""
from typing import Any, Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ops.evaluation.metrics import Predictions, finite_or_none


class MultiLabelPredictions(Predictions):
    """The scores of a list of videos, in its order. logits, labels: (N, num_class); a label is 1 for a class of the video,
    else 0.

    probabilities: the logits are probabilities (averages after a sigmoid).
    top1, top5: percent of videos for which one of the classes with the highest scores is a class of the video.
    """

    @property
    def loss(self) -> float:
        """Binary cross-entropy, mean over the videos and the classes."""
        if self.probabilities:
            return float(F.binary_cross_entropy(self.logits.clamp(0, 1), self.labels))
        return float(F.binary_cross_entropy_with_logits(self.logits, self.labels))

    @property
    def mean_ap(self) -> float:
        """The mean of the average precisions of the classes that have videos; NaN if none has."""
        return mean_of_known(self.average_precisions())

    def average_precisions(self) -> np.ndarray:
        """(num_class,) percent; NaN for a class without videos."""
        scores, labels = self.logits.double().numpy(), self.labels.numpy() > 0
        return 100 * np.array([average_precision(scores[:, i], labels[:, i]) for i in range(scores.shape[1])])

    def present(self) -> list[list[int]]:
        """The classes of each video whose probability is at least a half, the likeliest first."""
        threshold = 0.5 if self.probabilities else 0.0
        ranked = self.logits.argsort(dim=1, descending=True, stable=True).tolist()
        return [[i for i in order if row[i] >= threshold] for order, row in zip(ranked, self.logits)]

    def class_table(self, names: Sequence[str]) -> list[list[Any]]:
        """The rows of per_class.csv, the first with the names of the columns."""
        counts, values = (self.labels > 0).sum(dim=0).tolist(), self.average_precisions()
        rows = [[i, name, counts[i], f"{values[i]:.2f}" if counts[i] else ""] for i, name in enumerate(names)]
        return [["class", "name", "videos", "average_precision"], *rows]

    def summary(self) -> dict[str, Any]:
        """The numbers of a report; None, which JSON has, for one that is not finite, which JSON lacks."""
        numbers = {"map": self.mean_ap, "top1": self.top1, "top5": self.top5, "loss": self.loss}
        return {"videos": len(self.labels), **finite_or_none(numbers)}


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """The average precision of one class, 0-1; NaN without a positive.

    scores: (N,) of the videos. positive: (N,) bool, whether the video has the class. The sum over the thresholds t, from
    the highest score down, of (recall at t - recall at the threshold before) * precision at t, without interpolation: the
    definition of scikit-learn's `average_precision_score`. Videos of equal scores share a threshold.
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last video of each threshold
    hits = np.cumsum(positive[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / (ends + 1)))


def mean_of_known(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def probabilities_of(logits: Tensor, multi_label: bool) -> Tensor:
    """(..., num_class) logits as probabilities: of each class by itself, or of one class among all."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=-1)


def make_predictions(logits: Tensor, labels: Tensor, probabilities: bool = False) -> Predictions:
    """Predictions of the kind that the labels are of: (N,), or multi-hot (N, num_class)."""
    kind = MultiLabelPredictions if labels.dim() == 2 else Predictions
    return kind(logits, labels, probabilities)
