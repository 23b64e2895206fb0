"""Exported torch.export programs (.pt2) in PyTorch."""
import io

import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.runtimes.base import Engine, ExportedRuntime, load_errors
from ops.runtimes.exported_file import ExportedModel


class ProgramEngine(Engine):
    """A torch.export program on the CPU, in the precision that it was exported with."""
    name = "PyTorch"
    parallel = True

    def __init__(self, exported: ExportedModel, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        with load_errors(self.name):
            self._module = torch.export.load(io.BytesIO(exported.content)).module()

    @classmethod
    def check(cls, precision: str) -> None:
        if precision == "int8":
            raise UserError("precision int8: a torch.export program computes 16- or 32-bit floats: choose another format",
                            "precision", "format")

    @torch.no_grad()
    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        for target, output in zip(outputs, self._module(*inputs)):
            target.copy_(output)


class ProgramRuntime(ExportedRuntime):
    """An online model's step as a torch.export program."""
    engine_type = ProgramEngine
