"""The state of a training run, and the only place that knows what a training checkpoint holds.

A training checkpoint is a dict with the published entries (epoch, arch, state_dict with `module.` keys, optimizer,
best_prec1), the run's metadata (`describe_run`) and what resuming within an epoch needs: `step` (optimizer steps of the
epoch that are done; the sampler's position follows from it), `sums` (for the epoch's log row), `effective_batch`, `scaler`
(fp16) and, with an average of the weights, `average` and `model`: then `state_dict` is the average, because that is what is
validated and used, and `model` holds the weights that train. Random states and the learning rate have no entry: both follow
from the run's seed and the numbers of epoch and step (`TrainState.seed_step`, `ops.training.schedule`).
"""
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ops.checkpoints.checkpoint import VERSION
from ops.common import distributed
from ops.common.device import git_commit, mix_seeds, seed_everything
from ops.common.errors import UserError
from ops.data.tsn_dataset import Batch
from ops.dataset_config import DatasetPaths
from ops.models import TSN
from ops.temporal_shift import shift_layers
from ops.weights import check_finite, find_state_dict, load_weights, save_checkpoint

LAST, BEST = "ckpt.pth.tar", "ckpt.best.pth.tar"

# What a group of SGD with the factors of `set_learning_rate` has. Other optimizers' groups lack some of it.
GROUP_KEYS = {"params", "lr", "momentum", "dampening", "weight_decay", "lr_mult", "decay_mult"}


class StepResult(NamedTuple):
    """Means over the clips of a step, of all processes: loss, top1 and top5 in percent; clips: how many; grad_norm.

    distill_loss: the part of the loss that is learned from teachers, before it is weighted; 0 without teachers.
    """
    loss: float
    top1: float
    top5: float
    clips: int
    grad_norm: float
    distill_loss: float = 0.0


@dataclass
class EpochSums:
    """What the log row of an epoch is made of: sums over its clips so far, of all processes.

    loss, top1, top5 (percent), distill_loss: weighted by clips. grad_norm: over the `grad_norms` steps with a finite one; in
    fp16, an infinite one makes the scaler skip its step. data_seconds, step_seconds: of this process. bad: the videos that
    were left out, with the reasons, of this process.
    """
    loss: float = 0.0
    top1: float = 0.0
    top5: float = 0.0
    clips: float = 0.0
    grad_norm: float = 0.0
    grad_norms: int = 0
    steps: int = 0
    data_seconds: float = 0.0
    step_seconds: float = 0.0
    bad: dict[str, str] = field(default_factory=dict)
    distill_loss: float = 0.0

    def add(self, result: Optional[StepResult], batches: Sequence[Batch], data_seconds: float, step_seconds: float) -> None:
        """Count a step: its result (None: no readable video), its batches, and the seconds it took."""
        self.bad.update({video.path: video.reason for batch in batches for video in batch.bad})
        if result is None:
            return
        for name in ("loss", "top1", "top5", "distill_loss"):
            setattr(self, name, getattr(self, name) + getattr(result, name) * result.clips)
        self.clips += result.clips
        if math.isfinite(result.grad_norm):
            self.grad_norm += result.grad_norm
            self.grad_norms += 1
        self.data_seconds += data_seconds
        self.step_seconds += step_seconds
        self.steps += 1

    def mean(self, name: str) -> float:
        """The mean of `name` per clip, for seconds and grad_norm per step."""
        counts = {"data_seconds": self.steps, "step_seconds": self.steps, "grad_norm": self.grad_norms}
        return getattr(self, name) / max(counts.get(name, self.clips), 1)


