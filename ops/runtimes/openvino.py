"""The exported step in OpenVINO."""
from functools import lru_cache
from typing import Any

from torch import Tensor

from ops.common.cli import import_extra
from ops.common.errors import UserError
from ops.common.pool import cores
from ops.runtimes.base import ExportedRuntime, _load
from ops.runtimes.export import Exported

MAX_COMPILED = 8  # batch sizes that OpenVINO keeps ready at a time
PART = 4  # streams that OpenVINO computes in one batch, where there are enough for every core


class OpenVinoRuntime(ExportedRuntime):
    """OpenVINO's CPU plugin, compiled for each number of streams when it first comes: fixed shapes run faster.

    Many streams are computed as several smaller batches side by side, which never wait for each other between two
    layers and stay within the processor's caches: a third less work for 16 streams than one batch over all cores.
    """

    def __init__(self, exported: Exported, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        openvino = import_extra("openvino")
        self._tensor = openvino.Tensor
        self._content = exported.content
        # its own default is bfloat16 wherever the processor has it
        self._options = {"INFERENCE_NUM_THREADS": cores(),
                         "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
        self._compiled: dict[int, list[Any]] = {}

    @staticmethod
    def check(precision: str) -> None:
        import_extra("openvino")
        if precision == "bfloat16" and "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UserError("--precision bfloat16 --backend openvino: this processor does not compute bfloat16: choose"
                            " float32")

    def _compute(self, given: list[Tensor], made: list[Tensor]) -> None:
        requests = self._requests(len(given[0]))
        parts = [[tensor.chunk(len(requests)) for tensor in tensors] for tensors in (given, made)]
        for number, request in enumerate(requests):
            for i, tensors in enumerate(parts[0]):
                request.set_input_tensor(i, self._tensor(tensors[number].numpy(), shared_memory=True))
            for i, tensors in enumerate(parts[1]):
                request.set_output_tensor(i, self._tensor(tensors[number].numpy(), shared_memory=True))
            request.start_async()
        for request in requests:
            request.wait()

    def _requests(self, batch: int) -> list[Any]:
        """One for each part of a batch of so many streams."""
        if batch not in self._compiled:
            if len(self._compiled) == MAX_COMPILED:
                del self._compiled[next(iter(self._compiled))]
            core = _core()
            self._compiled[batch] = _load("OpenVINO", lambda: self._compile(core, batch, count_parts(batch, cores())))
        return self._compiled[batch]

    def _compile(self, core: Any, batch: int, parts: int) -> list[Any]:
        options = {"PERFORMANCE_HINT": "LATENCY"} if parts == 1 else {
            "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": min(parts, cores())}
        model, info = core.read_model(self._content), self.info
        shapes = [[batch // parts, *shape] for shape in ([3, info.height, info.width], *info.memories)]
        model.reshape(dict(zip(info.input_names, shapes)))
        compiled = core.compile_model(model, "CPU", {**self._options, **options})
        return [compiled.create_infer_request() for _ in range(parts)]


@lru_cache(maxsize=1)
def _core() -> Any:
    """OpenVINO's, one for the process: with the last one its plugins would be unloaded, while threads that ran them
    and what they told the C library to call at a fork live on."""
    return import_extra("openvino").Core()


def count_parts(batch: int, threads: int) -> int:
    """Into how many equal parts a batch is split: as many as keep every thread busy, with up to PART streams each.

    1 where equal parts would leave threads idle.
    """
    even = [parts for parts in range(1, batch + 1) if batch % parts == 0 and parts % threads == 0]
    return next((parts for parts in even if batch // parts <= PART), 1)
