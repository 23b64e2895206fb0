"""Export a clip model or an online model's step, or find the step that was exported earlier beside the model's weights."""
import hashlib
import io
import json
import logging
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator, Optional

import torch
import torchvision
from torch import Tensor

from ops.checkpoints.tensors import CLIP, ONLINE
from ops.common.choices import EXPORT_FORMATS
from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.runtimes.core import find_core
from ops.runtimes.exported_file import ExportedModel, describe, exported_path, read_exported
from ops.runtimes.graphs import Model, feature_count, make_graph
from ops.runtimes.model_info import BATCH, VERSION, ModelInfo, versions
from ops.streaming.online import OnlineTSM

log = logging.getLogger(__name__)

LARGEST_BATCH = 2 ** 20  # streams or clips; torch 2.6 exports no batch without a largest size
LITERT = "-r requirements-litert.txt"
OPSET = 18  # the exporter's own; ONNX Runtime 1.14 and later read it


@dataclass(frozen=True)
class ExportOptions:
    """What an export fixes or adds; see `ModelInfo`. height, width: of the frames (default: the size of training).

    features: also give the pooled features.
    """
    height: Optional[int] = None
    width: Optional[int] = None
    precision: str = "float32"
    batch: Optional[int] = None
    with_preprocessing: bool = False
    features: bool = False


# ---- the step beside the weights --------------------------------------------------------------------------------

def load_or_export(online: OnlineTSM, weights: Optional[Path], precision: str = "float32") -> ExportedModel:
    """The step of `online`: from the file beside its weights if that file is this model's, otherwise exported now.

    weights: the file that `online` was read from. An int8 step can only be read, because calibration needs videos:
    UserError if there is none, or if it is another model's.
    """
    step = _load_int8(online, weights) if precision == "int8" else _load_float32(online, weights) or export_model(online)
    # A stored step may be older than the class names in the weight file, which its fingerprint does not cover.
    return replace(step, info=replace(step.info, class_names=online.class_names, preprocessing=online.preprocessing))


def _load_float32(online: OnlineTSM, weights: Optional[Path]) -> Optional[ExportedModel]:
    path = exported_path(weights) if weights else None
    if path is None:
        return None
    if not path.exists():
        log.info("exporting the step takes some seconds; tools/export.py, with its model online, stores it for the next run"
                 " as %s", path)
        return None
    step = read_exported(path)
    if (step.info.precision, step.info.fingerprint) == ("float32", describe_model(online).fingerprint):
        return step
    log.warning("warning: %s is not used: it belongs to another model or frame size: export %s again with tools/export.py"
                " and its model online", path, weights)
    return None


def _load_int8(online: OnlineTSM, weights: Optional[Path]) -> ExportedModel:
    remedy = "calibrate one on typical videos with tools/export.py and its precision int8"
    path = exported_path(weights, "int8") if weights else None
    if path is None or not path.exists():
        missing = f"{path} does not exist" if path else "no weight file was given to look beside"
        raise UserError(f"precision int8 needs a calibrated step, and {missing}: {remedy}", "precision")
    step = read_exported(path)
    if (step.info.precision, step.info.fingerprint) != ("int8", describe_model(online).fingerprint):
        raise UserError(f"{path} is not the int8 step of {weights} at this frame size: {remedy}")
    return step


# ---- exporting --------------------------------------------------------------------------------------------------

def describe_model(model: Model, options: ExportOptions = ExportOptions()) -> ModelInfo:
    """The metadata that an export would have; quick."""
    spec, kind = model.spec, ONLINE if isinstance(model, OnlineTSM) else CLIP
    height, width = options.height or spec.input_size, options.width or spec.input_size
    if options.with_preprocessing and spec.modality == "Flow":
        raise UserError("with_preprocessing takes RGB frames, and this is a model of optical flow: leave it out",
                        "with_preprocessing")
    digest = hashlib.sha256(json.dumps([VERSION, kind, spec.to_dict(), height, width]).encode())
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    shapes = ([list(tensor.shape[1:]) for tensor in model.initial_state(1, height, width)]
              if isinstance(model, OnlineTSM) else [])
    return ModelInfo(
        kind, spec, model.class_names if isinstance(model, OnlineTSM) else None, model.preprocessing, height, width,
        digest.hexdigest(), options.precision, shapes, options.batch, options.with_preprocessing,
        feature_count(model) if options.features else 0)


def export_model(model: Model, format: str = "onnx", options: ExportOptions = ExportOptions(),
                 **facts: Any) -> ExportedModel:
    """Export a model; takes some seconds. facts: more of the metadata, such as class_names and dataset.

    UserError if a package is missing, or the format lacks the precision. int8 is not made here (`ops.runtimes.quantize`).
    """
    if format not in EXPORT_FORMATS:
        raise UserError(f"format {format!r}: choose {', '.join(EXPORT_FORMATS)}", "format")
    check_precision(format, options.precision)
    info = replace(describe_model(model, options), **facts)
    return _EXPORTERS[format](model, info)


