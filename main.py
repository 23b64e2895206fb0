"""Train and validate: flags -> build -> loop.  python main.py somethingv2 RGB --shift"""
import argparse
import logging
from pathlib import Path
from typing import Any, Optional

import torch
from torch import nn
from torch.utils.data import DataLoader

import opts
from ops.checkpoints import checkpoint
from ops.checkpoints.checkpoint import store_name
from ops.common import cli
from ops.common.device import channels_last, git_commit, mix_seeds, pick_device, pick_gpus, seed_everything
from ops.common.errors import UserError
from ops.common.files import atomic_write, check_writable
from ops.data.augment import Mix, make_mix
from ops.data.loader import make_loader, set_epoch
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DATASETS, DatasetPaths, resolve_dataset
from ops.evaluation.evaluate import Preprocessor, evaluate, make_preprocessor
from ops.evaluation.metrics import Predictions
from ops.models import TSN
from ops.spec import ModelSpec, build_model, preprocessing
from ops.temporal_shift import shift_layers
from ops.training.loop import EpochResult, NonFiniteLoss, train_one_epoch
from ops.training.run_log import RunLog, write_args
from ops.training.schedule import learning_rate, set_learning_rate
from ops.training.state import TrainState
from ops.training.train_set import training_set
from ops.weights import load_weights, read_checkpoint, save_checkpoint

log = logging.getLogger("main")
DEBUG_STEPS = 2


def main() -> None:
    args = opts.parse_train()
    device = pick_device(args.device)
    gpus = pick_gpus(args.gpus, device)
    device = torch.device("cuda", gpus[0]) if gpus else device
    resumed = checkpoint.load_checkpoint(Path(args.resume)) if args.resume else None
    check_before_preparing(args)
    data = resolve_dataset(args.dataset, args.modality, args.root_dataset, args.train_list, args.val_list, args.root_path,
                           args.dataset_file, needed=["val_list"] if args.evaluate else ["train_list", "val_list"])
    settings = model_settings(args, data.num_class)
    name = store_name(settings, data.name, args.epochs, args.pretrain, args.lr_type, args.dense_sample, args.suffix)
    seed_everything(args.seed)
    model = build(args, settings, data, resumed)
    announce(args, name, device, model, data)

    prepare = make_preprocessor(*model.normalization, settings.bgr_255, device)
    optimizer = torch.optim.SGD(model.get_optim_policies(), args.lr, momentum=args.momentum,
                                weight_decay=args.weight_decay)
    if args.channels_last:
        channels_last(model)
    state = TrainState(parallel(model.to(device), gpus), optimizer, args.start_epoch)
    if resumed:
        resume(state, model, settings, resumed, args.evaluate)
    val_loader = validation_loader(args, model, settings, data)
    if args.evaluate:
        report(validate(state, val_loader, prepare, args))
        return
    train_loader = training_loader(args, model, settings, data)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = not args.repeatable, args.repeatable
    train(args, state, train_loader, val_loader, prepare, make_mix(data.num_class, args.mixup, args.cutmix),
          Path(args.root_log) / name, Path(args.root_model) / name, metadata(args, model, settings, data))


# ---- build --------------------------------------------------------------------------------------------------

def check_before_preparing(args: argparse.Namespace) -> None:
    """Of a data set that is made on first use, for minutes: refuse beforehand what could not train on it."""
    entry = DATASETS.get(args.dataset)
    if entry is None or entry.prepare is None:
        return
    with torch.device("meta"):  # every option of the model is checked, and nothing is computed
        build_model(model_settings(args, entry.num_class))
    for file in (args.tune_from, args.pretrain):
        if file and file not in ("imagenet", "none"):
            read_checkpoint(Path(file))


def model_settings(args: argparse.Namespace, num_class: int) -> ModelSpec:
    return ModelSpec(
        num_class=num_class, num_segments=args.num_segments, modality=args.modality, arch=args.arch,
        shift=args.shift, shift_div=args.shift_div, shift_place=args.shift_place or "",
        shift_direction=args.shift_direction, consensus_type=args.consensus_type, dropout=args.dropout,
        img_feature_dim=args.img_feature_dim, temporal_pool=args.temporal_pool, non_local=args.non_local,
        non_local_type=args.non_local_type, input_size=args.input_size)