@dataclass
class TrainState:
    """A training run between two steps.

    model: the network, or a DistributedDataParallel around it. seed: of the whole run. epoch: epochs done. step: optimizer
    steps done in the current epoch. best_prec1: best validation top-1 so far, percent. ema: decay of an exponential moving
    average of the weights, which is then validated and stored as the weights; 0: none. effective_batch: clips per
    optimizer step, of all processes; 0: unknown. best_by: the measure that finds the best epoch; best: its best value so
    far, larger is better (None: not validated yet); stale: validations since then. metadata: entries that every checkpoint
    of the run carries (`describe_run`).
    """
    model: nn.Module
    optimizer: torch.optim.Optimizer
    seed: int = 0
    epoch: int = 0
    best_prec1: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    scaler: Optional[torch.amp.GradScaler] = None
    ema: float = 0.0
    effective_batch: int = 0
    best_by: str = "top1"
    best: Optional[float] = None
    stale: int = 0

    def __post_init__(self) -> None:
        if self.best is None and self.best_by == "top1":
            self.best = self.best_prec1 or None
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(self.ema),
                                     use_buffers=True) if self.ema else None

    @property
    def network(self) -> nn.Module:
        """The network that trains."""
        return distributed.unwrapped(self.model)

    @property
    def validated(self) -> nn.Module:
        """The network to validate: the average of the weights if there is one, else the one that trains."""
        return self.average.module if self.average is not None else self.network

    def update_average(self) -> None:
        """Take the weights after a step into their average."""
        if self.average is not None:
            self.average.update_parameters(self.network)
            for own, trained in zip(self.average.module.buffers(), self.network.buffers()):
                if not own.is_floating_point():  # a mean of counters, rounded down, would count backwards
                    own.copy_(trained)

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The content of a training checkpoint."""
        content = {**self.metadata, "epoch": self.epoch, "state_dict": _with_prefix(self.validated.state_dict()),
                   "optimizer": self.optimizer.state_dict(), "best_prec1": self.best_prec1, "step": self.step,
                   "sums": asdict(self.sums), "best": {"by": self.best_by, "value": self.best, "stale": self.stale}}
        if self.effective_batch:
            content["effective_batch"] = self.effective_batch
        if self.scaler is not None:
            content["scaler"] = self.scaler.state_dict()
        if self.average is not None:
            content["model"] = _with_prefix(self.network.state_dict())
            content["average"] = {"decay": self.ema, "steps": int(self.average.n_averaged)}
        return content

    def load_state_dict(self, content: Mapping[str, Any], path: Path) -> None:
        """Take the whole state from the training checkpoint read from `path`.

        Published checkpoints are training checkpoints too. Raises UserError when an entry is missing, damaged, or
        belongs to another model or optimizer.
        """
        trained = content.get("model") if self.average is not None or "average" in content else None
        load_weights(self.network, find_state_dict({"state_dict": trained} if trained else content, path), str(path))
        _check_optimizer(content, path)
        self.epoch, self.best_prec1 = _read_progress(content, path)
        self.step, self.sums = _read_step(content, path)
        self._load_best(content, path)
        self._check_effective_batch(content, path)
        self._load_average(content, path)
        self._load_momentum(content["optimizer"], path)
        if self.scaler is not None and content.get("scaler"):
            try:
                self.scaler.load_state_dict(content["scaler"])
            except (RuntimeError, LookupError, TypeError, AttributeError) as error:
                raise UserError(f"resume {path}: its gradient scaler is damaged: {error}", "resume") from None

    def _load_momentum(self, stored: Mapping[str, Any], path: Path) -> None:
        """Take the momentum of each weight; learning rate, weight decay and momentum factor are this run's own."""
        momentum = {key: {"momentum_buffer": value.get("momentum_buffer")} for key, value in stored["state"].items()}
        groups = [{**own, "params": group["params"]}
                  for own, group in zip(self.optimizer.state_dict()["param_groups"], stored["param_groups"])]
        if len(groups) != len(stored["param_groups"]):
            raise _misfit(path, f"it has {len(stored['param_groups'])} groups, this run {len(groups)}")
        try:
            self.optimizer.load_state_dict({"state": momentum, "param_groups": groups})
        except (ValueError, LookupError, TypeError) as error:
            raise _misfit(path, str(error)) from None
        weights = dict(self.network.named_parameters())
        buffers = {name: self.optimizer.state[weight]["momentum_buffer"] for name, weight in weights.items()
                   if self.optimizer.state.get(weight, {}).get("momentum_buffer") is not None}
        wrong = [name for name, value in buffers.items() if value.shape != weights[name].shape]
        if wrong:
            raise _misfit(path, f"the momentum of {wrong[0]} has another shape than its weight")
        check_finite(buffers, f"resume {path}: its optimizer's momentum", "resume")
        for name, value in buffers.items():  # fused SGD reads both in the order of their memory, without a check
            self.optimizer.state[weights[name]]["momentum_buffer"] = torch.empty_like(weights[name].detach()).copy_(value)

    def _load_average(self, content: Mapping[str, Any], path: Path) -> None:
        """The average in the checkpoint; one that begins now, from its weights, if it has none."""
        if self.average is None:
            return
        described = content.get("average")
        load_weights(self.average.module, find_state_dict(content, path), str(path))
        steps = described.get("steps") if isinstance(described, Mapping) else 1
        self.average.n_averaged.fill_(steps if isinstance(steps, int) else 1)

    def _load_best(self, content: Mapping[str, Any], path: Path) -> None:
        """The best value and the validations since; of another measure than this run's, both begin afresh."""
        by, value, self.stale = _read_best(content, path)
        if by == self.best_by:
            self.best = value
        else:
            self.best, self.stale = (self.best_prec1 or None) if self.best_by == "top1" else None, 0

    def _check_effective_batch(self, content: Mapping[str, Any], path: Path) -> None:
        """UserError if the checkpoint's run took another number of clips per step.

        Between two epochs, other options may ask for that; another number of processes alone may not.
        """
        there, before, now = content.get("effective_batch"), content.get("train") or {}, self.metadata.get("train") or {}
        asked = any(before.get(name) != now.get(name) for name in ("batch_size", "grad_accum"))
        if there and self.effective_batch and there != self.effective_batch and (self.step or not asked):
            raise UserError(f"resume {path}: its run took {there} clips per step, this one takes {self.effective_batch}"
                            " (batch-size x grad_accum x processes): choose batch-size and grad_accum so that the product"
                            f" is {there}", "resume", "batch-size", "grad_accum")

    def save(self, directory: Path, best: bool = False, alone: bool = False) -> Path:
        """Write `ckpt.pth.tar`, whose path is returned, and the same content as `ckpt.best.pth.tar` if it is the best.

        Rank 0 writes. In a run of several processes all must call it, unless `alone`: then the videos that other processes
        have left out of this epoch are not recorded.
        """
        bad = self.sums.bad if alone else self.all_bad()
        if distributed.world().is_main:
            content = self.state_dict()
            content["sums"]["bad"] = bad
            if best:  # first: a run killed between the two files resumes from the older one and finds its best again
                save_checkpoint(content, directory / BEST)
            save_checkpoint(content, directory / LAST)
        return directory / LAST

    def all_bad(self) -> dict[str, str]:
        """The videos that any process has left out of this epoch, with the reasons. Every process must call it."""
        return {video: reason for part in distributed.gather(self.sums.bad) for video, reason in part.items()}

    # ---- progress ---------------------------------------------------------------------------------------------------

    def seed_step(self) -> None:
        """Seed every random generator for the coming step: a resumed run draws what an uninterrupted one would."""
        seed_everything(mix_seeds(self.seed, self.epoch, self.step, distributed.world().rank))

    def end_epoch(self, top1: Optional[float], best_exists: bool, measure: Optional[float] = None) -> bool:
        """Count an epoch that validated at `top1` percent (None: not validated); True if it is the best so far.

        best_exists: whether the run already has a best checkpoint; without one, any validated epoch is the best.
        measure: the value of `best_by`, larger is better (None: top1).
        """
        measure = top1 if measure is None else measure
        is_best = measure is not None and (not best_exists or self.best is None or measure > self.best)
        if is_best and not math.isnan(measure):  # type: ignore[arg-type]
            self.best = measure
        self.stale = 0 if is_best else self.stale + (measure is not None)
        self.best_prec1 = max(self.best_prec1, top1 or 0.0)
        self.epoch += 1
        self.step, self.sums = 0, EpochSums()
        return is_best


