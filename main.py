"""Train and validate: flags -> build -> loop.  python main.py somethingv2 RGB --shift"""
import argparse
import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Optional, Sequence

import opts
from ops.common import cli

if __name__ == "__main__":
    cli.check_usage(opts.parse_train)  # torch, which the imports below need, takes seconds

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ops.checkpoints import checkpoint
from ops.checkpoints.matching import check_same_classes, tune_from
from ops.checkpoints.store_name import store_name
from ops.common import distributed
from ops.common.config_file import write_config
from ops.common.device import pick_devices, seed_everything, versions
from ops.common.errors import UserError
from ops.common.files import check_not_an_input, check_writable
from ops.common.words import counted
from ops.data.augment import make_mix
from ops.data.batch_pictures import BatchPictures
from ops.data.loader import make_loader
from ops.dataset_config import DATASETS, DatasetPaths, dataset_root, resolve_dataset
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.metrics import Predictions
from ops.evaluation.multi_label import MultiLabelPredictions
from ops.models import TSN
from ops.recipes import DEFAULTS
from ops.remote.data import fetch_data
from ops.remote.files import check_address, local_file
from ops.spec import ModelSpec
from ops.temporal_shift import shift_layers
from ops.training.distillation import Distillation, check_same_distillation, describe_distillation, load_distillation
from ops.training.execution import Execution, choose_execution
from ops.training.interrupt import stop_on_signals
from ops.training.loop import LoopOptions, fit, validate
from ops.training.losses import balancing_weights, make_criterion, make_multi_label_criterion, positive_weights
from ops.training.precision import Precision, choose_precision
from ops.training.resuming import check_options
from ops.training.run_copies import check_apart, check_new, copied_out, fetch_back
from ops.training.run_log import DISTILLED, MULTI_LABEL, RunLog, write_args
from ops.training.state import BEST, LAST, TrainState, describe_run, head_learns_faster
from ops.training.step import Criterion, StepOptions
from ops.training.trackers import check_installed, open_tracker
from ops.training.train_set import balanced_draws, class_counts, training_set, validation_set
from ops.weights import load_weights, read_checkpoint

log = logging.getLogger("main")
DEBUG_STEPS = 2
AUTO = "auto"  # --resume: the run's own last checkpoint, if there is one


def main() -> int:
    distributed.quiet_others()
    args = opts.parse_train()
    device, gpus = pick_devices(args.device, args.gpus)
    if len(gpus) > 1 and not distributed.launched():
        return distributed.launch(gpus)
    with distributed.joined(device, args.dist_timeout), distributed.naming_lost_processes():
        train(args, device)
    return 0


