"""The clips that a network trains on: where a data set, the network's needs and the flags of a run meet."""
import logging
from typing import Optional

from ops.backbones import find_backbone
from ops.common.errors import UserError
from ops.data.augment import training_transform
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DatasetPaths, mirror_labels
from ops.models import TSN
from ops.spec import ModelSpec

log = logging.getLogger(__name__)


def training_set(model: TSN, settings: ModelSpec, data: DatasetPaths, flip: str = "auto", augment: str = "none",
                 erasing: float = 0.0, dense_sample: bool = False, skip_bad: bool = False, seed: int = 0,
                 data_format: str = "auto") -> TSNDataSet:
    """The training list as clips for `model`; the options are main.py's flags of the same names."""
    transform = training_transform(model.get_augmentation(flip=False), settings.modality, settings.bgr_255, augment,
                                   erasing, mean_color(settings))
    videos = TSNDataSet(data.frames, data.train_list, settings.num_segments, model.new_length, settings.modality,
                        data.template, transform, dense_sample=dense_sample, num_class=data.num_class,
                        skip_bad=skip_bad, seed=seed, mirror_labels=training_mirror(flip, data),
                        data_format=data_format)
    log.info("training videos: %d", len(videos))
    return videos


def training_mirror(flip: str, data: DatasetPaths) -> Optional[list[int]]:
    """label -> label of the mirrored clip for `--flip`; None: no clip is mirrored."""
    labels = None if flip == "none" else mirror_labels(data)
    directed = labels is not None and labels != sorted(labels)
    if flip == "labels" and not directed:
        raise UserError(f"--flip labels: no class of {data.name} is known to be another's mirror image (its class names"
                        f" {'tell none' if data.class_names else 'are unknown'}): choose auto or none")
    what = "none" if labels is None else "left and right classes swap" if directed else "plain"
    log.info("mirrored training clips: %s", what)
    return labels


def mean_color(settings: ModelSpec) -> list[float]:
    """What the backbone's normalisation makes zero: RGB, 0-255."""
    backbone = find_backbone(settings.arch)
    return list(backbone.mean[::-1]) if backbone.bgr_255 else [255 * value for value in backbone.mean]
