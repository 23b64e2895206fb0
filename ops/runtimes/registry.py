"""The online model in other runtimes: PyTorch made ready for speed, ONNX Runtime, OpenVINO; all step alike.

    model = open_runtime("openvino", OnlineTSM("online.pth.tar"))
    stream = Stream(model)

onnxruntime and openvino run the exported step (`ops.runtimes.export`) on the CPU; they are extras, imported when asked for.
"""
import logging
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

import torch

from ops.common.device import pick_device
from ops.common.errors import UserError
from ops.runtimes.base import PRECISIONS, ExportedRuntime, StepRuntime
from ops.runtimes.export import Exported, describe_step, export_step, exported_path, read_exported
from ops.runtimes.onnx import OnnxRuntime
from ops.runtimes.openvino import OpenVinoRuntime
from ops.runtimes.torch import TorchRuntime
from ops.streaming.online import OnlineTSM

log = logging.getLogger(__name__)

BACKENDS = ("torch", "onnxruntime", "openvino")


def open_runtime(backend: str, online: OnlineTSM, device: Union[str, torch.device] = "auto",
                 weights: Optional[Path] = None, precision: str = "float32") -> StepRuntime:
    """An online model ready to step in `backend`; `online` itself stays as it is.

    backend: one of BACKENDS. device: where torch runs; the others run on the CPU and say so when asked for another.
    weights: the file that `online` was read from; a step exported beside it by tools/export_onnx.py is used when it is
    this model's, which saves exporting it again (seconds). precision: of the inside, one of PRECISIONS; frames and
    logits are float32 either way. bfloat16 is faster on processors that have it, and rounds to three digits. int8 is
    faster still; it needs the file that `tools/export_onnx.py --int8` calibrates (`ops.runtimes.quantize` makes one in
    memory).
    UserError for an unknown name, a missing package or file, or a precision that the backend or processor lacks.
    """
    for option, value, allowed in (("--backend", backend, BACKENDS), ("--precision", precision, PRECISIONS)):
        if value not in allowed:
            raise UserError(f"{option} {value!r}: choose {', '.join(allowed)}")
    check(backend, precision)  # before seconds of exporting
    if backend == "torch":
        return TorchRuntime(online, pick_device(str(device)), precision)
    # No torch.device: OpenVINO's own names (GPU) are none of its.
    if str(device).partition(":")[0].lower() not in ("auto", "cpu"):
        log.warning("warning: --backend %s runs on the CPU: --device %s does nothing", backend, device)
    exported = _calibrated(online, weights) if precision == "int8" else _exported(online, weights)
    # The file beside the weights may be older than their class names, which are not in its fingerprint.
    info = replace(exported.info, class_names=online.class_names, preprocessing=online.preprocessing)
    return open_exported(backend, replace(exported, info=info), precision)


def check(backend: str, precision: str) -> None:
    """UserError when the backend's package is missing, or it has not this precision here."""
    (TorchRuntime if backend == "torch" else EXPORTED[backend]).check(precision)


def open_exported(backend: str, exported: Exported, precision: str = "float32") -> "ExportedRuntime":
    """An exported step ready in onnxruntime or openvino; else as `open_runtime`. An int8 step runs as int8 alone."""
    check(backend, precision)
    if (exported.info.precision == "int8") != (precision == "int8"):
        raise UserError(f"--precision {precision}: this exported step computes {exported.info.precision}")
    return EXPORTED[backend](exported, precision)


def _exported(online: OnlineTSM, weights: Optional[Path]) -> Exported:
    """The step of `online`: from the file beside its weights if that is this model's, else exported now."""
    path = exported_path(weights) if weights else None
    if path and path.exists():
        exported = read_exported(path)
        if (exported.info.precision, exported.info.fingerprint) == ("float32", describe_step(online).fingerprint):
            return exported
        log.warning("warning: %s is another model's step, or another size's: not used; write it anew with python"
                    " tools/export_onnx.py %s", path, weights)
    elif path:
        log.info("exporting the step (some seconds); python tools/export_onnx.py %s does it once for all", weights)
    return export_step(online)


def _calibrated(online: OnlineTSM, weights: Optional[Path]) -> Exported:
    """The int8 step beside the weights of `online`; UserError with the way to make it where there is none of them."""
    path = exported_path(weights, "int8") if weights else None
    way = f"make it with python tools/export_onnx.py {weights or 'WEIGHTS'} --int8 VIDEO"
    if path is None or not path.exists():
        raise UserError(f"--precision int8 needs a step that was calibrated on frames like those it will see"
                        f"{f', and {path} is not there' if path else ''}: {way}")
    exported = read_exported(path)
    if (exported.info.precision, exported.info.fingerprint) != ("int8", describe_step(online).fingerprint):
        raise UserError(f"{path} is not the int8 step of {weights} at this size: {way}")
    return exported


EXPORTED: dict[str, type[ExportedRuntime]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVinoRuntime}
