"""Make the gestures data set: real video files of eight gestures that only the order of their frames tells apart.

On disk it looks like Something-Something-V2: `videos/<id>.mp4`, `labels.json`, `train.json`, `validation.json`.
A model that ignores the order of frames cannot score above 50%: `ops.prepare.gestures.render` explains why the frames
do not reveal it, `_make_video` why the files do not.
"""
import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from ops.common.errors import UserError
from ops.common.files import agree_on_settings, atomic_write, remove_leftovers
from ops.common.locks import only_run
from ops.common.pool import cores, run_jobs
from ops.common.progress import progress
from ops.prepare.gestures.definition import CLASSES, FORMATS, FPS, SIZE, VIDEOS, Size
from ops.prepare.gestures.render import check_size, object_of_clip, render_clip
from ops.video.encode import encode_video

VERSION = 2  # of the images: increment it when the same seed gives different files
# The published label programs remove the brackets of a template and look up the rest in labels.json.
TEMPLATES = tuple(name.replace("Hand", "[Hand]") for name in CLASSES)
BATCH = 8  # videos per job of a worker: a quarter of a second, so that Ctrl-C is quick


class Settings(NamedTuple):
    """What determines the content of a data set; recorded in its gestures.json."""

    videos: int
    seed: int
    size: Size
    val: float  # fraction of the videos
    fmt: str
    version: int = VERSION

    @property
    def validation(self) -> int:
        return round(self.videos * self.val)

    def labels(self) -> list[int]:
        """The class of every video, training videos first; both parts are balanced to within one video per class."""
        rng = _rng(self.seed, 0)
        return [int(label) for count in (self.videos - self.validation, self.validation)
                for label in np.concatenate([rng.permutation(len(CLASSES)) for _ in range(count // 8 + 1)])[:count]]


def make_gestures(out: Path, videos: int = VIDEOS, seed: int = 0, *, size: Size = SIZE, val: float = 0.2,
                  fmt: str = "mp4", workers: Optional[int] = None) -> dict[str, Any]:
    """Write the data set to the directory `out`; videos that an interrupted call has finished are kept.

    size: (width, height), even. val: fraction for validation. fmt: mp4 (H.264) or webm (VP9). workers: processes
    (None: one per core); the files are byte for byte the same for any number.
    Returns a summary: out, videos, train, validation, made, kept, bytes, seconds.
    Raises UserError for impossible settings and for a directory made with other settings.
    """
    began, out = time.monotonic(), Path(out)
    settings = Settings(videos, seed, (int(size[0]), int(size[1])), val, fmt)
    workers = cores() if workers is None else workers
    _check(settings, workers)
    labels = settings.labels()
    try:
        _claim(out, settings)
        with only_run(out):
            remove_leftovers(out, recursive=True)
            missing = [index for index in range(1, videos + 1) if not _is_made(_video(out, settings, index))]
            _make_videos(out, settings, labels, indices=missing, workers=workers)
            _write_lists(out, settings, labels)
        size_on_disk = sum(_video(out, settings, index).stat().st_size for index in range(1, videos + 1))
    except OSError as error:
        raise UserError(f"{out}: cannot write the data set there ({error.strerror or error})") from error
    return {"out": str(out), "videos": videos, "train": videos - settings.validation,
            "validation": settings.validation, "made": len(missing), "kept": videos - len(missing),
            "bytes": size_on_disk, "seconds": time.monotonic() - began}


def _check(settings: Settings, workers: int) -> None:
    if settings.videos < len(CLASSES):
        raise UserError(f"videos {settings.videos}: choose {len(CLASSES)} or more, one per class", "videos")
    if not (0 < settings.val < 1 and 0 < settings.validation < settings.videos):
        raise UserError(f"val {settings.val}: choose a fraction between 0 and 1 that leaves at least one of the"
                        f" {settings.videos} videos on either side", "val")
    check_size(settings.size)
    if settings.fmt not in FORMATS:
        raise UserError(f"format {settings.fmt!r}: choose {' or '.join(FORMATS)}", "format")
    if settings.seed < 0:
        raise UserError(f"seed {settings.seed}: choose 0 or more", "seed")
    if workers < 1:
        raise UserError(f"workers {workers}: choose 1 or more", "workers")


def _claim(out: Path, settings: Settings) -> None:
    """Make `out` a directory for these settings; UserError if it has content of other settings."""
    foreign = [name for name in ("videos", "labels.json", "train.json", "validation.json") if (out / name).exists()]
    # Recorded first, so that the directory is known to be ours even if the run is killed right after this.
    agree_on_settings(out / "gestures.json", settings._asdict(), content="gestures", foreign=", ".join(foreign))
    (out / "videos").mkdir(exist_ok=True)


def _video(out: Path, settings: Settings, index: int) -> Path:
    return out / "videos" / f"{index}.{settings.fmt}"


def _is_made(path: Path) -> bool:
    """A video gets its name only when it is complete; a power cut may leave an empty one."""
    return path.exists() and path.stat().st_size > 0


def _make_videos(out: Path, settings: Settings, labels: Sequence[int], *, indices: Sequence[int],
                 workers: int) -> None:
    batches = [indices[start:start + BATCH] for start in range(0, len(indices), BATCH)]
    with closing(run_jobs(partial(_make_batch, out, settings, labels), batches, workers, name=_batch_name)) as outcomes, \
            progress(total=len(indices), unit="video", desc="gestures") as bar:
        for _, count in outcomes:
            bar.update(count)


def _batch_name(indices: Sequence[int]) -> str:
    return f"videos {indices[0]} to {indices[-1]}"


def _make_batch(out: Path, settings: Settings, labels: Sequence[int], indices: Sequence[int]) -> int:
    cv2.setNumThreads(1)  # there is one process per core
    for index in indices:
        _make_video(out, settings, index, label=labels[index - 1])
    return len(indices)


def _make_video(out: Path, settings: Settings, index: int, *, label: int) -> None:
    """Render and encode video number `index`: the same bytes in any process at any time.

    It is coded with key frames only. An ordinary encoder spends its bits by position in the file: first a sharp key
    frame, then differences. The first pose of a clip would be its sharpest one, and reveal the direction.
    """
    frames = render_clip(label, _rng(settings.seed, index), settings.size)
    encode_video(_video(out, settings, index), frames, FPS, intra_only=True)


def _rng(seed: int, index: int) -> np.random.Generator:
    """The random generator of video `index` (from 1); 0 is that of the labels."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))


def _write_lists(out: Path, settings: Settings, labels: Sequence[int]) -> None:
    entries = []
    for index, label in enumerate(labels, start=1):
        name = object_of_clip(label, _rng(settings.seed, index))
        template = TEMPLATES[label]
        entries.append({"id": str(index), "label": template.replace("[Hand]", name).lower(),
                        "template": template, "placeholders": [name] if "[Hand]" in template else []})
    train = settings.videos - settings.validation
    _write_json(out / "train.json", entries[:train])
    _write_json(out / "validation.json", entries[train:])
    _write_json(out / "labels.json", {name: str(index) for index, name in enumerate(CLASSES)})


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as f:
        f.write(json.dumps(content, indent=1) + "\n")
