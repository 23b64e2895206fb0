"""Any video to named classes: which frames of it are looked at, when they are shown, and what the network answers.

The frames, the preprocessing and the averaging are those of test_models.py, so a video's scores are the same.
"""
import glob
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional, Sequence, Union

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ops.common.errors import UserError, shown
from ops.data.loader import Loader, make_loader
from ops.data.sampling import ClipSampler, frames_per_segment
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import collate
from ops.dataset_config import DATASETS, dataset_root, read_categories
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.evaluate import evaluate
from ops.evaluation.metrics import names_or_numbers
from ops.models import TSN
from ops.spec import ModelSpec
from ops.video.decode import open_video, video_stream
from ops.video.discovery import find_videos, frame_names, holds_frames, is_video_name
from ops.video.frame_index import frame_index
from ops.video.frames import FrameDirectory, read_image
from ops.video.video_files import VideoFiles

log = logging.getLogger(__name__)
QUICKSTART = Path(__file__).resolve().parents[2] / "runs" / "quickstart" / "checkpoint"


@dataclass
class Classifier:
    """A checkpoint ready to answer. class_names: a name or number per class."""
    model: TSN
    settings: ModelSpec
    class_names: list[str]
    protocol: TestProtocol
    device: torch.device
    named: bool

    @property
    def sampler(self) -> ClipSampler:
        """Chooses the frames of a video that the network sees."""
        return self.protocol.sampler(self.settings.num_segments,
                                     frames_per_segment(self.settings.modality, self.model.new_length))

    @property
    def transform(self) -> Any:
        """PIL frames to one clip tensor."""
        return self.protocol.transform(self.model.preprocessing)


def quickstart_weights() -> Optional[Path]:
    """The newest of the quickstart's TSM checkpoints that look both ways; None where it was not run."""
    found = [path for path in QUICKSTART.glob("TSM_gestures_RGB_*_shift*/ckpt.pth.tar") if "_uni_" not in path.parent.name]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def load_classifier(weights: Path, device: torch.device, protocol: TestProtocol, *, categories: Optional[Path] = None,
                    root: Optional[str] = None, **overrides: Any) -> Classifier:
    """The network of any weight file that `load_checkpoint` can describe, with the help of `overrides`.

    categories: a file of class names; else they are
    the checkpoint's own, else those of its data set where that lies under `root`.
    """
    found = load_checkpoint(weights, **overrides)
    settings = found.spec
    if settings.modality == "Flow":
        raise UserError(f"{weights} reads optical flow: videos give RGB: use test_models.py on flow directories")
    names = class_names(found, settings.num_class, categories, root)
    return Classifier(found.build().to(device), settings, names_or_numbers(names, settings.num_class), protocol, device,
                      names is not None)


def class_names(found: Checkpoint, num_class: int, categories: Optional[Path],
                root: Optional[str]) -> Optional[list[str]]:
    """A checkpoint's class names, or None where nothing tells them."""
    if categories is not None:
        names = read_categories(categories)
        if names is None or len(names) != num_class:
            raise UserError(f"--categories {categories}: " + (
                "there is no such file" if names is None else
                f"it names {len(names)} classes, the checkpoint has {num_class}"))
        return names
    if found.class_names:
        return found.class_names
    entry = DATASETS.get(found.dataset or "")
    if entry and entry.published_names and num_class == len(entry.published_names):
        return list(entry.published_names)
    file = dataset_root(root) / entry.categories if entry and entry.categories else None
    names = read_categories(file) if file and file.exists() else None
    return names if names and len(names) == num_class else None


# ---- the videos ---------------------------------------------------------------------------------------------

class Video(NamedTuple):
    """A video to look at. load(key, indices) of `source` gives its frames. times: seconds from the beginning at which
    each frame is shown; None where nothing tells. frame: seconds that the last one stays."""
    name: str
    source: Any
    key: str
    num_frames: int
    times: Optional[np.ndarray]
    frame: float

    @property
    def seconds(self) -> Optional[float]:
        return None if self.times is None else float(self.times[-1]) + self.frame


class NumberedFrames(FrameDirectory):
    """A frame directory whose frames may count from any number; `load` counts from 1."""

    def __init__(self, root: Path, template: str, first: int) -> None:
        super().__init__(root, template)
        self.first = first

    def load(self, video: str, indices: Sequence[int]) -> list[Any]:
        images = {i: read_image(self.root / video / self.template.format(self.first + i - 1)) for i in set(indices)}
        return [images[i] for i in indices]


