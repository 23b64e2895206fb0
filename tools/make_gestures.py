"""Make the gestures data set: small real videos, in the on-disk form of Something-Something-V2.

    python tools/make_gestures.py --out data/gestures

After an interruption, run it again to resume.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.common.cli import Parser, add_seed_flag, add_workers_flag, number, one_of, run
from ops.prepare.gestures.definition import CLASSES, FORMATS, VIDEOS
from tools.shared.gestures import add_size_flag


def build_parser() -> Parser:
    parser = Parser(description="Render and encode the gestures data set.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the data set")
    parser.add_argument("--videos", type=number(int, len(CLASSES), 1_000_000), default=VIDEOS, metavar="N",
                        help="number of training and validation videos (default: %(default)s)")
    parser.add_argument("--val", type=number(float, above=0, below=1), default=0.2, metavar="FRACTION",
                        help="validation share (default: %(default)s)")
    add_seed_flag(parser, help="a different seed gives different videos (default: %(default)s)")
    add_size_flag(parser)
    parser.add_argument("--format", type=one_of(*FORMATS), default="mp4",
                        help="mp4 (H.264) or webm (VP9) (default: %(default)s)")
    add_workers_flag(parser)
    return parser


def main() -> None:
    args = build_parser().parse_args()
    from ops.prepare.gestures.make import make_gestures  # OpenCV and PyAV: not before the flags are read
    made = make_gestures(args.out, args.videos, args.seed, size=args.size, val=args.val, fmt=args.format,
                         workers=args.workers)
    print(f"{made['out']}: {made['videos']} videos ({made['train']} train, {made['validation']} validation), "
          f"{made['made']} made, {made['kept']} kept, {made['bytes'] / 1e6:.1f} MB, {made['seconds']:.1f} s")


if __name__ == "__main__":
    run(main)
