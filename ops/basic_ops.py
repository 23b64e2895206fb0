"""Consensus: from one score per frame to one per clip (TSN, arXiv:1608.00859, sec. 3.1)."""
from torch import Tensor, nn

from ops.common.choices import CONSENSUS_TYPES
from ops.common.errors import UserError


class SegmentConsensus(nn.Module):
    """(N, T, num_class) -> (N, 1, num_class) for "avg" over `dim`; unchanged for "identity"."""

    def __init__(self, consensus_type: str = "avg", dim: int = 1) -> None:
        super().__init__()
        if consensus_type not in CONSENSUS_TYPES:
            raise UserError(f"consensus_type {consensus_type!r}: choose {' or '.join(CONSENSUS_TYPES)}", "consensus_type")
        self.consensus_type = consensus_type
        self.dim = dim

    def forward(self, scores: Tensor) -> Tensor:
        return scores.mean(dim=self.dim, keepdim=True) if self.consensus_type == "avg" else scores


class ConsensusModule(SegmentConsensus):
    """The consensus of a TSN. "rnn", which the published code names but never implemented, means "identity"."""

    def __init__(self, consensus_type: str = "avg", dim: int = 1) -> None:
        super().__init__("identity" if consensus_type == "rnn" else consensus_type, dim)