def expand(name: str) -> list[Path]:
    """The videos that a file, a frame directory, a directory of videos or a pattern names. UserError when there are none."""
    path = Path(name)
    if not path.exists():
        if not set(name) & set("*?["):
            raise UserError("there is no such file or directory")
        return _matching(name)
    if not path.is_dir():
        return [path]
    videos = _videos_in(path)
    if not videos:
        raise UserError("the directory holds neither videos nor frames")
    return videos


def _videos_in(directory: Path) -> list[Path]:
    return [directory] if holds_frames(directory) else [directory / video for video in find_videos(directory)]


def _matching(pattern: str) -> list[Path]:
    """The videos among what a pattern matches, each once; what else it matches is told."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    if not matches:
        raise UserError("no file matches")
    found = {match: _of_match(match) for match in matches}
    other = [match.name for match, videos in found.items() if not videos]
    if len(other) == len(matches):
        raise UserError(f"none of the {len(matches)} matches is a video or holds one, the first is {other[0]}")
    if other:
        log.info("%s: left out, neither a video nor a directory with one: %s", shown(pattern),
                 shown(", ".join(other[:5]) + ", ..." * (len(other) > 5)))
    return list(dict.fromkeys(video for videos in found.values() for video in videos))


def _of_match(match: Path) -> list[Path]:
    if not match.is_dir():
        return [match] if is_video_name(match.name) else []
    try:
        return _videos_in(match)
    except UserError:  # it cannot be read, which is told when it is to be opened
        return [match]


def open_for_prediction(path: Path, fps: Optional[float] = None) -> Video:
    """A video file or frame directory. fps: of a frame directory. UserError when it cannot be read."""
    if path.is_dir():
        names = frame_names(path)
        times = None if fps is None else np.arange(names.num_frames) / fps
        return Video(str(path), NumberedFrames(path.parent, names.template, names.first), path.name, names.num_frames,
                     times, 0.0 if fps is None else 1 / fps)
    files = VideoFiles(path.parent)
    if files.path(path.name) != path:
        raise UserError(f"{path} and {files.path(path.name)} lie side by side: give it the ending of its kind")
    count = files.count(path.name)
    try:
        times, frame = frame_times(path, count)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"unreadable video: {path}: {error.strerror or error}") from None
    return Video(str(path), files, path.name, count, times, frame)


def frame_times(path: Path, count: int) -> tuple[Optional[np.ndarray], float]:
    """(seconds from the first frame on at which each frame is shown, seconds that one lasts) of a video file.

    By the frames' own time stamps, else by the stream's rate; None where the file tells neither.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        base, rate = stream.time_base, stream.average_rate
    index = frame_index(path)
    if len(index.packets) and base:
        stamps = index.packets[index.order, 0]
        times = (stamps - stamps[0]) * float(base)
        steps = np.diff(times)
        return times, float(np.median(steps)) if len(steps) else 1 / float(rate or 25)
    return (np.arange(count) / float(rate), 1 / float(rate)) if rate else (None, 0.0)


# ---- the windows --------------------------------------------------------------------------------------------

class Window(NamedTuple):
    """A part of a video: frames first + 1, ..., last (1-based: first is how many lie before it), and its seconds."""
    first: int
    last: int
    start: float
    end: float


def slide(times: np.ndarray, duration: float, length: float, stride: float) -> list[Window]:
    """Windows of `length` seconds every `stride` seconds; the last one ends with the video; a short video is one.

    A window in which no new frame is shown (videos with long still images) has the frame that is seen meanwhile.
    """
    tiny = 1e-6  # seconds: sums of strides are not exact
    count = max(0, int((duration - length) / stride + tiny)) + 1
    starts = [i * stride for i in range(count)]
    if starts[-1] + length < duration - tiny:
        starts.append(duration - length)
    windows = []
    for start in starts:
        first, last = np.searchsorted(times, [start - tiny, start + length - tiny])
        first = min(int(first), max(int(last), 1) - 1)
        windows.append(Window(first, max(int(last), first + 1), start, min(start + length, duration)))
    return windows


