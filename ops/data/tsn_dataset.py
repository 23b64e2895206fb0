"""TSNDataSet: the videos of a list file as transformed clips with labels."""
import itertools
import logging
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ops.common.device import drawing_again, local_seed, mix_seeds
from ops.common.errors import UserError
from ops.data.clip_transforms import mirror
from ops.data.list_files import VideoRecord, read_list
from ops.data.sampling import ClipSampler, frames_per_segment, sampling_mode

log = logging.getLogger(__name__)


class BadVideo(NamedTuple):
    """Placeholder for an unreadable video (skip_bad)."""
    path: str
    reason: str


Target = Union[int, Tensor]  # a label, or a multi-hot vector of labels


class View(NamedTuple):
    """Another clip of the same video, for a network with another input: its frames, and the transform of a `TSNDataSet`."""
    sampler: ClipSampler
    transform: Callable


class WithoutViews(tuple):
    """The key of an item, (epoch, index) or (epoch, index, n), that is wanted without its views."""


class TSNDataSet(Dataset):
    """Clips of a list file's videos: item -> (transformed clip, label).

    num_segments: T. new_length: frames per segment. image_tmpl: file name of a frame, 1-based.
    transform: is called with a list of PIL RGB images, T of them (2*T for twice_sample, 10*T for dense_sample in
    test_mode). If it has `takes_arrays` (`ops.data.training_crop`), it is called with arrays and whether to mirror them.
    data_format: frames (directories of images), shards, video (files, of which only the needed frames are decoded), or
    auto: shards if root_path holds them, else a video file if the listed path has the extension of one, else frames.
    random_shift: random frames, for training; otherwise fixed ones. test_mode: the frames of the test protocols.
    modality: RGB; Flow (two gray images per frame, x and y); RGBDiff (one more frame per segment, since the network
    takes differences). num_class: labels are checked against it. multi_label: a video has any number of classes, and
    the label of an item is a float32 tensor (num_class,) with 1 for each of them; otherwise it is the class's number.
    mirror_labels: a coin toss mirrors a clip, and each of its classes becomes mirror_labels[class].
    skip_bad: an unreadable video becomes a `BadVideo`.
    seed: item (epoch, index) depends on (seed, epoch, index) alone, whichever worker process makes it, and so does
    (epoch, index, n), another clip of the same video; item index draws from torch's generator.
    views: more clips of each item, (clip, label, [a clip per view]). Each is made with the random numbers of the item's own
    clip, one step after the other: with as many segments it has the same frames, and a transform that draws in the same
    way crops the same region. The item's own clip and label are the same with and without views; a key that is
    `WithoutViews` makes none.
    remove_missing, force_grayscale: accepted, without effect; the published class removed short videos from its list.
    """

    def __init__(self, root_path: Union[str, Path], list_file: Union[str, Path], num_segments: int = 3,
                 new_length: int = 1, modality: str = "RGB", image_tmpl: str = "img_{:05d}.jpg",
                 transform: Optional[Callable] = None, force_grayscale: bool = False, random_shift: bool = True,
                 test_mode: bool = False, remove_missing: bool = False, dense_sample: bool = False,
                 twice_sample: bool = False, num_class: Optional[int] = None, skip_bad: bool = False,
                 seed: int = 0, mirror_labels: Optional[Sequence[int]] = None, data_format: str = "auto",
                 views: Sequence[View] = (), multi_label: bool = False) -> None:
        self.root_path, self.list_file = Path(root_path), Path(list_file)
        self.num_segments, self.new_length = num_segments, frames_per_segment(modality, new_length)
        self.mirror_labels = mirror_labels
        self.modality, self.image_tmpl, self.transform = modality, image_tmpl, transform
        self.random_shift, self.test_mode = random_shift, test_mode
        self.dense_sample, self.twice_sample = dense_sample, twice_sample
        phase = "test" if test_mode else "train" if random_shift else "val"
        self.sampler = ClipSampler(num_segments, self.new_length,
                                   sampling_mode(phase, dense=dense_sample, twice=twice_sample))
        self.skip_bad, self.seed, self.views = skip_bad, seed, views
        if multi_label and num_class is None:
            raise UserError("multi_label needs num_class: the labels of an item are a vector with one number per class")
        from ops.video.frames import make_source  # not at the top: without videos, nothing needs OpenCV and PyAV
        self.multi_label, self.num_class = multi_label, num_class
        self.video_list = read_list(list_file, num_class, multi_label)
        self.source = make_source(self.root_path, image_tmpl, modality=modality, data_format=data_format)
        if modality == "Flow" and image_tmpl.count("{") == 3:  # published behaviour: such lists count x and y files
            for record in self.video_list:
                if record.num_frames == 1:
                    raise UserError(f"{list_file}: {record.path!r} has 1 file, but flow lists of this data set count x and"
                                    " y files, two per frame: leave it out of the list, or make the list again")
                record.num_frames //= 2

    def __len__(self) -> int:
        return len(self.video_list)

    def __getitem__(self, key: Union[int, tuple[int, ...]]) -> Union[tuple, BadVideo]:
        if not isinstance(key, tuple):
            return self._sample(self.video_list[key], self.views)
        with local_seed(mix_seeds(self.seed, *key)):
            return self._sample(self.video_list[key[1]], () if isinstance(key, WithoutViews) else self.views)

    def _sample(self, record: VideoRecord, views: Sequence[View]) -> Union[tuple, BadVideo]:
        try:
            return self._clip(record, views)
        except UserError as error:
            if not self.skip_bad:
                raise
            return BadVideo(record.path, str(error))

    def _clip(self, record: VideoRecord, views: Sequence[View]) -> tuple:
        """The transformed clip, its label and those of the views; the frames of all are read at once.

        Frames of video files are converted only while they are transformed.
        """
        num_frames = record.num_frames or self.source.count(record.path)
        before_frames = torch.get_rng_state()
        wanted = [self.segment_frames(num_frames)]
        for view in views:
            with drawing_again(before_frames):
                wanted.append(view.sampler.frames(num_frames))
        as_arrays = getattr(self.transform, "takes_arrays", False)
        images = iter((self.source.load_arrays if as_arrays else self.source.load)(
            record.path, [index for indices in wanted for index in indices]))
        per_index = 2 if self.modality == "Flow" else 1
        clip, *others = [list(itertools.islice(images, per_index * len(indices))) for indices in wanted]
        mirrored = self.mirror_labels is not None and bool(torch.randint(2, (1,)))
        before_crop = torch.get_rng_state()
        sample = self._transformed(clip, self.transform, mirrored), self.target(record, mirrored)
        if not views:
            return sample
        seen = []
        for view, part in zip(views, others):
            with drawing_again(before_crop):
                seen.append(self._transformed(part, view.transform, mirrored))
        return (*sample, seen)

    def _transformed(self, clip: list[Any], transform: Optional[Callable], mirrored: bool) -> Any:
        if getattr(transform, "takes_arrays", False) and transform:
            return transform(clip, mirrored)
        clip = mirror(clip, is_flow=self.modality == "Flow") if mirrored else clip
        return transform(clip) if transform else clip

    def target(self, record: VideoRecord, mirrored: bool = False) -> Target:
        """The label of a clip of this video, or of its mirror image."""
        labels = [self.mirror_labels[i] for i in record.labels] if mirrored and self.mirror_labels else record.labels
        return multi_hot(labels, self.num_class) if self.multi_label and self.num_class else labels[0]

    def segment_frames(self, num_frames: int) -> list[int]:
        """The 1-based frames of one item (`ClipSampler.frames`)."""
        return self.sampler.expand(self.segment_indices(num_frames), num_frames)

    def segment_indices(self, num_frames: int) -> list[int]:
        """The 1-based first frame of each segment of one item (`ClipSampler.first_frames`)."""
        return self.sampler.first_frames(num_frames)


