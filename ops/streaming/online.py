"""A trained clip model as one that takes a frame and its memory (TSM, arXiv:1811.08383, sec. 3.4, online).

One mechanism for every backbone: each `TemporalShift` becomes an `OnlineShift`, which keeps the first C // div
channels of the current frame as its memory and puts the previous frame's in their place. No module holds a memory;
it comes in and goes out with every call. The weights are the clip model's, untouched.
"""
import copy
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ops.checkpoints.online_format import check_streamable, open_model
from ops.common.errors import UserError
from ops.data.clip_transforms import normalize_clips
from ops.models import TSN
from ops.spec import ModelSpec, preprocessing
from ops.temporal_shift import TemporalShift


@dataclass
class _Call:
    """One frame on its way through the network: the memories it came with (None: all zero) and those it leaves."""
    before: Optional[Sequence[Tensor]]
    after: list[Tensor]


# The backbones' own forward functions know nothing of memories, so the shifts find theirs here. Local to the thread:
# several may run one model at once. (torch.compile follows a threading.local, which it does not a ContextVar.)
_under_way = threading.local()


class OnlineShift(nn.Module):
    """`net` behind the shift of one frame: (B, C, H, W) -> net((B, C, H, W)).

    index: which of the model's memories is its own; they stand in the order in which a frame meets the shifts.
    """

    def __init__(self, net: nn.Module, fold_div: int, index: int) -> None:
        super().__init__()
        self.net = net
        self.fold_div = fold_div
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        call: _Call = _under_way.call
        fold = x.shape[1] // self.fold_div
        kept = x[:, :fold].clone()  # a view would keep the whole of x alive until the next frame
        assert len(call.after) == self.index, "shifts ran in another order than they were numbered in"
        call.after.append(kept)
        before = torch.zeros_like(kept) if call.before is None else call.before[self.index]
        return self.net(torch.cat((before, x[:, fold:]), dim=1))

    def extra_repr(self) -> str:
        return f"memory {self.index}, 1/{self.fold_div} of the channels"


class OnlineTSM(nn.Module):
    """A trained TSN that takes one frame and its memory.

    model_or_file: a TSN (copied, so it stays as it is), or a file: our clip checkpoint, our online file, or the
    released Jester one (a bare state dict). force: take a model that was trained with the two-way shift too, with a
    warning, because without future frames its accuracy is not what it was.
    settings: the clip model's. class_names: None where unknown. preprocessing: see `ops.spec.preprocessing`.

    Stateless: what comes out depends on the frames and the state that come in, and on nothing else; one object may
    serve several threads. Always in evaluation mode and without gradients. The mean of the logits over T frames from
    `initial_state` on equals the clip model's logits. Raises UserError (a ValueError) for a model that cannot stream.
    """

    def __init__(self, model_or_file: Union[TSN, str, Path], force: bool = False) -> None:
        super().__init__()
        model, self.settings, self.class_names = _open(model_or_file, force)
        self.preprocessing: dict[str, Any] = preprocessing(model, self.settings)
        self.base_model, self.new_fc = model.base_model, model.new_fc
        self.shift_names = make_online(self.base_model)
        self._shapes: dict[tuple[int, int], list[torch.Size]] = {}
        self.requires_grad_(False)  # or every state would drag the graph of all frames before along
        self.eval()

    def train(self, mode: bool = True) -> "OnlineTSM":
        """Evaluation mode, whatever is asked for: a stream's answers must not depend on a batch's statistics."""
        return super().train(False)

    def forward(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """`step` without its checks and flat, as it is exported: (logits, *new state)."""
        return self._run(frames, state)

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frame of each of B streams. frames: (B, 3, H, W), normalised (`prepare`); state: what the last
        step gave, or `initial_state`. Returns (logits (B, num_class), new state). UserError for a state that does
        not belong to such frames.
        """
        batch, height, width = frames.shape[0], *frames.shape[-2:]
        wanted = [(batch, *shape[1:]) for shape in self._memory_shapes(height, width)]
        if [tuple(memory.shape) for memory in state] != wanted:
            raise UserError(f"this state does not belong to {batch} frames of {height}x{width} pixels: begin with"
                            " initial_state(batch, height, width), and begin again when the size changes")
        logits, *after = self._run(frames, state)
        return logits, tuple(after)

    def initial_state(self, batch: int = 1, height: Optional[int] = None,
                      width: Optional[int] = None) -> tuple[Tensor, ...]:
        """The memory before the first frame: zeros, on the model's device, one tensor for each shift.

        batch: streams. height, width: the frames', pixels (default: what the model was trained at).
        """
        shapes = self._memory_shapes(height or self.settings.input_size, width or self.settings.input_size)
        like = next(self.parameters())
        return tuple(like.new_zeros((batch, *shape[1:])) for shape in shapes)

    def prepare(self, frames: Tensor) -> Tensor:
        """uint8 (B, 3, H, W), RGB (BGR for BNInception: `preprocessing["color"]`), 0-255 -> what `step` takes.

        The frames are scaled and cropped already; this moves them to the model's device and normalises them.
        """
        like = next(self.parameters())
        p = self.preprocessing
        return normalize_clips(frames.to(like.device), p["mean"], p["std"], div=p["range"] == 1).to(like.dtype)

    def _memory_shapes(self, height: int, width: int) -> list[torch.Size]:
        """What a frame of this size leaves behind; found by sending one, once per size."""
        if (height, width) not in self._shapes:
            frame = next(self.parameters()).new_zeros((1, 3, height, width))
            self._shapes[height, width] = [memory.shape for memory in self._run(frame, None)[1:]]
        return self._shapes[height, width]

    def _run(self, frames: Tensor, state: Optional[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        call = _Call(state, [])
        _under_way.call = call
        try:
            scores = self.base_model(frames)
        finally:
            _under_way.call = None
        logits = scores if self.new_fc is None else self.new_fc(scores)
        return (logits, *call.after)


def _open(model_or_file: Union[TSN, str, Path],
          force: bool) -> tuple[TSN, ModelSpec, Optional[list[str]]]:
    """(clip model that nobody else holds, the settings under which it streams, class names)"""
    if not isinstance(model_or_file, TSN):
        opened = open_model(Path(model_or_file), force)
        return opened.build(), opened.settings, opened.class_names
    settings = check_streamable(model_or_file.spec, "this TSN", force)
    return copy.deepcopy(model_or_file), settings, None


def make_online(net: nn.Module) -> list[str]:
    """Replace every TemporalShift inside `net` by an OnlineShift around the same layer, in place; their names.

    The numbers follow the order of registration, which in all our backbones is the order of execution.
    """
    names = [name for name, module in net.named_modules() if isinstance(module, TemporalShift)]
    for index, name in enumerate(names):
        shift = net.get_submodule(name)
        assert isinstance(shift, TemporalShift)
        holder, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(holder), attribute, OnlineShift(shift.net, shift.fold_div, index))
    return names
