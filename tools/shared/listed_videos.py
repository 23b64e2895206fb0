"""The videos of a data set's list as a checkpoint's network takes them: for tools that run over a list."""
import argparse
from typing import Any, NamedTuple, Optional

import torch

import opts
from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ops.checkpoints.matching import check_same_classes
from ops.checkpoints.model_zoo import find_weights
from ops.data.preprocessing import Preprocessing
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DatasetPaths, dataset_root, find_dataset, mirror_labels, resolve_dataset
from ops.models import TSN
from ops.remote.data import fetch_data


class Listed(NamedTuple):
    """A checkpoint, the data set, its list with the protocol's frames and views, and the network's preprocessing."""
    found: Checkpoint
    data: DatasetPaths
    videos: TSNDataSet
    preprocessing: Preprocessing
    mirror: Optional[list[int]]


def open_listed(args: argparse.Namespace, protocol: TestProtocol, **overrides: Any) -> Listed:
    """From the flags of `opts.add_test_data_flags` and `opts.add_override_flags`, weights and dataset."""
    name, _ = find_dataset(args.dataset, args.dataset_file)
    if args.data_url:
        fetch_data(args.data_url, dataset_root(args.root_dataset))
    found = load_checkpoint(find_weights(args.weights), **opts.overrides(args), num_segments=args.test_segments, **overrides)
    spec = found.spec
    data = resolve_dataset(name, spec.modality, args.root_dataset, val_list=(args.test_list or [""])[0],
                           root_path=(args.root_path or [""])[0], dataset_file=args.dataset_file, needed=["val_list"])
    check_same_classes(found, data)
    with torch.device("meta"):  # shapes without memory
        preprocessing = TSN.from_spec(spec).preprocessing
    videos = TSNDataSet(data.frames, data.val_list, spec.num_segments, spec.segment_length, spec.modality, data.template,
                        protocol.transform(preprocessing), test_mode=True, dense_sample=protocol.dense,
                        twice_sample=protocol.twice, num_class=spec.num_class, data_format=args.data_format,
                        multi_label=data.multi_label)
    if args.max_num > 0:
        videos.video_list = videos.video_list[:args.max_num]
    return Listed(found, data, videos, preprocessing, mirror_labels(data, found.class_names))