def train(args: argparse.Namespace, device: torch.device) -> None:
    """Seed, model, optimizer, data, resume, epochs: the work of each process."""
    with distributed.one_per_machine_first():
        named = [] if args.evaluate or not args.teacher else args.teacher.split(",")
        teachers = [local_file(file, "teacher") for file in named]
    check_before_preparing(args, teachers)
    with distributed.one_per_machine_first():
        if args.data_url:
            fetch_data(args.data_url, dataset_root(args.root_dataset))
    resumed = checkpoint.load_checkpoint(Path(args.resume)) if args.resume not in ("", AUTO) else None
    with distributed.main_process_first():
        data = resolve_dataset(args.dataset, args.modality, args.root_dataset, train_list=args.train_list,
                               val_list=args.val_list, root_path=args.root_path, dataset_file=args.dataset_file,
                               needed=["val_list"] if args.evaluate else ["train_list", "val_list"])
    spec = ModelSpec.from_options(vars(args), num_class=data.num_class, multi_label=data.multi_label)
    name = store_name(spec, data.name, args.epochs, pretrain=args.pretrain, lr_type=args.lr_type,
                      dense_sample=args.dense_sample, suffix=args.suffix)
    log_directory, model_directory = Path(args.root_log) / name, Path(args.root_model) / name
    if not args.evaluate:
        inputs = [args.tune_from, args.pretrain, *teachers]
        for file in (LAST, BEST):
            check_not_an_input(model_directory / file, inputs)
        check_apart(args.train_url, log_directory, model_directory, inputs)
    if args.resume == AUTO:
        fetch_back(args.train_url, log_directory, model_directory)
        resumed = last_checkpoint(model_directory)
        if args.evaluate and not resumed:
            raise UserError(f"--resume auto: there is nothing to evaluate in {model_directory}: name a checkpoint")
    elif not args.resume and not args.evaluate:
        check_new(args.train_url, log_directory, model_directory)
    seed_everything(args.seed)
    if resumed and args.tune_from:  # so that --resume can simply be added to the command of a tuned run
        log.info("--tune_from %s is not loaded again: the run resumes from %s", args.tune_from, resumed.path)
    with distributed.main_process_first():  # the first use of ImageNet weights downloads them
        model = build(args, spec, data, resumed)
    announce(args, name, device, model, data)

    effective_batch = args.batch_size * args.grad_accum * distributed.world().size
    options = LoopOptions.from_options(vars(args), lr=args.lr * (effective_batch / 64 if args.scale_lr else 1),
                                       max_steps=DEBUG_STEPS if args.debug else None, max_epochs=args.run_epochs)
    precision = choose_precision(args.amp, device)
    execution = choose_execution(device, precision, channels_last=args.channels_last, compile=args.compile, tf32=args.tf32)
    log.info("%s per step, learning rate %g, %s (%s), %s", counted(effective_batch, "clip"), options.lr, precision.name,
             precision.reason, execution)
    distillation = None if args.evaluate else load_distillation(
        teachers, student=model, data=data, device=device, execution=execution, weight=args.distill_weight,
        temperature=args.distill_temperature)
    state = make_state(args, model, data, distillation, device=device, precision=precision, execution=execution,
                       effective_batch=effective_batch)
    runtime = TorchClip(state.validated, data.class_names)
    if resumed:
        resume(state, model, resumed, data=data, args=args, distillation=distillation)
    resumed_at = (state.epoch, state.step, state.best_prec1, state.stale)
    distributed.check_equal(resumed_at, "the processes resume different states:"
                            " put root_model on a disk that all machines share", "root_model")
    val_loader = validation_loader(args, model, data)
    if args.evaluate:
        report(validate(runtime, val_loader, options))
        return
    train_loader, class_sizes = training_loader(args, model, data, distillation)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = not args.repeatable, args.repeatable
    copies = copied_out(args.train_url, log_directory, model_directory, resumed=resumed.path if resumed else None,
                        limit=args.dist_timeout)
    if not options.epochs_left(state.epoch, state.stale):
        log.info("nothing left to do: epoch %d of %d%s", state.epoch, args.epochs,
                 ", stopped early" if options.out_of_patience(state.stale) else "")
        with copies:  # the last ones of the run may not have been made
            return
    run_log = open_log(args, log_directory, model_directory, state, device) if distributed.world().is_main else None
    criterion = choose_criterion(args, data, class_sizes, clips=len(train_loader.dataset))
    steps = StepOptions(partial(model.preprocessing.apply, device=device), criterion, precision=precision,
                        clip_gradient=args.clip_gradient, mix=make_mix(data.num_class, args.mixup, args.cutmix),
                        distillation=distillation)
    pictures = BatchPictures(model.preprocessing, spec.num_segments, spec.modality, data.class_names)
    with copies, run_log or nullcontext(), stop_on_signals() as stop:
        fit(state, train_loader, val_loader, options=options, steps=steps, runtime=runtime, run_log=run_log,
            directory=model_directory, stop=stop, draw=pictures.sheet, resumed_from=str(resumed.path) if resumed else "",
            on_validation=report)


# ---- build --------------------------------------------------------------------------------------------------

