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
    parser.add_argument("checkpoint", type=cli.address, help="an online file (ours or the released Jester one), or a clip"
                        " checkpoint of a model trained with --shift_direction unidirectional; an address such as"
                        " s3://bucket/name too")
    model = parser.add_argument_group("model")
    model.add_argument("--force", action="store_true", help="also export a model trained with the two-way shift")
    model.add_argument("--height", type=PIXELS, metavar="PIXELS", help="height of the frames, which the file fixes (default:"
                       " as trained)")
    model.add_argument("--width", type=PIXELS, metavar="PIXELS", help="width of the frames, which the file fixes (default:"
                       " as trained)")
    _add_int8_flags(parser.add_argument_group("8-bit integers"))
    files = parser.add_argument_group("files")
    files.add_argument("-o", "--output", type=cli.address, metavar="FILE", help="the file to write (default: beside the"
                       " checkpoint, where online_demo/main.py finds it; in this directory for a checkpoint at an address)")
    cli.add_root_dataset_flag(files)
    cli.add_data_url_flag(files)
    cli.add_train_url_flag(files, "the exported file")
    return parser


def _add_int8_flags(group: cli.Flags) -> None:
    add = group.add_argument
    add("--int8", nargs="+", metavar="SOURCE", help="compute in 8-bit integers, calibrated on these videos or directories of"
        " frames; choose some that look like the later input")
    add("--int8_frames", type=cli.number(int, 1), default=48, metavar="N", help="number of frames to take from the start of"
        " each SOURCE, at the model's rate (default: %(default)s)")
    add("--folder_rate", type=cli.number(float, above=0, maximum=MOST), default=FRAME_RATE, metavar="FPS",
        help="frames per second of a directory of frames, as in the demo (default: %(default)g)")


if __name__ == "__main__":
    cli.check_usage(parser().parse_args)  # torch, which the imports below need, takes seconds

from torch import Tensor

from ops.checkpoints.online_format import frame_rate_of
from ops.common.addresses import is_address
from ops.common.errors import UserError
from ops.common.files import check_not_an_input
from ops.dataset_config import dataset_root
from ops.remote.data import fetch_data
from ops.remote.files import check_address, copy_out, local_file
from ops.runtimes.export import export_step
from ops.runtimes.quantize import quantize_step
from ops.runtimes.step_file import exported_path, write_exported
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import FrameSelector, open_source
from ops.streaming.stream import frame_transform

log = logging.getLogger("export_onnx")


def main() -> None:
    args = parser().parse_args()
    if args.data_url and not args.int8:
        log.warning("warning: --data_url has no effect: only --int8 reads videos")
    elif args.data_url:
        fetch_data(args.data_url, dataset_root(args.root_dataset))
    check(args)
    checkpoint = local_file(args.checkpoint, "checkpoint")
    beside = exported_path(checkpoint, "int8" if args.int8 else "float32")
    output = Path(args.output or (beside.name if is_address(args.checkpoint) else beside))
    check_not_an_input(output, [checkpoint, *(args.int8 or ())], "output")
    online = OnlineTSM(checkpoint, args.force)
    exported = export_step(online, args.height, args.width)
    if args.int8:
        rate = frame_rate_of(checkpoint)
        exported = quantize_step(exported, (islice(frames_of(source, rate, online, args.folder_rate),
                                                   args.int8_frames) for source in args.int8))
    write_exported(exported, output)
    info = exported.info
    log.info("%s: %s, %s, %d state tensors, frames of %dx%d, any number of streams, %.1f MB", output, info.spec.arch,
             info.precision, len(info.state_shapes), info.height, info.width, len(exported.content) / 1e6)
    if args.train_url:
        copy_out([output], args.train_url)


def check(args: argparse.Namespace) -> None:
    """UserError for flags and addresses that cannot work, before the seconds that an export takes."""
    if args.output and is_address(args.output):
        raise UserError(f"--output {args.output}: choose a path on this machine; --train_url copies the file to an address")
    if args.train_url:
        check_address(args.train_url, "train_url")
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
