"""What resuming a run does with each option that differs from those of the run before."""
import logging
from pathlib import Path
from typing import Any, Mapping

from ops.common.errors import UserError

log = logging.getLogger(__name__)

SAME = "same"  # must be as before: the weights or the optimizer depend on it; another value is refused
APPLIED = "applied"  # takes effect from the next epoch on, and is logged
UNUSED = "unused"  # has no effect, because the checkpoint holds what it decides, and is logged
FREE = "free"  # where and how the run is computed, stored or shown

# Every option of main.py. `ops.checkpoints.checkpoint.check_same_spec` compares those of the network (`ModelSpec`), and
# `ops.checkpoints.matching.check_same_classes` the data set, `ops.training.distillation` the teachers.
EFFECTS: dict[str, str] = {
    **dict.fromkeys(("modality", "arch", "num_segments", "consensus_type", "dropout", "shift", "shift_div", "shift_place",
                     "shift_direction", "shift_stages", "temporal_pool", "non_local", "non_local_type", "input_size",
                     "dataset", "no_partialbn", "freeze", "teacher", "distill_weight", "distill_temperature"), SAME),
    **dict.fromkeys(("train_list", "val_list", "dense_sample", "skip_bad", "epochs", "batch_size", "lr", "lr_type",
                     "lr_steps", "lr_update", "warmup_epochs", "scale_lr", "grad_accum", "ema", "momentum", "weight_decay",
                     "clip_gradient", "loss_type", "label_smoothing", "nesterov",
                     "class_weights", "sampler", "best_by", "patience", "precise_bn",
                     "seed", "flip", "augment", "mixup", "cutmix", "random_erasing"), APPLIED),
    **dict.fromkeys(("pretrain", "tune_from", "start_epoch", "img_feature_dim", "k", "snapshot_pref", "flow_prefix"),
                    UNUSED),
    **dict.fromkeys(("root_path", "root_dataset", "dataset_file", "data_format", "inplace", "suffix", "print_freq",
                     "eval_freq", "workers", "resume", "evaluate", "gpus", "device", "root_log", "root_model",
                     "channels_last", "compile", "tf32", "debug", "save_freq", "amp", "sync_bn", "dist_timeout",
                     "no_norm_decay", "config", "recipe", "data_url", "train_url", "track"), FREE),
}
_COMPARED_HERE = ("no_partialbn", "freeze")  # of SAME
_SAID_BY_THE_COMMAND_LINE = ("tune_from", "start_epoch", "img_feature_dim", "k", "snapshot_pref", "flow_prefix")
# What an option that the checkpoint lacks was: None, which is left out, or a default from before the option existed.
_UNSET = {"clip_gradient": None, "freeze": ""}


def check_options(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Log the options in which a resumed run differs from the run that wrote `path`.

    before: the entry `train` of the checkpoint, {} where it has none, as published ones; an option that it lacks is not
    compared. now: the options of this run. Raises UserError for a difference that resuming cannot make.
    """
    known = {**_UNSET, **before} if before else {}
    changed = [name for name in EFFECTS if name in known and name in now and known[name] != now[name]]
    for name in changed:
        if EFFECTS[name] == SAME and name in _COMPARED_HERE:
            raise UserError(f"resume {path}: {name} was {_shown(known[name])}, is {_shown(now[name])}, and the optimizer"
                            f" depends on it: resume with the {name} of before, or start a new run with tune_from",
                            "resume", name, "tune_from")
    applied = [f"{name} {now[name]} (was {known[name]})" for name in changed if EFFECTS[name] == APPLIED]
    if applied:
        log.info("resumed with other options than before: %s", ", ".join(applied))
    unused = [name for name in changed if EFFECTS[name] == UNUSED and name not in _SAID_BY_THE_COMMAND_LINE]
    if unused:
        log.warning("warning: %s has no effect: the checkpoint holds what it decides", ", ".join(unused))


def _shown(value: Any) -> str:
    return "not given" if value == "" else str(value)
