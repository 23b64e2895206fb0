"""Export an online model's step (frame and memories in, logits and memories out) as one ONNX file.

python tools/export_onnx.py ONLINE.pth.tar -o ONLINE.onnx
"""
import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops import cli  # noqa: E402
from ops.errors import UserError  # noqa: E402
from ops.export_onnx import export_step, exported_path, write_exported  # noqa: E402
from ops.online import OnlineTSM  # noqa: E402

log = logging.getLogger("export_onnx")


def parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="export_onnx.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path, help="an online file (ours or the released Jester one), or a clip checkpoint of a"
        " model trained with --shift_direction unidirectional")
    add("-o", "--output", type=Path, help="the file to write (default: beside the checkpoint, where online_demo/main.py"
        " finds it)")
    add("--height", type=int, help="of the frames, pixels (default: as trained); the file is for this size alone")
    add("--width", type=int, help="likewise")
    add("--force", action="store_true", help="export a model trained with the two-way shift too")
    return parser


def main() -> None:
    args = parser().parse_args()
    for name in ("height", "width"):
        if getattr(args, name) is not None and getattr(args, name) < 32:
            raise UserError(f"--{name} {getattr(args, name)}: choose 32 pixels or more")
    output = args.output or exported_path(args.checkpoint)
    if output.resolve() == args.checkpoint.resolve():
        raise UserError(f"-o {output} is the checkpoint itself: name another file")
    exported = export_step(OnlineTSM(args.checkpoint, args.force), args.height, args.width)
    write_exported(exported, output)
    info = exported.info
    log.info("%s: %s, %d memories, frames of %dx%d, any number of streams, %.1f MB", output, info.settings.arch,
             len(info.memories), info.height, info.width, len(exported.content) / 1e6)


if __name__ == "__main__":
    cli.run(main)
