"""The command lines of main.py and test_models.py: parsers as functions, checked in one place."""
import argparse
import logging
import math
import sys
from typing import Any, Optional, Sequence

from ops.backbones import BACKBONES
from ops.common.cli import Parser
from ops.common.errors import UserError
from ops.data.augment import AUGMENTATIONS, check_augmentation
from ops.data.test_protocol import PROTOCOLS, TestProtocol
from ops.dataset_config import DATASETS
from ops.non_local import NON_LOCAL_TYPES
from ops.temporal_shift import DIRECTIONS
from ops.video.frames import DATA_FORMATS

log = logging.getLogger(__name__)

# The published flags that never did anything.
DEAD_FLAGS = ("k", "snapshot_pref", "flow_prefix")
DEFAULT_EPOCHS = 120


def train_parser() -> argparse.ArgumentParser:
    """The parser of main.py: published spellings and defaults; flags of ours use underscores."""
    parser = Parser(prog="main.py", description="Train and validate TSN and TSM video classifiers.")
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or one of --dataset_file")
    parser.add_argument("modality", help="RGB, Flow or RGBDiff")
    _data_flags(parser.add_argument_group("data"))
    _model_flags(parser.add_argument_group("model"))
    _learning_flags(parser.add_argument_group("learning"))
    _run_flags(parser.add_argument_group("run"))
    for flag in DEAD_FLAGS:
        parser.add_argument(f"--{flag}", default=None, help=argparse.SUPPRESS)
    return parser


def _data_flags(group: Any) -> None:
    add = group.add_argument
    add("--train_list", default="", help="list file `path num_frames label`, instead of the table's")
    add("--val_list", default="", help="likewise, for validation")
    add("--root_path", default="", help="directory of the frame directories, instead of the table's")
    add("--root_dataset", default=None, help="directory under which the table's paths lie (default: $TSM_ROOT, else data)")
    add("--dataset_file", default=None, help="yaml file of your own data sets (default: datasets.yaml beside main.py)")
    add("--dense_sample", action="store_true", help="clips of 64 neighbouring frames instead of the whole video")
    add("--flip", default="auto", help="mirror training clips: labels (left and right classes swap), none, or auto:"
        " labels where the data set has such classes, plain mirroring where it has none")
    add("--data_format", default="auto", help="frames (directories of images), shards (of tools/make_shards.py), video"
        " (files; only the frames needed are decoded), or auto: what is there")
    add("--skip_bad", action="store_true", help="leave unreadable videos out of training, and list them")
    add("--input_size", type=int, default=224, help="height and width of the crops, pixels")


def _model_flags(group: Any) -> None:
    add = group.add_argument
    add("--arch", default="resnet50", help=f"{', '.join(BACKBONES)}")
    add("--num_segments", type=int, default=8, help="frames per clip")
    add("--consensus_type", default="avg", help="avg, or identity (a score per frame)")
    add("--dropout", "--do", type=float, default=0.5, help="in front of the classifier; 0: none")
    add("--loss_type", default="nll", help="nll (cross-entropy)")
    add("--img_feature_dim", type=int, default=256, help=argparse.SUPPRESS)
    add("--suffix", default=None, help="appended to the run's name")
    add("--pretrain", default="imagenet", help="imagenet, none, or a file of image weights")
    add("--tune_from", default=None, metavar="PATH", help="start from a checkpoint's weights")
    add("--shift", action="store_true", help="shift channels between frames (TSM)")
    add("--shift_div", type=int, default=8, help="1/div of the channels move each way")
    add("--shift_place", default=None, help="blockres or block, for BNInception block or a 12-digit"
        " mask (default: blockres, for BNInception block)")
    add("--shift_direction", default="bidirectional", help=" or ".join(DIRECTIONS))
    add("--temporal_pool", action="store_true", help="max-pool over time in front of layer2 (ResNet)")
    add("--non_local", action="store_true", help="add non-local blocks (ResNet)")
    add("--non_local_type", default=NON_LOCAL_TYPES[0], help=f"{', '.join(NON_LOCAL_TYPES)}")
    add("--inplace", action="store_true", help="keep no shifted copies for the backward pass: less memory")


