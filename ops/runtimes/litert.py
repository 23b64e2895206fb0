"""Exported LiteRT models (.tflite), which phones run, on this machine."""
import numpy as np
import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.common.extras import import_extra
from ops.common.pool import cores
from ops.runtimes.base import Engine, ExportedRuntime, load_errors
from ops.runtimes.export import LITERT
from ops.runtimes.exported_file import ExportedModel


class LiteRtEngine(Engine):
    """LiteRT's interpreter on the CPU, in float32."""
    name = "LiteRT"

    def __init__(self, exported: ExportedModel, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        interpreter = import_extra("ai_edge_litert.interpreter", LITERT)
        with load_errors(self.name):
            self._interpreter = interpreter.Interpreter(model_content=exported.content, num_threads=cores())
            self._run = self._interpreter.get_signature_runner()
            inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
            self._inputs, self._outputs = sorted(inputs, key=_number), sorted(outputs, key=_number)
            batch = exported.info.batch
            found = [[list(details[name]["shape"]) for name in names]
                     for details, names in ((inputs, self._inputs), (outputs, self._outputs))]
            wanted = [[[batch, *shape] for shape in shapes.values()]
                      for shapes in (exported.info.inputs, exported.info.outputs)]
            if found != wanted:
                raise UserError(f"the inputs and outputs of the LiteRT model are {found}, and its metadata says {wanted}")

    @classmethod
    def check(cls, precision: str) -> None:
        import_extra("ai_edge_litert", LITERT)
        if precision != "float32":
            raise UserError(f"precision {precision}: LiteRT computes float32 here: choose that, or another format",
                            "precision", "format")

    @torch.no_grad()
    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        found = self._run(**{name: tensor.numpy() for name, tensor in zip(self._inputs, inputs)})
        for target, name in zip(outputs, self._outputs):
            target.copy_(torch.from_numpy(np.asarray(found[name])))


def _number(name: str) -> int:
    """The converter calls inputs args_0, args_1, ... and outputs output_0, ..., in their order."""
    return int(name.rpartition("_")[2])


class LiteRtRuntime(ExportedRuntime):
    """An online model's step in LiteRT."""
    engine_type = LiteRtEngine
