"""The command lines of main.py and test_models.py: parsers as functions, checked in one place.

Each value is checked by its argparse type; the `_check_*` and `_warn_*` functions look at pairs of flags.
Nothing here imports torch or another slow module, so that `ops.common.cli.check_usage` can answer --help and mistakes at
once.
"""
import argparse
import logging
import sys
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

from ops.backbones import BACKBONES, find_backbone
from ops.checkpoints.store_name import check_suffix
from ops.common import cli
from ops.common.choices import (
    AMP,
    BEST_BY,
    CONSENSUS_TYPES,
    DATA_FORMATS,
    DIRECTIONS,
    LOSSES,
    MODALITIES,
    MOST,
    NO_TRACKER,
    NON_LOCAL_TYPES,
    TRACKERS,
    find_choice,
)
from ops.common.cli import Flags, NotAllowed, Parser, number, one_of, warn_unused
from ops.common.config_file import read_config
from ops.common.errors import UserError
from ops.common.pool import cores
from ops.common.words import counted
from ops.data.augment_options import AUGMENTATIONS, check_augmentation
from ops.data.test_protocol import CROPS, PROTOCOLS, TestProtocol
from ops.dataset_config import DATASETS, find_dataset, is_multi_label
from ops.recipes import DEFAULTS
from ops.training.saving import SaveSchedule
from ops.training.schedule import SCHEDULES

log = logging.getLogger(__name__)

DEAD_FLAGS = ("k", "snapshot_pref", "flow_prefix")  # published, and without effect from the start
DEFAULT_EPOCHS, DEFAULT_WORKERS = 120, 8
FRAMES = number(int, 1, MOST, words=f"1 to {MOST} frames per clip (published: 8 or 16)")


# ---- main.py ------------------------------------------------------------------------------------------------

