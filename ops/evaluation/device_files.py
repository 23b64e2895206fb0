"""Clips and scores as plain files, for devices that run a network without Python.

A directory of inputs has `frames/frames{i}.bin`, one clip each, float32, little-endian, (1, T*C, H, W), normalized; its
label `label/label{i}.bin`, int32; and `inputs.json`, which says what they are. The files are numbered from 0, view after
view of video after video. The device writes the logits of each, float32 (num_class,), as `frames{i}_0.bin`.
"""
import json
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ops.common.errors import UserError
from ops.common.files import agree_on_settings, atomic_write, remove_leftovers_of, writing
from ops.common.locks import one_at_a_time, only_run
from ops.common.part import WHOLE, Part
from ops.common.progress import progress
from ops.data.loader import make_loader
from ops.data.preprocessing import Preprocessing
from ops.data.tsn_dataset import TSNDataSet
from ops.evaluation.evaluate import mean_of_views
from ops.evaluation.metrics import Predictions

RECORD = "inputs.json"


def frames_file(inputs: Path, number: int) -> Path:
    """The clip of this number."""
    return inputs / "frames" / f"frames{number}.bin"


def label_file(inputs: Path, number: int) -> Path:
    """Its label."""
    return inputs / "label" / f"label{number}.bin"


def scores_file(outputs: Path, number: int) -> Path:
    """The logits that the device computed from it."""
    return outputs / f"frames{number}_0.bin"


def make_record(videos: TSNDataSet, *, shape: Sequence[int], mirrored: Sequence[bool],
                mirror_labels: Optional[Sequence[int]], source: Mapping[str, Any]) -> dict[str, Any]:
    """The content of RECORD. shape: of a clip. mirrored, mirror_labels: see `evaluate`. source: what else decides them."""
    return {"videos": len(videos), "views": len(mirrored), "shape": list(shape), "dtype": "float32, little-endian",
            "num_class": videos.num_class, "mirrored": list(mirrored),
            "mirror_labels": list(mirror_labels) if mirror_labels is not None and any(mirrored) else None, **source}


# ---- inputs ---------------------------------------------------------------------------------------------------

def write_inputs(videos: TSNDataSet, directory: Path, record: Mapping[str, Any], *, preprocessing: Preprocessing,
                 part: Part = WHOLE, workers: int = 0) -> int:
    """Write the clips and labels of a part of the videos; those that are there already are kept. Returns the files written.

    record: of `make_record`. workers: processes that read videos. UserError when the directory holds inputs of another
    record, another run writes this part, or a video cannot be read; CannotWrite.
    """
    views, written = record["views"], 0
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with only_run(directory, part):
        with one_at_a_time(directory, part):
            remove_leftovers_of([directory / RECORD])
            agree_on_settings(directory / RECORD, record, content="inputs")
        missing = [video for video in part.take(range(len(videos)))
                   if not all(_is_complete(directory, video * views + view, record) for view in range(views))]
        loader = make_loader(Subset(videos, missing), 1, workers=workers, train=False)
        for video, batch in zip(missing, progress(loader, total=len(missing), desc="writing inputs", unit="video")):
            clips = preprocessing.apply(batch.clips.unflatten(1, (views, -1)).flatten(0, 1))
            for view, clip in enumerate(clips):
                _write_one(directory, video * views + view, clip, int(batch.labels[0]))
                written += 1
    return written


def _is_complete(directory: Path, number: int, record: Mapping[str, Any]) -> bool:
    file = frames_file(directory, number)
    return file.is_file() and file.stat().st_size == 4 * np.prod(record["shape"])


def _write_one(directory: Path, number: int, clip: Tensor, label: int) -> None:
    """The label first: where a clip is complete, so is its label."""
    with atomic_write(label_file(directory, number), "wb") as f:
        f.write(np.array([label], "<i4").tobytes())
    with atomic_write(frames_file(directory, number), "wb") as f:
        f.write(clip.numpy().astype("<f4").tobytes())


# ---- outputs --------------------------------------------------------------------------------------------------

def read_scores(outputs: Path, inputs: Path) -> Predictions:
    """The predictions for all videos: the mean of the logits of their views. UserError for missing or damaged files."""
    record = read_record(inputs)
    videos, views, num_class = record["videos"], record["views"], record["num_class"]
    missing = [file for file in (scores_file(outputs, number) for number in range(videos * views)) if not file.is_file()]
    if missing:
        raise UserError(f"{outputs} lacks {len(missing)} of the {videos * views} files of scores, the first is"
                        f" {missing[0].name}: run the network on all files of {inputs / 'frames'}")
    labels = [_read(label_file(inputs, video * views), "<i4", 1, "a label")[0] for video in range(videos)]
    wrong = next((label for label in labels if not 0 <= label < num_class), None)
    if wrong is not None:
        raise UserError(f"{inputs / 'label'} is damaged: it has the label {wrong}, and there are {num_class} classes")
    rows = np.stack([_read(scores_file(outputs, number), "<f4", num_class, f"{num_class} scores")
                     for number in range(videos * views)])
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise UserError(f"{scores_file(outputs, int(broken[0]))} has scores that are NaN or Inf, as"
                        f" {len(broken) - 1} other files have: the network overflows on the device, or the files are"
                        " damaged")
    scores = torch.from_numpy(rows).unflatten(0, (videos, views))
    logits = mean_of_views(scores, record["mirrored"], record["mirror_labels"])
    return Predictions(logits, torch.tensor(np.array(labels, np.int64)))


def read_record(inputs: Path) -> dict[str, Any]:
    """The content of RECORD. UserError where there is none, or it is damaged."""
    file = inputs / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        counts = [record[name] for name in ("videos", "views", "num_class")]
        good = all(type(count) is int and count > 0 for count in counts) and len(record["mirrored"]) == record["views"] \
            and (record["mirror_labels"] is None or sorted(record["mirror_labels"]) == list(range(record["num_class"])))
    except FileNotFoundError:
        raise UserError(f"{inputs} has no {RECORD}: name a directory that tools/export_inputs.py wrote") from None
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error}): write the inputs again") from None
    if not good:
        raise UserError(f"{file} is damaged: its counts, mirrored and mirror_labels do not fit together: write the inputs"
                        " again")
    return record


def _read(file: Path, dtype: str, count: int, words: str) -> np.ndarray:
    """The numbers in a file, which must be as many as expected."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    if len(content) != 4 * count:
        raise UserError(f"{file} has {len(content)} bytes, but {words} of 4 bytes each have {4 * count}")
    return np.frombuffer(content, dtype)
