"""The online model's step as an ONNX file: one frame of each stream and its memories in, logits and memories out.

Inputs `frames` (batch, 3, H, W), normalised, and `before_0`, `before_1`, ...; outputs `logits` (batch, num_class) and
`after_0`, `after_1`, ...; all float32. `after_i` of one step is `before_i` of the next, zeros at first. The batch is
free, height and width are fixed. The file's metadata entry `tsm_online` is JSON that says all of this, and what a
frame goes through before the model; weights are inside the file.
"""
import copy
import hashlib
import json
import logging
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Iterator, Optional

import torch

from ops.common.cli import import_extra
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM

METADATA_KEY = "tsm_online"
VERSION = 1
OPSET = 18  # the exporter's own; ONNX Runtime 1.14 and later read it
FRAMES, LOGITS, BATCH = "frames", "logits", "batch"


@dataclass(frozen=True)
class StepInfo:
    """What the metadata of an exported step says.

    settings, class_names, preprocessing: as in `OnlineTSM`. height, width: of the frames, pixels. memories: (C, H, W)
    of each, in order. fingerprint: of the weights, settings and size that it was made from. precision: float32, or
    int8 (`ops.runtimes.quantize`), of the inside.
    """
    settings: ModelSpec
    class_names: Optional[list[str]]
    preprocessing: dict[str, Any]
    height: int
    width: int
    memories: list[list[int]]
    fingerprint: str
    precision: str = "float32"

    @property
    def input_names(self) -> list[str]:
        return [FRAMES, *(f"before_{i}" for i in range(len(self.memories)))]

    @property
    def output_names(self) -> list[str]:
        return [LOGITS, *(f"after_{i}" for i in range(len(self.memories)))]

    def to_json(self) -> str:
        """The metadata; names and shapes of every input and output are for readers without this code."""
        shapes = [[BATCH, 3, self.height, self.width], *([BATCH, *shape] for shape in self.memories)]
        logits = [BATCH, self.settings.num_class]
        return json.dumps({"version": VERSION, **asdict(self), "settings": self.settings.to_dict(),
                           "inputs": dict(zip(self.input_names, shapes)),
                           "outputs": dict(zip(self.output_names, [logits, *shapes[1:]]))})

    @classmethod
    def from_json(cls, text: str) -> "StepInfo":
        """What `to_json` wrote. One of ValueError, KeyError, TypeError, AttributeError for anything else."""
        told = json.loads(text)
        values = {field.name: told[field.name] for field in fields(cls) if field.name in told}
        info = cls(**{**values, "settings": ModelSpec.from_dict(told["settings"])})
        # Whatever of it was changed, or is of another version, does not come out again as it went in.
        if {**json.loads(info.to_json()), "precision": None} != {**told, "precision": None}:
            raise ValueError("what it says of itself does not agree")
        return info


@dataclass(frozen=True)
class Exported:
    """A step model: the ONNX file's content, and what its metadata says."""
    content: bytes
    info: StepInfo


def describe_step(online: OnlineTSM, height: Optional[int] = None, width: Optional[int] = None) -> StepInfo:
    """What the export of this model at this size will say; quick. height, width: default as the model was trained."""
    height, width = height or online.settings.input_size, width or online.settings.input_size
    digest = hashlib.sha256(json.dumps([VERSION, online.settings.to_dict(), height, width]).encode())
    for name, weight in online.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    memories = [list(memory.shape[1:]) for memory in online.initial_state(1, height, width)]
    return StepInfo(online.settings, online.class_names, online.preprocessing, height, width, memories,
                    digest.hexdigest())


def export_step(online: OnlineTSM, height: Optional[int] = None, width: Optional[int] = None) -> Exported:
    """The step of an online model, checked by onnx; takes some seconds. UserError when a package is missing."""
    onnx = import_extra("onnx")
    import_extra("onnxscript")  # torch's exporter is written in it
    info = describe_step(online, height, width)
    model = _trace(online, info)
    _forget_origins(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return Exported(model.SerializeToString(), info)


def _trace(online: OnlineTSM, info: StepInfo) -> Any:
    """torch's export, as an onnx.ModelProto."""
    model = copy.deepcopy(online).cpu().float()
    frames = torch.zeros(2, 3, info.height, info.width)  # two streams: a batch of 1 would be taken for a constant
    state = model.initial_state(2, info.height, info.width)
    batch = torch.export.Dim(BATCH, min=1)
    shapes = {"frames": {0: batch}, "state": tuple({0: batch} for _ in state)}
    with warnings.catch_warnings(), _quiet("onnxscript", "onnx_ir", "torch.onnx"):
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(model, (frames, *state), dynamo=True, dynamic_shapes=shapes, verbose=False,
                                    opset_version=OPSET, input_names=info.input_names, output_names=info.output_names)
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let these packages log errors alone: at the programs' level they tell of every node that they touch."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _forget_origins(model: Any) -> None:
    """Drop the exporter's notes on where each node comes from: they name files of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions,
                 graph, model):
        del part.metadata_props[:]
        part.doc_string = ""


# ---- files --------------------------------------------------------------------------------------------------

def exported_path(weights: Path, precision: str = "float32") -> Path:
    """Where `tools/export_onnx.py` puts the step of a weight file: beside it, as .onnx, an int8 one as .int8.onnx."""
    name = weights.name
    for ending in (".tar", ".pth", ".pt"):
        name = name.removesuffix(ending)
    return weights.with_name(f"{name}.int8.onnx" if precision == "int8" else f"{name}.onnx")


def write_exported(exported: Exported, path: Path) -> None:
    """Write the file whole, or not at all. UserError when it cannot be written."""
    with atomic_write(path, "wb") as file:
        file.write(exported.content)


def read_exported(path: Path) -> Exported:
    """An exported step. UserError when it is no ONNX file, or not one of ours and this version."""
    onnx, protobuf = import_extra("onnx"), import_extra("google.protobuf.message")
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except protobuf.DecodeError:
        raise UserError(f"{path} is not a readable ONNX file: write it anew with tools/export_onnx.py") from None
    told = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in told:
        raise UserError(f"{path} has no metadata {METADATA_KEY!r}: it was not written by tools/export_onnx.py")
    try:
        return Exported(content, StepInfo.from_json(told[METADATA_KEY]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged or of another version: write it anew with tools/export_onnx.py") from None