def windows_of(video: Video, length: Optional[float], stride: Optional[float]) -> list[Window]:
    """The whole video as one window, or a sliding one of `length` seconds. UserError when seconds mean nothing."""
    if length is None:
        return [Window(0, video.num_frames, 0.0, video.seconds or 0.0)]
    if video.times is None or video.seconds is None:
        raise UserError(f"{video.name} does not tell when its frames are shown: give --fps")
    stride = length / 2 if stride is None else stride
    if stride < video.frame / 2:
        raise UserError(f"{video.name}: a stride of {stride:g} s is shorter than a frame ({video.frame:.3g} s): choose"
                        " a longer --stride or --window")
    return slide(video.times, video.seconds, length, stride)


class Clips(Dataset):
    """The clips of a video's windows, as `TSNDataSet` would give them; the label 0 means nothing."""

    def __init__(self, sampler: ClipSampler, transform: Any, video: Video, windows: Sequence[Window]) -> None:
        self.video, self.transform = video, transform
        self.frames = [[window.first + i for i in sampler.frames(window.last - window.first)] for window in windows]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.video.source.load(self.video.key, self.frames[index])), 0


def classify(classifier: Classifier, video: Video, windows: Sequence[Window], batch_size: int = 1,
             workers: int = 0) -> Tensor:
    """(windows, num_class) scores, the protocol's views averaged, before the softmax. UserError when they are NaN."""
    loader = make_loader(Clips(classifier.sampler, classifier.transform, video, windows), batch_size,
                         workers=workers if len(windows) > batch_size else 0, train=False)
    return _scores(classifier, video, loader)


def classify_clip(classifier: Classifier, video: Video, clip: Tensor) -> Tensor:
    """(1, num_class) scores of a video whose one clip `whole_clips` has read."""
    return _scores(classifier, video, [collate([(clip, 0)])])


def _scores(classifier: Classifier, video: Video, batches: Any) -> Tensor:
    runtime = TorchClip(classifier.model)
    logits = evaluate(runtime, batches, mirrored=classifier.protocol.mirrored, desc=Path(video.name).name).logits
    if not bool(logits.isfinite().all()):
        raise UserError(f"the network's scores of {video.name} are not finite: its weights are damaged")
    return logits


class _WholeVideos(Dataset):
    """Path -> (Video, its one clip), or the UserError that says why it cannot be read."""

    def __init__(self, sampler: ClipSampler, transform: Any, paths: Sequence[Path], fps: Optional[float]) -> None:
        self.sampler, self.transform, self.paths, self.fps = sampler, transform, paths, fps

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Union[tuple[Video, Tensor], UserError]:
        try:
            video = open_for_prediction(self.paths[index], self.fps)
            return video, Clips(self.sampler, self.transform, video, windows_of(video, None, None))[0][0]
        except UserError as error:
            return UserError(str(error))


def whole_clips(classifier: Classifier, paths: Sequence[Path], fps: Optional[float] = None,
                workers: int = 0) -> Iterator[Union[tuple[Video, Tensor], UserError]]:
    """Of each path in its order the video and its one clip, or why it cannot be read; `workers` processes read."""
    data = _WholeVideos(classifier.sampler, classifier.transform, paths, fps)
    return iter(Loader(data, batch_size=None, num_workers=min(workers, len(paths)) if len(paths) > 1 else 0,
                       collate_fn=_as_it_is))


def _as_it_is(item: Any) -> Any:
    return item


def best(scores: Tensor, names: Sequence[str], topk: int) -> list[dict[str, Any]]:
    """The `topk` likeliest classes of one row of scores (num_class,), best first. probability: 0 to 1."""
    probabilities = scores.softmax(dim=0)
    order = scores.argsort(descending=True, stable=True)[:topk]
    return [{"class": names[i], "label": i, "probability": float(probabilities[i]), "score": float(scores[i])}
            for i in order.tolist()]


def answer(classifier: Classifier, video: Video, windows: Sequence[Window], scores: Tensor, topk: int,
           timeline: bool) -> dict[str, Any]:
    """What is said of a video: the classes of its windows' mean scores, and each window's if `timeline`."""
    names = classifier.class_names
    result: dict[str, Any] = {"video": video.name, "frames": video.num_frames, "seconds": video.seconds,
                              "predictions": best(scores.mean(dim=0), names, topk)}
    if timeline:
        result["timeline"] = [{"start": round(window.start, 3), "end": round(window.end, 3),
                               "predictions": best(row, names, topk)} for window, row in zip(windows, scores)]
    return result
