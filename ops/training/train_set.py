"""The clips of a run: the data set's lists, sampled and transformed as the network needs and the run's options ask."""
import logging
from typing import Optional

from ops.backbones import find_backbone
from ops.common.errors import UserError
from ops.data.augment import training_transform
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DatasetPaths, mirror_labels
from ops.models import TSN
from ops.spec import ModelSpec

log = logging.getLogger(__name__)


def training_set(model: TSN, settings: ModelSpec, data: DatasetPaths, *, flip: str = "auto", augment: str = "none",
                 random_erasing: float = 0.0, dense_sample: bool = False, skip_bad: bool = False, seed: int = 0,
                 data_format: str = "auto") -> TSNDataSet:
    """The training list as random clips for `model`. The keyword options are main.py's."""
    transform = training_transform(model.get_augmentation(flip=False), settings.modality, settings.bgr_255, augment,
                                   random_erasing, mean_color(settings))
    videos = TSNDataSet(data.frames, data.train_list, settings.num_segments, model.new_length, settings.modality,
                        data.template, transform, dense_sample=dense_sample, num_class=data.num_class,
                        skip_bad=skip_bad, seed=seed, mirror_labels=training_mirror(flip, data),
                        data_format=data_format)
    log.info("training videos: %d", len(videos))
    return videos


def validation_set(model: TSN, settings: ModelSpec, data: DatasetPaths, *, dense_sample: bool = False,
                   data_format: str = "auto") -> TSNDataSet:
    """The validation list as one center-cropped clip per video, the same in every epoch."""
    transform = TestProtocol().transform(model.scale_size, model.crop_size, settings.bgr_255)
    videos = TSNDataSet(data.frames, data.val_list, settings.num_segments, model.new_length, settings.modality,
                        data.template, transform, random_shift=False, dense_sample=dense_sample,
                        num_class=data.num_class, data_format=data_format)
    log.info("validation videos: %d", len(videos))
    return videos


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


def mean_color(settings: ModelSpec) -> list[float]:
    """The color that the backbone's normalization maps to zero: RGB, 0-255."""
    backbone = find_backbone(settings.arch)
    return list(backbone.mean[::-1]) if backbone.bgr_255 else [255 * value for value in backbone.mean]
