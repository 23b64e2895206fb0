"""The online step in eager PyTorch, prepared for speed."""
from pathlib import Path
from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from ops.common.device import pick_device
from ops.common.errors import UserError
from ops.runtimes.base import Runtime
from ops.streaming.fused_online import fuse_online
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State


class TorchRuntime(Runtime):
    """Eager PyTorch on any device: the form of `fuse_online`, channels last in memory."""

    def __init__(self, online: OnlineTSM, device: torch.device, precision: str = "float32") -> None:
        super().__init__(online)
        self.model = fuse_online(online).cpu()
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.model.to(device, dtype).to(memory_format=torch.channels_last)

    @classmethod
    def check(cls, precision: str) -> None:
        if precision == "int8":
            raise UserError("precision int8: PyTorch computes float32 and bfloat16 here: choose one of them, or another"
                            " backend", "precision", "backend")

    @classmethod
    def open(cls, online: OnlineTSM, *, device: Union[str, torch.device], weights: Optional[Path],
             precision: str) -> "TorchRuntime":
        return cls(online, pick_device(str(device)), precision)

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        return self.model.initial_state(batch, height, width)

    @torch.no_grad()
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        like = next(self.model.parameters())
        frames = frames.to(like.device, like.dtype, memory_format=torch.channels_last)
        logits, new_state = self.model.step(frames, state)
        return logits.float(), new_state
