"""Accuracy over time: whole videos streamed frame by frame, scored after every frame, in percent, 0-100."""
import csv
import logging
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ops.common import distributed
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.common.part import interleave
from ops.common.plots import draw_accuracy, save_png
from ops.common.progress import progress
from ops.common.words import counted
from ops.data.list_files import VideoRecord
from ops.data.loader import Loader, RankSampler
from ops.data.sampling import DENSE_SPAN
from ops.data.tsn_dataset import Target, TSNDataSet, stack_targets
from ops.evaluation.metrics import Predictions
from ops.evaluation.multi_label import make_predictions
from ops.streaming.step_runtime import StepRuntime

log = logging.getLogger(__name__)

Video = tuple[Tensor, Target]  # frames (F, 3, H, W) uint8, label


@dataclass
class OnlineScores:
    """The scores of a list of videos, at their ends and after every frame.

    scores: the mean of each video's logits over all its streamed frames, in the list's order. top1: (frames,), after
    n + 1 frames; a video that has ended keeps its last prediction. running: (frames,), number of videos that have such
    a frame. stride: one of every `stride` frames of a video was streamed.
    """
    scores: Predictions
    top1: np.ndarray
    running: np.ndarray
    stride: int

    @property
    def source_frames(self) -> np.ndarray:
        """(frames,), the 1-based position in the video of each streamed frame."""
        return 1 + self.stride // 2 + self.stride * np.arange(len(self.top1))


def trained_stride(videos: Sequence[VideoRecord], num_segments: int, dense: bool = False) -> int:
    """The typical gap between neighbouring frames of a training clip: the list's median length / T, at least 1.

    Training spreads T frames over each video, whatever its length. A stream cannot know its length in advance, so one
    gap is used for all videos. dense: the model was trained on clips of 64 consecutive frames, so the gap is 64 / T.
    UserError if the list does not hold the number of frames of every video (`count_frames` fills it in).
    """
    if not dense and not all(record.num_frames for record in videos):
        raise UserError("the list does not give the number of frames of its videos, from which the gap between streamed"
                        " frames follows: choose online_stride", "online_stride")
    length = DENSE_SPAN if dense else statistics.median(record.num_frames for record in videos)
    return max(1, round(length / num_segments))


def count_frames(videos: TSNDataSet) -> list[VideoRecord]:
    """The list's records, with numbers of frames that the list does not give counted in the files."""
    for record in progress(videos.video_list, desc="counting frames", leave=False):
        record.num_frames = record.num_frames or videos.source.count(record.path)
    return videos.video_list


def streamed_indices(num_frames: int, stride: int) -> list[int]:
    """The 1-based frames of a video that are streamed: the middle of every run of `stride` frames.

    A video of T * stride frames gives exactly the frames of the clip model's test protocol. A video shorter than half a
    stride gives its middle frame.
    """
    return list(range(1 + stride // 2, num_frames + 1, stride)) or [1 + num_frames // 2]


def score_online(online: StepRuntime, videos: TSNDataSet, stride: int, *, streams: int = 1,
                 workers: int = 0) -> OnlineScores:
    """Stream every video of the list from a zero state; each process of the run streams its share and gets all scores.

    videos: provides the list, the frame source and the transform, which must return one view per frame. stride: one of
    every `stride` frames is streamed (`trained_stride`). streams: number of videos in a batch. workers: number of
    processes that load frames.
    """
    if stride < 1:
        raise UserError(f"online_stride {stride}: choose 1 (every frame) or more", "online_stride")
    log.info("streaming %s of %s, %d at a time", "every frame" if stride == 1 else f"one of every {stride} frames",
             counted(len(videos), "video"), streams)
    data = _WholeVideos(videos, stride)
    loader = Loader(data, batch_size=streams, sampler=RankSampler(data), num_workers=workers, collate_fn=list)
    means: list[Tensor] = []
    labels: list[Target] = []
    for batch in progress(loader, desc="online", unit="batch"):
        means += running_means(online, [frames for frames, _ in batch])
        labels += [label for _, label in batch]
    shares = distributed.gather((means, labels))
    means, labels = interleave(share[0] for share in shares), interleave(share[1] for share in shares)
    return _summarise(means, stack_targets(labels), stride)


def running_means(online: StepRuntime, videos: Sequence[Tensor]) -> list[Tensor]:
    """Stream videos in one batch. videos: uint8 (F, 3, H, W); F may differ between videos, H and W may not.

    Returns (F, num_class) for each video: row n is the mean of the logits of frames 0 to n.
    """
    order = sorted(range(len(videos)), key=lambda i: -len(videos[i]))  # so that the videos still running come first
    rows: list[list[Tensor]] = [[] for _ in videos]
    state = online.initial_state(len(videos), *videos[0].shape[-2:])
    for t in range(len(videos[order[0]])):
        running = [i for i in order if t < len(videos[i])]
        state = tuple(tensor[:len(running)] for tensor in state)
        logits, state = online.step(online.prepare(torch.stack([videos[i][t] for i in running])), state)
        for i, row in zip(running, logits.float().cpu()):
            rows[i].append(row)
    return [torch.stack(video).cumsum(dim=0) / torch.arange(1, len(video) + 1)[:, None] for video in rows]


class _WholeVideos(Dataset):
    """The streamed frames of each video of a list, transformed; items are a `Video`."""

    def __init__(self, videos: TSNDataSet, stride: int) -> None:
        self.videos = videos
        self.stride = stride

    def __len__(self) -> int:
        return len(self.videos.video_list)

    def __getitem__(self, index: int) -> Video:
        record = self.videos.video_list[index]
        indices = streamed_indices(record.num_frames or self.videos.source.count(record.path), self.stride)
        assert self.videos.transform is not None
        clip = self.videos.transform(self.videos.source.load(record.path, indices))
        frames = clip.unflatten(0, (-1, 3))
        if len(frames) != len(indices):
            raise UserError("online streams one view of each frame: omit test_crops", "online", "test_crops")
        return frames, self.videos.target(record)


def _summarise(means: Sequence[Tensor], labels: Tensor, stride: int) -> OnlineScores:
    """means: of each video, from `running_means`."""
    longest = max(len(rows) for rows in means)
    hits = np.zeros(longest)
    running = np.zeros(longest, dtype=int)
    for rows, label in zip(means, labels):
        best = rows.argmax(dim=1)
        correct = (best == label if label.dim() == 0 else label[best] > 0).numpy()
        hits += np.pad(correct, (0, longest - len(correct)), mode="edge")
        running[:len(correct)] += 1
    last = torch.stack([rows[-1] for rows in means])
    return OnlineScores(make_predictions(last, labels), 100 * hits / len(means), running, stride)


# ---- report -------------------------------------------------------------------------------------------------

ONLINE_REPORT = ("accuracy_over_time.csv", "accuracy_over_time.png")


def write_online_report(result: OnlineScores, directory: Path) -> list[Path]:
    """Write the files of ONLINE_REPORT into `directory` and return their paths."""
    written = table, picture = [directory / name for name in ONLINE_REPORT]
    with atomic_write(table) as f:
        writer = csv.writer(f)
        writer.writerow(["frames", "source_frame", "top1", "videos_running"])
        for n, row in enumerate(zip(result.source_frames, result.top1, result.running), 1):
            writer.writerow([n, row[0], f"{row[1]:.2f}", row[2]])
    chart = draw_accuracy(result.top1, result.running, videos=len(result.scores.labels), stride=result.stride)
    save_png(chart, picture)
    return written
