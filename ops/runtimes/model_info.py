"""ModelInfo: what an exported file says of its model, to this code and to readers without it.

Inputs and outputs, in order; `batch` is any number unless the export fixed it, height and width are fixed:

- a clip model: `clips` (batch, T*C, H, W), normalized float32; or with preprocessing `frames` (batch, T, H, W, 3), uint8
  RGB, scaled and cropped. Out: `logits` (batch, num_class), the mean over the T frames.
- an online model's step: `frames` (batch, 3, H, W), normalized float32, or with preprocessing (batch, H, W, 3), uint8 RGB;
  and `state_0`, `state_1`, ... Out: `logits`, and `new_state_0`, `new_state_1`, ... `new_state_i` of one step is `state_i`
  of the next; the first state is zeros.
- with features, the last output is `features` (batch, number of features), the classifier's input, pooled over space and
  time.

Everything but uint8 frames is float32, whatever the precision of the computation inside.
"""
import json
import platform
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

import torch

from ops.checkpoints.checkpoint import METADATA, Checkpoint
from ops.checkpoints.tensors import CLIP, ONLINE
from ops.common.choices import EXPORT_PRECISIONS
from ops.common.errors import UserError
from ops.data.preprocessing import Preprocessing
from ops.data.sampling import frames_per_segment
from ops.spec import ModelSpec

DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)  # raised by metadata
METADATA_KEY = "tsm"
VERSION = 3  # 1: the state's inputs and outputs were called before_i and after_i; 2: online steps only, under tsm_online
CLIPS, FRAMES, LOGITS, FEATURES, BATCH = "clips", "frames", "logits", "features", "batch"

