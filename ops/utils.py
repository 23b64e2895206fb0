"""The published import path of the meters; the code is in `ops.common.meters`."""
from ops.common.meters import AverageMeter, accuracy

__all__ = ["AverageMeter", "accuracy"]