def _with_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key.removeprefix('module.')}": value for key, value in weights.items()}


def describe_run(model: TSN, data: DatasetPaths, options: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's entries beside the published ones: what rebuilds the model, and the run's options (not None)."""
    spec = model.spec
    return {"version": VERSION, "arch": spec.arch, "settings": spec.to_dict(), "dataset": data.name,
            "class_names": data.class_names, "preprocessing": model.preprocessing.to_dict(),
            "shift_layers": [list(row) for row in shift_layers(model)],
            "train": {key: value for key, value in options.items() if value is not None}, "commit": git_commit()}


def head_learns_faster(content: Mapping[str, Any]) -> bool:
    """Whether a training checkpoint's optimizer gives the classifier a learning rate of its own.

    A run tuned from a checkpoint of the same classes keeps the classifier and trains it like every other layer.
    """
    return all(group.get("params") for group in _optimizer_groups(content) if group.get("name") == "lr5_weight")


# ---- damaged checkpoints --------------------------------------------------------------------------------------

def _optimizer_groups(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parameter groups of a checkpoint's optimizer; [] if there are none, or they are damaged."""
    optimizer = content.get("optimizer")
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    whole = isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups)
    return list(groups) if whole else []  # type: ignore[arg-type]


def _misfit(path: Path, reason: str) -> UserError:
    return UserError(f"resume {path}: its optimizer does not fit: {reason}: use the options it was trained with (npb,"
                     " freeze)", "resume", "npb", "freeze")


