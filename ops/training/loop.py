"""The training loop: `fit` runs epoch after epoch, `train_one_epoch` the steps of one."""
import logging
import math
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ops.common.errors import UserError
from ops.common.meters import AverageMeter, accuracy
from ops.common.progress import duration, progress
from ops.data.augment import Mix
from ops.data.loader import first_batches, set_epoch
from ops.data.tsn_dataset import BadVideo
from ops.evaluation.clip_runtime import ClipRuntime, mean_over_segments
from ops.evaluation.evaluate import evaluate
from ops.evaluation.metrics import Predictions
from ops.training.run_clock import RunClock
from ops.training.run_log import RunLog
from ops.training.schedule import learning_rate, set_learning_rate
from ops.training.state import BEST, TrainState
from ops.weights import non_finite

log = logging.getLogger(__name__)

Preprocessor = Callable[[Tensor], Tensor]  # a batch's uint8 clips (N, T*C, H, W) -> the network's input, on its device


@dataclass(frozen=True)
class LoopOptions:
    """How to train. Most fields are options of main.py by the same names.

    epochs: of the whole schedule. lr, lr_type, lr_steps: see `ops.training.schedule`. clip_gradient: largest norm of the
    whole gradient. print_freq: steps between two log lines, fewer in a short epoch (`line_interval`). eval_freq: epochs
    between two validations. max_steps: batches of each phase (None: all). max_epochs: epochs before this process stops
    (None: all that are left).
    """
    epochs: int
    lr: float
    weight_decay: float = 5e-4
    lr_type: str = "step"
    lr_steps: Sequence[float] = (50, 100)
    clip_gradient: Optional[float] = None
    print_freq: int = 20
    eval_freq: int = 5
    max_steps: Optional[int] = None
    max_epochs: Optional[int] = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **known: Any) -> "LoopOptions":
        """From a program's options of the same names; `known` wins over `options`."""
        given = {**options, **known}
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    def epochs_left(self, done: int) -> range:
        """The epochs (0-based) of this process when `done` are over."""
        return range(done, min(self.epochs, done + (self.max_epochs or self.epochs)))

    def validated(self, epochs: range) -> list[int]:
        """Those of these epochs that end with a validation: every `eval_freq`-th and the last."""
        return [epoch for epoch in epochs if (epoch + 1) % self.eval_freq == 0 or epoch + 1 == epochs.stop]

    def line_interval(self, steps: int) -> int:
        """Steps between two log lines in an epoch of so many steps: at least three lines, if there are as many steps."""
        return min(self.print_freq, max(1, steps // 4))

    def batches(self, loader: DataLoader) -> int:
        """The batches of one pass."""
        return min(len(loader), self.max_steps or len(loader))


@dataclass
class EpochResult:
    """Means over an epoch: loss, top-1 and top-5 in percent, seconds per step; and the videos left out, with reasons."""
    loss: float
    top1: float
    top5: float
    data_seconds: float
    step_seconds: float
    bad: dict[str, str] = field(default_factory=dict)


class NonFiniteLoss(UserError):
    """The loss or a weight is NaN or infinite: training on would be pointless."""


# ---- epochs -------------------------------------------------------------------------------------------------

def fit(state: TrainState, train_loader: DataLoader, val_loader: DataLoader, *, prepare: Preprocessor,
        options: LoopOptions, runtime: ClipRuntime, run_log: RunLog, directory: Path, mix: Optional[Mix] = None,
        resumed_from: str = "", on_validation: Callable[[Predictions], None] = lambda scores: None) -> None:
    """Train the epochs that are left: each is logged and saved to `directory`, and validated when due.

    prepare: from uint8 clips to the network's input. runtime: the state's model, for validation. mix: mixup or cutmix.
    resumed_from: checkpoint that the run resumes. on_validation: called with the predictions of each validation.
    Raises UserError, with the last good checkpoint, when the loss or a weight is not finite.
    """
    last_good = resumed_from or "none yet"
    forget_best_elsewhere(state, directory)
    epochs = options.epochs_left(state.epoch)
    validated = options.validated(epochs)
    clock = RunClock(steps=options.batches(train_loader), val_steps=options.batches(val_loader), epochs=len(epochs),
                     validations=len(validated))
    for epoch in epochs:
        state.seed_epoch()
        set_epoch(train_loader, epoch)
        lr = learning_rate(epoch, lr=options.lr, lr_type=options.lr_type, lr_steps=options.lr_steps, epochs=options.epochs)
        set_learning_rate(state.optimizer, lr, options.weight_decay)
        try:
            trained = train_one_epoch(state, train_loader, prepare=prepare, options=options, mix=mix, clock=clock)
        except NonFiniteLoss as error:
            raise UserError(f"{error}; this run's last good checkpoint: {last_good}", *error.options) from None
        run_log.list_skipped(trained.bad)
        scores = _timed_validation(clock, runtime, val_loader, options) if epoch in validated else None
        is_best = state.end_epoch(scores.top1 if scores else None, best_exists=(directory / BEST).exists())
        run_log.add(_log_row(epoch, lr, trained, scores), state.best_prec1)
        last_good = str(state.save(directory, is_best))
        if scores:
            on_validation(scores)
            log.info("best prec@1 %.3f", state.best_prec1)


def forget_best_elsewhere(state: TrainState, directory: Path) -> None:
    """Start the best accuracy afresh in a directory without a best checkpoint (a run resumed with other `epochs`)."""
    if state.best_prec1 and not (directory / BEST).exists():
        log.info("%s has no %s: the best epoch from here on becomes it (best prec@1 so far: %.3f)", directory, BEST,
                 state.best_prec1)
        state.best_prec1 = 0.0


def validate(runtime: ClipRuntime, loader: DataLoader, options: LoopOptions) -> Predictions:
    """Predictions for the validation list."""
    return evaluate(runtime, loader, max_steps=options.max_steps, desc="validate")


def _timed_validation(clock: RunClock, runtime: ClipRuntime, loader: DataLoader, options: LoopOptions) -> Predictions:
    started = time.perf_counter()
    scores = validate(runtime, loader, options)
    clock.validation(time.perf_counter() - started)
    return scores


def _log_row(epoch: int, lr: float, trained: EpochResult, scores: Optional[Predictions]) -> dict[str, Any]:
    row = {"epoch": epoch, "lr": lr, "train_loss": trained.loss, "train_top1": trained.top1,
           "train_top5": trained.top5, "data_seconds": trained.data_seconds, "step_seconds": trained.step_seconds}
    if scores:
        row |= {"val_loss": scores.loss, "val_top1": scores.top1, "val_top5": scores.top5}
    return row


# ---- steps --------------------------------------------------------------------------------------------------

def train_one_epoch(state: TrainState, loader: DataLoader, *, prepare: Preprocessor, options: LoopOptions,
                    mix: Optional[Mix] = None, clock: Optional[RunClock] = None) -> EpochResult:
    """One pass of `loader` with cross-entropy and the state's optimizer. clock: adds the time left to the log lines.

    Raises NonFiniteLoss before a step on a loss that is not finite, or if the weights contain NaN or Inf after the last
    step. With `mix`, the accuracies are those of mixed clips against their labels from before the mixing.
    """
    state.model.train()
    meters = {name: AverageMeter() for name in ("loss", "top1", "top5", "data", "step")}
    bad: dict[str, str] = {}
    clock = clock or RunClock(steps=options.batches(loader), val_steps=0, epochs=1, validations=0)
    total = options.batches(loader)
    interval = options.line_interval(total)
    end = time.perf_counter()
    batches = progress(first_batches(loader, total), lines=False, total=total, desc=f"epoch {state.epoch}", unit="batch")
    for i, batch in enumerate(batches):
        bad.update(_reasons(batch.bad))
        if batch.clips is None:
            clock.skip_step()
            continue
        meters["data"].update(time.perf_counter() - end)
        loss, output = train_step(state, prepare(batch.clips), batch.labels, clip_gradient=options.clip_gradient,
                                  mix=mix)
        if not math.isfinite(loss):
            raise _not_finite(f"the loss is {loss} in epoch {state.epoch}, step {i}")
        top1, top5 = accuracy(output, batch.labels.to(output.device), topk=(1, 5))
        for name, value in (("loss", loss), ("top1", float(top1)), ("top5", float(top5))):
            meters[name].update(value, len(batch.labels))
        meters["step"].update(time.perf_counter() - end)
        clock.step(meters["step"].val)
        if i % interval == 0 or i + 1 == total:
            log.info(_progress_line(state, i, total, meters=meters, clock=clock))
        end = time.perf_counter()
    if not meters["loss"].count:
        raise UserError(f"no training video could be read; the first was {next(iter(bad.items()), 'none')}")
    _check_weights(state)
    return EpochResult(meters["loss"].avg, meters["top1"].avg, meters["top5"].avg, meters["data"].avg,
                       meters["step"].avg, bad)


def train_step(state: TrainState, clips: Tensor, labels: Tensor, *, clip_gradient: Optional[float] = None,
               mix: Optional[Mix] = None) -> tuple[float, Tensor]:
    """Forward, backward, one step of the optimizer (none if the loss is not finite): (loss, detached clip scores)."""
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
    return value, mean_over_segments(output.detach())


def consensus_loss(output: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of clips (N, num_class), or of every frame under the identity consensus (N, T, num_class).

    labels: (N,) classes, or (N, num_class) probabilities.
    """
    if output.dim() == 3:
        return F.cross_entropy(output.flatten(0, 1), labels.repeat_interleave(output.shape[1], dim=0))
    return F.cross_entropy(output, labels)


def _check_weights(state: TrainState) -> None:
    """NonFiniteLoss after a gradient that was not finite: the next loss would show it, but the last step has none."""
    broken = non_finite(state.model.state_dict())
    if broken:
        raise _not_finite(f"{len(broken)} weights are not finite after epoch {state.epoch}, the first {broken[0]}")


def _not_finite(what: str) -> NonFiniteLoss:
    return NonFiniteLoss(f"{what}: lower lr, or limit the gradient with clip-gradient", "lr", "clip-gradient")


def _reasons(bad: Sequence[BadVideo]) -> dict[str, str]:
    return {video.path: video.reason for video in bad}


def _progress_line(state: TrainState, i: int, total: int, *, meters: dict[str, AverageMeter], clock: RunClock) -> str:
    lr = state.optimizer.param_groups[0]["lr"] / state.optimizer.param_groups[0]["lr_mult"]
    m = meters
    return (f"epoch {state.epoch} [{i}/{total}] lr {lr:.5f} step {m['step'].val:.3f}s data {m['data'].val:.3f}s"
            f" loss {m['loss'].val:.4f} ({m['loss'].avg:.4f}) prec@1 {m['top1'].avg:.2f} prec@5 {m['top5'].avg:.2f}"
            f" ({duration(clock.seconds_left or 0)} left)")