def check_before_preparing(args: argparse.Namespace, teachers: Sequence[Path]) -> None:
    """Refuse impossible options before a data set is fetched, or generated on its first use, which takes minutes."""
    if not args.evaluate:
        check_installed(args.track)
    if args.train_url and not args.evaluate and distributed.world().is_main:
        check_address(args.train_url, "train_url")
    entry = DATASETS.get(args.dataset)
    if entry is None or entry.prepare is None:
        return
    with torch.device("meta"):  # checks every option of the model without computing anything
        TSN.from_spec(ModelSpec.from_options(vars(args), num_class=entry.num_class, multi_label=entry.multi_label))
    for file in (args.tune_from, args.pretrain, *teachers):
        if file and file not in ("imagenet", "none"):
            read_checkpoint(Path(file))


def build(args: argparse.Namespace, spec: ModelSpec, data: DatasetPaths,
          resumed: Optional[checkpoint.Checkpoint]) -> TSN:
    """The model with its first weights; image weights are not fetched if a checkpoint replaces them."""
    replaced = resumed or args.tune_from
    model = TSN.from_spec(spec, pretrain="none" if replaced else args.pretrain, partial_bn=not args.no_partialbn,
                          fc_lr5=True, inplace=args.inplace, print_spec=True)
    if args.tune_from and not resumed:
        kept = tune_from(model, Path(args.tune_from), dataset=data.name, class_names=data.class_names,
                         evaluate=args.evaluate)
        model.fc_lr5 = not kept  # published behaviour: only a new classifier learns faster
    if resumed:
        model.fc_lr5 = head_learns_faster(resumed.content)
    if args.freeze:
        model.freeze(args.freeze)
        log.info("frozen: %s", args.freeze)
    return model


