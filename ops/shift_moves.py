"""Which channels a shift moves, and from which frame; the shift in ordinary operations.

A shift is a tuple of *moves* (first channel, end channel, offset): these channels of frame t come from frame t + offset, or
are zero if the clip has no such frame. Frames are (N*T, C, H, W), the T frames of a clip adjacent.
"""
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ops.common.choices import DIRECTIONS
from ops.common.errors import UserError

Moves = tuple[tuple[int, int, int], ...]


class Shift(NamedTuple):
    """The first `fold` channels come from frame t + first, the next `fold` from frame t + second; clips of n_segment."""
    n_segment: int
    fold: int
    first: int
    second: int

    @property
    def moves(self) -> Moves:
        """The same shift as a tuple of moves."""
        moves = (0, self.fold, self.first), (self.fold, 2 * self.fold, self.second)
        return moves if self.second else moves[:1]


def make_moves(channels: int, fold_div: int, direction: str = "bidirectional") -> Moves:
    """The moves of a shift, in folds of C // fold_div channels.

    bidirectional: fold 0 comes from the next frame, fold 1 from the previous one (sec. 3.2, offline). unidirectional:
    fold 0 comes from the previous frame (online). Raises UserError if a fold is empty or two do not fit.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"shift_direction {direction!r}: choose {' or '.join(DIRECTIONS)}", "shift_direction")
    least = 2 if direction == "bidirectional" else 1
    if not least <= fold_div <= channels:
        raise UserError(f"shift_div {fold_div} does not fit {channels} channels: choose {least} to {channels}"
                        " (the published value is 8)", "shift_div")
    return fold_moves(channels // fold_div, direction)


def fold_moves(fold: int, direction: str) -> Moves:
    """The moves of a shift whose folds have `fold` channels."""
    return ((0, fold, -1),) if direction == "unidirectional" else ((0, fold, 1), (fold, 2 * fold, -1))


def clips_of(x: Tensor, n_segment: int) -> Tensor:
    """(N*T, C, H, W) -> (N, T, C, H, W), a view in any memory format."""
    # While it is traced, a size is a tensor, and a check of it would become a warning.
    whole = torch.jit.is_tracing() or (n_segment > 0 and x.shape[0] % n_segment == 0)
    if not whole:
        raise UserError(f"{x.shape[0]} frames do not divide into clips of {n_segment}: the batch must hold whole"
                        " clips of num_segments frames")
    return x.unflatten(0, (-1, n_segment))


def move_by_plain_ops(x: Tensor, n_segment: int, moves: Moves) -> Tensor:
    """A shifted copy of x (N*T, C, H, W), n_segment being T, in operations that every exporter and transformation knows."""
    clips = clips_of(x, n_segment)
    folds = []
    for first, end, offset in moves:  # padding of W, H, C and T, in front and behind
        fold = clips[:, :, first:end]
        folds.append(F.pad(fold[:, offset:], (0, 0, 0, 0, 0, 0, 0, offset)) if offset > 0
                     else F.pad(fold[:, :offset], (0, 0, 0, 0, 0, 0, -offset, 0)))
    return torch.cat((*folds, clips[:, :, moves[-1][1]:]), dim=2).flatten(0, 1)