def _learning_flags(group: Any) -> None:
    add = group.add_argument
    add("--epochs", type=int, default=None, help=f"(default: {DEFAULT_EPOCHS})")
    add("-b", "--batch-size", type=int, default=128)
    add("--lr", "--learning-rate", type=float, default=0.001)
    add("--lr_type", default="step", help="step or cos")
    add("--lr_steps", type=float, nargs="+", default=[50, 100], help="epochs after which the rate falls to a tenth")
    add("--momentum", type=float, default=0.9)
    add("--weight-decay", "--wd", type=float, default=5e-4)
    add("--clip-gradient", "--gd", type=float, default=None, help="largest norm of the gradient")
    add("--no_partialbn", "--npb", action="store_true", help="train every BatchNorm, not only the first")
    add("--augment", default="none", help=f"of training clips, after crop and flip: {', '.join(AUGMENTATIONS)}")
    add("--mixup", type=float, default=0.0, metavar="ALPHA", help="mix neighbours of a batch and their labels; 0: off")
    add("--cutmix", type=float, default=0.0, metavar="ALPHA", help="likewise by rectangles; with --mixup by turns")
    add("--random_erasing", type=float, default=0.0, metavar="P", help="probability that a clip loses a rectangle")
    add("--seed", type=int, default=None, help="same seed, same machine: same losses; on a GPU its convolutions are then"
        " repeatable, and slower (default: 0, with the fastest convolutions)")


def _run_flags(group: Any) -> None:
    add = group.add_argument
    add("-p", "--print-freq", type=int, default=20, help="steps between two lines")
    add("-ef", "--eval-freq", type=int, default=5, help="epochs between two validations")
    add("-j", "--workers", type=int, default=8, help="processes that load data; 0: none")
    add("--resume", default="", metavar="PATH", help="go on from a checkpoint")
    add("-e", "--evaluate", action="store_true", help="validate the checkpoint of --resume, and end")
    add("--start-epoch", type=int, default=0, help="number of the first epoch (a resumed one knows its own)")
    add("--gpus", type=int, nargs="+", default=None)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--root_log", default="log")
    add("--root_model", default="checkpoint")
    add("--channels_last", action="store_true", help="keep weights and activations channels last: faster on most CPUs")
    add("--debug", action="store_true", help="two steps of each phase; one epoch unless --epochs says more")


