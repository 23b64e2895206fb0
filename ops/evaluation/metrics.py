"""What a set of scores is worth: accuracies, the confusion matrix, tables and images of them. Percent, 0-100."""
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from ops.common.files import atomic_write
from ops.common.meters import accuracy


@dataclass
class Predictions:
    """Scores of a list of videos, in its order. logits: (N, num_class) float32. labels: (N,).

    probabilities: the logits are probabilities (--softmax) up to a factor, as those of weighted ensembles are.
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
        # The logarithm of probabilities is a logit; the tiniest number stands for 0, whose loss would be infinite.
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

    def summary(self) -> dict[str, Any]:
        return {"videos": len(self.labels), "top1": self.top1, "top5": self.top5,
                "class_accuracy": self.class_accuracy, "loss": self.loss}


def names_or_numbers(names: Optional[Sequence[str]], count: int) -> list[str]:
    return list(names) if names else [str(i) for i in range(count)]


def write_report(scores: Predictions, directory: Path, names: Optional[Sequence[str]], extra: dict[str, Any]) -> None:
    """Into `directory`: results.json, per_class.csv, scores.npy (the logits), confusion.npy, confusion.png."""
    confusion = scores.confusion()
    labels = names_or_numbers(names, len(confusion))
    with atomic_write(directory / "results.json") as f:
        json.dump({**scores.summary(), **extra}, f, indent=1)
    with atomic_write(directory / "per_class.csv") as f:
        writer = csv.writer(f)
        writer.writerow(["class", "name", "videos", "correct", "accuracy"])
        for i, (name, row) in enumerate(zip(labels, confusion)):
            writer.writerow([i, name, row.sum(), row[i], f"{100 * row[i] / row.sum():.2f}" if row.sum() else ""])
    for name, array in (("scores", scores.logits.numpy()), ("confusion", confusion)):
        with atomic_write(directory / f"{name}.npy", "wb") as f:
            np.save(f, array)
    with atomic_write(directory / "confusion.png", "wb") as f:
        draw_confusion(confusion, labels).save(f, "PNG")


def draw_confusion(confusion: np.ndarray, names: Sequence[str]) -> Image.Image:
    """An image of the matrix: rows are true classes, the darker a cell the larger its share of the row."""
    count = len(confusion)
    cell = 44 if count <= 30 else max(4, 900 // count)
    spelled = count <= 30
    font = ImageFont.load_default(13)
    margin = 16 + (max(int(font.getlength(name)) for name in names) if spelled else 0)
    image = Image.new("RGB", (margin + count * cell + 12, margin + count * cell + 12), "white")
    draw = ImageDraw.Draw(image)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    for i in range(count):
        for j in range(count):
            left, top = margin + j * cell, margin + i * cell
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=_shade(share[i, j]))
            if spelled and confusion[i, j]:
                draw.text((left + cell / 2, top + cell / 2), str(confusion[i, j]), anchor="mm", font=font,
                          fill="white" if share[i, j] > 0.5 else "black")
    if spelled:
        _spell(image, draw, font, names, margin, cell)
    return image


def _shade(share: float) -> tuple[int, int, int]:
    """White (0) to dark blue (1)."""
    red, green, blue = (int(light + (dark - light) * share) for light, dark in zip((245, 247, 250), (8, 48, 107)))
    return red, green, blue


def _spell(image: Image.Image, draw: ImageDraw.ImageDraw, font: Any, names: Sequence[str], margin: int,
           cell: int) -> None:
    """Class names left of the rows and, turned, above the columns."""
    for i, name in enumerate(names):
        middle = margin + i * cell + cell // 2
        draw.text((margin - 8, middle), name, anchor="rm", font=font, fill="black")
        turned = Image.new("L", (margin, 18), 0)
        ImageDraw.Draw(turned).text((4, 9), name, anchor="lm", font=font, fill=255)
        turned = turned.rotate(90, expand=True)
        image.paste("black", (middle - 9, margin - 4 - turned.height), turned)
