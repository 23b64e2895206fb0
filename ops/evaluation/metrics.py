"""Accuracies and the confusion matrix of a set of predictions, and the files that report them. Percent, 0-100."""
import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ops.common.files import atomic_write
from ops.common.meters import accuracy
from ops.common.plots import draw_confusion, save_png


@dataclass
class Predictions:
    """The scores of a list of videos, in its order. logits: (N, num_class) float32. labels: (N,).

    probabilities: the logits are probabilities up to a factor (averages after a softmax, weighted in ensembles).
    """
    logits: Tensor
    labels: Tensor
    probabilities: bool = False

    @property
    def top1(self) -> float:
        return float(accuracy(self.logits, self.labels)[0])

    @property
    def top5(self) -> float:
        """Top-5, or top-num_class where there are fewer than five classes."""
        return float(accuracy(self.logits, self.labels, topk=(5,))[0])

    @property
    def loss(self) -> float:
        """Cross-entropy, mean over the videos."""
        # The logarithm of a probability is a logit; the tiniest number replaces 0, whose loss would be infinite.
        logits = self.logits.clamp_min(torch.finfo(torch.float32).tiny).log() if self.probabilities else self.logits
        return float(F.cross_entropy(logits, self.labels))

    @property
    def predictions(self) -> Tensor:
        return self.logits.argmax(dim=1)

    def confusion(self) -> np.ndarray:
        """(num_class, num_class) counts: row = true class, column = predicted."""
        count = self.logits.shape[1]
        cells = self.labels * count + self.predictions
        return torch.bincount(cells, minlength=count ** 2).view(count, count).numpy()

    def class_accuracies(self) -> np.ndarray:
        """(num_class,) percent; NaN for a class without videos."""
        confusion = self.confusion()
        with np.errstate(invalid="ignore"):
            return 100 * confusion.diagonal() / confusion.sum(axis=1)

    @property
    def class_accuracy(self) -> float:
        """The mean over the classes that have videos."""
        return float(np.nanmean(self.class_accuracies()))

    def class_table(self, names: Sequence[str]) -> list[list[Any]]:
        """The rows of per_class.csv, the first with the names of the columns."""
        rows = [[i, name, row.sum(), row[i], f"{100 * row[i] / row.sum():.2f}" if row.sum() else ""]
                for i, (name, row) in enumerate(zip(names, self.confusion()))]
        return [["class", "name", "videos", "correct", "accuracy"], *rows]

    def summary(self) -> dict[str, Any]:
        """The numbers of a report; None, which JSON has, for one that is not finite, which JSON lacks."""
        numbers = {"top1": self.top1, "top5": self.top5, "class_accuracy": self.class_accuracy, "loss": self.loss}
        return {"videos": len(self.labels), **finite_or_none(numbers)}


def finite_or_none(numbers: Mapping[str, float]) -> dict[str, Optional[float]]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def names_or_numbers(names: Optional[Sequence[str]], count: int) -> list[str]:
    """The class names, or where they are unknown, the classes' numbers."""
    return list(names) if names else [str(i) for i in range(count)]


CONFUSION = ("confusion.npy", "confusion.png")
REPORT = ("results.json", "per_class.csv", "scores.npy", *CONFUSION)


def write_report(scores: Predictions, directory: Path, *, names: Optional[Sequence[str]],
                 extra: dict[str, Any]) -> list[Path]:
    """Write the files of REPORT into `directory` and return their paths; scores.npy has the logits.

    Classes that do not exclude each other have no confusion matrix: its files are then left out, and those of an earlier
    report are removed. names: of the classes. extra: more entries for results.json.
    """
    labels = names_or_numbers(names, scores.logits.shape[1])
    with atomic_write(directory / "results.json") as f:
        json.dump({**scores.summary(), **extra}, f, indent=1, allow_nan=False)
    with atomic_write(directory / "per_class.csv") as f:
        csv.writer(f).writerows(scores.class_table(labels))
    arrays = {"scores": scores.logits.numpy()}
    if scores.labels.dim() == 1:
        arrays["confusion"] = scores.confusion()
    for name, array in arrays.items():
        with atomic_write(directory / f"{name}.npy", "wb") as f:
            np.save(f, array)
    if "confusion" in arrays:
        save_png(draw_confusion(arrays["confusion"], labels), directory / "confusion.png")
        return [directory / name for name in REPORT]
    for name in CONFUSION:
        (directory / name).unlink(missing_ok=True)
    return [directory / name for name in REPORT if name not in CONFUSION]