def train_parser(program: str = "main.py") -> argparse.ArgumentParser:
    """The parser of main.py: published spellings and defaults; our own flags use underscores."""
    parser = Parser(prog=program, description="Train and validate TSN and TSM video classifiers.")
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or a name from --dataset_file")
    parser.add_argument("modality", type=one_of(*MODALITIES), help="RGB, Flow or RGBDiff")
    _add_data_flags(parser.add_argument_group("data"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_learning_flags(parser.add_argument_group("learning"))
    _add_augmentation_flags(parser.add_argument_group("augmentation of training clips"))
    _add_run_flags(parser.add_argument_group("run"))
    _add_teacher_flags(parser.add_argument_group("teachers"))
    cli.add_negations(parser)
    for flag in DEAD_FLAGS:
        parser.add_argument(f"--{flag}", default=None, help=argparse.SUPPRESS)
    return parser


def _add_data_flags(group: Flags) -> None:
    add = group.add_argument
    add("--train_list", default="", metavar="FILE",
        help="training videos, one `path num_frames label` per line (default: the data set's own list)")
    add("--val_list", default="", metavar="FILE", help="validation videos, likewise (default: the data set's own list)")
    add("--root_path", default="", metavar="DIR",
        help="directory that contains the frame directories or videos (default: the data set's own)")
    cli.add_dataset_flags(group, DATA_FORMATS)
    cli.add_data_url_flag(group)
    add("--dense_sample", action="store_true", help="sample clips from 64 neighbouring frames, not from the whole video")
    add("--skip_bad", action="store_true", help="leave unreadable videos out of training; skipped_videos.txt lists them")
    cli.add_input_size_flag(group)


def _add_model_flags(group: Flags) -> None:
    add = group.add_argument
    add("--arch", type=one_of(*BACKBONES), default="resnet50", metavar="NAME",
        help=f"{', '.join(BACKBONES)} (default: %(default)s)")
    add_spec_flags(group)
    add("--inplace", action="store_true", help="shift without a copy for the backward pass, which saves memory")
    add("--pretrain", default="imagenet", metavar="NAME|FILE",
        help="first weights of the backbone: imagenet, none (random), or a file of image weights (default: %(default)s)")
    add("--tune_from", default=None, metavar="FILE", help="start from the weights of a checkpoint")
    add("--loss_type", type=one_of(*LOSSES), default="nll", metavar="NAME",
        help="nll: cross-entropy, of a multi-label data set binary cross-entropy; smooth: the same with --label_smoothing"
             " (default: %(default)s)")
    add("--label_smoothing", type=number(float, 0, below=1), default=0.1, metavar="S", help="with --loss_type smooth: the"
        " share of a label that the other classes divide among themselves; of a multi-label data set, half of it is the"
        " distance of every label from 0 or 1 (default: %(default)s)")
    add("--img_feature_dim", type=number(int, 1), default=256, help=argparse.SUPPRESS)
    add("--suffix", default=None, metavar="TEXT", help="appended to the name of the run")


def add_spec_flags(group: Flags) -> None:
    """The options of `ops.spec.ModelSpec` that have the same meaning in every program that builds a new network."""
    add = group.add_argument
    add("--num_segments", type=FRAMES, default=8, metavar="T", help="frames per clip (default: %(default)s)")
    add("--consensus_type", type=one_of(*CONSENSUS_TYPES, hidden=["rnn"]), default="avg", metavar="NAME",
        help="avg: average the frames' scores; identity: one score per frame (default: %(default)s)")
    add("--dropout", "--do", type=number(float, 0, below=1, words="0 (none) to below 1"), default=0.5, metavar="P",
        help="dropout in front of the classifier; 0 for none (default: %(default)s)")
    add("--shift", action="store_true", help="shift channels between frames (TSM); without it, the network is a TSN")
    add("--shift_div", type=number(int, 1), default=8, metavar="N",
        help="1/N of the channels shift in each direction (default: %(default)s)")
    add("--shift_place", default=None, metavar="PLACE", help="blockres or block; for BNInception block or a 12-digit mask"
        " (default: blockres, for BNInception block)")
    add("--shift_direction", type=one_of(*DIRECTIONS), default=DIRECTIONS[0], metavar="NAME",
        help="unidirectional shifts from past frames only, so that the network can stream (default: %(default)s)")
    add("--temporal_pool", action="store_true", help="max-pool over time in front of layer2 (ResNet)")
    add("--non_local", action="store_true", help="add non-local blocks (ResNet)")
    add("--non_local_type", type=one_of(*NON_LOCAL_TYPES), default=NON_LOCAL_TYPES[0], metavar="NAME",
        help=f"{', '.join(NON_LOCAL_TYPES)} (default: %(default)s)")


def _add_learning_flags(group: Flags) -> None:
    add = group.add_argument
    add("--epochs", type=number(int, 1), default=None, metavar="N", help=f"length of the run (default: {DEFAULT_EPOCHS})")
    add("-b", "--batch-size", type=number(int, 1), default=128, metavar="N", help="clips per step (default: %(default)s)")
    add("--lr", "--learning-rate", type=number(float, above=0), default=0.001, metavar="RATE",
        help="learning rate of the first epoch (default: %(default)s)")
    add("--lr_type", type=one_of(*SCHEDULES), default="step", metavar="NAME",
        help="step: a tenth after each of --lr_steps; cos: half a cosine down to 0; percent: a tenth after 40 %% of the run"
        " and again after 80 %% (default: %(default)s)")
    add("--lr_steps", type=number(float, 0), nargs="+", default=[50, 100], metavar="EPOCH",
        help="epochs after which the learning rate falls to a tenth (default: 50 100)")
    add("--momentum", type=number(float, 0, below=1), default=0.9, metavar="M",
        help="momentum of SGD (default: %(default)s)")
    add("--weight-decay", "--wd", type=number(float, 0, 1), default=5e-4, metavar="D",
        help="weight decay (default: %(default)s)")
    add("--nesterov", action="store_true", help="Nesterov momentum")
    add("--no_norm_decay", action="store_true", help="no weight decay on normalization layers: already so by default, as"
        " published")
    add("--clip-gradient", "--gd", type=number(float, above=0), default=None, metavar="NORM",
        help="scale a gradient with a larger norm down to this norm (default: no limit)")
    add("--grad_accum", type=number(int, 1), default=1, metavar="N",
        help="batches per step, whose gradients are added up (default: %(default)s)")
    add("--sync_bn", action="store_true", help="BatchNorm over the clips of all processes, not of each alone")
    add("--lr_update", type=one_of("epoch", "step"), default="epoch", metavar="NAME",
        help="epoch: one rate for a whole epoch, step: change it with every step (default: %(default)s)")
    add("--warmup_epochs", type=number(float, 0), default=0.0, metavar="N",
        help="epochs in which the learning rate rises to --lr (default: none)")
    add("--scale_lr", action="store_true", help="multiply --lr by the clips per step (of all processes) / 64")
    add("--ema", type=number(float, 0, below=1), default=0.0, metavar="DECAY", help="validate and store an exponential"
        " moving average of the weights (usual: 0.999; default: none)")
    add("--class_weights", type=one_of("auto", "none"), default="none", metavar="NAME",
        help="auto: the loss of a clip counts in inverse proportion to the size of its class (default: %(default)s)")
    add("--sampler", type=one_of("shuffle", "balanced"), default="shuffle", metavar="NAME", help="shuffle: each video once"
        " per epoch; balanced: as many draws, from every class equally often (default: %(default)s)")
    add("--precise_bn", type=number(int, 0, words="0 (off) or more batches"), default=0, metavar="N", help="estimate the"
        " BatchNorm statistics on N training batches before each validation; needs --no_partialbn (default: off)")
    add("--no_partialbn", "--npb", action="store_true", help="train every BatchNorm layer (default: only the first)")
    add("--freeze", default="", metavar="STAGES", help="freeze the first stages of the backbone, their weights and"
        " BatchNorm statistics: how many, or their names (stem,layer1) (default: none)")
    cli.add_seed_flag(group, None, "random seed: on one machine, runs with the same seed have the same losses; on a GPU it"
                      " selects repeatable convolutions, which are slower (default: 0 with the fastest convolutions)")


def _add_teacher_flags(group: Flags) -> None:
    add = group.add_argument
    add("--teacher", default="", metavar="FILE[,FILE]", help="checkpoints, files or fsspec addresses, whose answers to the"
        " training clips are learned too; each sees them with its own number of frames and size")
    add("--distill_weight", type=number(float, 0, 1), default=0.5, metavar="W",
        help="share of the teachers in the loss; the labels have the rest (default: %(default)s)")
    add("--distill_temperature", type=number(float, above=0), default=4.0, metavar="T",
        help="what all scores are divided by before they are compared; a larger one shows more of the teachers' second"
        " choices (default: %(default)s)")


def _add_augmentation_flags(group: Flags) -> None:
    add = group.add_argument
    add("--flip", type=one_of("auto", "none", "labels"), default="auto", metavar="NAME",
        help="mirror clips at random; labels: swap left and right classes, none: never, auto: as labels if the data set has"
        " such classes, else without a swap (default: %(default)s)")
    add("--augment", type=one_of(*AUGMENTATIONS), default="none", metavar="NAME",
        help=f"after crop and flip: {', '.join(AUGMENTATIONS)} (default: %(default)s)")
    alpha = number(float, 0, words="an alpha above 0 (usual: 0.2 for mixup, 1 for cutmix), or 0")
    add("--mixup", type=alpha, default=0.0, metavar="ALPHA", help="blend neighbours in a batch and their labels; 0: off")
    add("--cutmix", type=alpha, default=0.0, metavar="ALPHA",
        help="paste a rectangle of the neighbour, with its share of the label; with --mixup, one or the other; 0: off")
    add("--random_erasing", type=number(float, 0, 1, words="a probability, 0 (never) to 1"), default=0.0, metavar="P",
        help="probability that a rectangle of a clip is erased")


def _add_run_flags(group: Flags) -> None:
    add = group.add_argument
    add("--config", default=None, metavar="YAML", help="file with options, `lr: 0.01`, in place of flags: those of the"
        " command line win. A run leaves such a file, settings.yaml, in its log directory")
    add("--recipe", type=one_of(*DEFAULTS), default="published", metavar="NAME", help="defaults of the options:"
        " published, or modern (Nesterov momentum, warm-up, a cosine per step, smoothed labels, mixup, and with"
        " --no_partialbn precise BatchNorm), which the run lists (default: %(default)s)")
    add("-p", "--print-freq", type=number(int, 1), default=20, metavar="N",
        help="steps between two progress lines; a short epoch has at least three lines (default: %(default)s)")
    add("-ef", "--eval-freq", type=number(int, 1), default=5, metavar="N",
        help="epochs between two validations (default: %(default)s)")
    add("--best_by", type=one_of(*BEST_BY), default=None, metavar="NAME", help="what makes an epoch the best: top1,"
        " mean_class (mean of the classes' accuracies), loss, or of a multi-label data set map (mean average precision)"
        " (default: top1, multi-label map)")
    add("--patience", type=number(int, 0, words="0 (no limit) or more validations"), default=0, metavar="N",
        help="end the run after N validations without a better one (default: never)")
    cli.add_workers_flag(group, what="processes that load data; 0 loads in the main process", minimum=0,
                         without=f"{DEFAULT_WORKERS}, or one per core if there are fewer")
    add("--resume", default="", metavar="FILE", help="resume the run of a checkpoint; auto: the run's own last checkpoint,"
        " or a new run if there is none")
    add("--save_freq", default="", metavar="N|Nm", help="write a checkpoint every N steps (500) or N minutes (10m) too"
        " (default: after each epoch)")
    add("--amp", type=one_of(*AMP), default="off", metavar="NAME", help="mixed precision: bf16, fp16 (GPU), off, or auto"
        " (bf16 where the device computes with it) (default: %(default)s)")
    cli.add_dist_timeout_flag(group)
    add("-e", "--evaluate", action="store_true", help="only validate the checkpoint of --resume or --tune_from")
    add("--start-epoch", type=number(int, 0), default=0, metavar="N",
        help="number of the first epoch; a resumed run uses the checkpoint's (default: %(default)s)")
    cli.add_gpus_flag(group)
    cli.add_device_flag(group)
    add("--root_log", default="log", metavar="DIR", help="parent directory of the run's logs (default: %(default)s)")
    add("--root_model", default="checkpoint", metavar="DIR",
        help="parent directory of the run's checkpoints (default: %(default)s)")
    add("--track", type=one_of(NO_TRACKER, *TRACKERS), default=NO_TRACKER, metavar="NAME", help="show the run in a tracker"
        f" too: {', '.join(TRACKERS)}, whose package must be installed (default: %(default)s)")
    cli.add_train_url_flag(group, "the run's logs and checkpoints, as they are written,")
    add("--channels_last", action=argparse.BooleanOptionalAction, default=None, help="memory format of weights and"
        " activations (default: channels last on a CPU, and on a GPU with --amp)")
    add("--compile", action="store_true", help="compile the network with torch.compile: the first steps take minutes, the"
        " others less time and memory (needs a C++ compiler)")
    add("--tf32", action=argparse.BooleanOptionalAction, default=None, help="on a GPU, multiply float32 with 10 bits of"
        " mantissa (default: in convolutions only, as PyTorch does)")
    add("--debug", action="store_true", help="dry run: two steps per phase, and one epoch unless --epochs is given")


def parse_train(argv: Optional[Sequence[str]] = None, program: str = "main.py") -> argparse.Namespace:
    """main.py's checked arguments. UserError for flags that cannot work together, a warning for one without effect.

    program: the name in messages, where another program takes main.py's arguments too.
    """
    parser = train_parser(program)
    argv = sys.argv[1:] if argv is None else argv
    beside = _settings_beside(parser, argv)
    args = cli.parse_with(parser, argv, beside)
    if (args.config, args.recipe) != (beside["config"], beside["recipe"]):
        raise UserError("--config and --recipe are read before the other flags: write their names in full")
    args.dataset, _ = find_dataset(args.dataset, args.dataset_file)
    check_suffix(args.suffix)
    args.run_epochs = None if args.epochs is not None or not args.debug else 1
    args.epochs = DEFAULT_EPOCHS if args.epochs is None else args.epochs
    if args.warmup_epochs is None:  # --recipe modern
        args.warmup_epochs = min(5.0, args.epochs / 10)
    args.repeatable, args.seed = args.seed is not None, args.seed or 0
    _choose_workers(args)
    check_augmentation(args.modality, augment=args.augment, erasing=args.random_erasing, mixup=args.mixup,
                       cutmix=args.cutmix)
    _check_learning(args)
    _check_labels(args)
    SaveSchedule(args.save_freq)
    if args.evaluate and not (args.resume or args.tune_from):
        raise UserError("--evaluate has nothing to evaluate: name a checkpoint with --resume PATH")
    _warn_of_dead_flags(args)
    _warn_of_no_effect(parser, args)
    return args


def _choose_workers(args: argparse.Namespace) -> None:
    """Set `loaders`, the processes to start: without -j, `workers` is the published number even where that is too many."""
    args.loaders = min(DEFAULT_WORKERS, cores()) if args.workers is None else args.workers
    args.workers = DEFAULT_WORKERS if args.workers is None else args.workers


def _settings_beside(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """--config and --recipe, and the options that they set, those of the file over those of the recipe."""
    file = cli.given(argv, "--config")
    settings = read_config(Path(file), parser, ["config"]) if file else {}
    recipe = find_choice(cli.given(argv, "--recipe") or settings.get("recipe", ""), DEFAULTS) or "published"
    return {**DEFAULTS[recipe], **settings, "config": file, "recipe": recipe}


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What `--config` needs to repeat the run of these arguments from its start: option -> value."""
    left_out = {"help", "config", "resume", "evaluate", *DEAD_FLAGS}
    left_out |= {"seed"} if not args.repeatable else set()
    left_out |= {"epochs"} if args.run_epochs is not None else set()
    left_out |= {"workers"} if args.workers != args.loaders else set()
    values = {action.dest: getattr(args, action.dest, None) for action in train_parser()._actions
              if action.dest not in left_out}
    return {name: value for name, value in values.items() if value is not None}


def _check_learning(args: argparse.Namespace) -> None:
    args.freeze = ",".join(find_backbone(args.arch).first_stages(args.freeze))
    if args.freeze and args.pretrain == "none" and not (args.tune_from or args.resume):
        log.warning("warning: --freeze %s keeps random weights: name others with --pretrain or --tune_from", args.freeze)
    if args.nesterov and not args.momentum:
        raise UserError("--nesterov needs a --momentum above 0: choose one, or leave it out")
    if args.precise_bn and not args.no_partialbn:
        if args.precise_bn != DEFAULTS[args.recipe].get("precise_bn"):
            log.warning("warning: --precise_bn has no effect: without --no_partialbn, BatchNorm keeps its first statistics")
        args.precise_bn = 0
    if args.class_weights == "auto" and args.sampler == "balanced":
        raise UserError("--class_weights auto and --sampler balanced both make up for rare classes: leave one out")


def _check_labels(args: argparse.Namespace) -> None:
    """Options that depend on whether a video has one class or any number of classes."""
    multi_label = is_multi_label(args.dataset, args.dataset_file)
    args.best_by = args.best_by or ("map" if multi_label else "top1")
    if multi_label and args.best_by == "mean_class":
        raise UserError(f"--best_by mean_class is for data sets with one class per video, {args.dataset} is multi-label:"
                        " choose map, top1 or loss")
    if not multi_label and args.best_by == "map":
        raise UserError(f"--best_by map is for multi-label data sets, {args.dataset} has one class per video: choose top1,"
                        " mean_class or loss")
    if multi_label and args.sampler == "balanced":
        raise UserError(f"--sampler balanced draws a class, then a video of it, but {args.dataset} is multi-label, and its"
                        " videos have any number of classes: choose --class_weights auto")


def _warn_of_dead_flags(args: argparse.Namespace) -> None:
    dead = [f"--{flag}" for flag in DEAD_FLAGS if getattr(args, flag) is not None]
    dead += ["--img_feature_dim"] * (args.img_feature_dim != 256)
    if dead:
        log.warning("warning: %s never did anything: ignored", ", ".join(dead))


def _warn_of_no_effect(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.shift:
        warn_unused(parser, args, "it needs --shift", "shift_div", "shift_place", "shift_direction", "inplace")
    if not args.non_local:
        warn_unused(parser, args, "it needs --non_local", "non_local_type")
    if args.lr_type != "step":
        warn_unused(parser, args, f"--lr_type {args.lr_type} has no steps", "lr_steps")
    if args.loss_type != "smooth":
        warn_unused(parser, args, "it needs --loss_type smooth", "label_smoothing")
    if not args.teacher:
        warn_unused(parser, args, "it needs --teacher", "distill_weight", "distill_temperature")
    if args.no_norm_decay:
        log.info("--no_norm_decay changes nothing: normalization layers and biases have no weight decay, as published")
    if args.resume not in ("", "auto") and args.start_epoch:
        log.warning("warning: --start-epoch has no effect: --resume continues after the checkpoint's own epoch")


# ---- test_models.py -----------------------------------------------------------------------------------------

def per_checkpoint(kind: Callable[[str], Any] = str) -> Callable[[str], list]:
    """An argparse type: values of the type `kind` with commas between them, one for each checkpoint."""
    def parse(text: str) -> list:
        return [kind(part) for part in text.split(",")]
    return parse


def video_limit(text: str) -> int:
    """An argparse type: a number of videos, or -1 for all."""
    words = "1 or more videos, or -1 for all"
    value = number(int, -1, words=words)(text)
    if value == 0:
        raise NotAllowed(f"0: choose {words}")
    return value


def crops(text: str) -> int:
    """An argparse type: a number of crops that a test can have."""
    value = number(int)(text)
    if value not in CROPS:
        raise NotAllowed(f"{value}: choose {', '.join(map(str, CROPS))}")
    return value


OVERRIDES_TITLE = "options that the checkpoint does not describe, or that are to differ from its description"
# Options that can differ from one checkpoint of an ensemble to the next.
OVERRIDES: dict[str, Callable[[str], Any]] = {
    "arch": one_of(*BACKBONES), "modality": one_of(*MODALITIES), "shift_div": number(int, 1), "shift_place": str,
    "shift_direction": one_of(*DIRECTIONS)}


def test_parser() -> argparse.ArgumentParser:
    """The parser of test_models.py."""
    parser = Parser(prog="test_models.py", description="Score checkpoints, alone or as an ensemble. A flag shown as"
                    " X[,X] takes one value for all checkpoints, or one per checkpoint.")
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or a name from --dataset_file")
    _add_checkpoint_flags(parser.add_argument_group("checkpoints"))
    add_override_flags(parser.add_argument_group("model", OVERRIDES_TITLE), several=True)
    _add_dead_flags(parser)
    _add_test_data_flags(parser.add_argument_group("data"))
    _add_protocol_flags(parser.add_argument_group("protocol"))
    _add_test_run_flags(parser.add_argument_group("run"))
    return parser


def _add_checkpoint_flags(group: Flags) -> None:
    add = group.add_argument
    add("--weights", required=True, type=per_checkpoint(cli.address), metavar="FILE[,FILE]",
        help="one checkpoint, or an ensemble; addresses such as s3://bucket/name.pth.tar too")
    add("--test_segments", type=per_checkpoint(FRAMES), default=None,
        metavar="T[,T]", help="frames per clip (default: as trained)")
    add("--coeff", type=per_checkpoint(number(float, words="finite numbers")), default=None, metavar="C[,C]",
        help="weight of the checkpoint's scores (default: 1)")
    add("--softmax", action="store_true", help="average the checkpoints' probabilities (of a multi-label data set, after a"
        " sigmoid) instead of their scores")


def add_override_flags(group: Flags, several: bool = False) -> None:
    """Flags for the model options that a weight file does not describe, or that are to differ from its description.

    several: take values with commas between them, one for each checkpoint.
    """
    for name, kind in OVERRIDES.items():
        group.add_argument(f"--{name}", type=per_checkpoint(kind) if several else kind, default=None,
                           metavar="X[,X]" if several else "X", help="as in main.py")
    for name in ("shift", "temporal_pool", "non_local"):
        group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=None, help="as in main.py")
    group.add_argument("--non_local_type", type=one_of(*NON_LOCAL_TYPES), default=None, metavar="NAME",
                       help="as in main.py")
    cli.add_input_size_flag(group, None, "size of the crops, pixels (default: as trained, else 224)")


def overrides(args: argparse.Namespace, i: Optional[int] = None) -> dict[str, Any]:
    """The `ModelSpec` options in the flags of `add_override_flags`; None for a flag that was not given.

    i: the index of the checkpoint, where there are several.
    """
    each = {name: getattr(args, name) if i is None else getattr(args, name)[i] for name in OVERRIDES}
    every = ("shift", "temporal_pool", "non_local", "non_local_type", "input_size")
    return each | {name: getattr(args, name) for name in every}


def _add_dead_flags(group: Flags) -> None:
    group.add_argument("--img_feature_dim", type=number(int, 1), default=256, help=argparse.SUPPRESS)
    group.add_argument("--num_set_segments", type=number(int, 1), default=None, help=argparse.SUPPRESS)
    group.add_argument("--pretrain", default=None, help=argparse.SUPPRESS)


def _add_test_data_flags(group: Flags) -> None:
    add = group.add_argument
    add("--test_list", type=per_checkpoint(), default=None, metavar="FILE[,FILE]",
        help="list of the videos (default: the data set's validation list)")
    add("--root_path", type=per_checkpoint(), default=None, metavar="DIR[,DIR]",
        help="directory that contains the frame directories or videos (default: the data set's own)")
    cli.add_dataset_flags(group, DATA_FORMATS)
    cli.add_data_url_flag(group)
    add("--max_num", type=video_limit, default=-1, metavar="N", help="stop after this many videos (default: all)")


def _add_protocol_flags(group: Flags) -> None:
    add = group.add_argument
    add("--protocol", type=one_of(*PROTOCOLS), default=None, metavar="NAME", help="in place of the four flags below; "
        + "; ".join(f"{name}: {protocol.words}" for name, protocol in PROTOCOLS.items()))
    add("--test_crops", type=crops, default=None, metavar="N", help="crops per clip: 1 (default), 3, 5 or 10")
    add("--full_res", action="store_true", help="crops as high as the scaled frames")
    add("--dense_sample", action="store_true", help="10 clips, each from 64 neighbouring frames")
    add("--twice_sample", action="store_true", help="2 clips")
    add("--crop_fusion_type", type=one_of("avg"), default="avg", metavar="NAME",
        help="avg: average the views (default: %(default)s)")
    add("--online", action="store_true", help="stream whole videos frame by frame and report the accuracy after every n"
        " frames")
    add("--online_stride", type=number(int, 1, words="1 (every frame) or more"), default=None, metavar="N",
        help="with --online: stream every Nth frame (default: the spacing of the training frames, which is the list's"
        " median length / T)")


def _add_test_run_flags(group: Flags) -> None:
    add = group.add_argument
    add("--batch_size", type=number(int, 1), default=1, metavar="N", help="videos per batch (default: %(default)s)")
    cli.add_workers_flag(group, what="processes that load data; 0 loads in the main process", minimum=0,
                         without=f"{DEFAULT_WORKERS}, or one per core if there are fewer")
    cli.add_gpus_flag(group)
    cli.add_device_flag(group)
    cli.add_dist_timeout_flag(group)
    add("--out", default=None, metavar="DIR", help="directory of the report (default: log/test_<run>)")
    cli.add_train_url_flag(group, "the report")
    add("--csv_file", default=None, metavar="FILE", help="write the predictions as `name;label` lines")


def parse_test(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """test_models.py's checked arguments, with one value per checkpoint in weights, test_segments, coeff, test_list, ..."""
    parser = test_parser()
    args = parser.parse_args(argv)
    args.dataset, _ = find_dataset(args.dataset, args.dataset_file)
    defaults = {"test_segments": None, "coeff": 1.0, "test_list": "", "root_path": "", **dict.fromkeys(OVERRIDES)}
    for name, default in defaults.items():
        setattr(args, name, _fill_up(getattr(args, name), f"--{name}", len(args.weights), default))
    _choose_workers(args)
    args.protocol = _protocol(args)
    _check_online(args)
    warn_unused(parser, args, "the checkpoint decides", "pretrain", "img_feature_dim", "num_set_segments")
    return args


def _fill_up(values: Optional[list], flag: str, count: int, default: Any) -> list:
    """`count` values: those given, the single one for all checkpoints, or the default."""
    values = [default] if values is None else values
    if len(values) not in (1, count):
        raise UserError(f"{flag} has {len(values)} values for {counted(count, 'checkpoint')}: give one each, or one for all")
    return values if len(values) == count else values * count


def _protocol(args: argparse.Namespace) -> TestProtocol:
    """The named protocol, or the one that the single flags describe."""
    flags = [flag for flag in ("test_crops", "full_res", "dense_sample", "twice_sample") if getattr(args, flag)]
    if args.protocol is None:
        return TestProtocol(1 if args.test_crops is None else args.test_crops, args.full_res, args.dense_sample,
                            args.twice_sample)
    if flags:
        raise UserError(f"--protocol {args.protocol} and --{flags[0]} exclude each other: leave one out")
    return PROTOCOLS[args.protocol]


def _check_online(args: argparse.Namespace) -> None:
    if args.online_stride is not None and not args.online:
        raise UserError("--online_stride has no effect without --online")
    if args.online and (args.protocol.views > 1 or len(args.weights) > 1 or args.csv_file):
        raise UserError("--online streams one view of one checkpoint: leave out crops, clips, ensembles and --csv_file")


def command_line() -> str:
    """The command as typed, for the log."""
    return " ".join(sys.argv)
