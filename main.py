"""Train and validate: flags -> build -> loop.  python main.py somethingv2 RGB --shift"""
import argparse
import logging
from functools import partial
from pathlib import Path
from typing import Optional

import opts
from ops.common import cli

if __name__ == "__main__":
    cli.check_usage(opts.parse_train)  # torch, which the imports below need, takes seconds

import torch
from torch import nn
from torch.utils.data import DataLoader

from ops.checkpoints import checkpoint
from ops.checkpoints.matching import check_same_classes, tune_from
from ops.checkpoints.store_name import store_name
from ops.common.device import channels_last, git_commit, pick_device, pick_gpus, seed_everything
from ops.common.files import check_not_an_input, check_writable
from ops.data.augment import make_mix
from ops.data.loader import make_loader
from ops.dataset_config import DATASETS, DatasetPaths, resolve_dataset
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.metrics import Predictions
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import shift_layers
from ops.training.loop import LoopOptions, fit, validate
from ops.training.resuming import check_options
from ops.training.run_log import RunLog, write_args
from ops.training.state import BEST, LAST, TrainState, describe_run, head_learns_faster
from ops.training.train_set import training_set, validation_set
from ops.weights import load_weights, read_checkpoint

log = logging.getLogger("main")
DEBUG_STEPS = 2


def main() -> None:
    args = opts.parse_train()
    device = pick_device(args.device)
    gpus = pick_gpus(args.gpus, device)
    device = torch.device("cuda", gpus[0]) if gpus else device
    resumed = checkpoint.load_checkpoint(Path(args.resume)) if args.resume else None
    check_before_preparing(args)
    data = resolve_dataset(args.dataset, args.modality, args.root_dataset, train_list=args.train_list,
                           val_list=args.val_list, root_path=args.root_path, dataset_file=args.dataset_file,
                           needed=["val_list"] if args.evaluate else ["train_list", "val_list"])
    spec = ModelSpec.from_options(vars(args), num_class=data.num_class)
    name = store_name(spec, data.name, args.epochs, pretrain=args.pretrain, lr_type=args.lr_type,
                      dense_sample=args.dense_sample, suffix=args.suffix)
    for file in () if args.evaluate else (LAST, BEST):
        check_not_an_input(Path(args.root_model) / name / file, [args.tune_from, args.pretrain])
    seed_everything(args.seed)
    model = build(args, spec, data, resumed)
    announce(args, name, device, model, data)

    options = LoopOptions.from_options(vars(args), max_steps=DEBUG_STEPS if args.debug else None, max_epochs=args.run_epochs)
    optimizer = torch.optim.SGD(model.get_optim_policies(), args.lr, momentum=args.momentum,
                                weight_decay=args.weight_decay)
    if args.channels_last:
        channels_last(model)
    state = TrainState(parallel(model.to(device), gpus), optimizer, seed=args.seed, epoch=args.start_epoch,
                       metadata=describe_run(model, data, vars(args)))
    prepare, runtime = partial(model.preprocessing.apply, device=device), TorchClip(state.model, data.class_names)
    if resumed:
        resume(state, model, resumed, data=data, args=args)
    val_loader = validation_loader(args, model, data)
    if args.evaluate:
        report(validate(runtime, val_loader, options))
        return
    train_loader = training_loader(args, model, data)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = not args.repeatable, args.repeatable
    if not options.epochs_left(state.epoch):
        log.info("nothing left to do: epoch %d of %d", state.epoch, args.epochs)
        return
    log_directory, model_directory = Path(args.root_log) / name, Path(args.root_model) / name
    check_writable(model_directory / LAST)
    write_args(log_directory / "args.txt", {**vars(args), "command": opts.command_line(),
                                            "commit": state.metadata["commit"]})
    run_log = RunLog(log_directory, state.epoch)
    fit(state, train_loader, val_loader, prepare=prepare, options=options, runtime=runtime, run_log=run_log,
        directory=model_directory, mix=make_mix(data.num_class, args.mixup, args.cutmix), resumed_from=args.resume,
        on_validation=report)
    run_log.close()


# ---- build --------------------------------------------------------------------------------------------------

