"""Exported models in OpenVINO."""
from typing import Any

import numpy as np
from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.common.pool import cores
from ops.runtimes.base import Engine, ExportedRuntime, load_errors
from ops.runtimes.core import find_core
from ops.runtimes.exported_file import AGAIN, ExportedModel

MAX_COMPILED = 8  # batch sizes kept compiled at a time
PART = 4  # streams or clips computed in one batch, if there are enough of them for every core


class OpenVinoEngine(Engine):
    """OpenVINO's CPU plugin, compiled for each batch size at its first use: fixed shapes run faster.

    Many streams are computed as several smaller batches side by side. These never wait for each other between layers
    and fit into the processor's caches: a third less work for 16 streams than one batch over all cores.
    """
    name = "OpenVINO"

    def __init__(self, exported: ExportedModel, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        openvino = import_extra("openvino")
        self._tensor = openvino.Tensor
        # OpenVINO's own default is bfloat16 on processors that support it.
        self._options = {"INFERENCE_NUM_THREADS": cores(),
                         "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
        self._compiled: dict[int, list[Any]] = {}

    @classmethod
    def check(cls, precision: str) -> None:
        import_extra("openvino")
        if precision == "bfloat16" and "BF16" not in find_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
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
            core = find_core()
            with load_errors(self.name):
                self._compiled[batch] = self._compile(core, batch, count_parts(batch, cores()))
        return self._compiled[batch]

    def _compile(self, core: Any, batch: int, parts: int) -> list[Any]:
        options = {"PERFORMANCE_HINT": "LATENCY"} if parts == 1 else {
            "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": min(parts, cores())}
        model = core.read_model(self.exported.content, self._tensor(np.frombuffer(self.exported.weights, np.uint8))
                                ) if self.exported.weights else core.read_model(self.exported.content)
        self._check_names(model)
        model.reshape({name: [batch // parts, *shape] for name, shape in self.info.inputs.items()})
        compiled = core.compile_model(model, "CPU", {**self._options, **options})
        return [compiled.create_infer_request() for _ in range(parts)]

    def _check_names(self, model: Any) -> None:
        """UserError if the graph has other inputs or outputs than its metadata say."""
        info = self.info
        for what, ports, names in (("inputs", model.inputs, info.inputs), ("outputs", model.outputs, info.outputs)):
            if len(ports) != len(names) or not all(name in port.names for name, port in zip(names, ports)):
                raise UserError(f"the {what} of the exported model are not those of its metadata: {AGAIN}")


class OpenVinoRuntime(ExportedRuntime):
    """An online model's step in OpenVINO."""
    engine_type = OpenVinoEngine


def count_parts(batch: int, threads: int) -> int:
    """The number of equal parts that a batch is split into: as many as keep every thread busy, with up to PART streams
    each; 1 if equal parts would leave threads idle.
    """
    even = [parts for parts in range(1, batch + 1) if batch % parts == 0 and parts % threads == 0]
    return next((parts for parts in even if batch // parts <= PART), 1)
