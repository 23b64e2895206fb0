"""The two loops: an epoch of training, and the scoring of a list."""
import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ops.augment import Mix
from ops.cli import progress
from ops.dataset import BadVideo, Batch
from ops.errors import UserError
from ops.metrics import Scores
from ops.transforms import normalize_clips
from ops.utils import AverageMeter, accuracy

Prepare = Callable[[Tensor], Tensor]


@dataclass
class TrainState:
    """The whole state of a training run; what a checkpoint must hold to go on from it.

    epoch: epochs done. best_prec1: best validation top-1 so far, percent.
    """
    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    best_prec1: float = 0.0


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


def learning_rate(epoch: int, base: float, lr_type: str, steps: Sequence[float], epochs: int) -> float:
    """The published schedules. step: a tenth after each of `steps` epochs. cos: half a cosine down to 0."""
    if lr_type == "cos":
        return 0.5 * base * (1 + math.cos(math.pi * epoch / epochs))
    return base * 0.1 ** sum(epoch >= step for step in steps)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Each group's own multiple of both."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
        group["weight_decay"] = weight_decay * group["decay_mult"]


def make_prepare(mean: Sequence[float], std: Sequence[float], bgr_255: bool, device: torch.device) -> Prepare:
    """A function from a batch's uint8 clips (N, T*C, H, W) to the network's input on `device`."""
    def prepare(clips: Tensor) -> Tensor:
        return normalize_clips(clips.to(device, non_blocking=True), mean, std, div=not bgr_255)
    return prepare


def train_one_epoch(state: TrainState, loader: DataLoader, prepare: Prepare, clip_gradient: Optional[float] = None,
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


def clip_scores(output: Tensor) -> Tensor:
    """(N, num_class), whatever the consensus."""
    return output.mean(dim=1) if output.dim() == 3 else output


@torch.no_grad()
def score(model: nn.Module, loader: DataLoader, prepare: Prepare, mirrored: Sequence[bool] = (False,),
          mirror_labels: Optional[Sequence[int]] = None, softmax: bool = False, max_steps: Optional[int] = None,
          desc: str = "test") -> Scores:
    """Scores of every video of `loader`, in its order.

    mirrored: of each of an item's views (crops x clips, in its channels) whether it is a mirror image; the views'
    scores are averaged. mirror_labels: label -> the mirrored video's, so that a mirror image's score for "left" counts
    as one for "right". softmax: of the average.
    """
    model.eval()
    views = len(mirrored)
    flipped = torch.tensor(mirrored)
    logits, labels = [], []
    total = min(len(loader), max_steps or len(loader))
    for batch in progress(_first(loader, total), total=total, desc=desc, unit="batch"):
        clips = batch.clips.unflatten(1, (views, -1)).flatten(0, 1)  # (N * views, T*C, H, W)
        output = clip_scores(model(prepare(clips))).float()
        output = output.unflatten(0, (-1, views))  # (N, views, num_class)
        if mirror_labels is not None and any(mirrored):
            output[:, flipped] = output[:, flipped][:, :, list(mirror_labels)]
        output = output.mean(dim=1)
        logits.append((output.softmax(dim=1) if softmax else output).cpu())
        labels.append(batch.labels)
    return Scores(torch.cat(logits), torch.cat(labels), probabilities=softmax)


def _first(loader: DataLoader, count: int):
    """The first `count` batches."""
    for i, batch in enumerate(loader):
        assert isinstance(batch, Batch)
        yield batch
        if i + 1 == count:
            return


def _left_out(bad: Sequence[BadVideo]) -> dict[str, str]:
    return {video.path: video.reason for video in bad}


def _line(state: TrainState, i: int, total: int, meters: dict[str, AverageMeter]) -> str:
    lr = state.optimizer.param_groups[0]["lr"] / state.optimizer.param_groups[0]["lr_mult"]
    m = meters
    return (f"epoch {state.epoch} [{i}/{total}] lr {lr:.5f} step {m['step'].val:.3f}s data {m['data'].val:.3f}s"
            f" loss {m['loss'].val:.4f} ({m['loss'].avg:.4f}) prec@1 {m['top1'].avg:.2f} prec@5 {m['top5'].avg:.2f}")
