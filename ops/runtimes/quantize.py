"""Quantize an exported step to 8-bit integers without training: static quantization, calibrated on typical frames.

Each calibration clip is streamed through the float32 step, including its state. The observed range of each activation
sets its scale, one per tensor; weights get one scale per output channel. Frames, logits and state remain float32 at the
interface, so an int8 step is used like any other.
"""
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional

import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.runtimes.exported_file import ExportedModel, describe

Clip = Iterable[Tensor]  # normalized frames (1, 3, H, W) of one source, in order


def quantize_step(exported: ExportedModel, clips: Iterable[Clip]) -> ExportedModel:
    """The int8 version of a float32 step. clips: to calibrate on; each starts from a zero state.

    A few dozen frames that look like the later input are enough; other frames make poor scales. MobileNetV2 at 224
    pixels takes some seconds. UserError if a package is missing, there are no frames, or the step already is int8.
    """
    import_extra("onnxruntime")
    onnx, quantization = import_extra("onnx"), import_extra("onnxruntime.quantization")
    if exported.info.precision != "float32":
        raise UserError(f"this step is already {exported.info.precision}: quantize the float32 step")
    inputs, source = _CalibrationInputs(exported, clips), onnx.load_from_string(exported.content)
    # quantize_static expects its own shape inference and constant folding, which the export has already done.
    import_extra("onnxruntime.quantization.quant_utils").add_pre_process_metadata(source)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "step.onnx"
        quantization.quantize_static(
            source, path, inputs, quant_format=quantization.QuantFormat.QDQ,
            per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
        model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    info = replace(exported.info, precision="int8")
    return describe(ExportedModel("onnx", model.SerializeToString(), info), info)


class _CalibrationInputs:
    """An onnxruntime CalibrationDataReader: the inputs of one step after another, including the state."""

    def __init__(self, exported: ExportedModel, clips: Iterable[Clip]) -> None:
        self.info = exported.info
        self._inputs = self._stream(clips)
        self._session = import_extra("onnxruntime").InferenceSession(exported.content,
                                                                     providers=["CPUExecutionProvider"])
        self._first: Optional[dict[str, Any]] = next(self._inputs, None)
        if self._first is None:
            raise UserError("int8 calibration needs frames, and the given sources have none")

    def get_next(self) -> Optional[dict[str, Any]]:
        """The inputs of the next step by name; None after the last."""
        if self._first is None:
            return next(self._inputs, None)
        first, self._first = self._first, None
        return first

    def _stream(self, clips: Iterable[Clip]) -> Iterator[dict[str, Any]]:
        frames_name, *state_names = self.info.inputs
        for clip in clips:
            state = [torch.zeros(1, *shape).numpy() for shape in self.info.state_shapes]
            for frame in clip:
                inputs = {frames_name: frame.numpy(), **dict(zip(state_names, state))}
                yield inputs
                _, *state = self._session.run(list(self.info.outputs), inputs)
