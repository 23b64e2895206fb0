"""The two loops: an epoch of training, and the scoring of a list."""
import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ops.common.cli import progress
from ops.common.errors import UserError
from ops.common.meters import AverageMeter, accuracy
from ops.data.augment import Mix
from ops.data.tsn_dataset import BadVideo
from ops.evaluation.evaluate import Preprocessor, _first, clip_scores
from ops.training.state import TrainState


@dataclass
class EpochResult:
    """Means over an epoch: loss, top-1 and top-5 in percent, seconds per step; and the videos left out."""
    loss: float
    top1: float
    top5: float
    data_seconds: float
    step_seconds: float
    bad: dict[str, str] = field(default_factory=dict)


class NonFiniteLoss(UserError):
    """The loss or a weight is NaN or infinite: nothing that follows would mean anything."""


def train_one_epoch(state: TrainState, loader: DataLoader, prepare: Preprocessor, clip_gradient: Optional[float] = None,
                    print_freq: int = 20, max_steps: Optional[int] = None,
                    report: Callable[[str], Any] = print, mix: Optional[Mix] = None) -> EpochResult:
    """One pass of `loader` with cross-entropy and the state's optimizer. Raises NonFiniteLoss before a bad step, and
    where the last one left weights that are no numbers.

    clip_gradient: largest norm of the whole gradient. max_steps: stop early. mix: mixup or cutmix; the accuracies
    are then of mixed clips, each against the label of the one that it was before.
    """
    state.model.train()
    meters = {name: AverageMeter() for name in ("loss", "top1", "top5", "data", "step")}
    bad: dict[str, str] = {}
    total = min(len(loader), max_steps or len(loader))
    end = time.perf_counter()
    for i, batch in enumerate(progress(_first(loader, total), total=total, desc=f"epoch {state.epoch}", unit="batch")):
        bad.update(_left_out(batch.bad))
        if batch.clips is None:
            continue
        meters["data"].update(time.perf_counter() - end)
        loss, output = train_step(state, prepare(batch.clips), batch.labels, clip_gradient, mix)
        if not math.isfinite(loss):
            raise _not_finite(f"the loss is {loss} in epoch {state.epoch}, step {i}")
        top1, top5 = accuracy(output, batch.labels.to(output.device), topk=(1, 5))
        for name, value in (("loss", loss), ("top1", float(top1)), ("top5", float(top5))):
            meters[name].update(value, len(batch.labels))
        meters["step"].update(time.perf_counter() - end)
        if i % print_freq == 0:
            report(_line(state, i, total, meters))
        end = time.perf_counter()
    if not meters["loss"].count:
        raise UserError(f"no training video could be read; the first was {next(iter(bad.items()), 'none')}")
    # A finite loss may have had a gradient that is not: within the epoch the next loss tells, at its end the weights.
    broken = [name for name, value in state.model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise _not_finite(f"{len(broken)} weights are not finite after epoch {state.epoch}, the first {broken[0]}")
    return EpochResult(meters["loss"].avg, meters["top1"].avg, meters["top5"].avg, meters["data"].avg,
                       meters["step"].avg, bad)


def _not_finite(what: str) -> NonFiniteLoss:
    return NonFiniteLoss(f"{what}: lower --lr, or limit the gradient with --clip-gradient")


def train_step(state: TrainState, clips: Tensor, labels: Tensor, clip_gradient: Optional[float] = None,
               mix: Optional[Mix] = None) -> tuple[float, Tensor]:
    """Forward, backward, one step of the optimizer (none if the loss is not finite): (loss, detached output)."""
    labels = labels.to(clips.device, non_blocking=True)
    if mix is not None:
        clips, labels = mix(clips, labels)
    output = state.model(clips)
    loss = consensus_loss(output, labels)
    value = loss.item()
    if math.isfinite(value):
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_gradient is not None:
            nn.utils.clip_grad_norm_(state.model.parameters(), clip_gradient)
        state.optimizer.step()
    return value, clip_scores(output.detach())


def consensus_loss(output: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy; with the identity consensus (N, T, num_class) every frame must tell the class.

    labels: (N,) classes, or (N, num_class) probabilities.
    """
    if output.dim() == 3:
        return F.cross_entropy(output.flatten(0, 1), labels.repeat_interleave(output.shape[1], dim=0))
    return F.cross_entropy(output, labels)


def _left_out(bad: Sequence[BadVideo]) -> dict[str, str]:
    return {video.path: video.reason for video in bad}


def _line(state: TrainState, i: int, total: int, meters: dict[str, AverageMeter]) -> str:
    lr = state.optimizer.param_groups[0]["lr"] / state.optimizer.param_groups[0]["lr_mult"]
    m = meters
    return (f"epoch {state.epoch} [{i}/{total}] lr {lr:.5f} step {m['step'].val:.3f}s data {m['data'].val:.3f}s"
            f" loss {m['loss'].val:.4f} ({m['loss'].avg:.4f}) prec@1 {m['top1'].avg:.2f} prec@5 {m['top5'].avg:.2f}")
