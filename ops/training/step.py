"""One optimizer step: its forward and backward passes, on one process or many, in float32 or mixed precision."""
import contextlib
import math
from dataclasses import dataclass, field
from typing import Callable, ContextManager, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ops.common import distributed
from ops.common.errors import UserError
from ops.common.meters import accuracy
from ops.data.augment import Mix
from ops.data.tsn_dataset import Batch
from ops.evaluation.clip_runtime import mean_over_segments
from ops.training.distillation import Distillation
from ops.training.precision import Precision
from ops.training.state import StepResult, TrainState
from ops.weights import non_finite

Preprocessor = Callable[[Tensor], Tensor]  # a batch's uint8 clips (N, T*C, H, W) -> the network's input, on its device
Criterion = Callable[[Tensor, Tensor], Tensor]


class NonFiniteLoss(UserError):
    """The loss or a weight is NaN or infinite: training on would be pointless."""


def consensus_loss(output: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of clips (N, num_class), or of every frame under the identity consensus (N, T, num_class).

    labels: (N,) classes, or (N, num_class) probabilities.
    """
    if output.dim() == 3:
        return F.cross_entropy(output.flatten(0, 1), labels.repeat_interleave(output.shape[1], dim=0))
    return F.cross_entropy(output, labels)


@dataclass(frozen=True)
class StepOptions:
    """How one step is made.

    prepare: from uint8 clips to the network's input. criterion: (output, labels) -> mean loss of a batch. precision: of the
    forward pass. clip_gradient: largest norm of the whole gradient. mix: mixup or cutmix. distillation: teachers, if any.
    """
    prepare: Preprocessor
    criterion: Criterion = consensus_loss
    precision: Precision = field(default_factory=lambda: Precision(torch.device("cpu")))
    clip_gradient: Optional[float] = None
    mix: Optional[Mix] = None
    distillation: Optional[Distillation] = None

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A readable batch on the device, normalized and mixed: (the network's input, its labels (N,), or shares of the
        classes (N, num_class); those of a multi-label data set need not sum to 1)."""
        assert batch.clips is not None
        inputs = self.prepare(batch.clips)
        labels = batch.labels.to(inputs.device, non_blocking=True)
        return (inputs, labels) if self.mix is None else self.mix(inputs, labels)

    def inputs_with_answers(self, batch: Batch) -> tuple[Tensor, Tensor, Optional[Tensor]]:
        """`inputs`, and the answers of the teachers to the same clips, mixed in the same way; None without teachers."""
        if self.distillation is None:
            return (*self.inputs(batch), None)
        assert batch.clips is not None
        inputs = self.prepare(batch.clips)
        labels = batch.labels.to(inputs.device, non_blocking=True)
        seen = self.distillation.inputs(batch)
        if self.mix is not None:
            inputs, labels, seen = self.mix.with_views(inputs, labels, seen)
        with self.precision.autocast():
            return inputs, labels, self.distillation.answers(seen)


def train_step(state: TrainState, batches: Sequence[Batch], options: StepOptions) -> Optional[StepResult]:
    """Accumulate the gradient of the mean loss over `batches` and those of the other processes, and step once.

    None, without a step, if no batch has a readable video. With `options.mix`, the accuracies are those of mixed clips
    against their labels from before the mixing.
    Raises NonFiniteLoss before the step on a loss that is not finite, and UserError when a batch has no readable video while
    other processes wait for its gradient.
    """
    readable = [batch for batch in batches if batch.clips is not None]
    clips = int(distributed.total([sum(len(batch.labels) for batch in readable)])[0])
    if not clips:
        return None
    if len(readable) < len(batches) and distributed.world().size > 1:
        raise UserError("no video of a batch is readable, and the other processes wait for its gradient: choose a larger"
                        " batch-size, or leave the unreadable videos out of the list", "batch-size")
    state.optimizer.zero_grad(set_to_none=True)
    sums = [0.0] * 4  # loss, top-1, top-5, loss from the teachers
    for i, batch in enumerate(readable):
        with _no_sync(state.model, i + 1 < len(readable)):
            for j, value in enumerate(_forward_backward(state, batch, clips, options)):
                sums[j] += value * len(batch.labels)
    loss, top1, top5, distilled = (value / clips for value in distributed.total(sums))
    if not math.isfinite(loss):
        state.optimizer.zero_grad(set_to_none=True)
        raise not_finite(f"the loss is {loss} in epoch {state.epoch}, step {state.step}")
    return StepResult(loss, top1, top5, clips, _optimizer_step(state, options.clip_gradient), distilled)


def _no_sync(model: nn.Module, skip: bool) -> ContextManager:
    """Leave the exchange of gradients to the step's last batch."""
    return model.no_sync() if skip and isinstance(model, DistributedDataParallel) else contextlib.nullcontext()


def _forward_backward(state: TrainState, batch: Batch, clips: int, options: StepOptions) -> tuple[float, ...]:
    """Add a batch's share of the gradient, of `clips` clips in all: (loss, top-1, top-5, the teachers' loss, 0 without
    teachers), means over the batch."""
    inputs, targets, answers = options.inputs_with_answers(batch)
    labels = batch.labels.to(inputs.device, non_blocking=True)
    with options.precision.autocast():
        output = state.model(inputs)
        loss = options.criterion(output, targets)
    distilled = 0.0
    if options.distillation is not None and answers is not None:
        difference = options.distillation.loss(output, answers)
        loss, distilled = options.distillation.combined(loss, difference), float(difference.detach())
    # DistributedDataParallel averages over the processes; the factor is 1 for a step of a single batch.
    share = loss * (len(labels) * distributed.world().size / clips)
    (state.scaler.scale(share) if state.scaler is not None else share).backward()
    top1, top5 = accuracy(mean_over_segments(output.detach()), labels, topk=(1, 5))
    return float(loss.detach()), float(top1), float(top5), distilled


def _optimizer_step(state: TrainState, clip_gradient: Optional[float]) -> float:
    """Step with the gradient scaled down to the norm `clip_gradient`; the norm before."""
    if state.scaler is not None:
        state.scaler.unscale_(state.optimizer)
    limit = math.inf if clip_gradient is None else clip_gradient
    trained = [parameter for parameter in state.network.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if state.scaler is None and not math.isfinite(norm):  # a scaler leaves such a step out
        raise not_finite(f"the gradient is not finite in epoch {state.epoch}, step {state.step}")
    if norm > limit:
        nn.utils.clip_grads_with_norm_(trained, limit, norm)
    if state.scaler is None:
        state.optimizer.step()
    else:
        if math.isfinite(norm):  # the scaler would tell fused SGD to skip, whose momentum is never initialized then
            state.scaler.step(state.optimizer)
        state.scaler.update()
    state.update_average()
    return float(norm)


def check_weights(state: TrainState) -> None:
    """NonFiniteLoss after a gradient that was not finite: the next loss would show it, but the last step has none."""
    broken = non_finite(state.network.state_dict())
    if broken:
        raise not_finite(f"{len(broken)} weights are not finite after epoch {state.epoch}, the first {broken[0]}")


def not_finite(what: str) -> NonFiniteLoss:
    """The error of a loss or weight that is not finite, with the remedies."""
    return NonFiniteLoss(f"{what}: lower lr, or limit the gradient with clip-gradient", "lr", "clip-gradient")
