"""What the runtimes of the online step share: how one is opened, and how an exported step is driven."""
import logging
import threading
from abc import abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence, Union

import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.runtimes.export import load_or_export
from ops.runtimes.step_file import ExportedStep, StepInfo
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State, StepRuntime

log = logging.getLogger(__name__)


class Runtime(StepRuntime):
    """A `StepRuntime` that `ops.runtimes.registry` opens by name. A new one is a subclass and a row there."""

    def __init__(self, model: Union[OnlineTSM, StepInfo]) -> None:
        self.spec = model.spec
        self.class_names = model.class_names
        self.preprocessing = model.preprocessing

    @classmethod
    @abstractmethod
    def check(cls, precision: str) -> None:
        """UserError if the runtime's package is missing, or if the runtime lacks this precision on this machine."""

    @classmethod
    @abstractmethod
    def open(cls, online: OnlineTSM, *, device: Union[str, torch.device], weights: Optional[Path],
             precision: str) -> "Runtime":
        """The runtime of this model; see `ops.runtimes.registry.open_runtime`. `check` has passed."""


class ExportedRuntime(Runtime):
    """A runtime of an exported step, on the CPU, with float32 inputs and outputs.

    Each step writes into newly allocated tensors, and the next step reads them in place: nothing is copied, and a state
    that is kept never changes. A subclass names itself and computes (`_compute`).
    """
    name = ""  # for messages

    def __init__(self, exported: ExportedStep, precision: str = "float32") -> None:
        super().__init__(exported.info)
        self.info = exported.info
        self._lock = threading.Lock()

    @classmethod
    def open(cls, online: OnlineTSM, *, device: Union[str, torch.device], weights: Optional[Path],
             precision: str) -> "ExportedRuntime":
        # Not through torch.device, which does not know other runtimes' device names such as OpenVINO's GPU.
        if str(device).partition(":")[0].lower() not in ("auto", "cpu"):
            log.warning("warning: device %s has no effect: %s runs on the CPU", device, cls.name)
        return cls(load_or_export(online, weights, precision), precision)

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        info = self.info
        asked = (height or info.height, width or info.width)
        if asked != (info.height, info.width):
            raise UserError(f"frames of {asked[0]}x{asked[1]} pixels: this step was exported for {info.height}x"
                            f"{info.width}: export one for that size with tools/export_onnx.py")
        return tuple(torch.zeros(batch, *shape) for shape in info.state_shapes)

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        batch, info = len(frames), self.info
        shapes = [(batch, 3, info.height, info.width), *((batch, *shape) for shape in info.state_shapes)]
        inputs = [frames, *state]
        if [tuple(tensor.shape) for tensor in inputs] != shapes:
            raise UserError(f"frames of shape {tuple(frames.shape)} with this state: this step takes"
                            f" (streams, 3, {info.height}, {info.width}) and a state of as many streams: start with"
                            " initial_state(batch)")
        inputs = [tensor.to("cpu", torch.float32).contiguous() for tensor in inputs]  # copies only where needed
        outputs = [torch.empty(batch, self.spec.num_class), *(torch.empty(shape) for shape in shapes[1:])]
        with self._lock:
            self._compute(inputs, outputs)
        return outputs[0], tuple(outputs[1:])

    @abstractmethod
    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Read `inputs` and write `outputs`, in the order of the exported names."""


@contextmanager
def load_errors(runtime: str) -> Iterator[None]:
    """Turn whatever a runtime raises while it loads an exported step into a UserError. runtime: its name."""
    try:
        yield
    except Exception as error:  # the runtimes' own errors have no narrower class in common
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{runtime} cannot load the exported step: it is damaged or was written by another version:"
                        f" export it again with tools/export_onnx.py ({reason})") from None
