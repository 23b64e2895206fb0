"""Export an online model's step (frame and state in, logits and new state out) as one ONNX file.

python tools/export_onnx.py ONLINE.pth.tar
python tools/export_onnx.py ONLINE.pth.tar --int8 VIDEO.mp4 DIRECTORY
"""
import argparse
import logging
import sys
from itertools import islice
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common import cli
from ops.common.choices import FRAME_RATE, MOST

PIXELS = cli.number(int, 32, MOST, words=f"32 to {MOST} pixels")


def parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="export_onnx.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path, help="an online file (ours or the released Jester one), or a clip checkpoint of a"
        " model trained with --shift_direction unidirectional")
    add("-o", "--output", type=Path, help="the file to write (default: beside the checkpoint, where online_demo/main.py"
        " finds it)")
    add("--height", type=PIXELS, metavar="PIXELS", help="height of the frames, which the file fixes (default: as trained)")
    add("--width", type=PIXELS, metavar="PIXELS", help="width of the frames, which the file fixes (default: as trained)")
    add("--int8", nargs="+", metavar="SOURCE", help="compute in 8-bit integers, calibrated on these videos or directories of"
        " frames; choose some that look like the later input")
    add("--int8_frames", type=cli.number(int, 1), default=48, metavar="N", help="number of frames to take from the start of"
        " each SOURCE, at the model's rate (default: %(default)s)")
    add("--folder_rate", type=cli.number(float, above=0, maximum=MOST), default=FRAME_RATE, metavar="FPS",
        help="frames per second of a directory of frames, as in the demo (default: %(default)g)")
    add("--force", action="store_true", help="also export a model trained with the two-way shift")
    return parser


if __name__ == "__main__":
    cli.check_usage(parser().parse_args)  # torch, which the imports below need, takes seconds

from torch import Tensor

from ops.checkpoints.online_format import frame_rate_of
from ops.common.errors import UserError
from ops.common.files import check_not_an_input
from ops.runtimes.export import export_step
from ops.runtimes.quantize import quantize_step
from ops.runtimes.step_file import exported_path, write_exported
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import FrameSelector, open_source
from ops.streaming.stream import frame_transform

log = logging.getLogger("export_onnx")


def main() -> None:
    args = parser().parse_args()
    check(args)
    output = args.output or exported_path(args.checkpoint, "int8" if args.int8 else "float32")
    check_not_an_input(output, [args.checkpoint, *(args.int8 or ())], "output")
    online = OnlineTSM(args.checkpoint, args.force)
    exported = export_step(online, args.height, args.width)
    if args.int8:
        rate = frame_rate_of(args.checkpoint)
        exported = quantize_step(exported, (islice(frames_of(source, rate, online, args.folder_rate),
                                                   args.int8_frames) for source in args.int8))
    write_exported(exported, output)
    info = exported.info
    log.info("%s: %s, %s, %d state tensors, frames of %dx%d, any number of streams, %.1f MB", output, info.spec.arch,
             info.precision, len(info.state_shapes), info.height, info.width, len(exported.content) / 1e6)


def check(args: argparse.Namespace) -> None:
    """UserError for flags that cannot work together, before the seconds that an export takes."""
    if args.int8 and (args.height or args.width):
        raise UserError("--int8 with --height or --width: calibration uses frames of the trained size: leave them out")
    for source in args.int8 or []:
        if not Path(source).exists():
            raise UserError(f"--int8 {source}: no such video file or directory of frames")


def frames_of(source: str, rate: float, online: OnlineTSM, directory_rate: float) -> Iterator[Tensor]:
    """The model's frames of a video file or directory: (1, 3, H, W) each, normalized, `rate` per second of its clock.

    directory_rate: frames per second of a directory of frames.
    """
    selector, transform = FrameSelector(rate), frame_transform(online.preprocessing)
    for frame in open_source(source, directory_rate).frames():
        assert frame.time is not None, "files and directories have time stamps"
        if selector.due(frame.time):
            yield online.prepare(transform(frame.read()))


if __name__ == "__main__":
    cli.run(main)
