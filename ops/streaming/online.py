"""OnlineTSM: a trained clip model that takes one frame and a state (TSM, arXiv:1811.08383, sec. 3.4, online).

The mechanism is the same for every backbone. Each `TemporalShift` becomes an `OnlineShift`, which puts the first
C // div channels of the current frame into the new state and replaces them by those of the previous frame. No module
stores a state: it is an argument and a result of every call. The weights are those of the clip model, unchanged.
"""
import copy
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ops.backbones import find_backbone
from ops.checkpoints.online_format import check_streamable, load_streamable
from ops.common.errors import UserError
from ops.common.words import counted
from ops.models import TSN, without_head
from ops.spec import ModelSpec
from ops.streaming.step_runtime import State
from ops.temporal_shift import TemporalShift


@dataclass
class _Step:
    """One pass of a frame through the network: the state it came with (None: zeros) and the new state so far."""
    state: Optional[Sequence[Tensor]]
    new_state: list[Tensor]


# The backbones' own forward functions pass no state on, so each shift finds it here. It is local to the thread, because
# several threads may run one model at once. (torch.compile can trace a threading.local, but not a ContextVar.)
_current = threading.local()


class OnlineShift(nn.Module):
    """`net` behind the shift of a single frame: (B, C, H, W) -> net((B, C, H, W)).

    index: position of this shift's tensor in the state, which is ordered as a frame passes the shifts.
    """

    def __init__(self, net: nn.Module, fold_div: int, index: int) -> None:
        super().__init__()
        self.net = net
        self.fold_div = fold_div
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        fold = x.shape[1] // self.fold_div
        return self.net(torch.cat((exchange(x[:, :fold], self.index), x[:, fold:]), dim=1))

    def extra_repr(self) -> str:
        return f"state {self.index}, 1/{self.fold_div} of the channels"


def exchange(fold: Tensor, index: int) -> Tensor:
    """Put these channels of the current frame into the new state; returns those of the previous frame.

    index: of the shift in the state. To be called while an `OnlineTSM` runs, by its shifts in their order.
    """
    step: _Step = _current.step
    kept = fold.clone()  # a view would keep the whole tensor alive until the next frame
    assert len(step.new_state) == index, "the shifts ran in another order than their indices"
    step.new_state.append(kept)
    return torch.zeros_like(kept) if step.state is None else step.state[index]


