"""Small published helpers: a running average and top-k accuracy."""
from typing import Sequence

from torch import Tensor


class AverageMeter:
    """Running average of a number: `val` is the last one, `avg` the mean over `count` items."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val: float, n: int = 1) -> None:
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / max(self.count, 1)


def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """Percent (0-100) of rows whose label is among the k highest scores, for each k of `topk`.

    output: (N, num_class) scores. target: (N,) labels, or (N, num_class) with 1 for each label of a row, of which one must
    be among them. A k above num_class counts as num_class.
    """
    best = output.topk(min(max(topk), output.shape[1]), dim=1).indices  # (N, max k)
    hit = target.gather(1, best) > 0 if target.dim() == 2 else best == target[:, None]
    return [hit[:, :k].any(dim=1).float().mean() * 100 for k in topk]
