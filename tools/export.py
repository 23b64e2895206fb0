"""Export a model for runtimes without this code, as ONNX, OpenVINO or torch.export program: a clip model (clips in, logits
out), or the step of an online model (a frame and the state in, logits and the new state out).

    python tools/export.py CKPT -o model.onnx                                      # or model.xml, model.pt2
    python tools/export.py ONLINE.pth.tar                                          # where online_demo/main.py finds it
    python tools/export.py ONLINE.pth.tar --precision int8 --calibration VIDEO.mp4 DIRECTORY

The file is run and compared with PyTorch before it gets its name. It says what it is: tools/inspect_checkpoint.py FILE.
"""
import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import opts
from ops.common import cli
from ops.common.choices import DATA_FORMATS, EXPORT_FORMATS, EXPORT_PRECISIONS, FRAME_RATE, MOST
from ops.common.errors import UserError

PIXELS = cli.number(int, 32, MOST, words=f"32 to {MOST} pixels")
DYNAMIC = "dynamic"
ENDINGS = cli.alternatives([*EXPORT_FORMATS.values()])


def batch_size(text: str) -> Optional[int]:
    """An argparse type: a number of clips or streams, or `dynamic` (None) for any."""
    return None if text.lower() == DYNAMIC else cli.number(int, 1, words=f"1 or more, or {DYNAMIC}")(text)


def parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=cli.address, help="a clip checkpoint, or an online file (ours or the released"
                        " Jester one); an address such as s3://bucket/name too")
    _add_export_flags(parser.add_argument_group("export"))
    _add_int8_flags(parser.add_argument_group("8-bit integers"))
    opts.add_override_flags(parser.add_argument_group("model", opts.OVERRIDES_TITLE))
    files = parser.add_argument_group("files")
    files.add_argument("-o", "--output", type=cli.address, metavar="FILE", help="the file to write, whose name ends in"
                       f" {ENDINGS} (default: beside the checkpoint; in this directory for a checkpoint at an address)")
    cli.add_dataset_flags(files, DATA_FORMATS)
    cli.add_workers_flag(files, 0, what="processes that load validation videos; 0 loads in the main process", minimum=0)
    cli.add_data_url_flag(files)
    cli.add_train_url_flag(files, "the exported file")
    return parser


def _add_export_flags(group: cli.Flags) -> None:
    add = group.add_argument
    add("--format", type=cli.one_of(*EXPORT_FORMATS), metavar="NAME", help=f"{', '.join(EXPORT_FORMATS)} (default: by the"
        " ending of --output, else onnx)")
    add("--model", type=cli.one_of("clip", "online"), metavar="NAME", help="clip: (N, T*C, H, W) to logits; online: the step"
        " of a model that streams (default: what the checkpoint is)")
    add("--precision", type=cli.one_of(*EXPORT_PRECISIONS), default="fp32", metavar="NAME",
        help=f"{', '.join(EXPORT_PRECISIONS)} (default: %(default)s)")
    add("--batch", type=batch_size, default=None, metavar="N", help=f"number of clips or streams, or {DYNAMIC} for any"
        f" (default: {DYNAMIC})")
    add("--height", type=PIXELS, metavar="PIXELS", help="height of the frames, which the file fixes (default: as trained)")
    add("--width", type=PIXELS, metavar="PIXELS", help="width of the frames, which the file fixes (default: as trained)")
    add("--num_segments", type=opts.FRAMES, metavar="T", help="frames per clip (default: as trained)")
    add("--with_preprocessing", action="store_true", help="take uint8 RGB frames (N, T, H, W, 3), for online"
        " (N, H, W, 3), that are scaled and cropped, and normalize them in the graph")
    add("--features", action="store_true", help="also give the pooled features that the classifier sees")
    add("--force", action="store_true", help="for --model online: also export a model trained with the two-way shift")


def _add_int8_flags(group: cli.Flags) -> None:
    add = group.add_argument
    add("--calibration", nargs="+", metavar="SOURCE", help="what to calibrate on: a data set's name, a list of its videos"
        " (.txt), or videos and directories of frames that look like the later input (default: the training list of the"
        " checkpoint's data set)")
    add("--calibration_clips", type=cli.number(int, 1), default=256, metavar="N", help="number of clips to take from a list"
        " (default: %(default)s)")
    add("--calibration_frames", type=cli.number(int, 1), default=48, metavar="N", help="number of frames to take from"
        " the start of each video, at the model's rate (default: %(default)s)")
    add("--folder_rate", type=cli.number(float, above=0, maximum=MOST), default=FRAME_RATE, metavar="FPS",
        help="frames per second of a directory of frames, as in the demo (default: %(default)g)")
    add("--max_drop", type=cli.number(float, 0, 100), default=1.0, metavar="POINTS", help="write nothing if int8 costs more"
        " than this of the validation list's top-1 (default: %(default)g)")
    add("--max_num", type=opts.video_limit, default=-1, metavar="N", help="number of validation videos (default: all)")


