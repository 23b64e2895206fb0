"""What the runtimes share: how one is opened, and how an exported model is driven."""
import logging
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence, Union

import torch
from torch import Tensor

from ops.common.errors import UserError, shown
from ops.runtimes.export import load_or_export
from ops.runtimes.exported_file import AGAIN, ExportedModel
from ops.runtimes.model_info import ModelInfo
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State, StepRuntime

log = logging.getLogger(__name__)


class Engine(ABC):
    """Computes an exported model on the CPU. Several threads may share one.

    A subclass names itself and computes (`_compute`). exported: also as `exported`. precision: of the computation.
    """
    name = ""  # for messages
    parallel = False  # whether `_compute` may run in several threads at once

    def __init__(self, exported: ExportedModel, precision: str = "float32") -> None:
        self.exported, self.info, self.precision = exported, exported.info, precision
        self._lock = threading.Lock()

    @classmethod
    @abstractmethod
    def check(cls, precision: str) -> None:
        """UserError if the package is missing, or if it lacks this precision on this machine."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for these inputs, both in the order of the metadata, newly allocated.

        UserError for another number of inputs, another shape or another dtype; float tensors of other precisions and
        layouts are converted.
        """
        names, batch = list(self.info.inputs), len(inputs[0])
        if len(inputs) != len(names):
            raise UserError(f"{len(inputs)} inputs, but this model takes {len(names)}: {', '.join(names)}")
        for tensor, (name, shape) in zip(inputs, self.info.inputs.items()):
            if list(tensor.shape) != [batch, *shape]:
                raise UserError(f"{name} of shape {tuple(tensor.shape)}: this model takes ({self.info.batch or 'batch'},"
                                f" {', '.join(map(str, shape))})")
        if self.info.batch not in (None, batch):
            raise UserError(f"a batch of {batch}: this model was exported for batches of {self.info.batch}: choose that, or"
                            f" export it with a dynamic batch")
        converted = [self._converted(name, tensor) for name, tensor in zip(names, inputs)]
        outputs = [torch.empty(batch, *shape) for shape in self.info.outputs.values()]
        if self.parallel:
            self._compute(converted, outputs)
        else:
            with self._lock:
                self._compute(converted, outputs)
        return outputs

    def _converted(self, name: str, tensor: Tensor) -> Tensor:
        wanted = self.info.dtypes[name]
        if tensor.dtype.is_floating_point != wanted.is_floating_point:
            raise UserError(f"{name} of type {str(tensor.dtype).removeprefix('torch.')}: this model takes"
                            f" {str(wanted).removeprefix('torch.')}")
        return tensor.to("cpu", wanted).contiguous()  # copies only where needed

    @abstractmethod
    def _compute(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Read `inputs` and write `outputs`, in the order of the metadata."""


class Runtime(StepRuntime):
    """A `StepRuntime` that `ops.runtimes.registry` opens by name. A new one is a subclass and a row there."""

    def __init__(self, model: Union[OnlineTSM, ModelInfo]) -> None:
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
    that is kept never changes. A subclass names its `Engine`.
    """
    engine_type: type[Engine]

    def __init__(self, exported: ExportedModel, precision: str = "float32") -> None:
        super().__init__(exported.info)
        self.info = exported.info
        self.engine = self.engine_type(exported, precision)

    @classmethod
    def check(cls, precision: str) -> None:
        cls.engine_type.check(precision)

    @classmethod
    def open(cls, online: OnlineTSM, *, device: Union[str, torch.device], weights: Optional[Path],
             precision: str) -> "ExportedRuntime":
        warn_of_device(device, cls.engine_type.name)
        return cls(load_or_export(online, weights, precision), precision)

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        info = self.info
        asked = (height or info.height, width or info.width)
        if asked != (info.height, info.width):
            raise UserError(f"frames of {asked[0]}x{asked[1]} pixels: this step was exported for {info.height}x"
                            f"{info.width}: export one for that size with tools/export.py")
        return tuple(torch.zeros(batch, *shape) for shape in info.state_shapes)

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        info, batch = self.info, len(frames)
        wanted = [(batch, *shape) for shape in info.inputs.values()]
        if [tuple(tensor.shape) for tensor in (frames, *state)] != wanted:
            raise UserError(f"frames of shape {tuple(frames.shape)} with this state: this step takes"
                            f" (streams, {', '.join(map(str, wanted[0][1:]))}) and a state of as many streams: start with"
                            " initial_state(batch)")
        logits, *rest = self.engine.run([frames, *state])
        return logits, tuple(rest[:len(info.state_shapes)])

    def prepare(self, frames: Tensor) -> Tensor:
        if not self.info.with_preprocessing:
            return super().prepare(frames)
        return to_rgb_last(frames, self.preprocessing.color)[:, 0]


def to_rgb_last(frames: Tensor, color: str) -> Tensor:
    """uint8 (N, T*3, H, W) with channels in the order `color` -> RGB (N, T, H, W, 3), for a model with preprocessing."""
    images = frames.unflatten(1, (-1, 3)).permute(0, 1, 3, 4, 2)
    return images.flip(-1) if color == "BGR" else images


def warn_of_device(device: Union[str, torch.device], name: str) -> None:
    """Warn that a runtime runs on the CPU if another device was asked for."""
    # Not through torch.device, which does not know other runtimes' device names such as OpenVINO's GPU.
    if str(device).partition(":")[0].lower() not in ("auto", "cpu"):
        log.warning("warning: device %s has no effect: %s runs on the CPU", device, name)


@contextmanager
def load_errors(runtime: str) -> Iterator[None]:
    """Turn whatever a runtime raises while it loads an exported model into a UserError. runtime: its name."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the runtimes' own errors have no narrower class in common
        reason = " ".join(shown(error).split())[:200]
        raise UserError(f"{runtime} cannot load the exported model: it is damaged or was written by another version:"
                        f" {AGAIN} ({reason})") from None
