"""Features of videos, what the classifier sees: of a clip, of its frames, or of every streamed frame; one file per video."""
import csv
import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ops.common.choices import FEATURES_PER
from ops.common.errors import UserError
from ops.common.files import agree_on_settings, atomic_write, remove_leftovers_of, writing
from ops.common.locks import one_at_a_time, only_run
from ops.common.part import WHOLE, Part
from ops.common.progress import progress
from ops.data.list_files import VideoRecord
from ops.data.loader import Loader
from ops.data.sampling import ClipSampler, frames_per_segment
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.evaluation.videos import load_video
from ops.models import TSN
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State

CLIP, FRAME, STREAM = FEATURES_PER
SETTINGS, INDEX = "features.json", "index.csv"
_CHUNK = 32  # frames of a stream that are in memory at a time


Load = Callable[[Sequence[int]], list[Any]]  # 1-based frames of a video -> their PIL images


@dataclass(frozen=True)
class Source:
    """A video. open: its number of frames, and what loads them. label: "" if unknown."""
    name: str
    label: str
    open: Callable[[], tuple[int, Load]]


def listed_sources(videos: TSNDataSet) -> list[Source]:
    """The videos of a list; labels of a multi-label list have commas between them."""
    return [Source(record.path, ",".join(map(str, record.labels)), partial(_open_record, videos, record))
            for record in videos.video_list]


def _open_record(videos: TSNDataSet, record: VideoRecord) -> tuple[int, Load]:
    return record.num_frames or videos.source.count(record.path), partial(videos.source.load, record.path)


def file_sources(paths: Sequence[Path]) -> list[Source]:
    """Video files and frame directories."""
    return [Source(str(path), "", partial(_open_path, path)) for path in paths]


def _open_path(path: Path) -> tuple[int, Load]:
    video = load_video(path)
    return video.num_frames, video.load


# ---- the networks ---------------------------------------------------------------------------------------------

class ClipFeatures:
    """A TSN's features of the clip of frames that the test protocol with one view chooses.

    per_frame: (T, features); otherwise their mean, (features,).
    """

    def __init__(self, network: TSN, per_frame: bool) -> None:
        spec = network.spec
        self.network, self.per_frame = network.eval(), per_frame
        sampler = ClipSampler(spec.num_segments, frames_per_segment(spec.modality, spec.segment_length))
        self.read = partial(_read_clip, sampler, TestProtocol().transform(network.preprocessing))

    @torch.inference_mode()
    def compute(self, clip: Tensor) -> np.ndarray:
        """The features of what `read` gave."""
        device = next(self.network.parameters()).device
        features = self.network.forward_features(self.network.preprocessing.apply(clip[None], device))[0]
        return (features if self.per_frame else features.mean(dim=0)).float().cpu().numpy()


def _read_clip(sampler: ClipSampler, transform: Callable, source: Source) -> Tensor:
    """The clip, uint8 (T*C, H, W)."""
    num_frames, load = source.open()
    return transform(load(sampler.frames(num_frames)))


class StreamFeatures:
    """An online model's features of every `stride`-th frame of a video, streamed from a zero state: (frames, features)."""

    def __init__(self, online: OnlineTSM, stride: int = 1) -> None:
        self.online, self.stride = online, stride
        self.transform = TestProtocol().transform(online.preprocessing)

    @staticmethod
    def read(source: Source) -> Source:
        """The source itself: a whole video may not fit into memory."""
        return source

    @torch.inference_mode()
    def compute(self, source: Source) -> np.ndarray:
        """The features of what `read` gave."""
        rows: list[Tensor] = []
        state: State = ()
        for frames in self._chunks(*source.open()):
            for frame in frames.split(1):
                state = state or self.online.initial_state(1, *frame.shape[-2:])
                features, state = self.online.step_features(self.online.prepare(frame), state)
                rows.append(features[0].float().cpu())
        if not rows:
            raise UserError("it has no frames")
        return torch.stack(rows).numpy()

    def _chunks(self, num_frames: int, load: Load) -> Iterator[Tensor]:
        indices = range(1, num_frames + 1, self.stride)
        for first in range(0, len(indices), _CHUNK):
            yield self.transform(load(list(indices[first:first + _CHUNK]))).unflatten(0, (-1, 3))


Extractor = Union[ClipFeatures, StreamFeatures]


# ---- the files ------------------------------------------------------------------------------------------------

def feature_file(directory: Path, number: int) -> Path:
    """The features of the video of this number, from 0 on, in the order of the sources."""
    return directory / f"{number:06d}.npy"


def write_features(extractor: Extractor, sources: Sequence[Source], directory: Path, *, settings: Mapping[str, Any],
                   part: Part = WHOLE, workers: int = 0) -> Iterator[tuple[str, Optional[UserError]]]:
    """Write the features of a part of the videos, and the index of all that are there; those there already are kept.

    settings: what else decides the features. workers: processes that read clips. Yields each video of the part that had no
    file, with the reason if it cannot be read. UserError when the directory holds features of other settings, or another run
    writes this part; CannotWrite.
    """
    names = hashlib.sha256(os.fsencode("\n".join(source.name for source in sources))).hexdigest()
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with only_run(directory, part):
        with one_at_a_time(directory, part):
            remove_leftovers_of([directory / SETTINGS, directory / INDEX])
            agree_on_settings(directory / SETTINGS, {"videos": names, **settings}, content="features")
        missing = [number for number in part.take(range(len(sources))) if not feature_file(directory, number).exists()]
        remove_leftovers_of(feature_file(directory, number) for number in missing)
        loader = Loader(_Read(extractor.read, [sources[number] for number in missing]), batch_size=None, collate_fn=_keep,
                        num_workers=workers if isinstance(extractor, ClipFeatures) and len(missing) > 1 else 0)
        for number, item in zip(missing, progress(loader, total=len(missing), desc="extracting features", unit="video")):
            problem = item if isinstance(item, UserError) else _write_one(extractor, item, feature_file(directory, number))
            yield sources[number].name, problem
        with one_at_a_time(directory, part):
            _write_index(directory, sources)


def _write_one(extractor: Extractor, item: Any, file: Path) -> Optional[UserError]:
    try:
        features = extractor.compute(item)
    except UserError as error:  # a frame in the middle of a stream
        return error
    if not np.isfinite(features).all():
        return UserError("its features are not finite: the network's weights are damaged")
    with atomic_write(file, "wb") as f:
        np.save(f, features)
    return None


def _write_index(directory: Path, sources: Sequence[Source]) -> None:
    with atomic_write(directory / INDEX) as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(["file", "video", "label"])
        rows.writerows([feature_file(directory, number).name, source.name, source.label]
                       for number, source in enumerate(sources) if feature_file(directory, number).exists())


class _Read(Dataset):
    """What the extractor reads of each video, or the UserError with the reason why it cannot be read."""

    def __init__(self, read: Callable[[Source], Any], sources: Sequence[Source]) -> None:
        self.read, self.sources = read, sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.read(self.sources[index])
        except UserError as error:
            return UserError(str(error), *error.options)  # a subclass may not cross a process boundary


def _keep(item: Any) -> Any:
    """Instead of torch's collation."""
    return item
