"""The training loop: `fit` runs epoch after epoch, `train_one_epoch` the optimizer steps of one."""
import itertools
import logging
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Optional, Sequence

from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader

from ops.common import distributed
from ops.common.errors import Interrupted, UserError, WorkerDied, worker_died
from ops.common.progress import duration, progress
from ops.common.words import counted
from ops.data.loader import batches_per_step, set_epoch, steps_per_epoch
from ops.data.tsn_dataset import Batch
from ops.evaluation.clip_runtime import ClipRuntime
from ops.evaluation.evaluate import Batches, evaluate
from ops.evaluation.metrics import Predictions
from ops.training.epoch_report import epoch_line, epoch_row
from ops.training.interrupt import StopRequest
from ops.training.precise_bn import update_statistics
from ops.training.run_clock import RunClock
from ops.training.saving import SaveSchedule
from ops.training.schedule import learning_rate, set_learning_rate
from ops.training.state import BEST, TrainState
from ops.training.step import NonFiniteLoss, StepOptions, StepResult, check_weights, train_step

if TYPE_CHECKING:
    from ops.training.run_log import RunLog  # which needs TensorBoard; a run without a log does not

log = logging.getLogger(__name__)


# best_by: predictions -> a number that is larger for a better epoch
MEASURES: dict[str, Callable[[Any], float]] = {
    "top1": lambda scores: scores.top1, "mean_class": lambda scores: scores.class_accuracy,
    "loss": lambda scores: -scores.loss, "map": lambda scores: scores.mean_ap}


