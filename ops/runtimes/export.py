"""Export an online model's step to ONNX, or find the step that was exported earlier beside the model's weights."""
import copy
import hashlib
import json
import logging
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Optional

import torch

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.runtimes.step_file import BATCH, METADATA_KEY, VERSION, ExportedStep, StepInfo, exported_path, read_exported
from ops.streaming.online import OnlineTSM

log = logging.getLogger(__name__)

LARGEST_BATCH = 2 ** 20  # streams; torch 2.6 exports no batch without a largest size
OPSET = 18  # the exporter's own; ONNX Runtime 1.14 and later read it


def load_or_export(online: OnlineTSM, weights: Optional[Path], precision: str = "float32") -> ExportedStep:
    """The step of `online`: from the file beside its weights if that file is this model's, otherwise exported now.

    weights: the file that `online` was read from. An int8 step can only be read, because calibration needs videos:
    UserError if there is none, or if it is another model's.
    """
    step = _load_int8(online, weights) if precision == "int8" else _load_float32(online, weights) or export_step(online)
    # A stored step may be older than the class names in the weight file, which its fingerprint does not cover.
    return replace(step, info=replace(step.info, class_names=online.class_names, preprocessing=online.preprocessing))


def _load_float32(online: OnlineTSM, weights: Optional[Path]) -> Optional[ExportedStep]:
    path = exported_path(weights) if weights else None
    if path is None:
        return None
    if not path.exists():
        log.info("exporting the step takes some seconds; to store it for the next run: python tools/export_onnx.py %s",
                 weights)
        return None
    step = read_exported(path)
    if (step.info.precision, step.info.fingerprint) == ("float32", describe_step(online).fingerprint):
        return step
    log.warning("warning: %s is not used: it belongs to another model or frame size; to export it again: python"
                " tools/export_onnx.py %s", path, weights)
    return None


def _load_int8(online: OnlineTSM, weights: Optional[Path]) -> ExportedStep:
    remedy = "calibrate one on typical videos with tools/export_onnx.py and its int8 option"
    path = exported_path(weights, "int8") if weights else None
    if path is None or not path.exists():
        missing = f"{path} does not exist" if path else "no weight file was given to look beside"
        raise UserError(f"precision int8 needs a calibrated step, and {missing}: {remedy}", "precision")
    step = read_exported(path)
    if (step.info.precision, step.info.fingerprint) != ("int8", describe_step(online).fingerprint):
        raise UserError(f"{path} is not the int8 step of {weights} at this frame size: {remedy}")
    return step


def describe_step(online: OnlineTSM, height: Optional[int] = None, width: Optional[int] = None) -> StepInfo:
    """The metadata that an export would have; quick. height, width: of the frames (default: the size of training)."""
    height, width = height or online.spec.input_size, width or online.spec.input_size
    digest = hashlib.sha256(json.dumps([VERSION, online.spec.to_dict(), height, width]).encode())
    for name, weight in online.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    shapes = [list(tensor.shape[1:]) for tensor in online.initial_state(1, height, width)]
    return StepInfo(online.spec, online.class_names, online.preprocessing, height, width, shapes, digest.hexdigest())


def export_step(online: OnlineTSM, height: Optional[int] = None, width: Optional[int] = None) -> ExportedStep:
    """Export the step and let onnx check it; takes some seconds. UserError if a package is missing."""
    onnx = import_extra("onnx")
    import_extra("onnxscript")  # torch's exporter is written in it
    info = describe_step(online, height, width)
    model = _trace(online, info)
    _remove_origins(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return ExportedStep(model.SerializeToString(), info)


def _trace(online: OnlineTSM, info: StepInfo) -> Any:
    """The result of torch's exporter, an onnx.ModelProto."""
    model = copy.deepcopy(online).cpu().float()
    frames = torch.zeros(2, 3, info.height, info.width)  # two streams: a batch of 1 would be taken for a constant
    state = model.initial_state(2, info.height, info.width)
    batch = torch.export.Dim(BATCH, min=1, max=LARGEST_BATCH)
    shapes = {"frames": {0: batch}, "state": tuple({0: batch} for _ in state)}
    with warnings.catch_warnings(), _errors_only("onnxscript", "onnx_ir", "torch.onnx"):
        warnings.simplefilter("ignore")  # the exporter's warnings about its own code
        program = torch.onnx.export(model, (frames, *state), dynamo=True, dynamic_shapes=shapes, verbose=False,
                                    opset_version=OPSET, input_names=info.input_names, output_names=info.output_names)
    assert program is not None
    proto = program.model_proto
    _name_batch(proto)
    return proto


def _name_batch(model: Any) -> None:
    """Give the free size of the batch its name; the exporter of torch 2.6 calls it s0."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.HasField("dim_param"):
                size.dim_param = BATCH


@contextmanager
def _errors_only(*names: str) -> Iterator[None]:
    """Restrict these packages' loggers to errors: at the programs' level they log every node that they visit."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _remove_origins(model: Any) -> None:
    """Drop the exporter's notes on where each node comes from: they name files of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions,
                 graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