def multi_hot(labels: Sequence[int], num_class: int) -> Tensor:
    """(num_class,) float32: 1 for each of the labels, 0 for the other classes."""
    return torch.zeros(num_class).index_fill_(0, torch.tensor(labels, dtype=torch.long), 1.0)


class Batch(NamedTuple):
    """clips: (N, T*C, H, W) uint8 (None if every video was bad). labels: (N,), or of a multi-label data set (N, num_class)
    with 1 for each class of a clip. bad: the videos that were left out.

    views: of the clips (`View`), each (N, its T*C, its H, its W) uint8.
    """
    clips: Optional[Tensor]
    labels: Tensor
    bad: list[BadVideo]
    views: Sequence[Tensor] = ()


def collate(samples: list[Union[tuple, BadVideo]]) -> Batch:
    """A batch of the readable videos. An unreadable one makes the batch smaller and is never replaced by another."""
    good = [sample for sample in samples if not isinstance(sample, BadVideo)]
    bad = [sample for sample in samples if isinstance(sample, BadVideo)]
    # In a worker process default_collate stacks straight into the memory that the processes share.
    clips = default_collate([clip for clip, *_ in good]) if good else None
    views = [default_collate(list(view)) for view in zip(*(seen for _, _, *more in good for seen in more))]
    return Batch(clips, stack_targets([label for _, label, *_ in good]), bad, views)


def stack_targets(targets: Sequence[Target]) -> Tensor:
    """(N,) labels, or (N, num_class) multi-hot ones."""
    if targets and isinstance(targets[0], Tensor):
        return torch.stack([target for target in targets if isinstance(target, Tensor)])
    return torch.tensor(targets, dtype=torch.long)
