"""The command lines of main.py and test_models.py: parsers as functions, checked in one place.

main.py's flags are in `tools/shared/training_flags.py`. Each value is checked by its argparse type; the `_check_*` and
`_warn_*` functions look at pairs of flags. Nothing here imports torch or another slow module, so that
`ops.common.cli.check_usage` can answer --help and mistakes at once.
"""
import argparse
import logging
import sys
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

from ops.backbones import BACKBONES, find_backbone
from ops.checkpoints.store_name import check_suffix
from ops.common import cli
from ops.common.choices import DATA_FORMATS, DIRECTIONS, MODALITIES, NON_LOCAL_TYPES, find_choice
from ops.common.cli import Flags, NotAllowed, Parser, number, one_of, warn_unused
from ops.common.config_file import read_config
from ops.common.errors import UserError
from ops.common.pool import cores
from ops.common.words import counted
from ops.data.augment_options import check_augmentation
from ops.data.test_protocol import CROPS, PROTOCOLS, TestProtocol
from ops.dataset_config import DATASETS, find_dataset, is_multi_label
from ops.recipes import DEFAULTS
from ops.training.saving import SaveSchedule
from tools.shared.training_flags import (
    DEFAULT_EPOCHS,
    DEFAULT_WORKERS,
    FRAMES,
    add_augmentation_flags,
    add_data_flags,
    add_learning_flags,
    add_model_flags,
    add_run_flags,
    add_teacher_flags,
)

log = logging.getLogger(__name__)

DEAD_FLAGS = ("k", "snapshot_pref", "flow_prefix")  # published, and without effect from the start


# ---- main.py ------------------------------------------------------------------------------------------------

def train_parser(program: str = "main.py") -> argparse.ArgumentParser:
    """The parser of main.py: published spellings and defaults; our own flags use underscores."""
    parser = Parser(prog=program, description="Train and validate TSN and TSM video classifiers.")
    parser.add_argument("dataset", help=f"{', '.join(DATASETS)}, or a name from --dataset_file")
    parser.add_argument("modality", type=one_of(*MODALITIES), help="RGB, Flow or RGBDiff")
    add_data_flags(parser.add_argument_group("data"))
    add_model_flags(parser.add_argument_group("model"))
    add_learning_flags(parser.add_argument_group("learning"))
    add_augmentation_flags(parser.add_argument_group("augmentation of training clips"))
    add_run_flags(parser.add_argument_group("run"))
    add_teacher_flags(parser.add_argument_group("teachers"))
    cli.add_negations(parser)
    for flag in DEAD_FLAGS:
        parser.add_argument(f"--{flag}", default=None, help=argparse.SUPPRESS)
    return parser


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
    if args.evaluate:
        fetching = args.resume == "auto"  # --train_url then brings the run here
        warn_unused(parser, args, "--evaluate trains nothing", "teacher", "distill_weight", "distill_temperature", "track",
                    *([] if fetching else ["train_url"]))
    elif not args.teacher:
        warn_unused(parser, args, "it needs --teacher", "distill_weight", "distill_temperature")
    elif args.distill_weight == 1:
        of_labels = [name for name in ("loss_type", "label_smoothing", "class_weights")
                     if getattr(args, name) != DEFAULTS[args.recipe].get(name)]
        warn_unused(parser, args, "with --distill_weight 1 the labels have no share in the loss", *of_labels)
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
    add_test_data_flags(parser.add_argument_group("data"))
    _add_protocol_flags(parser.add_argument_group("protocol"))
    _add_test_run_flags(parser.add_argument_group("run"))
    return parser


def _add_checkpoint_flags(group: Flags) -> None:
    add = group.add_argument
    add("--weights", required=True, type=cli.address_list, metavar="FILE[,FILE]",
        help="one checkpoint or exported model (tools/export.py), or an ensemble; addresses such as s3://bucket/name.pth.tar"
        " too")
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
    group.add_argument("--shift_stages", type=cli.stage_numbers, default=None, metavar="N[,N]", help="as in main.py")
    cli.add_input_size_flag(group, None, "size of the crops, pixels (default: as trained, else 224)")


def overrides(args: argparse.Namespace, i: Optional[int] = None) -> dict[str, Any]:
    """The `ModelSpec` options in the flags of `add_override_flags`; None for a flag that was not given.

    i: the index of the checkpoint, where there are several.
    """
    each = {name: getattr(args, name) if i is None else getattr(args, name)[i] for name in OVERRIDES}
    every = ("shift", "temporal_pool", "non_local", "non_local_type", "shift_stages", "input_size")
    return each | {name: getattr(args, name) for name in every}


def _add_dead_flags(group: Flags) -> None:
    group.add_argument("--img_feature_dim", type=number(int, 1), default=256, help=argparse.SUPPRESS)
    group.add_argument("--num_set_segments", type=number(int, 1), default=None, help=argparse.SUPPRESS)
    group.add_argument("--pretrain", default=None, help=argparse.SUPPRESS)


def add_test_data_flags(group: Flags) -> None:
    add = group.add_argument
    add("--test_list", type=per_checkpoint(), default=None, metavar="FILE[,FILE]",
        help="list of the videos (default: the data set's validation list)")
    add("--root_path", type=per_checkpoint(), default=None, metavar="DIR[,DIR]",
        help="directory that contains the frame directories or videos (default: the data set's own)")
    cli.add_dataset_flags(group, DATA_FORMATS)
    cli.add_data_url_flag(group)
    add("--max_num", type=video_limit, default=-1, metavar="N", help="stop after this many videos (default: all)")


def _add_protocol_flags(group: Flags) -> None:
    add_view_flags(group)
    add = group.add_argument
    add("--crop_fusion_type", type=one_of("avg"), default="avg", metavar="NAME",
        help="avg: average the views (default: %(default)s)")
    add("--online", action="store_true", help="stream whole videos frame by frame and report the accuracy after every n"
        " frames")
    add("--online_stride", type=number(int, 1, words="1 (every frame) or more"), default=None, metavar="N",
        help="with --online: stream every Nth frame (default: the spacing of the training frames, which is the list's"
        " median length / T)")


def add_view_flags(group: Flags) -> None:
    """The clips and crops of each video; `chosen_protocol` reads them."""
    add = group.add_argument
    add("--protocol", type=one_of(*PROTOCOLS), default=None, metavar="NAME", help="in place of the four flags below; "
        + "; ".join(f"{name}: {protocol.words}" for name, protocol in PROTOCOLS.items()))
    add("--test_crops", type=crops, default=None, metavar="N", help="crops per clip: 1 (default), 3, 5 or 10")
    add("--full_res", action="store_true", help="crops as high as the scaled frames")
    add("--dense_sample", action="store_true", help="10 clips, each from 64 neighbouring frames")
    add("--twice_sample", action="store_true", help="2 clips")


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
    args.protocol = chosen_protocol(args)
    _check_online(args)
    warn_unused(parser, args, "the checkpoint decides", "pretrain", "img_feature_dim", "num_set_segments")
    return args


def _fill_up(values: Optional[list], flag: str, count: int, default: Any) -> list:
    """`count` values: those given, the single one for all checkpoints, or the default."""
    values = [default] if values is None else values
    if len(values) not in (1, count):
        raise UserError(f"{flag} has {len(values)} values for {counted(count, 'checkpoint')}: give one each, or one for all")
    return values if len(values) == count else values * count


def chosen_protocol(args: argparse.Namespace) -> TestProtocol:
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