def make_state(args: argparse.Namespace, model: TSN, data: DatasetPaths, distillation: Optional[Distillation], *,
               device: torch.device, precision: Precision, execution: Execution, effective_batch: int) -> TrainState:
    """The model on its device and between its processes, with the optimizer, before the first step."""
    execution.prepare(model)
    model.to(device)
    optimizer = execution.sgd(model.get_optim_policies(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay,
                              nesterov=args.nesterov)
    network = distributed.data_parallel(model, device, sync_bn=args.sync_bn)
    return TrainState(network, optimizer, seed=args.seed, epoch=args.start_epoch,
                      metadata={**describe_run(model, data, vars(args)), **describe_distillation(distillation)},
                      scaler=precision.scaler(), ema=args.ema, effective_batch=effective_batch, best_by=args.best_by)


def last_checkpoint(directory: Path) -> Optional[checkpoint.Checkpoint]:
    """The run's own last checkpoint, for --resume auto; None if it has not begun."""
    found = directory / LAST
    log.info("resume auto: %s", found if found.exists() else f"{found} does not exist yet: a new run")
    return checkpoint.load_checkpoint(found) if found.exists() else None


def open_log(args: argparse.Namespace, directory: Path, model_directory: Path, state: TrainState,
             device: torch.device) -> RunLog:
    """The run's log, with its settings in settings.yaml, for --config, and with what they ran on in args.txt."""
    check_writable(model_directory / LAST)
    write_config(directory / "settings.yaml", opts.settings(args))
    write_args(directory / "args.txt", {**vars(args), "command": opts.command_line(), "processes": distributed.world().size,
                                        **versions(device)})
    tracker = open_tracker(args.track, directory, settings=opts.settings(args),
                           resumed_at=state.epoch if state.epoch or state.step else None)
    more = [*(DISTILLED if args.teacher else ()), *(MULTI_LABEL if state.network.spec.multi_label else ())]
    return RunLog(directory, state.epoch, state.step, more=more, tracker=tracker)


def training_loader(args: argparse.Namespace, model: TSN, data: DatasetPaths,
                    distillation: Optional[Distillation]) -> tuple[DataLoader, Tensor]:
    """The loader of the training list, and how many clips of each class an epoch of it has."""
    videos = training_set(model, data, flip=args.flip, augment=args.augment, random_erasing=args.random_erasing,
                          dense_sample=args.dense_sample, skip_bad=args.skip_bad, seed=args.seed,
                          data_format=args.data_format, views_for=distillation.views_for if distillation else [])
    loader = make_loader(videos, args.batch_size, workers=args.loaders, train=True, seed=args.seed,
                         accumulate=args.grad_accum, draws=balanced_draws(videos) if args.sampler == "balanced" else None)
    return loader, class_counts(videos, data.num_class)


def choose_criterion(args: argparse.Namespace, data: DatasetPaths, class_sizes: Tensor, *, clips: int) -> Criterion:
    """The loss of the options. class_sizes: of `training_loader`. clips: in an epoch."""
    balanced = args.class_weights == "auto"
    if data.multi_label:
        return make_multi_label_criterion(args.loss_type, args.label_smoothing,
                                          positive_weights(class_sizes, clips) if balanced else None)
    return make_criterion(data.num_class, args.loss_type, args.label_smoothing,
                          balancing_weights(class_sizes) if balanced else None)


def validation_loader(args: argparse.Namespace, model: TSN, data: DatasetPaths) -> DataLoader:
    videos = validation_set(model, data, dense_sample=args.dense_sample, data_format=args.data_format)
    return make_loader(videos, args.batch_size, workers=args.loaders, train=False)


def resume(state: TrainState, model: TSN, found: checkpoint.Checkpoint, *, data: DatasetPaths,
           args: argparse.Namespace, distillation: Optional[Distillation]) -> None:
    """Continue from a checkpoint: weights, momentum, epoch, best accuracy; or only the weights, for evaluation."""
    checkpoint.check_same_spec(found, model.spec)
    check_same_classes(found, data)
    if args.evaluate:
        load_weights(state.validated, found.weights, f"--resume {found.path}")
        return
    check_options(found.content.get("train") or {}, vars(args), found.path)
    check_same_distillation(found.content, distillation, found.path)
    state.load_state_dict(found.content, found.path)
    log.info("resumed %s after epoch %d%s", found.path, state.epoch, f", step {state.step}" if state.step else "")


# ---- messages -----------------------------------------------------------------------------------------------

def announce(args: argparse.Namespace, name: str, device: torch.device, model: TSN, data: DatasetPaths) -> None:
    """Log what is about to run."""
    if distributed.world().is_main:
        print(f"storing name: {name}")
    log.info("%s, processes %d, %s", ", ".join(f"{what} {version}" for what, version in versions(device).items()),
             distributed.world().size, counted(data.num_class, "class"))
    layers = list(shift_layers(model))
    for layer, channels, moved in layers:
        ways = "each way" if args.shift_direction == "bidirectional" else "from the past"
        log.info("shift: %s: %d of %d channels %s", layer, moved, channels, ways)
    if args.shift:
        log.info("shift: %s", counted(len(layers), "layer"))
    else:
        log.info("no shift: this network is a TSN, whose runs are named TSM_ too, as published; --shift makes it a TSM")
    if args.recipe != "published":
        log.info("recipe %s: %s", args.recipe, ", ".join(f"{name} {getattr(args, name)}" for name in DEFAULTS[args.recipe]))
    recipe = data.entry.recipe
    if recipe and not args.evaluate and (differences := recipe.differences(vars(args))):
        log.info("differs from the published recipe %s in: %s", recipe.script, ", ".join(differences))


def report(scores: Predictions) -> None:
    if not distributed.world().is_main:
        return
    mean_ap = f"mAP {scores.mean_ap:.3f} " if isinstance(scores, MultiLabelPredictions) else ""
    print(f"Testing Results: {mean_ap}Prec@1 {scores.top1:.3f} Prec@5 {scores.top5:.3f} Loss {scores.loss:.5f}", flush=True)


if __name__ == "__main__":
    cli.run(main)
