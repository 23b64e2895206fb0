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
from torch import nn

from ops.checkpoints.checkpoint import VERSION
from ops.common.device import git_commit, mix_seeds, seed_everything
from ops.common.errors import UserError
from ops.dataset_config import DatasetPaths
from ops.models import TSN
from ops.temporal_shift import shift_layers
from ops.weights import find_state_dict, load_weights, save_checkpoint

LAST, BEST = "ckpt.pth.tar", "ckpt.best.pth.tar"

# What SGD and `set_learning_rate` read from a parameter group; a loaded group replaces the one it is loaded into.
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
        _check_groups(content, path)
        self.epoch, self.best_prec1 = _read_progress(content, path)
        try:
            self.optimizer.load_state_dict(content["optimizer"])
            for parameter, state in self.optimizer.state.items():
                if state.get("momentum_buffer", parameter).shape != parameter.shape:
                    raise ValueError("a momentum has another shape than its weight")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"resume {path}: its optimizer does not fit: {error}: use the options it was trained with (npb)",
                            "resume", "npb") from None

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
    """The parameter groups of a checkpoint's optimizer; [] if there are none."""
    optimizer = content.get("optimizer")
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    return [group for group in groups if isinstance(group, Mapping)] if isinstance(groups, list) else []


def _check_groups(content: Mapping[str, Any], path: Path) -> None:
    if content.get("optimizer") is None:
        raise UserError(f"resume {path}: it holds no optimizer state: start a new run from it with tune_from",
                        "resume", "tune_from")
    groups = _optimizer_groups(content)
    if not groups or not all(GROUP_KEYS <= set(group) for group in groups):
        raise UserError(f"resume {path}: its optimizer state lacks what a step needs ({', '.join(sorted(GROUP_KEYS))} of"
                        " each group): start a new run from it with tune_from", "resume", "tune_from")


def _read_progress(content: Mapping[str, Any], path: Path) -> tuple[int, float]:
    """(epochs done, best top-1 so far, percent)."""
    try:
        epoch, best = int(content["epoch"]), float(content["best_prec1"])
        if epoch < 0 or not math.isfinite(best):
            raise ValueError
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError):  # the last: a tensor of several numbers
        raise UserError(f"resume {path}: its epoch ({content.get('epoch')}) or best_prec1 ({content.get('best_prec1')}) is"
                        " not a number: start a new run from it with tune_from", "resume", "tune_from") from None
    return epoch, best
