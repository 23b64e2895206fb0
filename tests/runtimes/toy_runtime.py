"""A runtime of a few lines, which tests add to `ops.runtimes.registry.BACKENDS`: PyTorch in double precision."""
import copy

import torch

from ops.common.errors import UserError
from ops.runtimes.base import Runtime


class ToyRuntime(Runtime):
    def __init__(self, online):
        super().__init__(online)
        self.model = copy.deepcopy(online).double()

    @classmethod
    def check(cls, precision):
        if precision != "float32":
            raise UserError(f"precision {precision}: the toy computes float32", "precision")

    @classmethod
    def open(cls, online, *, device, weights, precision):
        return cls(online)

    def initial_state(self, batch=1, height=None, width=None):
        return self.model.initial_state(batch, height, width)

    @torch.no_grad()
    def step(self, frames, state):
        logits, new_state = self.model.step(frames.double(), state)
        return logits.float(), new_state