@dataclass(frozen=True)
class LoopOptions:
    """How long to train, and what to do when. Most fields are options of main.py by the same names.

    epochs: of the whole schedule. lr, lr_type, lr_steps, lr_update, warmup_epochs: see `ops.training.schedule`.
    print_freq: steps between two log lines, fewer in a short epoch (`line_interval`). eval_freq: epochs between two
    validations. best_by: the measure that finds the best epoch (`MEASURES`). patience: validations without a better one
    after which the run ends (0: no limit). precise_bn: batches for the statistics to validate with
    (`ops.training.precise_bn`; 0: those of training). save_freq: see `ops.training.saving`. max_steps: steps of each phase
    (None: all). max_epochs: epochs before this process stops (None: all that are left).
    """
    epochs: int
    lr: float
    weight_decay: float = 5e-4
    lr_type: str = "step"
    lr_steps: Sequence[float] = (50, 100)
    lr_update: str = "epoch"
    warmup_epochs: float = 0
    print_freq: int = 20
    eval_freq: int = 5
    best_by: str = "top1"
    patience: int = 0
    precise_bn: int = 0
    save_freq: str = ""
    max_steps: Optional[int] = None
    max_epochs: Optional[int] = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **known: Any) -> "LoopOptions":
        """From a program's options of the same names; `known` wins over `options`."""
        given = {**options, **known}
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    def epochs_left(self, done: int, stale: int = 0) -> range:
        """The epochs (0-based) of this process when `done` are over. stale: validations since the best one."""
        end = done if self.out_of_patience(stale) else min(self.epochs, done + (self.max_epochs or self.epochs))
        return range(done, end)

    def out_of_patience(self, stale: int) -> bool:
        """Whether a run ends early after so many validations since the best one."""
        return 0 < self.patience <= stale

    def validated(self, epochs: range) -> list[int]:
        """Those of these epochs that end with a validation: every `eval_freq`-th and the last."""
        return [epoch for epoch in epochs if (epoch + 1) % self.eval_freq == 0 or epoch + 1 == epochs.stop]

    def line_interval(self, steps: int) -> int:
        """Steps between two log lines in an epoch of so many steps: at least three lines, if there are as many steps."""
        return min(self.print_freq, max(1, steps // 4))

    def steps(self, whole: int) -> int:
        """The steps of one pass of `whole` steps."""
        return min(whole, self.max_steps or whole)

    def rate(self, epoch: float) -> float:
        """The learning rate when `epoch` epochs, with their fraction, are done."""
        return learning_rate(epoch, lr=self.lr, lr_type=self.lr_type, lr_steps=self.lr_steps, epochs=self.epochs,
                             lr_update=self.lr_update, warmup_epochs=self.warmup_epochs)


# ---- epochs -------------------------------------------------------------------------------------------------

def fit(state: TrainState, train_loader: DataLoader, val_loader: DataLoader, *, options: LoopOptions, steps: StepOptions,
        runtime: ClipRuntime, directory: Path, run_log: Optional["RunLog"] = None, stop: Optional[StopRequest] = None,
        draw: Optional[Callable[[Tensor, Tensor], Image]] = None, resumed_from: str = "",
        on_validation: Callable[[Predictions], None] = lambda scores: None) -> None:
    """Train the epochs that are left: each is saved to `directory`, logged, and validated when due.

    steps: how one optimizer step is made. runtime: the state's `validated` network. run_log: None for processes that do not
    write. stop: asked after every step; when a signal has come, the state is saved and Interrupted raised.
    draw: makes pictures of a batch's inputs and labels, for the log of a run that has none yet.
    resumed_from: checkpoint that the run resumes. on_validation: called with the predictions of each validation.
    Raises UserError, with the last good checkpoint, when the loss or a weight is not finite, or another process or a
    worker of the loader is lost.
    """
    forget_best_elsewhere(state, directory)
    epochs = options.epochs_left(state.epoch, state.stale)
    validated = options.validated(epochs)
    clock = RunClock(steps=options.steps(steps_per_epoch(train_loader)), val_steps=options.steps(len(val_loader)),
                     epochs=len(epochs), validations=len(validated), done=state.step)
    run = _Run(state, options, steps, directory, stop or StopRequest(), clock, resumed_from or "none yet", run_log, draw)
    for epoch in epochs:
        with run.naming_last_good(), distributed.naming_lost_processes():
            train_one_epoch(run, train_loader)
            if options.precise_bn and epoch in validated:
                update_statistics(state, train_loader, steps, options.precise_bn)
            scores = run.validate(runtime, val_loader) if epoch in validated else None
            row, bad = run.row(scores), state.all_bad()
            # What rank 0 measures decides, so that the processes agree, on different CPUs and with a slow shared disk too.
            measure, best_exists = distributed.gather((MEASURES[options.best_by](scores) if scores else None,
                                                       (directory / BEST).exists()))[0]
            is_best = state.end_epoch(scores.top1 if scores else None, best_exists, measure)
            if run_log:
                run_log.list_skipped(bad)
                run_log.add(row, state.best_prec1)
            log.info(epoch_line(row))
            run.save(is_best)
        if scores:
            on_validation(scores)
            if options.best_by != "top1" and state.best is not None:
                log.info("best %s %.5g", options.best_by, abs(state.best))
            log.info("best prec@1 %.3f", state.best_prec1)
        if options.out_of_patience(state.stale):
            log.info("stopped early after epoch %d: %s without a better %s", state.epoch - 1,
                     counted(state.stale, "validation"), options.best_by)
            break


@dataclass
class _Run:
    """A call of `fit`: its state and options, and the last checkpoint that it wrote or began with."""
    state: TrainState
    options: LoopOptions
    steps: StepOptions
    directory: Path
    stop: StopRequest
    clock: RunClock
    last_good: str = "none yet"
    run_log: Optional["RunLog"] = None
    draw: Optional[Callable[[Tensor, Tensor], Image]] = None

    def __post_init__(self) -> None:
        self.schedule = SaveSchedule(self.options.save_freq)

    def save(self, best: bool = False) -> None:
        self.last_good = str(self.state.save(self.directory, best))
        self.schedule.saved()

    def save_when_due(self, step: int) -> None:
        """After `step` steps of the whole run: save if the schedule or a signal asks for it, on all processes together.

        Raises Interrupted after a signal's checkpoint.
        """
        signals, due = distributed.total([self.stop.signal, self.schedule.due(step) and distributed.world().is_main])
        if signals or due:
            self.save()
        if signals:
            raise self.interrupted()

    def show_first_batch(self, batches: Sequence[Batch]) -> None:
        """Draw the first batch of the run, as the network will see it, for the log."""
        readable = [batch for batch in batches if batch.clips is not None]
        if self.draw is None or self.run_log is None or self.run_log.has_pictures or not readable:
            return
        self.state.seed_step()  # the step draws the same mixing again
        self.run_log.add_pictures(self.draw(*self.steps.inputs(readable[0])))

    def row(self, scores: Optional[Predictions]) -> dict[str, Any]:
        """The epoch's row of the log. Every process must call it."""
        return epoch_row(self.state.epoch, self.state.sums, rate=self.options.rate(self.state.epoch), scores=scores,
                         seconds_left=self.clock.seconds_left, device=next(self.state.network.parameters()).device,
                         distilled=self.steps.distillation is not None)

    def interrupted(self) -> Interrupted:
        return Interrupted(f"interrupted in epoch {self.state.epoch} after step {self.state.step}, which is saved: continue"
                           f" with resume {self.last_good}", self.stop.signal or signal.SIGTERM, "resume")

    def validate(self, runtime: ClipRuntime, loader: DataLoader) -> Predictions:
        """Predictions for the validation list. A signal ends it: the epoch's training is saved, and Interrupted raised."""
        started = time.perf_counter()
        try:
            with distributed.naming_lost_processes():
                distributed.share_buffers(self.state.validated)
                scores = validate(runtime, _Stoppable(loader, self.stop), self.options)
        except (Interrupted, distributed.LostProcess):
            if not self.stop.signal:
                raise
            # Without the other processes: they may be at another batch, or have left.
            self.last_good = str(self.state.save(self.directory, alone=True))
            raise self.interrupted() from None
        self.clock.validation(time.perf_counter() - started)
        return scores

    @contextmanager
    def naming_last_good(self) -> Iterator[None]:
        """Add the last good checkpoint to the error of a run that cannot continue."""
        try:
            yield
        except (NonFiniteLoss, distributed.LostProcess, WorkerDied, RuntimeError) as error:
            # PyTorch reports a dead worker in a signal handler, so that the error may come from anywhere.
            reason = error if isinstance(error, UserError) else worker_died(error)
            if reason is None:
                raise
            raise UserError(f"{reason}; this run's last good checkpoint: {self.last_good}", *reason.options) from None


class _Stoppable:
    """The batches of a loader, until a signal comes: then Interrupted is raised."""

    def __init__(self, loader: DataLoader, stop: StopRequest) -> None:
        self.loader, self.stop = loader, stop

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.stop.check()
            yield batch


def forget_best_elsewhere(state: TrainState, directory: Path) -> None:
    """Start the best accuracy afresh in a directory without a best checkpoint (a run resumed with other `epochs`)."""
    exists = distributed.gather((directory / BEST).exists())[0]  # rank 0 writes it, perhaps on a disk of its own
    if (state.best_prec1 or state.best is not None) and not exists:
        log.info("%s has no %s: the best epoch from here on becomes it (best prec@1 so far: %.3f)", directory, BEST,
                 state.best_prec1)
        state.best_prec1, state.best, state.stale = 0.0, None, 0


def validate(runtime: ClipRuntime, loader: Batches, options: LoopOptions) -> Predictions:
    """Predictions for the validation list."""
    return evaluate(runtime, loader, max_steps=options.max_steps, desc="validate")


# ---- steps --------------------------------------------------------------------------------------------------

def train_one_epoch(run: "_Run", loader: DataLoader) -> None:
    """The steps that are left of the current epoch, with the state's optimizer; their sums are in `run.state.sums`.

    Raises NonFiniteLoss before a step on a loss that is not finite, or if the weights contain NaN or Inf after the last
    step; Interrupted after a signal.
    """
    state, options = run.state, run.options
    set_epoch(loader, state.epoch, state.step)
    state.model.train()
    whole = steps_per_epoch(loader)
    last = options.steps(whole)
    interval = options.line_interval(last)
    end = time.perf_counter()
    groups = progress(_groups(loader, last - state.step), lines=False, total=last, initial=state.step,
                      desc=f"epoch {state.epoch}", unit="step")
    for batches in groups:
        data_seconds = time.perf_counter() - end
        distributed.mark_progress(state.epoch * whole + state.step)
        run.show_first_batch(batches)
        state.seed_step()
        rate = options.rate(state.epoch + state.step / whole)
        set_learning_rate(state.optimizer, rate, options.weight_decay)
        result = train_step(state, batches, run.steps)
        step_seconds = time.perf_counter() - end
        state.sums.add(result, batches, data_seconds, step_seconds)
        run.clock.step(step_seconds if result else None)
        if result and (state.step % interval == 0 or state.step + 1 == last):
            log.info(_progress_line(run, last, result, rate=rate, data=data_seconds, step=step_seconds))
        state.step += 1
        run.save_when_due(state.epoch * whole + state.step)
        end = time.perf_counter()
    if not state.sums.clips:
        raise UserError(f"no training video could be read; the first was {next(iter(state.sums.bad.items()), 'none')}")
    check_weights(state)


def _groups(loader: DataLoader, steps: int) -> Iterator[list[Batch]]:
    """The batches of each of the next `steps` optimizer steps."""
    batches, size = iter(loader) if steps > 0 else iter(()), batches_per_step(loader)
    return (list(itertools.islice(batches, size)) for _ in range(steps))


def _progress_line(run: "_Run", last: int, result: StepResult, *, rate: float, data: float, step: float) -> str:
    state, left = run.state, run.clock.seconds_left
    mean = state.sums.mean
    return (f"epoch {state.epoch} [{state.step}/{last}] lr {rate:.5f} step {step:.3f}s data {data:.3f}s"
            f" loss {result.loss:.4f} ({mean('loss'):.4f}) prec@1 {mean('top1'):.2f} prec@5 {mean('top5'):.2f}"
            f" ({duration(left or 0)} left)")