def parse() -> argparse.Namespace:
    """The checked arguments. UserError for flags that cannot work together, before the seconds that an export takes."""
    args = parser().parse_args()
    ending = next((name for name, ending in EXPORT_FORMATS.items() if (args.output or "").lower().endswith(ending)), None)
    if args.output and ending != (args.format or ending):
        raise UserError(f"--output {args.output} does not end in {EXPORT_FORMATS[args.format]}, which --format {args.format}"
                        " needs: rename it")
    if args.output and ending is None:
        raise UserError(f"--output {args.output}: choose a name that ends in {ENDINGS}")
    args.format = args.format or ending or "onnx"
    int8 = args.precision == "int8"
    if int8 and (args.height or args.width):
        raise UserError("--precision int8 with --height or --width: calibration uses frames of the trained size: leave them"
                        " out")
    return args


if __name__ == "__main__":
    cli.check_usage(parse)  # torch, which the imports below need, takes seconds

from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ops.checkpoints.online_format import known_frame_rate, load_streamable
from ops.checkpoints.tensors import CLIP, ONLINE
from ops.common.addresses import is_address
from ops.common.files import check_not_an_input, check_writable
from ops.dataset_config import dataset_root
from ops.evaluation.predict import find_class_names
from ops.remote.data import fetch_data
from ops.remote.files import check_address, copy_out, local_file
from ops.runtimes.export import ExportOptions, check_precision, export_model
from ops.runtimes.exported_file import ExportedModel, exported_path, files_of
from ops.runtimes.graphs import Model
from ops.runtimes.publish import publish
from ops.streaming.online import OnlineTSM
from tools.shared.calibration import quantize

log = logging.getLogger("export")


def main() -> None:
    args = parse()
    warn_no_effect(args)
    check(args)
    if args.data_url and args.calibration:
        fetch_data(args.data_url, dataset_root(args.root_dataset))
    checkpoint = local_file(args.checkpoint, "checkpoint")
    inputs = [checkpoint, *(args.calibration or ())]
    if args.output:
        check_output(Path(args.output), inputs)
    found, model = build(args, checkpoint)
    kind = ONLINE if isinstance(model, OnlineTSM) else CLIP
    precision = EXPORT_PRECISIONS[args.precision]
    beside = exported_path(checkpoint, precision, kind=kind, format=args.format)
    output = Path(args.output or (beside.name if is_address(args.checkpoint) else beside))
    check_output(output, inputs)
    exported = export(args, found, model)
    exported, found_agreement = publish(exported, output, model)
    info = exported.info
    what = f"{len(info.state_shapes)} state tensors, " if kind == ONLINE else f"{info.spec.num_segments} frames per clip, "
    log.info("%s: %s %s, %s, %sframes of %dx%d, %s, %.1f MB", output, info.spec.arch, kind, info.precision, what,
             info.height, info.width, f"batches of {info.batch}" if info.batch else "any batch", exported.size / 1e6)
    log.info("run and compared: %s", found_agreement)
    if args.train_url:
        copy_out(files_of(output), args.train_url)


def warn_no_effect(args: argparse.Namespace) -> None:
    if args.precision != "int8":
        cli.warn_unused(parser(), args, "only --precision int8 is calibrated", "calibration", "calibration_clips",
                        "calibration_frames", "folder_rate", "max_drop", "max_num")
    if args.data_url and not args.calibration:
        log.warning("warning: --data_url has no effect: only --calibration reads videos")


def check(args: argparse.Namespace) -> None:
    """UserError for flags and addresses that cannot work, before the seconds that an export takes."""
    if args.output and is_address(args.output):
        raise UserError(f"--output {args.output}: choose a path on this machine; --train_url copies the file to an address")
    if args.train_url:
        check_address(args.train_url, "train_url")
    check_precision(args.format, EXPORT_PRECISIONS[args.precision])


def check_output(output: Path, inputs: Sequence[Union[str, Path]]) -> None:
    """UserError if one of the files of `output` cannot be written or would replace an input."""
    for file in files_of(output):
        check_writable(file)
        check_not_an_input(file, inputs, "output")


def build(args: argparse.Namespace, checkpoint: Path) -> tuple[Checkpoint, Model]:
    """The opened weight file, and the model that is exported."""
    overrides = {**opts.overrides(args), "num_segments": args.num_segments}
    found = load_checkpoint(checkpoint, **overrides)
    if (args.model or (ONLINE if found.kind == ONLINE else CLIP)) == CLIP:
        if args.force:
            log.warning("warning: --force has no effect: only --model online needs it")
        return found, found.build()
    size = overrides.pop("input_size")
    found = load_streamable(checkpoint, args.force, **overrides)
    if size:
        found = replace(found, known_spec=found.spec.with_(input_size=size))
    online = OnlineTSM(found.build())
    online.class_names = found.class_names
    return found, online


def export(args: argparse.Namespace, found: Checkpoint, model: Model) -> ExportedModel:
    """The exported model in memory."""
    int8 = args.precision == "int8"
    options = ExportOptions(args.height, args.width, "float32" if int8 else EXPORT_PRECISIONS[args.precision], args.batch,
                            args.with_preprocessing, args.features)
    facts = {"class_names": find_class_names(found, root=args.root_dataset), "dataset": found.dataset,
             "frame_rate": known_frame_rate(found.content, found.path)}
    exported = export_model(model, "onnx" if int8 else args.format, options, **facts)
    return quantize(args, found, model, exported) if int8 else exported


if __name__ == "__main__":
    cli.run(main)
