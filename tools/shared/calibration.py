"""Calibrate an export in 8-bit integers, and measure what it costs: the part of tools/export.py that reads videos."""
import argparse
import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, Optional

import torch
from torch import Tensor

from ops.checkpoints.checkpoint import Checkpoint
from ops.checkpoints.online_format import frame_rate_of
from ops.common.errors import UserError
from ops.data.sampling import frames_per_segment
from ops.data.test_protocol import TestProtocol
from ops.dataset_config import DatasetPaths, find_dataset, resolve_dataset
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.videos import load_video
from ops.runtimes.accuracy import listed_clips, measure_cost
from ops.runtimes.clips import StepClip
from ops.runtimes.export import to_openvino
from ops.runtimes.exported_file import ExportedModel, describe
from ops.runtimes.graphs import Model
from ops.runtimes.model_info import ONLINE, ModelInfo
from ops.runtimes.quantize import quantize_clips
from ops.runtimes.registry import as_clip
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import FrameSelector, open_source
from ops.streaming.stream import frame_transform

log = logging.getLogger("export")


def quantize(args: argparse.Namespace, found: Checkpoint, model: Model, exported: ExportedModel) -> ExportedModel:
    """The int8 model of --format, with what it costs in its metadata. UserError if it costs more than --max_drop.

    exported: the float32 ONNX model.
    """
    small = quantize_clips(exported, calibration_clips(args, found, model, exported.info))
    small = to_openvino(small, "int8") if args.format == "openvino" else small
    data = validation_data(args, found)
    if data is None:
        log.info("no validation list on this machine: what int8 costs is not measured; score the file with test_models.py")
        return small
    videos = listed_clips(exported.info, data, data.val_list, args.max_num, args.data_format)
    network = StepClip(model) if isinstance(model, OnlineTSM) else TorchClip(model)
    cost = measure_cost(network, as_clip(small), videos, workers=args.workers)
    log.info("validation list: %s", cost)
    if cost.drop > args.max_drop:
        raise UserError(f"int8 costs {cost.drop:.2f} points of top-1 ({cost}), more than --max_drop {args.max_drop:g}:"
                        " calibrate on more or more typical clips, choose another --format or --precision, or allow more")
    return describe(small, replace(small.info, measured=cost.as_measured()))


def validation_data(args: argparse.Namespace, found: Checkpoint) -> Optional[DatasetPaths]:
    """The checkpoint's data set, or the one that --calibration names; None if its lists are not here."""
    name = found.dataset if is_of_videos(args) or not args.calibration else calibration_set(args, found)
    try:
        return None if name is None else resolve_dataset(name, found.spec.modality, args.root_dataset, needed=["val_list"],
                                                         dataset_file=args.dataset_file)
    except UserError:
        if is_of_videos(args):
            return None
        raise


def is_of_videos(args: argparse.Namespace) -> bool:
    """Whether --calibration names videos and directories, not a list or a data set."""
    return bool(args.calibration) and all(Path(source).exists() and not is_list(source) for source in args.calibration)


def is_list(source: str) -> bool:
    """Whether a name in --calibration is a list of videos."""
    return source.endswith(".txt")


def calibration_set(args: argparse.Namespace, found: Checkpoint) -> str:
    """The name of the data set to calibrate on."""
    sources = args.calibration or []
    named = next((source for source in sources if not is_list(source) and not Path(source).exists()), None)
    if named is not None and is_unknown(named, args) or len(sources) > 1:
        raise UserError(f"--calibration {named or sources[-1]}: no such video file, directory of frames or data set; a data"
                        " set, or a list of its videos (.txt), is named alone")
    if (named or found.dataset) is None:
        raise UserError(f"{found.path} does not name its data set: name one, or videos, with --calibration")
    return find_dataset(named or str(found.dataset), args.dataset_file)[0]


def is_unknown(name: str, args: argparse.Namespace) -> bool:
    """Whether no data set has this name."""
    try:
        find_dataset(name, args.dataset_file)
    except UserError:
        return True
    return False


def calibration_clips(args: argparse.Namespace, found: Checkpoint, model: Model, info: ModelInfo) -> Iterable[Tensor]:
    """uint8 clips (T*C, H, W) to calibrate on."""
    if is_of_videos(args):
        return [clip for source in args.calibration for clip in clips_of(source, args, found, model)]
    name = calibration_set(args, found)
    chosen = args.calibration[0] if args.calibration and is_list(args.calibration[0]) else ""
    data = resolve_dataset(name, found.spec.modality, args.root_dataset, train_list=chosen, needed=["train_list"],
                           dataset_file=args.dataset_file)
    videos = listed_clips(info, data, data.train_list, data_format=args.data_format)
    per_clip = info.spec.num_segments if info.kind == ONLINE else 1  # a clip of a stream is T steps
    count = min(len(videos), max(1, args.calibration_clips // per_clip))
    order = torch.randperm(len(videos), generator=torch.Generator().manual_seed(0))[:count].tolist()
    return (videos[i][0] for i in order)


def clips_of(source: str, args: argparse.Namespace, found: Checkpoint, model: Model) -> list[Tensor]:
    """A video's, or a directory's, clips: for a stream the first --calibration_frames frames at the model's rate."""
    if isinstance(model, OnlineTSM):
        frames = frames_of(source, frame_rate_of(found.path), model, args.folder_rate)
        clip = [frame[0] for frame in islice(frames, args.calibration_frames)]
        return [torch.cat(clip)] if clip else []
    video, spec = load_video(Path(source), args.folder_rate), found.spec
    sampler = TestProtocol(twice=True).sampler(spec.num_segments, frames_per_segment(spec.modality, spec.segment_length))
    clips: Tensor = TestProtocol().transform(model.preprocessing)(video.load(sampler.frames(video.num_frames)))
    return list(clips.chunk(sampler.clips))


def frames_of(source: str, rate: float, online: OnlineTSM, directory_rate: float) -> Iterator[Tensor]:
    """The model's frames of a video file or directory: uint8 (1, 3, H, W) each, `rate` per second of its clock.

    directory_rate: frames per second of a directory of frames.
    """
    selector, transform = FrameSelector(rate), frame_transform(online.preprocessing)
    for frame in open_source(source, directory_rate).frames():
        assert frame.time is not None, "files and directories have time stamps"
        if selector.due(frame.time):
            yield transform(frame.read())
