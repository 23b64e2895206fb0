"""`fuse_temporal_shift`: a TSN in the form for inference and export, in which the shift costs next to nothing.

Inside, frames are ordered by their time and then by their clip, (T*N, C, H, W): what a shift moves is contiguous, and it
moves in operations that any runtime has in any memory format. Batch norms are folded into convolutions, and ResNets get
the form of `ops.residual_parts`.
"""
import copy
from typing import Callable, Optional

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ops.backbones import find_backbone
from ops.folding import fold_norms, replace
from ops.models import TSN
from ops.non_local import NL3DWrapper
from ops.residual_parts import Mover, cut_blocks
from ops.temporal_shift import Moves, StandaloneShift, TemporalPool, TemporalShift, make_moves, pooled_segments

TRACED = 64  # pixels, of the frames that are run, in shapes alone, to find out how the layers are connected


def fuse_temporal_shift(model: TSN) -> "FusedTSN":
    """The form of `model` for inference; `model` stays unchanged. Its weights are new, so it cannot be trained further."""
    return FusedTSN(model)


class FusedTSN(nn.Module):
    """Clips (N, T*C, H, W), normalized, to the output of `TSN.forward` in evaluation mode, equal up to rounding.

    spec, preprocessing: the TSN's. Without gradients; any floating dtype of its parameters. A graph of standard operators,
    which `torch.export` takes with any number of clips.
    """

    def __init__(self, model: TSN) -> None:
        super().__init__()
        self.spec, self.preprocessing = model.spec, model.preprocessing
        self.network = copy.deepcopy(model).eval().requires_grad_(False)
        fold_norms(self.network.base_model)
        self._separate_head()
        if self.spec.shift:
            cut_blocks(self.network.base_model, self._run_shapes, _make_mover)
            _order_by_time(self.network.base_model)
        self.eval()

    def train(self, mode: bool = True) -> "FusedTSN":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, clips: Tensor) -> Tensor:
        return self.network.forward_head(self.forward_features(clips))

    def forward_features(self, clips: Tensor) -> Tensor:
        """As `TSN.forward_features`: pooled features (N, T, features)."""
        frames = self.network.to_frames(clips)
        if not self.spec.shift:
            return self.network.base_model(frames).unflatten(0, (-1, self.network.out_segments))
        features = self.network.base_model(_swap(frames, (-1, self.spec.num_segments)))
        return features.unflatten(0, (self.network.out_segments, -1)).transpose(0, 1)

    def _separate_head(self) -> None:
        """The backbone ends with the features; the classifier is behind it."""
        head = find_backbone(self.spec.arch).head
        if self.network.new_fc is None:
            self.network.new_fc = getattr(self.network.base_model, head)
        setattr(self.network.base_model, head, nn.Identity())

    def _run_shapes(self) -> None:
        """Run one clip through the network, in shapes alone."""
        weights = {name: tensor.to("meta") for name, tensor in self.network.state_dict().items()}
        frames = torch.empty(self.spec.num_segments, self.spec.frame_channels, TRACED, TRACED, device="meta",
                             dtype=next(self.network.parameters()).dtype)
        with torch.no_grad():
            functional_call(self.network, weights, (frames, True))


def _swap(x: Tensor, sizes: tuple[int, int]) -> Tensor:
    """(A*B, ...) -> (B*A, ...), for sizes (A, B)."""
    return x.unflatten(0, sizes).transpose(0, 1).flatten(0, 1)


# ---- modules that mix frames, for frames in order of time ----------------------------------------------------

def _order_by_time(net: nn.Module) -> None:
    for name, module in list(net.named_modules()):
        if type(module) in _BY_TIME:
            replace(net, name, _BY_TIME[type(module)](module))


def _moved(x: Tensor, n_segment: int, moves: Moves) -> list[Tensor]:
    """The folds of x, (T*N, C, H, W), moved."""
    clips = x.shape[0] // n_segment
    folds = []
    for first, end, offset in moves:
        fold = x[:, first:end]
        zeros = torch.zeros_like(fold[:clips])
        folds.append(torch.cat((fold[clips:], zeros) if offset > 0 else (zeros, fold[:-clips])))
    return folds


class ClipMover(Mover):
    """The moves of a `TemporalShift`, for frames in order of time."""

    def __init__(self, shift: TemporalShift) -> None:
        super().__init__()
        self.n_segment, self.moves = shift.n_segment, make_moves(shift.channels, shift.fold_div, shift.direction)
        self.channels = self.moves[-1][1]

    def forward(self, x: Tensor) -> Tensor:
        folds = _moved(x, self.n_segment, self.moves)
        return torch.cat(folds, dim=1) if len(folds) > 1 else folds[0]


def _make_mover(module: nn.Module) -> Optional[Mover]:
    return ClipMover(module) if isinstance(module, TemporalShift) else None


class ShiftByTime(nn.Module):
    """A `TemporalShift` for frames in order of time."""

    def __init__(self, shift: TemporalShift) -> None:
        super().__init__()
        self.net, self.n_segment = shift.net, shift.n_segment
        self.moves = make_moves(shift.channels, shift.fold_div, shift.direction)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat((*_moved(x, self.n_segment, self.moves), x[:, self.moves[-1][1]:]), dim=1))


class PoolByTime(nn.Module):
    """A `TemporalPool` for frames in order of time."""

    def __init__(self, pool: TemporalPool) -> None:
        super().__init__()
        self.net, self.n_segment = pool.net, pool.n_segment

    def forward(self, x: Tensor) -> Tensor:
        pooled = TemporalPool.temporal_pool(_swap(x, (self.n_segment, -1)), self.n_segment)
        return self.net(_swap(pooled, (-1, pooled_segments(self.n_segment))))


class NonLocalByTime(nn.Module):
    """An `NL3DWrapper` for frames in order of time."""

    def __init__(self, wrapper: NL3DWrapper) -> None:
        super().__init__()
        self.block, self.nl, self.n_segment = wrapper.block, wrapper.nl, wrapper.n_segment

    def forward(self, x: Tensor) -> Tensor:
        clips = self.block(x).unflatten(0, (self.n_segment, -1)).permute(1, 2, 0, 3, 4)  # (N, C, T, H, W)
        return self.nl(clips).permute(2, 0, 1, 3, 4).flatten(0, 1)


_BY_TIME: dict[type, Callable[..., nn.Module]] = {
    TemporalShift: ShiftByTime, StandaloneShift: ShiftByTime, TemporalPool: PoolByTime, NL3DWrapper: NonLocalByTime}
