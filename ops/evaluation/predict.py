"""Predictor: a checkpoint that names the classes of any video.

The frames, the preprocessing and the averaging are those of test_models.py, so a video's scores are the same.
"""
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence, Union

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ops.checkpoints.model_zoo import find_weights
from ops.common.device import pick_device
from ops.common.errors import UserError
from ops.common.words import counted
from ops.data.loader import Loader, make_loader
from ops.data.sampling import ClipSampler, frames_per_segment
from ops.data.test_protocol import PROTOCOLS, TestProtocol
from ops.data.tsn_dataset import Batch, collate
from ops.dataset_config import DATASETS, dataset_root, read_categories
from ops.evaluation.clip_runtime import ClipRuntime, TorchClip
from ops.evaluation.evaluate import evaluate
from ops.evaluation.metrics import names_or_numbers
from ops.evaluation.multi_label import probabilities_of
from ops.evaluation.timeline import likeliest, presences
from ops.evaluation.videos import Video, Window, load_video

Report = dict[str, Any]


class Predictor:
    """Names the classes of videos: Predictor("ckpt.pth.tar")("video.mp4").

    checkpoint: a weight file, the name of a released one (downloaded at first use), or a `ClipRuntime`. protocol: the
    clips and crops of each video, by name or as a record. device: for a weight file; see `ops.common.device`.
    categories: a file of class names; without it they are the checkpoint's own, else those of its data set, where that
    is under `root`. overrides: options of the model for `load_checkpoint`, say num_segments or, for a file that does not
    describe itself, arch.
    class_names: None where they are unknown; predictions then name classes by their numbers.
    """

    def __init__(self, checkpoint: Union[str, Path, ClipRuntime], *, protocol: Union[str, TestProtocol] = "efficient",
                 device: Union[str, torch.device] = "auto", categories: Optional[Path] = None, root: Optional[str] = None,
                 **overrides: Any) -> None:
        self.protocol = find_protocol(protocol) if isinstance(protocol, str) else protocol
        if isinstance(checkpoint, (str, Path)):
            found = load_checkpoint(find_weights(checkpoint), **overrides)
            names = find_class_names(found, categories, root)
            checkpoint = TorchClip(found.build().to(pick_device(str(device))), names)
        self.runtime = checkpoint
        spec = self.runtime.spec
        if spec.modality == "Flow":
            raise UserError("a model of optical flow cannot classify videos, which hold RGB frames: score it on flow"
                            " directories with test_models.py")
        self.class_names = self.runtime.class_names
        self.labels = names_or_numbers(self.class_names, spec.num_class)
        self._sampler = self.protocol.sampler(spec.num_segments, frames_per_segment(spec.modality, spec.segment_length))
        self._transform = self.protocol.transform(self.runtime.preprocessing)

    def __call__(self, video: Union[str, Path], *, topk: int = 5) -> list[dict[str, Any]]:
        """The `topk` likeliest classes, best first: dicts of class, label, probability (0 to 1) and score.

        video: a file, or a directory of frames. UserError when it cannot be read.
        """
        return self.report(video, topk=topk)["predictions"]

    def report(self, video: Union[str, Path], *, window: Optional[float] = None, stride: Optional[float] = None,
               fps: Optional[float] = None, topk: int = 5, batch_size: int = 1, workers: int = 0) -> Report:
        """All that is known of a video: its name, frames, seconds, predictions and, with `window`, its timeline and
        `probabilities`, those of the likeliest classes in every window, {class: [0 to 1 per window]}.

        Of a multi-label model with `window`, `present` lists when each class, also one that is not among the `topk`, has a
        probability of at least a half: dicts of start, end (seconds), class and probability (mean over the windows).
        window, stride: seconds; the network then sees a part of the video at a time. fps: of a frame directory.
        batch_size: windows at a time. workers: processes that read windows.
        """
        opened = load_video(Path(video), fps)
        windows = [opened.whole()] if window is None else opened.windows(window, stride)
        clips = WindowClips(self._sampler, self._transform, opened, windows)
        loader = make_loader(clips, batch_size, workers=workers if len(windows) > batch_size else 0, train=False)
        return self._make_report(opened, windows, self._scores(opened, loader), topk=topk, with_timeline=window is not None)

    def reports(self, videos: Sequence[Path], *, fps: Optional[float] = None, topk: int = 5,
                workers: int = 0) -> Iterator[Union[Report, UserError]]:
        """For each video its report, or why there is none. workers: processes that read the next videos meanwhile."""
        data = WholeVideos(self._sampler, self._transform, videos, fps)
        loader = Loader(data, batch_size=None, num_workers=min(workers, len(videos)) if len(videos) > 1 else 0,
                        collate_fn=_keep_item)
        for item in loader:
            if isinstance(item, UserError):
                yield item
                continue
            video, clip = item
            try:
                scores = self._scores(video, [collate([(clip, 0)])])
                yield self._make_report(video, [video.whole()], scores, topk=topk, with_timeline=False)
            except UserError as error:
                yield error

    def _scores(self, video: Video, batches: Union[DataLoader, Sequence[Batch]]) -> Tensor:
        """(windows, num_class): the mean over the protocol's views, before the softmax."""
        logits = evaluate(self.runtime, batches, mirrored=self.protocol.mirrored, desc=Path(video.name).name).logits
        if not bool(logits.isfinite().all()):
            raise UserError(f"the network's scores of {video.name} are not finite: its weights are damaged")
        return logits

    def _make_report(self, video: Video, windows: Sequence[Window], scores: Tensor, *, topk: int,
                     with_timeline: bool) -> Report:
        """`predictions` are those of the windows' mean scores."""
        report: Report = {"video": video.name, "frames": video.num_frames, "seconds": video.seconds,
                          "predictions": self._rank(scores.mean(dim=0), topk)}
        if self.runtime.spec.multi_label:
            report["multi_label"] = True
        if with_timeline:
            timeline: list[dict[str, Any]] = [
                {"start": round(window.start, 3), "end": round(window.end, 3), "predictions": self._rank(row)}
                for window, row in zip(windows, scores)]
            if self.runtime.spec.multi_label:
                report["present"] = [{"start": start, "end": end, "class": name, "probability": probability}
                                     for start, end, name, probability in presences(timeline)]
            report["probabilities"] = likeliest(timeline, topk)
            report["timeline"] = [{**window, "predictions": window["predictions"][:topk]} for window in timeline]
        return report

    def _rank(self, scores: Tensor, topk: Optional[int] = None) -> list[dict[str, Any]]:
        return rank_classes(scores, self.labels, topk, multi_label=self.runtime.spec.multi_label)


