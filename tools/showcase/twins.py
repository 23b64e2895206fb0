"""Score every validation video of the gestures backwards too: does a model's answer depend on the order of the frames?

    python tools/showcase/twins.py --runs runs/quickstart

Played backwards, a video of one class becomes a video of its twin class. Writes MODEL/twins.npy beside the scores that
test_models.py wrote to MODEL/scores.npy, for MODEL in tsm and tsn. report.py shows both.
"""
import html
import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ops.common.cli import Parser, add_device_flag, add_root_dataset_flag, check_usage, run


def build_parser() -> Parser:
    parser = Parser(description="Score every validation video of the gestures backwards too.")
    parser.add_argument("--runs", type=Path, default=Path("runs/quickstart"),
                        help="directory of the quickstart run (default: %(default)s)")
    add_root_dataset_flag(parser)
    add_device_flag(parser)
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ops.checkpoints.checkpoint import load_checkpoint
from ops.common.device import pick_device
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.common.plots import RIGHT, WRONG
from ops.data.list_files import read_list
from ops.data.loader import make_loader
from ops.data.sampling import ClipSampler
from ops.data.test_protocol import PROTOCOLS
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DatasetPaths, resolve_dataset
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.evaluate import evaluate
from ops.prepare.gestures.definition import TWIN
from ops.video.frames import FrameDirectory
from tools.showcase.page import encode_image, image_tag

MODELS = {"tsm": "TSM (--shift)", "tsn": "TSN (no shift)"}
COLORS = {"tsm": "#08519c", "tsn": "#d94801"}
FRAMES = 6  # shown of a video
BATCH = 16


class ReversedVideos(TSNDataSet):
    """The videos of a list played backwards; the labels are those of the list."""

    def segment_frames(self, num_frames: int) -> list[int]:
        return [num_frames + 1 - frame for frame in super().segment_frames(num_frames)]


class Scores(NamedTuple):
    """A model's scores of the videos and of their twins, each (videos, num_class). labels: of the videos."""
    videos: np.ndarray
    twins: np.ndarray
    labels: np.ndarray

    @property
    def both(self) -> float:
        """Percent of the videos whose class and whose twin's class are answered right."""
        twin_labels = np.asarray(TWIN)[self.labels]
        return 100 * float(np.mean((self.videos.argmax(1) == self.labels) & (self.twins.argmax(1) == twin_labels)))


class Clip(NamedTuple):
    """A video or its twin. frames: evenly spread, in the order of playing. answers: of each model, (class, probability)."""
    frames: list[Image.Image]
    true_class: str
    answers: dict[str, tuple[str, float]]


def main() -> None:
    args = build_parser().parse_args()
    data = resolve_dataset("gestures", "RGB", args.root_dataset, needed=["val_list"])
    for model in MODELS:
        results = json.loads(read_bytes(args.runs / model / "results.json"))
        scores = score_backwards(Path(results["weights"][0]), data, device=args.device)
        with atomic_write(args.runs / model / "twins.npy", "wb") as f:
            np.save(f, scores)
        print(f"{model}: a video and its time-reversed twin are both right: {read_scores(args.runs, model, data).both:.1f}%")


def score_backwards(weights: Path, data: DatasetPaths, *, device: str) -> np.ndarray:
    """(videos, num_class) logits of the validation videos played backwards, as test_models.py scores them forwards."""
    model = load_checkpoint(weights).build().to(pick_device(device))
    runtime, protocol = TorchClip(model), PROTOCOLS["efficient"]
    videos = ReversedVideos(data.frames, data.val_list, runtime.spec.num_segments, image_tmpl=data.template,
                            transform=protocol.transform(runtime.preprocessing), test_mode=True, num_class=data.num_class)
    scores = evaluate(runtime, make_loader(videos, BATCH, workers=0, train=False), desc=f"twins of {weights.parent.name}")
    return scores.logits.numpy()


# ---- the run's files -----------------------------------------------------------------------------------------

def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UserError(f"there is no {path}: run scripts/quickstart.sh first") from None


def read_scores(runs: Path, model: str, data: DatasetPaths) -> Scores:
    """The scores of a model of a quickstart run."""
    videos, twins = (np.load(io.BytesIO(read_bytes(runs / model / f"{name}.npy"))) for name in ("scores", "twins"))
    return Scores(videos, twins, np.array([record.label for record in read_list(data.val_list, data.num_class)]))


def first_pairs(data: DatasetPaths, class_names: Sequence[str], scores: dict[str, Scores]) -> list[tuple[Clip, Clip]]:
    """For each pair of classes, the first validation video of its first class, and that video's twin. Not selected."""
    records, source = read_list(data.val_list, data.num_class), FrameDirectory(data.frames, data.template)
    pairs = []
    for label in range(0, data.num_class, 2):
        index = next((i for i, record in enumerate(records) if record.label == label), None)
        if index is None:  # a very small data set
            continue
        frames = source.load(records[index].path, ClipSampler(FRAMES).frames(records[index].num_frames))
        forwards = {model: _answer(of.videos[index], class_names) for model, of in scores.items()}
        backwards = {model: _answer(of.twins[index], class_names) for model, of in scores.items()}
        pairs.append((Clip(frames, class_names[label], forwards), Clip(frames[::-1], class_names[TWIN[label]], backwards)))
    return pairs