def check_before_preparing(args: argparse.Namespace) -> None:
    """Refuse impossible options before a data set is generated on its first use, which takes minutes."""
    entry = DATASETS.get(args.dataset)
    if entry is None or entry.prepare is None:
        return
    with torch.device("meta"):  # checks every option of the model without computing anything
        TSN.from_spec(ModelSpec.from_options(vars(args), num_class=entry.num_class))
    for file in (args.tune_from, args.pretrain):
        if file and file not in ("imagenet", "none"):
            read_checkpoint(Path(file))


def build(args: argparse.Namespace, spec: ModelSpec, data: DatasetPaths,
          resumed: Optional[checkpoint.Checkpoint]) -> TSN:
    """The model with its first weights; image weights are not fetched if a checkpoint replaces them."""
    replaced = resumed or args.tune_from
    model = TSN.from_spec(spec, pretrain="none" if replaced else args.pretrain, partial_bn=not args.no_partialbn,
                          fc_lr5=True, inplace=args.inplace, print_spec=True)
    if args.tune_from:
        kept = tune_from(model, Path(args.tune_from), dataset=data.name, class_names=data.class_names,
                         evaluate=args.evaluate)
        model.fc_lr5 = not kept  # published behaviour: only a new classifier learns faster
    if resumed:
        model.fc_lr5 = head_learns_faster(resumed.content)
    return model


def parallel(model: TSN, gpus: list[int]) -> nn.Module:
    return nn.DataParallel(model, device_ids=gpus) if len(gpus) > 1 else model


def training_loader(args: argparse.Namespace, model: TSN, data: DatasetPaths) -> DataLoader:
    videos = training_set(model, data, flip=args.flip, augment=args.augment, random_erasing=args.random_erasing,
                          dense_sample=args.dense_sample, skip_bad=args.skip_bad, seed=args.seed,
                          data_format=args.data_format)
    return make_loader(videos, args.batch_size, workers=args.workers, train=True, seed=args.seed)


def validation_loader(args: argparse.Namespace, model: TSN, data: DatasetPaths) -> DataLoader:
    videos = validation_set(model, data, dense_sample=args.dense_sample, data_format=args.data_format)
    return make_loader(videos, args.batch_size, workers=args.workers, train=False)


def resume(state: TrainState, model: TSN, found: checkpoint.Checkpoint, *, data: DatasetPaths,
           args: argparse.Namespace) -> None:
    """Continue from a checkpoint: weights, momentum, epoch, best accuracy; or only the weights, for evaluation."""
    checkpoint.check_same_spec(found, model.spec)
    check_same_classes(found, data)
    if args.evaluate:
        load_weights(model, found.weights, f"--resume {found.path}")
        return
    check_options(found.content.get("train") or {}, vars(args), found.path)
    state.load_state_dict(found.content, found.path)
    log.info("resumed %s after epoch %d", found.path, state.epoch)


# ---- messages -----------------------------------------------------------------------------------------------

def announce(args: argparse.Namespace, name: str, device: torch.device, model: TSN, data: DatasetPaths) -> None:
    """Log what is about to run."""
    print(f"storing name: {name}")
    log.info("commit %s, device %s, %d classes", git_commit(), device, data.num_class)
    layers = list(shift_layers(model))
    for layer, channels, moved in layers:
        ways = "each way" if args.shift_direction == "bidirectional" else "from the past"
        log.info("shift: %s: %d of %d channels %s", layer, moved, channels, ways)
    if args.shift:
        log.info("shift: %d layers", len(layers))
    else:
        log.info("no shift: this network is a TSN, whose runs are named TSM_ too, as published; --shift makes it a TSM")
    recipe = data.entry.recipe
    if recipe and not args.evaluate and (differences := recipe.differences(vars(args))):
        log.info("differs from the published recipe %s in: %s", recipe.script, ", ".join(differences))


def report(scores: Predictions) -> None:
    print(f"Testing Results: Prec@1 {scores.top1:.3f} Prec@5 {scores.top5:.3f} Loss {scores.loss:.5f}", flush=True)


if __name__ == "__main__":
    cli.run(main)
