"""Quantize an exported model to 8-bit integers without training: static quantization, calibrated on typical clips.

Each clip goes through the float32 model; a stream's step sees its frames one by one, with the state that they leave. The
observed range of each activation sets its scale, one per tensor; weights get one scale per output channel. Inputs, logits
and state remain float32 at the interface, so an int8 model is used like any other.
"""
import contextlib
import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional

import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.runtimes.clips import ExportedClip
from ops.runtimes.exported_file import ExportedModel, describe
from ops.runtimes.registry import as_clip, open_engine

Clip = Iterable[Tensor]  # normalized frames (1, 3, H, W) of one source, in order
Inputs = dict[str, Any]  # name of an input -> numpy array


def quantize_clips(exported: ExportedModel, clips: Iterable[Tensor]) -> ExportedModel:
    """The int8 version of a float32 ONNX model of either kind (`ops.runtimes.export.to_openvino` converts it).

    clips: to calibrate on, uint8 (T*C, H, W) each, scaled, cropped and ordered by the model's preprocessing; of any length
    for an online model. UserError if a package is missing, there are no clips, or the model already is int8.
    """
    _check(exported)
    runtime = as_clip(exported)
    if not isinstance(runtime, ExportedClip):
        prepare = runtime.step.prepare
        return quantize_step(exported, (map(prepare, clip.unflatten(0, (-1, 1, 3))) for clip in clips))
    name, copies = next(iter(exported.info.inputs)), exported.info.batch or 1
    return _quantize(exported, ({name: runtime.prepare(clip.expand(copies, *clip.shape)).numpy()} for clip in clips))


def quantize_step(exported: ExportedModel, clips: Iterable[Clip]) -> ExportedModel:
    """The int8 version of a float32 step. clips: to calibrate on; each starts from a zero state.

    A few dozen frames that look like the later input are enough; other frames make poor scales. MobileNetV2 at 224
    pixels takes some seconds. UserError if a package is missing, there are no frames, or the step already is int8.
    """
    _check(exported)
    return _quantize(exported, _streamed(exported, clips))


def _streamed(exported: ExportedModel, clips: Iterable[Clip]) -> Iterator[Inputs]:
    """The inputs of one step after another, with the state that the float32 step leaves."""
    engine, info = open_engine(exported), exported.info
    copies = info.batch or 1
    for clip in clips:
        state = [torch.zeros(copies, *shape) for shape in info.state_shapes]
        for frame in clip:
            inputs = [frame.expand(copies, *frame.shape[1:]), *state]
            yield {name: tensor.numpy() for name, tensor in zip(info.inputs, inputs)}
            state = engine.run(inputs)[1:1 + len(state)]


def _check(exported: ExportedModel) -> None:
    if exported.info.precision != "float32":
        raise UserError(f"this model is already {exported.info.precision}: quantize the float32 model")


def _quantize(exported: ExportedModel, inputs: Iterator[Inputs]) -> ExportedModel:
    ort = import_extra("onnxruntime")
    onnx, quantization = import_extra("onnx"), import_extra("onnxruntime.quantization")
    reader, source = _Reader(inputs), onnx.load_from_string(exported.content)
    # quantize_static expects its own shape inference and constant folding, which the export has already done.
    import_extra("onnxruntime.quantization.quant_utils").add_pre_process_metadata(source)
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):  # it may print its progress
        path = Path(directory) / "model.onnx"
        quantization.quantize_static(
            source, path, reader, quant_format=quantization.QuantFormat.QDQ,
            per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
        model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    info = replace(exported.info, precision="int8",
                   versions={**exported.info.versions, "onnxruntime": ort.__version__})
    return describe(ExportedModel("onnx", model.SerializeToString(), info), info)


class _Reader:
    """An onnxruntime CalibrationDataReader. UserError if there are no inputs."""

    def __init__(self, inputs: Iterator[Inputs]) -> None:
        self._inputs = inputs
        self._first = next(inputs, None)
        if self._first is None:
            raise UserError("int8 calibration needs frames, and the given sources have none")

    def get_next(self) -> Optional[Inputs]:
        """The next inputs by name; None after the last."""
        if self._first is None:
            return next(self._inputs, None)
        first, self._first = self._first, None
        return first