def find_protocol(name: str) -> TestProtocol:
    """The protocol called `name`. UserError otherwise."""
    if name not in PROTOCOLS:
        raise UserError(f"protocol {name!r}: choose {' or '.join(PROTOCOLS)}", "protocol")
    return PROTOCOLS[name]


def find_class_names(found: Checkpoint, categories: Optional[Path] = None,
                     root: Optional[str] = None) -> Optional[list[str]]:
    """A checkpoint's class names: those in the file `categories`, its own, or its data set's; None where unknown."""
    count = found.spec.num_class
    if categories is not None:
        names = read_categories(categories)
        if names is None or len(names) != count:
            raise UserError(f"categories {categories}: " + (
                "there is no such file" if names is None else
                f"it names {counted(len(names), 'class')}, the checkpoint has {count}"),
                "categories")
        return names
    if found.class_names:
        return found.class_names
    entry = DATASETS.get(found.dataset or "")
    if entry and entry.published_names and count == len(entry.published_names):
        return list(entry.published_names)
    file = dataset_root(root) / entry.categories if entry and entry.categories else None
    names = read_categories(file) if file and file.exists() else None
    return names if names and len(names) == count else None


def rank_classes(scores: Tensor, names: Sequence[str], topk: Optional[int], *,
                 multi_label: bool = False) -> list[dict[str, Any]]:
    """The `topk` likeliest classes (None: all) of one row of scores (num_class,), best first. probability: 0 to 1.

    multi_label: the probability of each class does not depend on the others', so they need not sum to 1.
    """
    probabilities = probabilities_of(scores, multi_label)
    order = scores.argsort(descending=True, stable=True)[:topk]
    return [{"class": names[i], "label": i, "probability": float(probabilities[i]), "score": float(scores[i])}
            for i in order.tolist()]


# ---- reading --------------------------------------------------------------------------------------------------

class WindowClips(Dataset):
    """The clips of a video's windows, as `TSNDataSet` makes them, with a label of 0."""

    def __init__(self, sampler: ClipSampler, transform: Any, video: Video, windows: Sequence[Window]) -> None:
        self.video, self.transform = video, transform
        self.frames = [[window.first + i for i in sampler.frames(window.last - window.first)] for window in windows]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.video.load(self.frames[index])), 0


class WholeVideos(Dataset):
    """Path -> (Video, its one clip), or the UserError with the reason why it cannot be read."""

    def __init__(self, sampler: ClipSampler, transform: Any, paths: Sequence[Path], fps: Optional[float]) -> None:
        self.sampler, self.transform, self.paths, self.fps = sampler, transform, paths, fps

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Union[tuple[Video, Tensor], UserError]:
        try:
            video = load_video(self.paths[index], self.fps)
            return video, WindowClips(self.sampler, self.transform, video, [video.whole()])[0][0]
        except UserError as error:
            return UserError(str(error), *error.options)  # a subclass may not cross a process boundary


def _keep_item(item: Any) -> Any:
    """Instead of torch's collation, which would turn arrays into tensors and tuples into lists."""
    return item
