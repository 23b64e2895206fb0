"""StepRuntime: what a stream needs of an online model, whichever runtime computes it."""
from abc import abstractmethod
from typing import Optional, Protocol, Sequence

from torch import Tensor

from ops.data.preprocessing import Preprocessing
from ops.spec import ModelSpec

State = tuple[Tensor, ...]


class StepRuntime(Protocol):
    """One step of an online model: the next frame of each stream and the state in, logits and the new state out.

    `ops.streaming.online.OnlineTSM` and every runtime of `ops.runtimes` follow this protocol.
    spec, class_names (None if unknown), preprocessing: the model's.

    A state belongs to the runtime that returned it. It is never written to again, so it may be kept and stepped from
    more than once. Several threads may share a runtime.
    """
    spec: ModelSpec
    class_names: Optional[list[str]]
    preprocessing: Preprocessing

    @abstractmethod
    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        """The state before the first frame of `batch` streams: zeros.

        height, width: of the frames, pixels (default: the size that the model was trained at).
        """

    @abstractmethod
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """Process the next frame of each of B streams.

        frames: (B, 3, H, W), normalized by `prepare`. state: from the previous step, or from `initial_state`.
        Returns (logits (B, num_class), new state). Raises UserError if the state does not fit the frames.
        """

    def prepare(self, frames: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) in the model's color order, scaled and cropped -> frames for `step`."""
        return self.preprocessing.apply(frames)