def parse_train(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """main.py's checked arguments; UserError for a value that cannot work, a warning for one without effect."""
    args = train_parser().parse_args(argv)
    args.run_epochs = None if args.epochs is not None or not args.debug else 1
    args.epochs = DEFAULT_EPOCHS if args.epochs is None else args.epochs
    args.repeatable, args.seed = args.seed is not None, args.seed or 0
    _check_numbers(args, {"num_segments": 1, "epochs": 1, "batch_size": 1, "workers": 0, "print_freq": 1,
                          "eval_freq": 1, "input_size": 32, "start_epoch": 0, "shift_div": 1, "seed": 0})
    _check_positive(args, "lr", "clip_gradient")
    for flag, value in (("--momentum", args.momentum), ("--weight-decay", args.weight_decay)):
        if not 0 <= value < float("inf"):
            raise UserError(f"{flag} {value}: choose 0 or a number above")
    _check_choice("--lr_type", args.lr_type, ("step", "cos"))
    _check_choice("--loss_type", args.loss_type, ("nll",))
    _check_choice("--flip", args.flip, ("auto", "none", "labels"))
    _check_choice("--data_format", args.data_format, DATA_FORMATS)
    check_augmentation(args.modality, args.augment, args.random_erasing, args.mixup, args.cutmix)
    if args.evaluate and not (args.resume or args.tune_from):
        raise UserError("--evaluate has nothing to evaluate: name a checkpoint with --resume PATH")
    if args.resume and args.tune_from:  # so that an interrupted recipe goes on by its own command and --resume
        log.info("--tune_from %s is not loaded again: the run goes on from %s", args.tune_from, args.resume)
        args.tune_from = None
    _warn_of_no_effect(args)
    return args


def _warn_of_no_effect(args: argparse.Namespace) -> None:
    dead = [f"--{flag}" for flag in DEAD_FLAGS if getattr(args, flag) is not None]
    dead += ["--img_feature_dim"] * (args.img_feature_dim != 256)
    if args.resume and args.start_epoch:
        log.warning("warning: --start-epoch has no effect with --resume: the run goes on after the checkpoint's own epoch")
    if dead:
        log.warning("warning: %s never did anything and is ignored", ", ".join(dead))
    given = [flag for flag, default in (("shift_div", 8), ("shift_place", None), ("shift_direction", DIRECTIONS[0]))
             if getattr(args, flag) != default] + ["inplace"] * args.inplace
    if given and not args.shift:
        log.warning("warning: %s has no effect without --shift", ", ".join(f"--{flag}" for flag in given))
    if args.non_local_type != NON_LOCAL_TYPES[0] and not args.non_local:
        log.warning("warning: --non_local_type has no effect without --non_local")
    if args.lr_type == "cos" and args.lr_steps != [50, 100]:
        log.warning("warning: --lr_steps has no effect with --lr_type cos")


def _check_numbers(args: argparse.Namespace, least: dict[str, int]) -> None:
    for name, minimum in least.items():
        value = getattr(args, name)
        if value < minimum:
            raise UserError(f"--{name} {value}: choose {minimum} or more")


def _check_positive(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name} {value}: choose a number above 0")


def _check_choice(flag: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(f"{flag} {value!r}: choose {' or '.join(allowed)}")


def test_parser() -> argparse.ArgumentParser:
    """The parser of test_models.py."""
    parser = Parser(prog="test_models.py", description="Score checkpoints, alone or as an ensemble.")
    add = parser.add_argument
    add("dataset", help=f"{', '.join(DATASETS)}, or one of --dataset_file")
    add("--weights", required=True, help="checkpoint, or several with commas")
    add("--test_segments", default=None, help="frames per clip, one number per checkpoint (default: as trained)")
    add("--dense_sample", action="store_true", help="10 clips of 64 neighbouring frames")
    add("--twice_sample", action="store_true", help="2 clips")
    add("--full_res", action="store_true", help="crops of the scaled frames' whole height")
    add("--test_crops", type=int, default=None, help="1 (default), 3, 5 or 10")
    add("--coeff", default=None, help="weight of each checkpoint's scores, with commas (default: 1 each)")
    add("--batch_size", type=int, default=1, help="videos at a time")
    add("-j", "--workers", type=int, default=8)
    add("--test_list", default=None, help="list file instead of the validation list, one per checkpoint, with commas")
    add("--root_path", default=None, help="directory of the frame directories, instead of the table's, likewise")
    add("--root_dataset", default=None, help="directory under which the table's paths lie (default: $TSM_ROOT, else data)")
    add("--dataset_file", default=None, help="yaml file of your own data sets (default: datasets.yaml beside main.py)")
    add("--data_format", default="auto", help="frames, video, shards or auto, as in main.py")
    add("--csv_file", default=None, help="write `name;label` lines here")
    add("--protocol", default=None, help="in place of --test_crops, --full_res, --dense_sample and --twice_sample: "
        + "; ".join(f"{name}: {protocol.words}" for name, protocol in PROTOCOLS.items()))
    add("--online", action="store_true", help="stream whole videos frame by frame: accuracy after every n frames")
    add("--online_stride", type=int, default=None, help="with --online: stream one of every so many frames (default:"
        " the gap that training knew, the list's median length / T)")
    add("--softmax", action="store_true", help="average probabilities of checkpoints instead of scores")
    add("--max_num", type=int, default=-1, help="stop after this many videos")
    add("--input_size", type=int, default=None, help="crop size, pixels (default: as trained, else 224)")
    add("--crop_fusion_type", default="avg", help="avg")
    add("--gpus", type=int, nargs="+", default=None)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--img_feature_dim", type=int, default=256, help=argparse.SUPPRESS)
    add("--num_set_segments", type=int, default=None, help=argparse.SUPPRESS)
    add("--pretrain", default=None, help=argparse.SUPPRESS)
    add("--out", default=None, help="directory of the report (default: log/test_<run>)")
    _override_flags(parser.add_argument_group("model", "override what the checkpoint or its name says"))
    return parser


# Given with commas, a value for each checkpoint.
_OVERRIDES = {"arch": str, "modality": str, "shift_div": int, "shift_place": str, "shift_direction": str}


def _override_flags(group: Any) -> None:
    for name in _OVERRIDES:
        group.add_argument(f"--{name}", default=None, help="as in main.py; for all checkpoints, or one each, with commas")
    for name in ("shift", "temporal_pool", "non_local"):
        group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--non_local_type", default=None, help="as in main.py")


def parse_test(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """test_models.py's checked arguments, lists split: weights, test_segments, coeff, test_list, arch, ..."""
    args = test_parser().parse_args(argv)
    args.weights = args.weights.split(",")
    count = len(args.weights)
    args.test_segments = _split(args.test_segments, "--test_segments", int, count, None)
    args.coeff = _split(args.coeff, "--coeff", float, count, 1.0)
    args.test_list = _split(args.test_list, "--test_list", str, count, "")
    args.root_path = _split(args.root_path, "--root_path", str, count, "")
    for name, kind in _OVERRIDES.items():
        setattr(args, name, _split(getattr(args, name), f"--{name}", kind, count, None))
    if not all(math.isfinite(weight) for weight in args.coeff):
        raise UserError(f"--coeff {','.join(f'{weight:g}' for weight in args.coeff)}: choose finite numbers")
    _check_numbers(args, {"batch_size": 1, "workers": 0})
    if any(t is not None and t < 1 for t in args.test_segments):
        raise UserError(f"--test_segments {min(args.test_segments)}: choose 1 or more frames per clip")
    args.protocol = _protocol(args)
    _check_online(args)
    if args.max_num == 0 or args.max_num < -1:
        raise UserError(f"--max_num {args.max_num}: choose 1 or more videos, or -1 for all")
    _check_choice("--data_format", args.data_format, DATA_FORMATS)
    _check_choice("--crop_fusion_type", args.crop_fusion_type, ("avg",))
    for flag, default in (("pretrain", None), ("img_feature_dim", 256), ("num_set_segments", None)):
        if getattr(args, flag) != default:
            log.warning("warning: --%s has no effect on a checkpoint and is ignored", flag)
    return args


def _check_online(args: argparse.Namespace) -> None:
    if args.online_stride is not None and not args.online:
        raise UserError("--online_stride has no effect without --online")
    if args.online_stride is not None and args.online_stride < 1:
        raise UserError(f"--online_stride {args.online_stride}: choose 1 (every frame) or more")
    if args.online and (args.protocol.views > 1 or len(args.weights) > 1 or args.csv_file):
        raise UserError("--online streams one view of one checkpoint: leave out crops, clips, ensembles and --csv_file")


def _protocol(args: argparse.Namespace) -> TestProtocol:
    """The named protocol, or the one that the single flags describe."""
    flags = [flag for flag in ("test_crops", "full_res", "dense_sample", "twice_sample") if getattr(args, flag)]
    if args.protocol is None:
        return TestProtocol(1 if args.test_crops is None else args.test_crops, args.full_res, args.dense_sample,
                            args.twice_sample)
    _check_choice("--protocol", args.protocol, tuple(PROTOCOLS))
    if flags:
        raise UserError(f"--protocol {args.protocol} and --{flags[0]} exclude each other: leave one out")
    return PROTOCOLS[args.protocol]


def _split(text: Optional[str], flag: str, kind: type, count: int, default: Any) -> list:
    """One value per checkpoint; a single value serves all."""
    if text is None:
        return [default] * count
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{flag} {text!r}: give numbers with commas between, one per checkpoint") from None
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise UserError(f"{flag} has {len(values)} values for {count} checkpoints: give one each, or one for all")
    return values


def command_line() -> str:
    """What was typed, for the log."""
    return " ".join(sys.argv)
