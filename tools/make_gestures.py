"""Make the gestures data set: small real videos, in the on-disk form of Something-Something-V2.

    python tools/make_gestures.py --out data/gestures

Started again after an interruption, it goes on where it stopped.
"""
import argparse
import re
import sys
from pathlib import Path
from typing import Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.common.cli import Parser, run
from ops.prepare.gestures.make import FORMATS, VIDEOS, make_gestures
from ops.prepare.gestures.render import SIZE


def parse_size(text: str) -> Tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as {SIZE[0]}x{SIZE[1]}")
    return int(match[1]), int(match[2])


def build_parser() -> Parser:
    parser = Parser(description="Render and encode the gestures data set.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the data set")
    parser.add_argument("--videos", type=int, default=VIDEOS, metavar="N",
                        help=f"how many, train and validation (default {VIDEOS})")
    parser.add_argument("--val", type=float, default=0.2, metavar="FRACTION", help="share for validation")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other videos")
    parser.add_argument("--size", type=parse_size, default=SIZE, metavar="WxH",
                        help=f"pixels, even numbers (default {SIZE[0]}x{SIZE[1]})")
    parser.add_argument("--format", default="mp4", help=f"{' or '.join(FORMATS)}: H.264 or VP9")
    parser.add_argument("-j", "--workers", type=int, default=None, help="processes (default: the cores)")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    made = make_gestures(args.out, args.videos, args.seed, args.size, args.val, args.format, args.workers)
    print(f"{made['out']}: {made['videos']} videos ({made['train']} train, {made['validation']} validation), "
          f"{made['made']} made, {made['kept']} kept, {made['bytes'] / 1e6:.1f} MB, {made['seconds']:.1f} s")


if __name__ == "__main__":
    run(main)
