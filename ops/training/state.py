"""The state of a training run, and the only place that knows what a training checkpoint holds.

A training checkpoint is a dict with the published entries (epoch, arch, state_dict with `module.` keys, optimizer,
best_prec1) and the run's metadata (`describe_run`). Random states have no entry: each epoch starts from seeds that
follow from the run's seed and the epoch's number (`TrainState.seed_epoch`).
"""
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional

import torch
from torch import Tensor, nn

from ops.checkpoints.checkpoint import VERSION
from ops.common.device import git_commit, mix_seeds, seed_everything
from ops.common.errors import UserError
from ops.dataset_config import DatasetPaths
from ops.models import TSN
from ops.temporal_shift import shift_layers
from ops.weights import check_finite, find_state_dict, load_weights, save_checkpoint

LAST, BEST = "ckpt.pth.tar", "ckpt.best.pth.tar"

# What a group of SGD with the factors of `set_learning_rate` has. Other optimizers' groups lack some of it.
GROUP_KEYS = {"params", "lr", "momentum", "dampening", "weight_decay", "lr_mult", "decay_mult"}


@dataclass
class TrainState:
    """A training run between two epochs.

    model: a TSN, or a DataParallel around one. seed: of the whole run. epoch: epochs done. best_prec1: best validation
    top-1 so far, percent. metadata: entries that every checkpoint of the run carries (`describe_run`).
    """
    model: nn.Module
    optimizer: torch.optim.Optimizer
    seed: int = 0
    epoch: int = 0
    best_prec1: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """The content of a training checkpoint."""
        weights = {f"module.{key.removeprefix('module.')}": value for key, value in self.model.state_dict().items()}
        return {**self.metadata, "epoch": self.epoch, "state_dict": weights, "optimizer": self.optimizer.state_dict(),
                "best_prec1": self.best_prec1}

    def load_state_dict(self, content: Mapping[str, Any], path: Path) -> None:
        """Take weights, optimizer, epoch and best accuracy from the training checkpoint read from `path`.

        Published checkpoints are training checkpoints too. Raises UserError when an entry is missing, damaged, or
        belongs to another model or optimizer.
        """
        load_weights(self._network(), find_state_dict(content, path), str(path))
        _check_optimizer(content, path)
        self.epoch, self.best_prec1 = _read_progress(content, path)
        self._load_momentum(content["optimizer"], path)

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
        weights = dict(self._network().named_parameters())
        buffers = {name: self.optimizer.state[weight]["momentum_buffer"] for name, weight in weights.items()
                   if self.optimizer.state.get(weight, {}).get("momentum_buffer") is not None}
        wrong = [name for name, value in buffers.items() if value.shape != weights[name].shape]
        if wrong:
            raise _misfit(path, f"the momentum of {wrong[0]} has another shape than its weight")
        check_finite(buffers, f"resume {path}: its optimizer's momentum", "resume")

    def save(self, directory: Path, best: bool) -> Path:
        """Write `ckpt.pth.tar`, whose path is returned, and the same content as `ckpt.best.pth.tar` if it is the best."""
        content = self.state_dict()
        if best:  # first: a run killed between the two files resumes from the older one and finds its best again
            save_checkpoint(content, directory / BEST)
        save_checkpoint(content, directory / LAST)
        return directory / LAST

    def seed_epoch(self) -> None:
        """Seed every random generator for the coming epoch: a resumed run draws what an uninterrupted one would."""
        seed_everything(mix_seeds(self.seed, self.epoch))

    def end_epoch(self, top1: Optional[float], best_exists: bool) -> bool:
        """Count an epoch that validated at `top1` percent (None: not validated); True if it is the best so far.

        best_exists: whether the run already has a best checkpoint; without one, any validated epoch is the best.
        """
        is_best = top1 is not None and (not best_exists or top1 > self.best_prec1)
        self.best_prec1 = max(self.best_prec1, top1 or 0.0)
        self.epoch += 1
        return is_best

    def _network(self) -> nn.Module:
        return self.model.module if isinstance(self.model, nn.DataParallel) else self.model


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
    return UserError(f"resume {path}: its optimizer does not fit: {reason}: use the options it was trained with (npb)",
                     "resume", "npb")


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
