"""The table of runtimes, and how to open one by its name.

    runtime = open_runtime("openvino", OnlineTSM("online.pth.tar"))
    stream = Stream(runtime)
"""
from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Optional, Union

from ops.common.choices import PRECISIONS
from ops.common.errors import UserError

if TYPE_CHECKING:
    import torch

    from ops.runtimes.base import ExportedRuntime, Runtime
    from ops.runtimes.step_file import ExportedStep
    from ops.streaming.online import OnlineTSM

# Name on the command line -> module:class, imported when the runtime is opened. A new runtime needs a row here and a
# module with a subclass of `Runtime`, or of `ExportedRuntime` if it runs the exported ONNX step.
BACKENDS = {
    "torch": "ops.runtimes.torch:TorchRuntime",
    "onnxruntime": "ops.runtimes.onnx:OnnxRuntime",
    "openvino": "ops.runtimes.openvino:OpenVinoRuntime",
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
    was read from. The step that tools/export_onnx.py exported beside it is used if it is this model's, which saves some
    seconds of exporting. precision: of the computation, one of PRECISIONS; frames and logits are float32 in any case.
    bfloat16 is faster on processors that support it and keeps three digits. int8 is faster still and needs a step that
    tools/export_onnx.py calibrated (`ops.runtimes.quantize` makes one in memory).
    UserError for an unknown name, a missing package or file, or a precision that the backend or the processor lacks.
    """
    check_backend(backend, precision)  # before seconds of exporting
    return find_runtime(backend).open(online, device=device, weights=weights, precision=precision)


def open_exported(backend: str, exported: ExportedStep, precision: str = "float32") -> ExportedRuntime:
    """An exported step in onnxruntime or openvino; an int8 step runs with precision int8 only. Errors: `open_runtime`."""
    from ops.runtimes.base import ExportedRuntime  # not at the top: BACKENDS are choices of a flag
    check_backend(backend, precision)
    if (exported.info.precision == "int8") != (precision == "int8"):
        raise UserError(f"precision {precision}: this exported step computes {exported.info.precision}", "precision")
    runtime = find_runtime(backend)
    assert issubclass(runtime, ExportedRuntime), f"{backend} does not run exported steps"
    return runtime(exported, precision)


def runs_exported(backend: str) -> bool:
    """Whether this backend runs exported steps (`open_exported`)."""
    from ops.runtimes.base import ExportedRuntime
    return issubclass(find_runtime(backend), ExportedRuntime)
