"""A training checkpoint becomes online weights, or the way back: only names change.

python tools/convert_to_online.py CKPT -o ONLINE.pth.tar
python tools/convert_to_online.py mobilenetv2_jester_online.pth.tar -o CKPT.pth.tar --to_clip
"""
import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.backbones import BACKBONES
from ops.common import cli
from ops.common.choices import DIRECTIONS, FRAME_RATE, MOST


def parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="convert_to_online.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path, help="of a model trained with --shift_direction unidirectional; with --to_clip an"
        " online file")
    add = parser.add_argument_group("conversion").add_argument
    add("-o", "--output", type=Path, required=True, help="the file to write")
    add("--to_clip", action="store_true", help="the way back: turn an online file (the released Jester one too) into a"
        " checkpoint for test_models.py")
    add("--bare", action="store_true", help="write the released form: a state dict without metadata (MobileNetV2)")
    add("--force", action="store_true", help="also convert a model trained with the two-way shift")
    add("--frame_rate", type=cli.number(float, above=0, maximum=MOST), default=None, metavar="FPS",
        help="frames per second at which the demo is to feed the model: the training videos' rate, divided by the usual gap"
        " between a clip's frames (default: unknown)")
    add("--num_segments", type=cli.number(int, 1, MOST), default=None, metavar="T",
        help="with --to_clip: frames per clip (default: as trained, else 8)")
    group = parser.add_argument_group("for files without metadata")
    group.add_argument("--arch", type=cli.one_of(*BACKBONES), metavar="NAME", help=", ".join(BACKBONES))
    group.add_argument("--shift", action=argparse.BooleanOptionalAction, help="whether it is a TSM")
    group.add_argument("--shift_div", type=cli.number(int, 1), metavar="N",
                       help="1/N of the channels shift in each direction (default: 8)")
    group.add_argument("--shift_place", metavar="PLACE", help="blockres or block (default: blockres)")
    group.add_argument("--shift_direction", type=cli.one_of(*DIRECTIONS), metavar="NAME", help=" or ".join(DIRECTIONS))
    group.add_argument("--shift_stages", type=cli.stage_numbers, metavar="N[,N]", help="stages that shift (default: all)")
    cli.add_input_size_flag(group, None, "height and width of the frames, pixels (default: 224)")
    return parser


if __name__ == "__main__":
    cli.check_usage(parser().parse_args)  # torch, which the imports below need, takes seconds

from ops.checkpoints.checkpoint import Checkpoint
from ops.checkpoints.online_format import bare_content, clip_content, known_frame_rate, load_streamable, online_content
from ops.checkpoints.tensors import ONLINE
from ops.common.errors import UserError
from ops.common.files import check_not_an_input
from ops.common.words import counted
from ops.weights import save_checkpoint

log = logging.getLogger("convert_to_online")
OVERRIDES = ("arch", "shift", "shift_div", "shift_place", "shift_direction", "shift_stages", "num_segments", "input_size")


def main() -> None:
    args = parser().parse_args()
    if args.bare and args.to_clip:
        raise UserError("--bare and --to_clip exclude each other: a clip checkpoint always carries its metadata")
    check_not_an_input(args.output, [args.checkpoint], "output")
    found = load_streamable(args.checkpoint, args.force, **{option: getattr(args, option) for option in OVERRIDES})
    if args.frame_rate:
        found = replace(found, content={**found.content, "frame_rate": args.frame_rate})
    content = convert(found, args.to_clip, args.bare)
    save_checkpoint(content, args.output)
    spec = found.spec
    shift = f"1/{spec.shift_div} of the channels from the past, {spec.place}" if spec.shift else "no shift"
    kind = "clip checkpoint" if args.to_clip else "online weights"
    log.info("%s: %s, %s, %s, %s", args.output, kind, spec.arch, shift, counted(spec.num_class, "class"))
    log_frame_rate(found, args)


def convert(found: Checkpoint, to_clip: bool, bare: bool) -> dict[str, Any]:
    """The entries of the output file; UserError when there is nothing to convert."""
    if to_clip:
        if found.kind != ONLINE:
            raise UserError(f"{found.path} is a clip checkpoint already: test_models.py takes it as it is")
        return clip_content(found)
    if bare:
        return bare_content(found)
    if found.kind == ONLINE:
        raise UserError(f"{found.path} is an online file already: online_demo/main.py takes it as it is; --to_clip"
                        " makes a clip checkpoint of it, --bare drops its metadata")
    return online_content(found)


def log_frame_rate(found: Checkpoint, args: argparse.Namespace) -> None:
    """The rate at which the demo will feed a file that carries none."""
    if args.bare and args.frame_rate:
        log.warning("--frame_rate has no effect with --bare: the released form carries no metadata")
    if known_frame_rate(found.content, found.path) is None and not (args.bare or args.to_clip):
        log.info("no --frame_rate: the demo will feed this model %g frames per second, as of Jester's videos; for others"
                 " give their frames per second divided by the usual gap between a clip's frames", FRAME_RATE)


if __name__ == "__main__":
    cli.run(main)