def build(args: argparse.Namespace, settings: ModelSpec, data: DatasetPaths,
          resumed: Optional[checkpoint.Checkpoint]) -> TSN:
    """The model with its first weights; image weights are not fetched where a checkpoint replaces them."""
    replaced = resumed or args.tune_from
    model = build_model(settings, "none" if replaced else args.pretrain, partial_bn=not args.no_partialbn, fc_lr5=True,
                        inplace=args.inplace, print_spec=True)
    if args.tune_from:
        kept = checkpoint.tune_from(model, Path(args.tune_from), data.name, data.class_names)
        if args.evaluate and not kept:
            raise UserError(f"--evaluate: the classifier of {args.tune_from} is of other classes than {data.name}'s, and a"
                            " new one knows nothing yet: train it first, without --evaluate")
        model.fc_lr5 = not kept  # published behaviour: only a new classifier learns faster
    if resumed:
        model.fc_lr5 = checkpoint.classifier_learnt_faster(resumed)
    return model


def parallel(model: TSN, gpus: list[int]) -> nn.Module:
    return nn.DataParallel(model, device_ids=gpus) if len(gpus) > 1 else model


def training_loader(args: argparse.Namespace, model: TSN, settings: ModelSpec, data: DatasetPaths) -> DataLoader:
    videos = training_set(model, settings, data, args.flip, args.augment, args.random_erasing, args.dense_sample,
                          args.skip_bad, args.seed, args.data_format)
    return make_loader(videos, args.batch_size, args.workers, train=True, seed=args.seed)


def validation_loader(args: argparse.Namespace, model: TSN, settings: ModelSpec, data: DatasetPaths) -> DataLoader:
    transform = TestProtocol().transform(model.scale_size, model.crop_size, settings.bgr_255)
    videos = TSNDataSet(data.frames, data.val_list, settings.num_segments, model.new_length, settings.modality,
                        data.template, transform, random_shift=False, dense_sample=args.dense_sample,
                        num_class=data.num_class, data_format=args.data_format)
    log.info("validation videos: %d", len(videos))
    return make_loader(videos, args.batch_size, args.workers, train=False)


def metadata(args: argparse.Namespace, model: TSN, settings: ModelSpec, data: DatasetPaths) -> dict[str, Any]:
    """What a checkpoint carries beside the published entries."""
    return {"version": checkpoint.VERSION, "arch": settings.arch, "settings": settings.to_dict(),
            "dataset": data.name, "class_names": data.class_names,
            "preprocessing": preprocessing(model, settings), "shift_layers": [list(row) for row in shift_layers(model)],
            "train": {key: value for key, value in vars(args).items() if value is not None}, "commit": git_commit()}


def resume(state: TrainState, model: TSN, settings: ModelSpec, found: checkpoint.Checkpoint,
           weights_only: bool) -> None:
    """Go on exactly where the checkpoint ended: weights, optimizer, epoch, best accuracy."""
    checkpoint.check_same_settings(found, settings)
    load_weights(model, found.weights, f"--resume {found.path}")
    if not weights_only:
        state.epoch, state.best_prec1 = checkpoint.restore(found, state.optimizer)
        log.info("resumed %s after epoch %d", found.path, state.epoch)


# ---- loop ---------------------------------------------------------------------------------------------------

def train(args: argparse.Namespace, state: TrainState, train_loader: DataLoader, val_loader: DataLoader,
          prepare: Preprocessor, mix: Optional[Mix], log_directory: Path, model_directory: Path,
          meta: dict[str, Any]) -> None:
    """Epochs from the state's on: train, validate when due, log, checkpoint."""
    if state.epoch >= args.epochs:
        log.info("nothing left to do: epoch %d of %d", state.epoch, args.epochs)
        return
    check_writable(model_directory / "ckpt.pth.tar")
    good = args.resume or "none yet"
    count_best_anew(state, model_directory)
    write_args(log_directory / "args.txt", {**vars(args), "command": opts.command_line(), "commit": meta["commit"]})
    run_log = RunLog(log_directory, state.epoch)
    last = min(args.epochs, state.epoch + (args.run_epochs or args.epochs))
    for epoch in range(state.epoch, last):
        seed_everything(mix_seeds(args.seed, epoch))  # dropout; a resumed epoch draws what it would have drawn
        set_epoch(train_loader, epoch)
        lr = learning_rate(epoch, args.lr, args.lr_type, args.lr_steps, args.epochs)
        set_learning_rate(state.optimizer, lr, args.weight_decay)
        try:
            trained = train_one_epoch(state, train_loader, prepare, args.clip_gradient, args.print_freq,
                                      DEBUG_STEPS if args.debug else None, log.info, mix)
        except NonFiniteLoss as error:
            raise UserError(f"{error}; this run's last good checkpoint: {good}") from None
        log_skipped(trained, log_directory / "skipped_videos.txt")
        due = (epoch + 1) % args.eval_freq == 0 or epoch + 1 == last
        scores = validate(state, val_loader, prepare, args) if due else None
        first = not (model_directory / "ckpt.best.pth.tar").exists()
        best = scores is not None and (first or scores.top1 > state.best_prec1)
        state.best_prec1 = max(state.best_prec1, scores.top1 if scores else 0.0)
        state.epoch = epoch + 1
        run_log.add(log_row(epoch, lr, trained, scores), state.best_prec1)
        good = save(state, meta, model_directory, best)
        if scores:
            report(scores)
            log.info("best prec@1 %.3f", state.best_prec1)
    run_log.close()


