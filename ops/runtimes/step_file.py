"""The file format of an exported step: ONNX, with metadata that describes it to readers without this code.

Inputs: `frames` (batch, 3, H, W), normalized, and `state_0`, `state_1`, ... Outputs: `logits` (batch, num_class) and
`new_state_0`, `new_state_1`, ... All are float32. `new_state_i` of one step is `state_i` of the next; the first state is
zeros. The batch is free; height and width are fixed. The weights are inside the file. The metadata entry `tsm_online` is
JSON: names and shapes of inputs and outputs, class names, the preprocessing of a frame, and what `StepInfo` lists.
"""
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Optional

import torch

from ops.common.errors import UserError, shown
from ops.common.extras import import_extra
from ops.common.files import atomic_write
from ops.data.preprocessing import Preprocessing
from ops.spec import ModelSpec
from ops.weights import check_finite

DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)  # raised by metadata
METADATA_KEY = "tsm_online"
VERSION = 2  # 1: the state's inputs and outputs were called before_i and after_i
FRAMES, LOGITS, BATCH = "frames", "logits", "batch"


@dataclass(frozen=True)
class StepInfo:
    """The metadata of an exported step.

    spec, class_names, preprocessing: as in `OnlineTSM`. height, width: of the frames, pixels. state_shapes: (C, H, W) of
    each tensor of the state, in order. fingerprint: hash of weights, spec and frame size. precision: of the computation
    inside, float32 or int8 (`ops.runtimes.quantize`).
    """
    spec: ModelSpec
    class_names: Optional[list[str]]
    preprocessing: Preprocessing
    height: int
    width: int
    state_shapes: list[list[int]]
    fingerprint: str
    precision: str = "float32"

    @property
    def input_names(self) -> list[str]:
        return [FRAMES, *(f"state_{i}" for i in range(len(self.state_shapes)))]

    @property
    def output_names(self) -> list[str]:
        return [LOGITS, *(f"new_state_{i}" for i in range(len(self.state_shapes)))]

    def to_json(self) -> str:
        """The metadata entry, including the name and shape of every input and output."""
        frames = [BATCH, 3, self.height, self.width]
        state = [[BATCH, *shape] for shape in self.state_shapes]
        logits = [BATCH, self.spec.num_class]
        return json.dumps({"version": VERSION, **asdict(self), "spec": self.spec.to_dict(),
                           "preprocessing": self.preprocessing.to_dict(),
                           "inputs": dict(zip(self.input_names, [frames, *state])),
                           "outputs": dict(zip(self.output_names, [logits, *state]))})

    @classmethod
    def from_json(cls, text: str) -> "StepInfo":
        """Read what `to_json` wrote. Anything else raises one of DAMAGED."""
        entry = json.loads(text)
        values = {field.name: entry[field.name] for field in fields(cls) if field.name in entry}
        info = cls(**{**values, "spec": ModelSpec.from_dict(entry["spec"]),
                      "preprocessing": Preprocessing.from_dict(entry["preprocessing"])})
        # An edited entry, or one of another version, differs from what its values are written as.
        if {**json.loads(info.to_json()), "precision": None} != {**entry, "precision": None}:
            raise ValueError("its values contradict each other")
        info._check()
        return info

    def _check(self) -> None:
        """ValueError for a value of another type or range than `to_json` writes."""
        self.spec.check()
        numbers = {"height": [self.height], "width": [self.width], "state_shapes": [size for shape in self.state_shapes
                                                                                    for size in shape]}
        for name, values in numbers.items():
            if not all(type(value) is int and value > 0 for value in values):
                raise ValueError(f"{name} is not a size in pixels or channels")
        names = self.class_names
        if names is not None and (len(names) != self.spec.num_class or not all(isinstance(name, str) for name in names)):
            raise ValueError(f"class_names are not the names of {self.spec.num_class} classes")
        for name, value in (("fingerprint", self.fingerprint), ("precision", self.precision)):
            if not isinstance(value, str):
                raise ValueError(f"{name} is not text")


@dataclass(frozen=True)
class ExportedStep:
    """An online model's step: the content of its ONNX file, and the metadata in it."""
    content: bytes
    info: StepInfo


def exported_path(weights: Path, precision: str = "float32") -> Path:
    """Path of the step exported from a weight file: beside it, ending in .onnx, or in .int8.onnx for int8."""
    name = weights.name
    for ending in (".tar", ".pth", ".pt"):
        name = name.removesuffix(ending)
    return weights.with_name(f"{name}.int8.onnx" if precision == "int8" else f"{name}.onnx")


def write_exported(step: ExportedStep, path: Path) -> None:
    """Write the whole file or nothing. UserError if it cannot be written."""
    with atomic_write(path, "wb") as file:
        file.write(step.content)


def read_exported(path: Path) -> ExportedStep:
    """Read an exported step. UserError unless it is an ONNX file that this version of this code wrote."""
    onnx, protobuf = import_extra("onnx"), import_extra("google.protobuf.message")
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except protobuf.DecodeError:
        raise UserError(f"{path} is not a readable ONNX file: export it again with tools/export_onnx.py") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise UserError(f"{path} has no metadata {METADATA_KEY!r}: it was not written by tools/export_onnx.py")
    try:
        info = StepInfo.from_json(metadata[METADATA_KEY])
        _check_graph(model.graph, info)
    except DAMAGED as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is damaged or was written by another version: its metadata {METADATA_KEY!r}:"
                        f" {shown(reason)[:200]}: export it again with tools/export_onnx.py") from None
    numpy_helper = import_extra("onnx.numpy_helper")
    check_finite({value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in model.graph.initializer},
                 str(path))
    return ExportedStep(content, info)


def _check_graph(graph: Any, info: StepInfo) -> None:
    """ValueError if the graph has other inputs and outputs than its metadata says."""
    entry = json.loads(info.to_json())
    for what, values in (("inputs", graph.input), ("outputs", graph.output)):
        found = {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                 for value in values}
        if found != entry[what]:
            raise ValueError(f"its {what} are not the graph's")
