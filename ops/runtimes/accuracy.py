"""What a smaller precision costs: an exported model and the network itself on the same videos of a list."""
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ops.data.loader import make_loader
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DatasetPaths
from ops.evaluation.clip_runtime import ClipRuntime
from ops.evaluation.evaluate import evaluate
from ops.evaluation.multi_label import make_predictions
from ops.runtimes.compare import Agreement, agreement
from ops.runtimes.model_info import Measured, ModelInfo


class Cost(NamedTuple):
    """Top-1 of the network and of its export, percent, and how their answers agree."""
    before: float
    after: float
    agreement: Agreement

    @property
    def drop(self) -> float:
        """Points of top-1 that the export costs; below 0 if it is better."""
        return self.before - self.after

    def as_measured(self) -> Measured:
        """For the metadata."""
        return {"validation_videos": self.agreement.compared, "validation_top1_before": round(self.before, 3),
                "validation_top1": round(self.after, 3), "validation_top1_agreement": self.agreement.top1,
                "validation_probability_difference": self.agreement.probability}

    def __str__(self) -> str:
        return (f"top-1 {self.after:.2f}%, in float32 {self.before:.2f}%; {self.agreement.top1:.2f}% of"
                f" {self.agreement.compared} answers are the same, probabilities differ by at most"
                f" {self.agreement.probability:.2g}")


class _Both:
    """Two runtimes as one, whose scores are side by side, so that each video is read once."""

    def __init__(self, first: ClipRuntime, second: ClipRuntime) -> None:
        self.runtimes = (first, second)
        self.spec, self.preprocessing, self.class_names = first.spec, first.preprocessing, first.class_names

    def __call__(self, clips: Tensor) -> Tensor:
        return torch.cat([runtime(clips).cpu() for runtime in self.runtimes], dim=1)


def measure_cost(network: ClipRuntime, exported: ClipRuntime, videos: TSNDataSet, *, batch_size: int = 8,
                 workers: int = 0) -> Cost:
    """Score every video of the list with both."""
    loader = make_loader(videos, batch_size, workers=workers, train=False)
    both = evaluate(_Both(network, exported), loader, desc="validation")
    scores = both.logits.chunk(2, dim=1)
    before, after = (make_predictions(part.contiguous(), both.labels, probabilities=False).top1 for part in scores)
    return Cost(before, after, agreement(scores[1], scores[0], network.spec.multi_label))


def listed_clips(info: ModelInfo, data: DatasetPaths, list_file: Path, limit: int = -1,
                 data_format: str = "auto") -> TSNDataSet:
    """A list's clips as the model takes them: one per video, from its middle. limit: videos, -1 for all."""
    spec = info.spec
    videos = TSNDataSet(data.frames, list_file, spec.num_segments, spec.segment_length, spec.modality, data.template,
                        TestProtocol().transform(info.preprocessing), test_mode=True, num_class=spec.num_class,
                        data_format=data_format, multi_label=data.multi_label)
    if limit > 0:
        videos.video_list = videos.video_list[:limit]
    return videos
