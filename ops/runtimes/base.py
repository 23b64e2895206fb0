"""What every runtime of the online step shares."""
import threading
from typing import Callable, Optional, Sequence, TypeVar, Union

import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.data.clip_transforms import normalize_clips
from ops.runtimes.export import Exported, StepInfo
from ops.streaming.online import OnlineTSM

PRECISIONS = ("float32", "bfloat16", "int8")
State = tuple[Tensor, ...]
Loaded = TypeVar("Loaded")


class StepRuntime:
    """What `ops.stream.Stream` drives: an `OnlineTSM` computed by something else (`ops.stream.StepModel`).

    settings, class_names, preprocessing: the model's. Tensors in and out are torch's; a state belongs to the runtime
    that gave it, is never written to again, and may be stepped from twice. Several threads may share one runtime.
    """

    def __init__(self, like: Union[OnlineTSM, StepInfo]) -> None:
        self.settings = like.settings
        self.class_names = like.class_names
        self.preprocessing = like.preprocessing

    @staticmethod
    def check(precision: str) -> None:
        """UserError when the package is missing or this precision cannot be had here."""
        raise AssertionError("a runtime says what it needs")

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        """The memories before the first frame of `batch` streams; height, width: of the frames, pixels."""
        raise AssertionError("a runtime says what its state is")

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """The next frame of each stream, (B, 3, H, W), normalised, and the last state -> (logits (B, num_class)
        float32, new state). UserError for a state that does not belong to such frames.
        """
        raise AssertionError("a runtime says how it steps")

    def prepare(self, frames: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) in the model's color order, scaled and cropped -> what `step` takes."""
        p = self.preprocessing
        return normalize_clips(frames, p["mean"], p["std"], div=p["range"] == 1)


# ---- runtimes of the exported step --------------------------------------------------------------------------

class ExportedRuntime(StepRuntime):
    """A runtime of an exported step, on the CPU, float32 outside.

    Every step writes into memory of its own, which the next one reads where it lies: nothing is copied, and a state
    that someone kept stays what it was.
    """

    def __init__(self, exported: Exported, precision: str = "float32") -> None:
        super().__init__(exported.info)
        self.info = exported.info
        self._lock = threading.Lock()

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        info = self.info
        asked = (height or info.height, width or info.width)
        if asked != (info.height, info.width):
            raise UserError(f"frames of {asked[0]}x{asked[1]} pixels: this step was exported for {info.height}x"
                            f"{info.width} alone: export another with tools/export_onnx.py --height --width")
        return tuple(torch.zeros(batch, *shape) for shape in info.memories)

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        batch, info = len(frames), self.info
        shapes = [(batch, 3, info.height, info.width), *((batch, *shape) for shape in info.memories)]
        given = [frames, *state]
        if [tuple(tensor.shape) for tensor in given] != shapes:
            raise UserError(f"frames of shape {tuple(frames.shape)} with this state: this step takes"
                            f" (streams, 3, {info.height}, {info.width}) and the state of so many streams: begin with"
                            " initial_state(batch)")
        given = [tensor.to("cpu", torch.float32).contiguous() for tensor in given]  # no copy where it is so already
        made = [torch.empty(batch, self.settings.num_class), *(torch.empty(shape) for shape in shapes[1:])]
        with self._lock:
            self._compute(given, made)
        return made[0], tuple(made[1:])

    def _compute(self, given: list[Tensor], made: list[Tensor]) -> None:
        """Read `given` and write `made`, in the order of the exported inputs and outputs."""
        raise AssertionError("a runtime says how it computes")


def _load(backend: str, load: Callable[[], Loaded]) -> Loaded:
    """What `load()` makes of an exported step. UserError where the runtime cannot take it."""
    try:
        return load()
    except Exception as error:  # the runtimes' own errors have no other class in common
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{backend} cannot load the exported step: it is damaged or of another version: write it anew"
                        f" with tools/export_onnx.py ({reason})") from None