def check_precision(format: str, precision: str) -> None:
    """UserError for a precision that a format does not have."""
    if format == "onnx" and precision in ("float16", "bfloat16"):
        raise UserError(f"precision {precision}: ONNX Runtime converts each layer to float32 and back on CPUs, which is"
                        " slower than float32, and TensorRT makes 16-bit engines from the float32 file: choose fp32 or"
                        " int8, or format openvino or torch", "precision", "format")
    if format == "litert" and precision != "float32":
        raise UserError(f"precision {precision}: format litert is written in fp32: choose that, or another format",
                        "precision", "format")
    if format == "torch" and precision == "int8":
        raise UserError("precision int8: PyTorch has no int8 program of its own on CPUs: choose format openvino or onnx",
                        "precision", "format")


def _export_onnx(model: Model, info: ModelInfo) -> ExportedModel:
    onnx = import_extra("onnx")
    import_extra("onnxscript")  # torch's exporter is written in it
    info = replace(info, versions=versions(torch, torchvision, onnx))
    proto = _trace_onnx(model, info)
    _remove_origins(proto)
    exported = describe(ExportedModel("onnx", proto.SerializeToString(), info), info)
    onnx.checker.check_model(onnx.load_from_string(exported.content), full_check=True)
    return exported


def _trace_onnx(model: Model, info: ModelInfo) -> Any:
    """The result of torch's exporter, an onnx.ModelProto."""
    with quiet_exporter():
        program = torch.onnx.export(
            make_graph(model, info), _examples(info), dynamo=True, dynamic_shapes=_dynamic_shapes(info), verbose=False,
            opset_version=OPSET, input_names=list(info.inputs), output_names=list(info.outputs))
    assert program is not None
    proto = program.model_proto
    if info.batch is None:
        _name_batch(proto)
    return proto


def _export_openvino(model: Model, info: ModelInfo) -> ExportedModel:
    """By way of ONNX, so that both formats hold the same graph."""
    return to_openvino(_export_onnx(model, replace(info, precision="float32")), info.precision)


def to_openvino(exported: ExportedModel, precision: str = "float32") -> ExportedModel:
    """An exported ONNX model in OpenVINO's format.

    precision: float16 halves the stored weights, bfloat16 is for the runtime.
    """
    return pack_openvino(find_core().read_model(exported.content), replace(exported.info, precision=precision))


def pack_openvino(converted: Any, info: ModelInfo) -> ExportedModel:
    """An openvino.Model as an `ExportedModel`."""
    openvino = import_extra("openvino")
    info = replace(info, versions={**info.versions, "openvino": openvino.__version__})
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.xml"
        openvino.save_model(converted, path, compress_to_fp16=info.precision == "float16")
        packed = ExportedModel("openvino", path.read_bytes(), info, path.with_suffix(".bin").read_bytes())
    return describe(packed, info)


def _export_torch(model: Model, info: ModelInfo) -> ExportedModel:
    info = replace(info, versions=versions(torch, torchvision))
    with quiet_exporter():
        program = torch.export.export(make_graph(model, info), _examples(info), dynamic_shapes=_dynamic_shapes(info))
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:  # names of files of this machine
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom"):
                node.meta.pop(key, None)
    program._guards_code = []  # Python, which readers refuse; the engine checks shapes itself
    content = io.BytesIO()
    torch.export.save(program, content)
    return describe(ExportedModel("torch", content.getvalue(), info), info)


def _export_litert(model: Model, info: ModelInfo) -> ExportedModel:
    """For phones. The converter fixes the batch: to 1, unless the export fixed it."""
    litert = import_extra("litert_torch", LITERT)
    info = replace(info, batch=info.batch or 1, versions=versions(torch, torchvision, litert))
    litert.config.show_progress = False
    with quiet_exporter(), tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.tflite"
        litert.convert(make_graph(model, info), _examples(info)).export(str(path))
        content = path.read_bytes()
    return describe(ExportedModel("litert", content, info), info)


_EXPORTERS = {"onnx": _export_onnx, "openvino": _export_openvino, "torch": _export_torch, "litert": _export_litert}


def _examples(info: ModelInfo) -> tuple[Tensor, ...]:
    batch = info.batch or 2  # a batch of 1 would be taken for a constant
    return tuple(torch.zeros(batch, *shape, dtype=info.dtypes[name]) for name, shape in info.inputs.items())


def _dynamic_shapes(info: ModelInfo) -> Optional[dict[str, Any]]:
    if info.batch is not None:
        return None
    batch = torch.export.Dim(BATCH, min=1, max=LARGEST_BATCH)
    if info.kind == CLIP:
        return {"clips": {0: batch}}
    return {"frames": {0: batch}, "state": tuple({0: batch} for _ in info.state_shapes)}


# ---- the exporter's ways ----------------------------------------------------------------------------------------

@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without the exporter's warnings about its own code, and without its log of every node."""
    with warnings.catch_warnings(), _errors_only("onnxscript", "onnx_ir", "torch.onnx", "torch.export"), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


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


def _name_batch(model: Any) -> None:
    """Give the free size of the batch its name; the exporter of torch 2.6 calls it s0."""
    for value in (*model.graph.input, *model.graph.output):
        size = value.type.tensor_type.shape.dim[0]
        if size.HasField("dim_param"):
            size.dim_param = BATCH
    del model.graph.value_info[:]  # sizes of intermediate results, named after the exporter's own symbols


def _remove_origins(model: Any) -> None:
    """Drop the exporter's notes on where each node comes from: they name files of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions,
                 graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
