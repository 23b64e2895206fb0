"""The clips of a run: the data set's lists, sampled and transformed as the network needs and the run's options ask."""
import logging
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor
from torchvision import transforms

from ops.backbones import find_backbone
from ops.common.errors import UserError
from ops.data.augment import training_transform
from ops.data.sampling import ClipSampler, frames_per_segment
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet, View
from ops.dataset_config import DatasetPaths, mirror_labels
from ops.models import TSN

log = logging.getLogger(__name__)


def training_set(model: TSN, data: DatasetPaths, *, flip: str = "auto", augment: str = "none", random_erasing: float = 0.0,
                 dense_sample: bool = False, skip_bad: bool = False, seed: int = 0,
                 data_format: str = "auto", views_for: Sequence[TSN] = ()) -> TSNDataSet:
    """The training list as random clips for `model`. The keyword options are main.py's.

    views_for: other networks of the same modality, each of which needs a view of every clip (`View`): the same region of the
    same video, mirrored and augmented alike, with the frames and the size of its own input.
    """
    spec = model.spec
    crop, = model.get_augmentation(flip=False).transforms

    def transform(network: TSN) -> Callable:
        # All networks draw the region as the model itself: the regions of another size's draws differ by a few pixels.
        published = transforms.Compose([crop.resized_to(network.spec.input_size)])
        return training_transform(published, spec.modality, color=network.preprocessing.color, augment=augment,
                                  erasing=random_erasing, fill=find_backbone(network.spec.arch).mean_color)
    videos = TSNDataSet(data.frames, data.train_list, spec.num_segments, spec.segment_length, spec.modality,
                        data.template, transform(model), dense_sample=dense_sample, num_class=data.num_class,
                        skip_bad=skip_bad, seed=seed, mirror_labels=training_mirror(flip, data),
                        data_format=data_format, multi_label=data.multi_label)
    videos.views = [View(ClipSampler(other.spec.num_segments, frames_per_segment(spec.modality, other.spec.segment_length),
                                     videos.sampler.mode), transform(other)) for other in views_for]
    log.info("training videos: %d", len(videos))
    return videos


def validation_set(model: TSN, data: DatasetPaths, *, dense_sample: bool = False, data_format: str = "auto") -> TSNDataSet:
    """The validation list as one center-cropped clip per video, the same in every epoch."""
    spec = model.spec
    transform = TestProtocol().transform(model.preprocessing)
    videos = TSNDataSet(data.frames, data.val_list, spec.num_segments, spec.segment_length, spec.modality,
                        data.template, transform, random_shift=False, dense_sample=dense_sample,
                        num_class=data.num_class, data_format=data_format, multi_label=data.multi_label)
    log.info("validation videos: %d", len(videos))
    return videos


def class_counts(videos: TSNDataSet, num_class: int) -> Tensor:
    """(num_class,) float64: clips of each class in an epoch, on average; a mirrored clip counts for its own class."""
    labels = [label for record in videos.video_list for label in record.labels]
    counts = torch.bincount(torch.tensor(labels, dtype=torch.long), minlength=num_class).double()
    if videos.mirror_labels is None:
        return counts
    return (counts + torch.zeros_like(counts).index_add_(0, torch.tensor(videos.mirror_labels), counts)) / 2


def balanced_draws(videos: TSNDataSet) -> Tensor:
    """(videos,) float64 probabilities with which a draw is a video of any class of the list equally often.

    Each video must have exactly one class.
    """
    labels = torch.tensor([record.label for record in videos.video_list])
    counts = torch.bincount(labels).double()
    return 1 / (counts[labels] * (counts > 0).sum())


def training_mirror(flip: str, data: DatasetPaths) -> Optional[list[int]]:
    """label -> label of the mirrored clip, for the option `flip`; None if no clip is mirrored."""
    labels = None if flip == "none" else mirror_labels(data)
    directed = labels is not None and labels != sorted(labels)
    if flip == "labels" and not directed:
        raise UserError(f"flip labels: {data.name} has no classes that are known to be mirror images of each other"
                        f" (its class names {'show none' if data.class_names else 'are unknown'}): choose auto or none",
                        "flip")
    what = "none" if labels is None else "left and right classes swap" if directed else "plain"
    log.info("mirrored training clips: %s", what)
    return labels