def count_best_anew(state: TrainState, directory: Path) -> None:
    """A run that goes on in another directory (--epochs is in its name) has its own best checkpoint there."""
    if state.best_prec1 and not (directory / "ckpt.best.pth.tar").exists():
        log.info("no ckpt.best.pth.tar in %s: it will be the best from now on; before, prec@1 %.3f was", directory,
                 state.best_prec1)
        state.best_prec1 = 0.0


def validate(state: TrainState, loader: DataLoader, prepare: Preprocessor, args: argparse.Namespace) -> Predictions:
    return evaluate(state.model, loader, prepare, max_steps=DEBUG_STEPS if args.debug else None, desc="validate")


def report(scores: Predictions) -> None:
    print(f"Testing Results: Prec@1 {scores.top1:.3f} Prec@5 {scores.top5:.3f} Loss {scores.loss:.5f}", flush=True)


def log_row(epoch: int, lr: float, trained: EpochResult, scores: Optional[Predictions]) -> dict[str, Any]:
    row = {"epoch": epoch, "lr": lr, "train_loss": trained.loss, "train_top1": trained.top1,
           "train_top5": trained.top5, "data_seconds": trained.data_seconds, "step_seconds": trained.step_seconds}
    if scores:
        row |= {"val_loss": scores.loss, "val_top1": scores.top1, "val_top5": scores.top5}
    return row


def save(state: TrainState, meta: dict[str, Any], directory: Path, best: bool) -> Path:
    """ckpt.pth.tar, which is returned, and the same as ckpt.best.pth.tar when it is the best so far."""
    weights = {f"module.{key.removeprefix('module.')}": value for key, value in state.model.state_dict().items()}
    content = {**meta, "epoch": state.epoch, "state_dict": weights, "optimizer": state.optimizer.state_dict(),
               "best_prec1": state.best_prec1}
    if best:  # first, so that a run killed in between finds its best again
        save_checkpoint(content, directory / "ckpt.best.pth.tar")
    save_checkpoint(content, directory / "ckpt.pth.tar")
    return directory / "ckpt.pth.tar"


# ---- words --------------------------------------------------------------------------------------------------

def announce(args: argparse.Namespace, name: str, device: torch.device, model: TSN, data: DatasetPaths) -> None:
    """What is about to run."""
    print(f"storing name: {name}")
    log.info("commit %s, device %s, %d classes", git_commit(), device, data.num_class)
    layers = list(shift_layers(model))
    for layer, channels, moved in layers:
        ways = "each way" if args.shift_direction == "bidirectional" else "from the past"
        log.info("shift: %s: %d of %d channels %s", layer, moved, channels, ways)
    log.info("shift: %d layers", len(layers))
    recipe = data.entry.recipe
    if recipe and not args.evaluate:
        published = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "epochs": recipe.epochs,
                     "batch_size": recipe.batch_size, "no_partialbn": recipe.no_partialbn}
        other = [f"{key} {_shown(getattr(args, key))} ({_shown(value)})" for key, value in published.items()
                 if getattr(args, key) != value]
        if other:
            log.info("differs from the published recipe %s in: %s", recipe.script, ", ".join(other))


def _shown(value: float) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else f"{value:g}"


def log_skipped(trained: EpochResult, path: Path) -> None:
    """Count the videos that --skip_bad left out, and list them with their reasons."""
    if trained.bad:
        with atomic_write(path) as f:
            f.writelines(f"{video}: {reason}\n" for video, reason in sorted(trained.bad.items()))
        log.warning("--skip_bad left %d videos out: see %s", len(trained.bad), path)


if __name__ == "__main__":
    cli.run(main)