def _answer(logits: np.ndarray, class_names: Sequence[str]) -> tuple[str, float]:
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    return class_names[int(logits.argmax())], float(probabilities.max())


# ---- on the page ----------------------------------------------------------------------------------------------

def twins_section(pairs: Sequence[tuple[Clip, Clip]], scores: dict[str, Scores]) -> str:
    """The part of the report that shows the pairs, with both models' answers."""
    both = ", ".join(f"{MODELS[model]} {of.both:.1f}%" for model, of in scores.items())
    count = len(next(iter(scores.values())).labels)
    return f"""<h2>A video and its time-reversed twin</h2>
<p>The first validation video of each pair, and the same frames in reverse order. For both to be right, a model has to use
the order. Of all {count} validation videos, this many were right in both directions: {both}.</p>
{"".join(clip_block(clip) for pair in pairs for clip in pair)}"""


def clip_block(clip: Clip) -> str:
    width, height = clip.frames[0].size
    strip = Image.new("RGB", ((width + 2) * len(clip.frames), height), "white")
    for i, frame in enumerate(clip.frames):
        strip.paste(frame, (i * (width + 2), 0))
    answers = ", ".join(f'{MODELS[model]}: <span class={"right" if name == clip.true_class else "wrong"}>'
                        f"{html.escape(name)}</span> ({100 * probability:.0f}%)"
                        for model, (name, probability) in clip.answers.items())
    image = image_tag(encode_image(strip, "JPEG", quality=88), f"frames of a video of {clip.true_class}", "jpeg")
    return f"<div class=example><b>{html.escape(clip.true_class)}</b> &mdash; {answers}{image}</div>"


# ---- the README's image --------------------------------------------------------------------------------------

HEADER, GAP, BETWEEN, COLUMN, SCALE = 60, 3, 14, 246, 2  # pixels, before everything is drawn at twice the size


def draw_pairs(pairs: Sequence[tuple[Clip, Clip]], top1: dict[str, float], scores: dict[str, Scores]) -> Image.Image:
    """A row per clip: its frames, its class, and each model's answer. Above: top1 and `Scores.both` of each model."""
    width, height = pairs[0][0].frames[0].size
    left = GAP + FRAMES * (width + GAP) + BETWEEN
    pair_height = 2 * (height + GAP) + BETWEEN
    columns = [left + COLUMN - 20, left + 2 * COLUMN - 20]  # of the answers, which begin with a mark
    size = left + 3 * COLUMN - 20, HEADER + len(pairs) * pair_height
    image = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), "white")
    pen = _Pen(image)
    pen.text(left, 8, "the video shows", 14, "#555555")
    for x, model in zip(columns, MODELS):
        pen.text(x, 4, f"{MODELS[model]}: {top1[model]:.1f}%", 18, COLORS[model])
        pen.text(x, 30, f"right in both directions: {scores[model].both:.1f}%", 13, COLORS[model])
    for row, clip in enumerate(clip for pair in pairs for clip in pair):
        top = HEADER + row // 2 * pair_height + row % 2 * (height + GAP)
        for i, frame in enumerate(clip.frames):
            enlarged = frame.resize((SCALE * width, SCALE * height), Image.Resampling.LANCZOS)
            image.paste(enlarged, (SCALE * (GAP + i * (width + GAP)), SCALE * top))
        middle = top + height // 2 - 10
        pen.text(left, middle, clip.true_class, 14, "black")
        for x, model in zip(columns, MODELS):
            name, probability = clip.answers[model]
            color = RIGHT if name == clip.true_class else WRONG
            pen.mark(x, middle + 3, name == clip.true_class, color)
            pen.text(x + 20, middle, name, 14, color)
            pen.text(x + 20, middle + 18, f"{100 * probability:.0f}%", 12, color)
    return image


class _Pen:
    """Draws on an image of SCALE times the size; positions and sizes are those before the enlargement."""

    def __init__(self, image: Image.Image) -> None:
        self.draw = ImageDraw.Draw(image)

    def text(self, x: float, y: float, words: str, size: int, color: str) -> None:
        font: Any = ImageFont.load_default(SCALE * size)
        self.draw.text((SCALE * x, SCALE * y), words, font=font, fill=color)

    def mark(self, x: float, y: float, right: bool, color: str) -> None:
        """A tick or a cross of 13 x 13, since colors alone do not tell them apart for everyone."""
        lines = [[(0, 7), (5, 12), (13, 1)]] if right else [[(1, 1), (12, 12)], [(1, 12), (12, 1)]]
        for line in lines:
            self.draw.line([(SCALE * (x + dx), SCALE * (y + dy)) for dx, dy in line], fill=color, width=SCALE * 2)


if __name__ == "__main__":
    run(main)
