"""The quickstart's long video: gestures that follow one another, none of them in the data set, and what they are.

    python tools/showcase/stream.py --out runs/quickstart/stream [--gestures 24] [--seed 1]

Writes gestures.mp4 and truth.json (start and end of every gesture in seconds, its class).
"""
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ops.common.cli import Parser, run
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.prepare.gestures.make import FPS
from ops.prepare.gestures.render import CLASSES, render_stream
from ops.streaming.stream_metrics import truth_of, truth_to_json
from ops.video.encode import encode_video

WALL = 8  # gestures before the same wall, each class once: the next ones are before another
# Set apart from the data sets' random numbers, which use (seed, video): see ops.prepare.gestures.make.
STREAM_KEY = 2 ** 31


def main() -> None:
    parser = Parser(description="Render the quickstart's long video, and write down what it shows.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--gestures", type=int, default=24, metavar="N", help="how many follow one another")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.gestures < 1:
        raise UserError(f"--gestures {args.gestures}: at least 1")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: a whole number from 0")
    frames, segments = render(args.gestures, args.seed)
    truth = truth_of(segments, CLASSES, len(frames), FPS)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        encode_video(args.out / "gestures.mp4", frames, FPS)
        with atomic_write(args.out / "truth.json") as f:
            json.dump(truth_to_json(truth), f, indent=1)
    except OSError as error:
        raise UserError(f"{args.out}: cannot write there ({error.strerror or error})") from None
    print(f"{args.out / 'gestures.mp4'}: {len(segments)} gestures in {truth.seconds:.0f} seconds")


def render(gestures: int, seed: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Frames (T, H, W, 3) uint8 RGB and (first frame, last frame, label) of each gesture, 0-based.

    Each eight gestures are the eight classes in random order before one wall.
    """
    parts: list[np.ndarray] = []
    segments: list[tuple[int, int, int]] = []
    for scene in range(-(-gestures // WALL)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STREAM_KEY, scene)))
        labels = rng.permutation(len(CLASSES))[:gestures - scene * WALL]
        frames, found = render_stream(labels.tolist(), rng)
        begin = sum(map(len, parts))
        segments += [(begin + first, begin + last, label) for first, last, label in found]
        parts.append(frames)
    return np.concatenate(parts), segments


if __name__ == "__main__":
    run(main)