Measured = dict[str, Union[int, float, str]]


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of an exported model.

    kind: "clip" or "online". spec, class_names, preprocessing: as in the model. height, width: of the frames, pixels.
    fingerprint: hash of kind, weights, spec and frame size. precision: of the computation inside, one of
    EXPORT_PRECISIONS' values. state_shapes: (C, H, W) of each tensor of an online model's state, in order. batch: the only
    batch size; None for any. with_preprocessing, features: see above; features is their number, 0 for none. dataset,
    frame_rate: the weight file's. versions: of the programs that wrote the file. measured: how it compared with PyTorch.
    """
    kind: str
    spec: ModelSpec
    class_names: Optional[list[str]]
    preprocessing: Preprocessing
    height: int
    width: int
    fingerprint: str
    precision: str = "float32"
    state_shapes: list[list[int]] = field(default_factory=list)
    batch: Optional[int] = None
    with_preprocessing: bool = False
    features: int = 0
    dataset: Optional[str] = None
    frame_rate: Optional[float] = None
    versions: dict[str, str] = field(default_factory=dict)
    measured: Measured = field(default_factory=dict)

    # ---- inputs and outputs -------------------------------------------------------------------------------------

    @property
    def images(self) -> int:
        """The images, or pairs of flow images, of one clip."""
        return self.spec.num_segments * frames_per_segment(self.spec.modality, self.spec.segment_length)

    @property
    def inputs(self) -> dict[str, list[int]]:
        """Name -> shape without the batch."""
        size = [self.height, self.width]
        if self.kind == CLIP:
            clips = {CLIPS: [self.spec.clip_channels, *size]}
            return {FRAMES: [self.images, *size, 3]} if self.with_preprocessing else clips
        frames = [*size, 3] if self.with_preprocessing else [3, *size]
        return {FRAMES: frames, **{f"state_{i}": shape for i, shape in enumerate(self.state_shapes)}}

    @property
    def outputs(self) -> dict[str, list[int]]:
        """Name -> shape without the batch."""
        state = {f"new_state_{i}": shape for i, shape in enumerate(self.state_shapes)}
        return {LOGITS: [self.spec.num_class], **state, **({FEATURES: [self.features]} if self.features else {})}

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """Name of an input -> its type."""
        return {name: torch.uint8 if self.with_preprocessing and name == FRAMES else torch.float32 for name in self.inputs}

    # ---- text ---------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The metadata entry, including the name and shape of every input and output."""
        batch = self.batch or BATCH
        return json.dumps({"version": VERSION, **asdict(self), "spec": self.spec.to_dict(),
                           "preprocessing": self.preprocessing.to_dict(),
                           "inputs": {name: [batch, *shape] for name, shape in self.inputs.items()},
                           "input_types": {name: str(dtype).removeprefix("torch.") for name, dtype in self.dtypes.items()},
                           "outputs": {name: [batch, *shape] for name, shape in self.outputs.items()}})

    @classmethod
    def from_json(cls, text: str) -> "ModelInfo":
        """Read what `to_json` wrote. Anything else raises one of DAMAGED."""
        entry = json.loads(text)
        values = {field.name: entry[field.name] for field in fields(cls) if field.name in entry}
        info = cls(**{**values, "spec": ModelSpec.from_dict(entry["spec"]),
                      "preprocessing": Preprocessing.from_dict(entry["preprocessing"])})
        info._check()
        # An edited entry, or one of another version, differs from what its values are written as.
        if json.loads(info.to_json()) != entry:
            raise ValueError("its values contradict each other")
        return info

    def _check(self) -> None:
        """ValueError for a value of another type or range than `to_json` writes."""
        self.spec.check()
        _check_one_of("kind", self.kind, (CLIP, ONLINE))
        _check_one_of("precision", self.precision, tuple(EXPORT_PRECISIONS.values()))
        _check_sizes("height", [self.height])
        _check_sizes("width", [self.width])
        _check_sizes("state_shapes", [size for shape in self.state_shapes for size in shape])
        _check_sizes("batch", [] if self.batch is None else [self.batch])
        _check_sizes("features", [self.features] if self.features else [])
        names = self.class_names
        if names is not None and (len(names) != self.spec.num_class or not all(isinstance(name, str) for name in names)):
            raise ValueError(f"class_names are not the names of {self.spec.num_class} classes")
        for name, value in (("fingerprint", self.fingerprint), ("dataset", self.dataset or "")):
            if not isinstance(value, str):
                raise ValueError(f"{name} is not text")
        rate = self.frame_rate
        if rate is not None and not (isinstance(rate, float) and 0 < rate < float("inf")):
            raise ValueError("frame_rate is not a number of frames per second")
        for name, values in (("versions", self.versions), ("measured", self.measured)):
            if not isinstance(values, Mapping) or not all(isinstance(value, (str, int, float)) for value in values.values()):
                raise ValueError(f"{name} is not a table of numbers and text")

    # ---- as a checkpoint ----------------------------------------------------------------------------------------

    def as_checkpoint(self, path: Path, **overrides: Any) -> Checkpoint:
        """What the programs ask of a weight file: spec, classes and data set; without weights.

        overrides: `ModelSpec` options; UserError for one that is another in the export, which cannot be changed. None counts
        as not given.
        """
        known = {**vars(self.spec), "shift_place": self.spec.place}
        for option, value in overrides.items():
            if value is not None and value != known[option]:
                raise UserError(f"{path} was exported with {option} {known[option]}, not {value}, and an exported model"
                                " cannot be changed: leave it out, or export the checkpoint with it",
                                *([option] if option != "num_segments" else []))  # the programs call it differently
        return Checkpoint(path, {}, self.kind, METADATA, self.spec, self.dataset, self.class_names)


def versions(*packages: Any) -> dict[str, str]:
    """The versions of Python and of these modules, for the metadata."""
    return {"python": platform.python_version(), **{package.__name__: str(package.__version__) for package in packages}}


def _check_one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is not {' or '.join(allowed)}")


def _check_sizes(name: str, values: Sequence[Any]) -> None:
    if not all(type(value) is int and value > 0 for value in values):
        raise ValueError(f"{name} is not a size in pixels or channels")
