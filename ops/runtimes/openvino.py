"""The exported step in OpenVINO."""
from functools import lru_cache
from typing import Any

from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.common.pool import cores
from ops.runtimes.base import ExportedRuntime, load_errors
from ops.runtimes.step_file import ExportedStep

MAX_COMPILED = 8  # batch sizes kept compiled at a time
PART = 4  # streams computed in one batch, if there are enough streams for every core


class OpenVinoRuntime(ExportedRuntime):
    """OpenVINO's CPU plugin, compiled for each number of streams at its first use: fixed shapes run faster.

    Many streams are computed as several smaller batches side by side. These never wait for each other between layers
    and fit into the processor's caches: a third less work for 16 streams than one batch over all cores.
    """
    name = "OpenVINO"

    def __init__(self, exported: ExportedStep, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        openvino = import_extra("openvino")
        self._tensor = openvino.Tensor
        self._content = exported.content
        # OpenVINO's own default is bfloat16 on processors that support it.
        self._options = {"INFERENCE_NUM_THREADS": cores(),
                         "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
        self._compiled: dict[int, list[Any]] = {}

    @classmethod
    def check(cls, precision: str) -> None:
        import_extra("openvino")
        if precision == "bfloat16" and "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UserError("precision bfloat16: this processor does not support bfloat16 in OpenVINO: choose float32",
                            "precision")

    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        requests = self._requests(len(inputs[0]))
        input_parts, output_parts = ([tensor.chunk(len(requests)) for tensor in tensors] for tensors in (inputs, outputs))
        for number, request in enumerate(requests):
            for i, parts in enumerate(input_parts):
                request.set_input_tensor(i, self._tensor(parts[number].numpy(), shared_memory=True))
            for i, parts in enumerate(output_parts):
                request.set_output_tensor(i, self._tensor(parts[number].numpy(), shared_memory=True))
            request.start_async()
        for request in requests:
            request.wait()

    def _requests(self, batch: int) -> list[Any]:
        """The compiled inference requests of this batch size, one per part."""
        if batch not in self._compiled:
            if len(self._compiled) == MAX_COMPILED:
                del self._compiled[next(iter(self._compiled))]
            core = _core()
            with load_errors(self.name):
                self._compiled[batch] = self._compile(core, batch, count_parts(batch, cores()))
        return self._compiled[batch]

    def _compile(self, core: Any, batch: int, parts: int) -> list[Any]:
        options = {"PERFORMANCE_HINT": "LATENCY"} if parts == 1 else {
            "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": min(parts, cores())}
        model, info = core.read_model(self._content), self.info
        shapes = [[batch // parts, *shape] for shape in ([3, info.height, info.width], *info.state_shapes)]
        model.reshape(dict(zip(info.input_names, shapes)))
        compiled = core.compile_model(model, "CPU", {**self._options, **options})
        return [compiled.create_infer_request() for _ in range(parts)]


@lru_cache(maxsize=1)
def _core() -> Any:
    """OpenVINO's Core, one for the whole process.

    Deleting the last Core unloads its plugins, although threads that ran them and their fork handlers in the C library
    still exist.
    """
    return import_extra("openvino").Core()


def count_parts(batch: int, threads: int) -> int:
    """The number of equal parts that a batch is split into: as many as keep every thread busy, with up to PART streams
    each; 1 if equal parts would leave threads idle.
    """
    even = [parts for parts in range(1, batch + 1) if batch % parts == 0 and parts % threads == 0]
    return next((parts for parts in even if batch // parts <= PART), 1)
