"""Exported ONNX models in ONNX Runtime."""
import numpy as np
import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.common.pool import cores
from ops.runtimes.base import Engine, ExportedRuntime, load_errors
from ops.runtimes.exported_file import ExportedModel

_NUMPY = {torch.float32: np.float32, torch.uint8: np.uint8}


class OnnxEngine(Engine):
    """ONNX Runtime on the CPU, where it computes float32 and int8."""
    name = "ONNX Runtime"
    parallel = True

    def __init__(self, exported: ExportedModel, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        ort = import_extra("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        with load_errors(self.name):
            self._session = ort.InferenceSession(exported.content, options, providers=["CPUExecutionProvider"])

    @classmethod
    def check(cls, precision: str) -> None:
        import_extra("onnxruntime")
        if precision in ("bfloat16", "float16"):
            raise UserError(f"precision {precision}: ONNX Runtime computes float32 and int8 on CPUs: choose one of them, or"
                            " another backend", "precision", "backend")

    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        binding = self._session.io_binding()
        for name, tensor in zip(self.info.inputs, inputs):
            binding.bind_input(name, "cpu", 0, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in zip(self.info.outputs, outputs):
            binding.bind_output(name, "cpu", 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(binding)


class OnnxRuntime(ExportedRuntime):
    """An online model's step in ONNX Runtime."""
    engine_type = OnnxEngine
