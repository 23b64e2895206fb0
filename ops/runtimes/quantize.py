"""An exported step in 8-bit integers, made without training: static quantisation from frames that it will meet.

A real stream goes through the float32 step, frame after frame with the memories that it leaves; the range that each
activation takes on the way becomes its scale, one per tensor. Weights get one scale per output channel. Frames,
logits and memories stay float32 outside, so an int8 step is driven like any other.
"""
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional

import torch
from torch import Tensor

from ops.common.cli import import_extra
from ops.common.errors import UserError
from ops.runtimes.export import METADATA_KEY, Exported

Clip = Iterable[Tensor]  # frames (1, 3, H, W) of one source, in order, as `prepare` gives them


def quantize_step(exported: Exported, clips: Iterable[Clip]) -> Exported:
    """The int8 twin of a float32 step. clips: what it is calibrated on; each begins with empty memories.

    A few dozen frames of the images that it will see are enough; frames of another kind make poor scales. The step
    of MobileNetV2 at 224 takes some seconds. UserError when a package is missing, there is no frame, or the step is
    int8 already.
    """
    import_extra("onnxruntime")
    onnx, quantization = import_extra("onnx"), import_extra("onnxruntime.quantization")
    if exported.info.precision != "float32":
        raise UserError(f"this step is {exported.info.precision} already: quantise the float32 one")
    frames, source = _Frames(exported, clips), onnx.load_from_string(exported.content)
    # It asks to be run after its own shape inference and folding, which the export has done already.
    import_extra("onnxruntime.quantization.quant_utils").add_pre_process_metadata(source)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "step.onnx"
        quantization.quantize_static(
            source, path, frames, quant_format=quantization.QuantFormat.QDQ,
            per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
        model = onnx.load(path)
    info = replace(exported.info, precision="int8")
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return Exported(model.SerializeToString(), info)


class _Frames:
    """What onnxruntime calls a CalibrationDataReader: the inputs of one step after another, memories included."""

    def __init__(self, exported: Exported, clips: Iterable[Clip]) -> None:
        self.info = exported.info
        self._steps = self._play(clips)
        self._session = import_extra("onnxruntime").InferenceSession(exported.content,
                                                                     providers=["CPUExecutionProvider"])
        self._first: Optional[dict[str, Any]] = next(self._steps, None)
        if self._first is None:
            raise UserError("int8 needs frames to calibrate on: there are none")

    def get_next(self) -> Optional[dict[str, Any]]:
        """The next step's inputs, by name; None after the last."""
        if self._first is None:
            return next(self._steps, None)
        first, self._first = self._first, None
        return first

    def _play(self, clips: Iterable[Clip]) -> Iterator[dict[str, Any]]:
        frames_name, *before = self.info.input_names
        for clip in clips:
            state = [torch.zeros(1, *shape).numpy() for shape in self.info.memories]
            for frame in clip:
                given = {frames_name: frame.numpy(), **dict(zip(before, state))}
                yield given
                _, *state = self._session.run(self.info.output_names, given)