class OnlineTSM(nn.Module):
    """A trained TSN that processes a stream frame by frame; a `StepRuntime`.

    model_or_file: a TSN (it is copied and stays unchanged), or a file: our clip checkpoint, our online file, or the
    released Jester model (a bare state dict). force: also accept a model that was trained with the two-way shift. It
    warns, because without future frames the accuracy differs from the trained one.
    spec: the clip model's. class_names: None if unknown. preprocessing: see `ops.data.preprocessing`.

    Stateless: the result depends on the frames and the state passed in and on nothing else, so several threads may
    share one object. Always in evaluation mode and without gradients. The mean of the logits over T frames, starting
    from `initial_state`, equals the clip model's logits. Raises UserError for a model that cannot stream.
    """

    def __init__(self, model_or_file: Union[TSN, str, Path], force: bool = False) -> None:
        super().__init__()
        model, self.spec, self.class_names = _open(model_or_file, force)
        self.preprocessing = model.preprocessing
        self.base_model, self.new_fc = model.base_model, model.new_fc
        self.shift_names = make_online(self.base_model)
        self._head = find_backbone(self.spec.arch).head
        self._state_shapes: dict[tuple[int, int], list[torch.Size]] = {}
        self.requires_grad_(False)  # otherwise every state would hold the graph of all frames before it
        self.eval()

    def train(self, mode: bool = True) -> "OnlineTSM":
        """Stay in evaluation mode: predictions of a stream must not depend on a batch's statistics."""
        return super().train(False)

    def forward(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """`step` without its checks and with a flat result, for export: (logits, *new state)."""
        scores, *new_state = self._run(self.base_model, frames, state)
        return (scores if self.new_fc is None else self.new_fc(scores), *new_state)

    def forward_features(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """`step_features` without its checks and with a flat result, for export: (features, *new state)."""
        return self._run(without_head(self.base_model, self._head), frames, state)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, features) of `forward_features` -> logits (B, num_class), the same as `forward`'s."""
        scores = self.base_model.get_submodule(self._head)(features)
        return scores if self.new_fc is None else self.new_fc(scores)

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """Process the next frame of each of B streams.

        frames: (B, 3, H, W), normalized by `prepare`. state: from the previous step, or from `initial_state`.
        Returns (logits (B, num_class), new state). Raises UserError if the state does not fit the frames.
        """
        self._check_state(frames, state)
        logits, *new_state = self.forward(frames, *state)
        return logits, tuple(new_state)

    def step_features(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """`step` that returns what the classifier sees of each frame, pooled features (B, features), instead of logits."""
        self._check_state(frames, state)
        features, *new_state = self.forward_features(frames, *state)
        return features, tuple(new_state)

    def _check_state(self, frames: Tensor, state: Sequence[Tensor]) -> None:
        batch, height, width = frames.shape[0], *frames.shape[-2:]
        wanted = [(batch, *shape[1:]) for shape in self._shapes(height, width)]
        if [tuple(tensor.shape) for tensor in state] != wanted:
            raise UserError(f"the state does not belong to {counted(batch, 'frame')} of {height}x{width} pixels: start with"
                            " initial_state(batch, height, width), and again whenever the size changes")

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        """The state before the first frame: zeros on the model's device, one tensor per shift.

        batch: number of streams. height, width: of the frames, pixels (default: the size of training).
        """
        shapes = self._shapes(height or self.spec.input_size, width or self.spec.input_size)
        like = next(self.parameters())
        return tuple(like.new_zeros((batch, *shape[1:])) for shape in shapes)

    def prepare(self, frames: Tensor) -> Tensor:
        """uint8 (B, 3, H, W), 0-255, in the color order of `preprocessing` -> frames for `step`.

        The frames must be scaled and cropped; this moves them to the model's device and normalizes them.
        """
        like = next(self.parameters())
        return self.preprocessing.apply(frames, like.device).to(like.dtype)

    def _shapes(self, height: int, width: int) -> list[torch.Size]:
        """Shapes of the state of one stream for this frame size, found once per size by running one frame."""
        if (height, width) not in self._state_shapes:
            frame = next(self.parameters()).new_zeros((1, 3, height, width))
            self._state_shapes[height, width] = [tensor.shape for tensor in self._run(self.base_model, frame, None)[1:]]
        return self._state_shapes[height, width]

    def _run(self, net: nn.Module, frames: Tensor, state: Optional[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """(output of `net`, the backbone or a part of it, *new state)"""
        step = _Step(state, [])
        _current.step = step
        try:
            output = net(frames)
        finally:
            _current.step = None
        return (output, *step.new_state)


def _open(model_or_file: Union[TSN, str, Path], force: bool) -> tuple[TSN, ModelSpec, Optional[list[str]]]:
    """(a clip model that nobody else holds, the spec under which it streams, class names)"""
    if not isinstance(model_or_file, TSN):
        found = load_streamable(Path(model_or_file), force)
        return found.build(), found.spec, found.class_names
    spec = check_streamable(model_or_file.spec, "this TSN", force)
    return copy.deepcopy(model_or_file), spec, None


def make_online(net: nn.Module) -> list[str]:
    """Replace every TemporalShift inside `net` in place by an OnlineShift around the same layer; return their names.

    The indices follow the order of registration, which is the order of execution in all our backbones.
    """
    names = [name for name, module in net.named_modules() if isinstance(module, TemporalShift)]
    for index, name in enumerate(names):
        shift = net.get_submodule(name)
        assert isinstance(shift, TemporalShift)
        holder, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(holder), attribute, OnlineShift(shift.net, shift.fold_div, index))
    return names
