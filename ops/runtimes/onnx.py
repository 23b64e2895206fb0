"""The exported step in ONNX Runtime."""
import numpy as np
from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.common.pool import cores
from ops.runtimes.base import ExportedRuntime, load_errors
from ops.runtimes.step_file import ExportedStep


class OnnxRuntime(ExportedRuntime):
    """ONNX Runtime on the CPU, where it does not support bfloat16."""
    name = "ONNX Runtime"

    def __init__(self, exported: ExportedStep, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        ort = import_extra("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        with load_errors(self.name):
            self._session = ort.InferenceSession(exported.content, options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()

    @classmethod
    def check(cls, precision: str) -> None:
        import_extra("onnxruntime")
        if precision == "bfloat16":
            raise UserError("precision bfloat16: ONNX Runtime computes float32 and int8 on CPUs: choose one of them, or"
                            " another backend", "precision", "backend")

    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        for name, tensor in zip(self.info.input_names, inputs):
            self._binding.bind_input(name, "cpu", 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in zip(self.info.output_names, outputs):
            self._binding.bind_output(name, "cpu", 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(self._binding)
