"""`fuse_online`: the step of a stream in the form for inference and export, in which the shift costs next to nothing."""
import copy
from typing import Optional

from torch import Tensor, nn
from torch.func import functional_call

from ops.folding import fold_norms
from ops.residual_parts import Mover, cut_blocks
from ops.streaming.online import OnlineShift, OnlineTSM, exchange
from ops.temporal_shift import input_channels

FRAME = 64  # pixels, of the frame that is run to find out how the layers are connected


def fuse_online(online: OnlineTSM) -> OnlineTSM:
    """The same model with batch norms folded and its residual blocks in parts (`ops.residual_parts`).

    `online` stays unchanged. Logits and states are the same up to rounding, in the same shapes and order.
    """
    fused = copy.deepcopy(online)
    fold_norms(fused.base_model)

    def run() -> None:
        state = fused.initial_state(1, FRAME, FRAME)
        weights = {name: tensor.to("meta") for name, tensor in fused.state_dict().items()}
        frame = next(fused.parameters()).new_empty((1, 3, FRAME, FRAME), device="meta")
        functional_call(fused, weights, (frame, *(tensor.to("meta") for tensor in state)))
    cut_blocks(fused.base_model, run, _make_mover)
    return fused


def _make_mover(module: nn.Module) -> Optional[Mover]:
    return StateMover(module) if isinstance(module, OnlineShift) else None


class StateMover(Mover):
    """The first channels go into the new state, and those of the previous frame take their place."""

    def __init__(self, shift: OnlineShift) -> None:
        super().__init__()
        self.index, self.channels = shift.index, input_channels(shift.net) // shift.fold_div

    def forward(self, x: Tensor) -> Tensor:
        return exchange(x, self.index)
