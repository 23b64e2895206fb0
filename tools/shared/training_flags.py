"""The flags of main.py, a function for each group of its help."""
import argparse

from ops.backbones import BACKBONES
from ops.common import cli
from ops.common.choices import (
    AMP,
    BEST_BY,
    CONSENSUS_TYPES,
    DATA_FORMATS,
    DIRECTIONS,
    LOSSES,
    MOST,
    NO_TRACKER,
    NON_LOCAL_TYPES,
    TRACKERS,
)
from ops.common.cli import Flags, number, one_of
from ops.data.augment_options import AUGMENTATIONS
from ops.recipes import DEFAULTS
from ops.training.schedule import SCHEDULES

DEFAULT_EPOCHS, DEFAULT_WORKERS = 120, 8
FRAMES = number(int, 1, MOST, words=f"1 to {MOST} frames per clip (published: 8 or 16)")


def add_data_flags(group: Flags) -> None:
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


def add_model_flags(group: Flags) -> None:
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
    add("--shift_stages", type=cli.stage_numbers, default="", metavar="N[,N]", help="shift only in these stages of the"
        " network, 3,4 (default: in all that can)")
    add("--temporal_pool", action="store_true", help="max-pool over time in front of layer2 (ResNet)")
    add("--non_local", action="store_true", help="add non-local blocks (ResNet)")
    add("--non_local_type", type=one_of(*NON_LOCAL_TYPES), default=NON_LOCAL_TYPES[0], metavar="NAME",
        help=f"{', '.join(NON_LOCAL_TYPES)} (default: %(default)s)")


def add_learning_flags(group: Flags) -> None:
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


def add_teacher_flags(group: Flags) -> None:
    add = group.add_argument
    add("--teacher", type=cli.addresses, default="", metavar="FILE[,FILE]", help="checkpoints, files or fsspec addresses,"
        " whose answers to the training clips are learned too; each sees them with its own number of frames and size")
    add("--distill_weight", type=number(float, above=0, maximum=1), default=0.5, metavar="W",
        help="share of the teachers in the loss, above 0; the labels have the rest (default: %(default)s)")
    add("--distill_temperature", type=number(float, above=0), default=4.0, metavar="T",
        help="what all scores are divided by before they are compared; a larger one shows more of the teachers' second"
        " choices (default: %(default)s)")


def add_augmentation_flags(group: Flags) -> None:
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


def add_run_flags(group: Flags) -> None:
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