def _check_optimizer(content: Mapping[str, Any], path: Path) -> None:
    if content.get("optimizer") is None:
        raise UserError(f"resume {path}: it holds no optimizer state: start a new run from it with tune_from",
                        "resume", "tune_from")
    groups = _optimizer_groups(content)
    if not groups or not all(GROUP_KEYS <= set(group) and isinstance(group["params"], list) for group in groups):
        raise UserError(f"resume {path}: its optimizer state lacks what a step needs ({', '.join(sorted(GROUP_KEYS))} of"
                        " each group): start a new run from it with tune_from", "resume", "tune_from")
    states = content["optimizer"].get("state")
    if not isinstance(states, Mapping) or not all(map(_is_momentum, states.values())):
        raise UserError(f"resume {path} is damaged: its optimizer's entry state does not hold a momentum for each weight:"
                        " start a new run from it with tune_from", "resume", "tune_from")


def _is_momentum(state: Any) -> bool:
    """Whether this is SGD's state of one weight."""
    return isinstance(state, Mapping) and isinstance(state.get("momentum_buffer"), (Tensor, type(None)))


def _read_progress(content: Mapping[str, Any], path: Path) -> tuple[int, float]:
    """(epochs done, best top-1 so far, percent)."""
    try:
        epoch, best = int(content["epoch"]), float(content["best_prec1"])  # published: best_prec1 is a tensor
        if epoch < 0 or not math.isfinite(best):
            raise ValueError
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError):  # the last: a tensor of several numbers
        raise UserError(f"resume {path}: its epoch ({content.get('epoch')}) or best_prec1 ({content.get('best_prec1')}) is"
                        " not a number: start a new run from it with tune_from", "resume", "tune_from") from None
    return epoch, best


def _read_best(content: Mapping[str, Any], path: Path) -> tuple[str, Optional[float], int]:
    """(measure, best value so far or None, validations since); those of the top-1 accuracy where there is no entry."""
    best = content.get("best")
    if best is None:
        return "top1", float(content["best_prec1"]) or None, 0
    try:
        value, stale = None if best["value"] is None else float(best["value"]), int(best["stale"])
        if stale < 0 or value is not None and math.isnan(value):
            raise ValueError
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
        raise UserError(f"resume {path}: its best value ({best}) is damaged: start a new run from it with tune_from",
                        "resume", "tune_from") from None
    return str(best.get("by")), value, stale


def _read_step(content: Mapping[str, Any], path: Path) -> tuple[int, EpochSums]:
    """(optimizer steps done in the epoch, sums of its log row); 0 and no sums for a checkpoint between two epochs."""
    try:
        step, sums = int(content.get("step") or 0), EpochSums(**(content.get("sums") or {}))
        numbers = [value for name, value in asdict(sums).items() if name != "bad"]
        if step < 0 or not isinstance(sums.bad, dict) or not all(math.isfinite(value) for value in numbers):
            raise ValueError
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        raise UserError(f"resume {path}: its step ({content.get('step')}) or the sums of its epoch are damaged: start a new"
                        " run from it with tune_from", "resume", "tune_from") from None
    return step, sums
