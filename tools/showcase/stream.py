"""Make the quickstart's long video: gestures in a row, none of them in the data set, and a file that says what they are.

    python tools/showcase/stream.py --out runs/quickstart/stream [--gestures 24] [--seed 1] [--size 96x72]

Writes gestures.mp4 and truth.json (the start and end of every gesture in seconds, and its class).
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ops.common.choices import MOST
from ops.common.cli import Parser, add_seed_flag, check_usage, number, run
from tools.shared.gestures import add_size_flag


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the two files")
    parser.add_argument("--gestures", type=number(int, 1, MOST), default=24, metavar="N",
                        help="gestures (default: %(default)s)")
    add_seed_flag(parser, default=1)
    add_size_flag(parser)
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # before OpenCV and PyAV are imported

import numpy as np

from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.prepare.gestures.definition import CLASSES, FPS, SIZE, Size
from ops.prepare.gestures.render import check_size, render_stream
from ops.streaming.stream_metrics import ground_truth_to_json, make_ground_truth
from ops.video.encode import encode_video

SCENE_GESTURES = 8  # each class once, in front of one wall; the next scene has another wall
# Keeps these random numbers apart from those of the data sets, which use (seed, video): see ops.prepare.gestures.make.
STREAM_KEY = 2 ** 31


def main() -> None:
    args = build_parser().parse_args()
    check_size(args.size)
    frames, segments = render(args.gestures, args.seed, args.size)
    truth = make_ground_truth(segments, CLASSES, num_frames=len(frames), fps=FPS)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        encode_video(args.out / "gestures.mp4", frames, FPS)
        with atomic_write(args.out / "truth.json") as f:
            json.dump(ground_truth_to_json(truth), f, indent=1)
    except OSError as error:
        raise UserError(f"{args.out}: cannot write there ({error.strerror or error})") from None
    print(f"{args.out / 'gestures.mp4'}: {len(segments)} gestures in {truth.seconds:.0f} seconds")


def render(gestures: int, seed: int, size: Size = SIZE) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The long video: frames (T, H, W, 3) uint8 RGB, and (first frame, last frame, label) of each gesture, 0-based.

    size: (width, height), pixels.

    A scene is the eight classes in random order in front of one wall.
    """
    parts: list[np.ndarray] = []
    segments: list[tuple[int, int, int]] = []
    for scene in range(-(-gestures // SCENE_GESTURES)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STREAM_KEY, scene)))
        labels = rng.permutation(len(CLASSES))[:gestures - scene * SCENE_GESTURES]
        frames, found = render_stream(labels.tolist(), rng, size)
        begin = sum(map(len, parts))
        segments += [(begin + first, begin + last, label) for first, last, label in found]
        parts.append(frames)
    return np.concatenate(parts), segments


if __name__ == "__main__":
    run(main)
