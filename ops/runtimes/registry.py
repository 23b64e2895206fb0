"""The table of runtimes, and how to open one by its name, or an exported file.

    runtime = open_runtime("openvino", OnlineTSM("online.pth.tar"))
    stream = Stream(runtime)
    scores = open_clip(Path("model.onnx"))(clips)
"""
from __future__ import annotations

import logging
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Optional, Union

from ops.common.choices import PRECISIONS
from ops.common.errors import UserError

if TYPE_CHECKING:
    import torch

    from ops.evaluation.clip_runtime import ClipRuntime
    from ops.runtimes.base import Engine, ExportedRuntime, Runtime
    from ops.runtimes.clips import ExportedClip, StepClip
    from ops.runtimes.exported_file import ExportedModel
    from ops.streaming.online import OnlineTSM

log = logging.getLogger(__name__)

# Name on the command line -> module:class, imported when the runtime is opened. A new runtime needs a row here and a
# module with a subclass of `Runtime`, or of `ExportedRuntime` if it runs the exported ONNX step.
BACKENDS = {
    "torch": "ops.runtimes.torch:TorchRuntime",
    "onnxruntime": "ops.runtimes.onnx:OnnxRuntime",
    "openvino": "ops.runtimes.openvino:OpenVinoRuntime",
}
# Format of an exported file -> the runtimes that take it, the usual one first: name -> module:class, an `ExportedRuntime`.
READERS = {
    "onnx": {"onnxruntime": BACKENDS["onnxruntime"], "openvino": BACKENDS["openvino"]},
    "openvino": {"openvino": BACKENDS["openvino"]},
    "torch": {"torch": "ops.runtimes.program:ProgramRuntime"},
    "litert": {"litert": "ops.runtimes.litert:LiteRtRuntime"},
}


def find_runtime(backend: str) -> type[Runtime]:
    """The class of a backend. UserError for an unknown name."""
    if backend not in BACKENDS:
        raise UserError(f"backend {backend!r}: choose {', '.join(BACKENDS)}", "backend")
    return resolve_name(BACKENDS[backend])


def check_backend(backend: str, precision: str) -> None:
    """UserError if the backend's package is missing or the backend lacks this precision on this machine."""
    runtime = find_runtime(backend)
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: choose {', '.join(PRECISIONS)}", "precision")
    runtime.check(precision)


def open_runtime(backend: str, online: OnlineTSM, *, device: Union[str, torch.device] = "auto",
                 weights: Optional[Path] = None, precision: str = "float32") -> Runtime:
    """An online model in a runtime of BACKENDS, ready to step; `online` stays unchanged.

    device: for torch; the other runtimes use the CPU and warn about any other device. weights: the file that `online`
    was read from. The step that tools/export.py exported beside it is used if it is this model's, which saves some
    seconds of exporting. precision: of the computation, one of PRECISIONS; frames and logits are float32 in any case.
    bfloat16 is faster on processors that support it and keeps three digits. int8 is faster still and needs a step that
    tools/export.py calibrated (`ops.runtimes.quantize` makes one in memory).
    UserError for an unknown name, a missing package or file, or a precision that the backend or the processor lacks.
    """
    check_backend(backend, precision)  # before seconds of exporting
    return find_runtime(backend).open(online, device=device, weights=weights, precision=precision)


def runs_exported(backend: str) -> bool:
    """Whether this backend runs exported steps (`open_exported`)."""
    from ops.runtimes.base import ExportedRuntime
    return issubclass(find_runtime(backend), ExportedRuntime)


# ---- exported models ----------------------------------------------------------------------------------------------

def open_exported(backend: str, exported: ExportedModel, precision: str = "float32") -> ExportedRuntime:
    """An exported step in a runtime. UserError as in `open_runtime`, and for a clip model or another precision's file."""
    if exported.info.kind != "online":
        raise UserError("this is an exported clip model, which takes whole clips: name the step of an online model, which"
                        " tools/export.py exports for its model online")
    return _runtime_type(exported, backend, precision)(exported, precision)


def open_engine(exported: ExportedModel, backend: str = "", precision: str = "") -> Engine:
    """An exported model of either kind, ready to compute. backend: "" for the format's usual one. precision: "" for its own.

    UserError as in `open_exported`.
    """
    precision = precision or usable_precision(exported)
    backend = backend or next(iter(READERS[exported.format]))
    return _runtime_type(exported, backend, precision).engine_type(exported, precision)


def _runtime_type(exported: ExportedModel, backend: str, precision: str) -> type[ExportedRuntime]:
    readers = READERS[exported.format]
    if backend not in readers:
        raise UserError(f"backend {backend!r}: an exported {exported.format} model runs in {' or '.join(readers)}",
                        "backend")
    own = exported.info.precision
    if "int8" in (own, precision) and own != precision or exported.format == "torch" and own != precision:
        raise UserError(f"precision {precision}: this exported model computes {own}", "precision")
    runtime = resolve_name(readers[backend])
    runtime.check(precision)
    return runtime


def usable_precision(exported: ExportedModel) -> str:
    """The precision that a model was exported for, or float32 where its runtime stores 16 bits but computes 32."""
    own = exported.info.precision
    if exported.format != "openvino" or own == "float32" or own == "int8":
        return own
    if own == "float16":  # of the stored weights
        return "float32"
    check_backend("openvino", "float32")
    try:
        check_backend("openvino", own)
    except UserError:
        log.warning("warning: this processor does not support bfloat16 in OpenVINO: the model is computed in float32")
        return "float32"
    return own


def open_step(path: Path, backend: str = "", precision: str = "") -> ExportedRuntime:
    """The step of an online model in an exported file. backend, precision: as in `open_engine`. UserError: as there."""
    from ops.runtimes.exported_file import read_exported  # not at the top: BACKENDS are choices of a flag
    exported = read_exported(path)
    return open_exported(backend or next(iter(READERS[exported.format])), exported, precision or usable_precision(exported))


def open_clip(path: Path, backend: str = "", precision: str = "") -> ClipRuntime:
    """A clip model in an exported file; of an online model, the mean over the frames of a clip. Errors: `open_engine`."""
    from ops.runtimes.exported_file import read_exported
    return as_clip(read_exported(path), backend, precision)


def as_clip(exported: ExportedModel, backend: str = "", precision: str = "", *,
            device: Union[str, torch.device] = "auto") -> Union[ExportedClip, StepClip]:
    """`open_clip` for a model in memory. device: one other than the CPU is warned of."""
    from ops.runtimes.base import warn_of_device
    from ops.runtimes.clips import ExportedClip, StepClip
    warn_of_device(device, f"an exported {exported.format} model")
    if exported.info.kind == "clip":
        return ExportedClip(open_engine(exported, backend, precision))
    backend = backend or next(iter(READERS[exported.format]))
    return StepClip(open_exported(backend, exported, precision or usable_precision(exported)))
