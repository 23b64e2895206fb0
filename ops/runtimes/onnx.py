"""The exported step in ONNX Runtime."""
from torch import Tensor

from ops.common.cli import import_extra
from ops.common.errors import UserError
from ops.common.pool import cores
from ops.runtimes.base import ExportedRuntime, _load
from ops.runtimes.export import Exported


class OnnxRuntime(ExportedRuntime):
    """ONNX Runtime. It knows no bfloat16 on CPUs."""

    def __init__(self, exported: Exported, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        ort = import_extra("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        self._session = _load("ONNX Runtime", lambda: ort.InferenceSession(
            exported.content, options, providers=["CPUExecutionProvider"]))
        self._binding = self._session.io_binding()

    @staticmethod
    def check(precision: str) -> None:
        import_extra("onnxruntime")
        if precision == "bfloat16":
            raise UserError("--precision bfloat16 --backend onnxruntime: ONNX Runtime computes float32 and int8 on CPUs:"
                            " choose one of them, or another backend")

    def _compute(self, given: list[Tensor], made: list[Tensor]) -> None:
        float32 = import_extra("numpy").float32
        for name, tensor in zip(self.info.input_names, given):
            self._binding.bind_input(name, "cpu", 0, float32, tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in zip(self.info.output_names, made):
            self._binding.bind_output(name, "cpu", 0, float32, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(self._binding)
