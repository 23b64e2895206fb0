"""Clips per second per core when loading training data; see `tools.benchmarks.flags.add_data_flags`."""
import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ops.data.clip_transforms import GroupMultiScaleCrop
from ops.data.loader import make_loader
from ops.data.preprocessing import Preprocessing
from ops.data.sampling import ClipSampler
from ops.data.training_crop import TrainingCrop
from ops.data.tsn_dataset import TSNDataSet
from ops.video.video_files import read_frames
from tools.benchmarks.data_files import ENCODINGS, FRAMES, TEMPLATE, make_videos
from tools.benchmarks.flags import BATCH, CROP

SEGMENTS = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAMPLER = ClipSampler(SEGMENTS, mode="train")
BASELINE = "published way, from frames"


def run(args: argparse.Namespace) -> Optional[int]:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("TSM_CACHE", temporary)
        root = Path(args.directory or temporary)
        names = make_videos(root, args.videos, args.width)
        print(f"{args.clips} clips a round, medians of {args.rounds} interleaved rounds; load"
              f" {os.getloadavg()[0]:.1f} before")
        for workers in args.workers:
            ways = make_ways(root, names, args.clips, workers)
            report(measure(ways, args.rounds), args.clips, workers)
        limits(root, names, args.rounds)
    return None


# ---- the published way ---------------------------------------------------------------------------------------

class PublishedLoading(Dataset):
    """Per frame: open and convert with PIL, crop, resize, mirror. Then concatenate, make a float tensor, normalise it."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root, self.names, self.crop = root, names, GroupMultiScaleCrop(CROP)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        directory = self.root / "frames" / self.names[index]
        frames = [Image.open(directory / TEMPLATE.format(i)).convert("RGB") for i in SAMPLER.frames(FRAMES)]
        width, height, left, top = self.crop.sample(frames[0].size)
        frames = [frame.crop((left, top, left + width, top + height)) for frame in frames]
        frames = [frame.resize((CROP, CROP), Image.Resampling.BILINEAR) for frame in frames]
        if torch.rand(1) < 0.5:
            frames = [frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for frame in frames]
        stacked = np.concatenate([np.array(frame) for frame in frames], axis=2)
        clip = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)
        for channel, mean, std in zip(clip, MEAN * SEGMENTS, STD * SEGMENTS):
            channel.sub_(mean).div_(std)
        return clip, 0


# ---- measuring -----------------------------------------------------------------------------------------------

def make_ways(root: Path, names: list[str], clips: int, workers: int) -> dict[str, Callable[[], Iterable]]:
    """Name -> a function that returns the batches of one round."""
    chosen = [names[i % len(names)] for i in range(clips)]
    published: DataLoader = DataLoader(PublishedLoading(root, chosen), BATCH, shuffle=True, num_workers=workers,
                                       persistent_workers=workers > 0)
    frames = our_loader(root, "frames", [f"{name} {FRAMES} 0" for name in chosen], workers)
    prepare = Preprocessing(MEAN, STD).apply
    ways: dict[str, Callable[[], Iterable]] = {
        BASELINE: lambda: published, "frames": lambda: frames,
        "frames, normalised on this CPU": lambda: (prepare(batch.clips) for batch in frames)}
    for kind in ENCODINGS:
        videos = our_loader(root, kind, [f"{name}.mp4 0" for name in chosen], workers)
        ways[f"video, {kind}"] = partial(iter, videos)
    return ways


def our_loader(root: Path, kind: str, lines: list[str], workers: int) -> DataLoader:
    list_file = root / f"{kind}.txt"
    list_file.write_text("\n".join(lines))
    data = TSNDataSet(root / kind, list_file, SEGMENTS, image_tmpl=TEMPLATE, mirror_labels=[0],
                      transform=TrainingCrop(GroupMultiScaleCrop(CROP)))
    return make_loader(data, BATCH, workers=workers, train=True)


class Times(NamedTuple):
    """Seconds of each round: elapsed, and processor time of this process."""
    wall: list[float]
    cpu: list[float]


def measure(ways: dict[str, Callable[[], Iterable]], rounds: int) -> dict[str, Times]:
    """Time all ways in turns. A first round is not counted: it fills the page cache and starts the workers."""
    times = {name: Times([], []) for name in ways}
    for round_number in range(rounds + 1):
        for name, batches in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in batches():
                pass
            if round_number:
                times[name].wall.append(time.perf_counter() - wall)
                times[name].cpu.append(time.process_time() - cpu)
    return times


def report(times: dict[str, Times], clips: int, workers: int) -> None:
    """Print a line per way: clips per second per core, and the ratio to the published way."""
    cores = max(1, workers)
    print(f"\n-j {workers}: clips per second per core" + (" (by the clock; by processor time)" if not workers else ""))
    for name, found in times.items():
        ratios = [a / b for a, b in zip(times[BASELINE].wall, found.wall)]
        line = f"  {name:44}{clips / cores / statistics.median(found.wall):8.1f}{statistics.median(ratios):7.2f}x"
        if not workers:
            cpu_ratios = [a / b for a, b in zip(times[BASELINE].cpu, found.cpu)]
            line += f"{clips / statistics.median(found.cpu):11.1f}{statistics.median(cpu_ratios):7.2f}x"
        print(line, flush=True)


# ---- limits --------------------------------------------------------------------------------------------------

def limits(root: Path, names: list[str], rounds: int) -> None:
    """Print the upper limit that the decoders set: only the 8 frames of a clip are decoded, from memory."""
    torch.manual_seed(0)
    indices = [SAMPLER.frames(FRAMES) for _ in names]
    files = [[np.fromfile(root / "frames" / name / TEMPLATE.format(i), np.uint8) for i in row]
             for name, row in zip(names, indices)]
    ways: dict[str, Callable[[], Iterable]] = {"JPEG": lambda: (decode(clip) for clip in files)}
    for kind in ENCODINGS:
        ways[f"H.264, {kind}"] = partial(decode_videos, root / kind, names, indices)
    print("\nthe decoders alone: clips per second per core (by the clock; by processor time)")
    for name, found in measure(ways, 2 * rounds).items():
        print(f"  {name:44}{len(names) / statistics.median(found.wall):8.1f}"
              f"{len(names) / statistics.median(found.cpu):19.1f}")


def decode(clip: list[np.ndarray]) -> list[Any]:
    return [cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) for content in clip]


def decode_videos(directory: Path, names: list[str], indices: list[list[int]]) -> Iterator[Any]:
    return (read_frames(directory / f"{name}.mp4", row) for name, row in zip(names, indices))
