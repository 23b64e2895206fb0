"""One self-contained page of a quickstart run: curves, confusion matrices, videos with both models' predictions.

    python tools/showcase/report.py --runs runs/quickstart [--stream] [--image docs/quickstart.png]

--stream adds how the unidirectional model followed the long video, and writes stream/score.json.
"""
import html
import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ops.common.cli import Parser, run
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.data.list_files import VideoRecord, read_list
from ops.data.sampling import ClipSampler
from ops.dataset_config import DatasetPaths, resolve_dataset
from ops.prepare.gestures.make import FPS
from ops.prepare.gestures.render import MAX_FRAMES, MIN_FRAMES
from ops.streaming.stream_metrics import (
    GRACE,
    StreamScore,
    draw_stream,
    read_answers,
    read_truth,
    score_stream,
    standing,
)
from ops.training.run_log import read_log
from ops.video.frames import FrameDirectory
from ops.weights import read_checkpoint
from tools.showcase.page import chart, coded, image_tag, poster

COLORS = {"tsm": "#08519c", "tsn": "#d94801"}
TITLES = {"tsm": "TSM (--shift)", "tsn": "TSN (no shift)"}
FRAMES = 8


class Shown(NamedTuple):
    """A validation video: its frames as the models see them, the true class, each model's answer and probability."""
    frames: list[Image.Image]
    truth: str
    answers: dict[str, tuple[str, float]]


def main() -> None:
    parser = Parser(description="Write report.html of a quickstart run.")
    parser.add_argument("--runs", default="runs/quickstart", help="directory of the run")
    parser.add_argument("--root_dataset", default=None)
    parser.add_argument("--stream", action="store_true", help="add the long video")
    parser.add_argument("--image", default=None, metavar="PNG", help="also draw the README's image")
    args = parser.parse_args()
    runs = Path(args.runs)
    data = resolve_dataset("gestures", "RGB", args.root_dataset)
    names = data.class_names or [str(i) for i in range(data.num_class)]
    tested = {model: json.loads(read(runs / model / "results.json")) for model in COLORS}
    curves = {model: read_curve(runs, Path(tested[model]["weights"][0])) for model in COLORS}
    shown = choose_videos(data, names, {model: load(runs / model / "scores.npy") for model in COLORS})
    top1 = {model: tested[model]["top1"] for model in COLORS}
    followed = streaming(runs, names) if args.stream else ""
    with atomic_write(runs / "report.html") as f:
        f.write(page(runs, curves, shown, top1, followed))
    if args.image:
        with atomic_write(Path(args.image), "wb") as f:
            draw_image(shown, top1).save(f, "PNG", optimize=True)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UserError(f"there is no {path}: run scripts/quickstart.sh first") from None


def load(path: Path) -> np.ndarray:
    return np.load(io.BytesIO(read(path)))


def read_curve(runs: Path, weights: Path) -> list[dict[str, float]]:
    """Rows, as numbers, of the log.csv of the run that left these weights; other runs' logs may lie beside it."""
    path = runs / "log" / weights.parent.name / "log.csv"
    rows = read_log(path)
    if not rows:
        raise UserError(f"there is no {path}, the log of {weights}: run scripts/quickstart.sh first")
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def choose_videos(data: DatasetPaths, names: Sequence[str], scores: dict[str, np.ndarray]) -> list[Shown]:
    """The first validation video of every class."""
    records = read_list(data.val_list, data.num_class)
    first: dict[int, int] = {}
    for i, record in enumerate(records):
        first.setdefault(record.label, i)
    source = FrameDirectory(data.frames, data.template)
    return [show(records[i], source, names, {m: s[i] for m, s in scores.items()}) for _, i in sorted(first.items())]


def show(record: VideoRecord, source: FrameDirectory, names: Sequence[str], logits: dict[str, np.ndarray]) -> Shown:
    answers = {}
    for model, row in logits.items():
        chances = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        answers[model] = (names[int(row.argmax())], float(chances.max()))
    return Shown(source.load(record.path, ClipSampler(FRAMES).frames(record.num_frames)), names[record.label], answers)


# ---- the page -----------------------------------------------------------------------------------------------

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}.pair{display:flex;gap:2em;flex-wrap:wrap}
.number{font-size:2.2em;font-weight:600}.video{margin:.9em 0}.video img{display:block;max-width:100%}
.right{color:#1a7f37}.wrong{color:#c62828}figure{margin:0}figcaption{font-weight:600}
.wide{display:block;max-width:100%}"""


def page(runs: Path, curves: dict[str, list[dict[str, float]]], shown: Sequence[Shown], top1: dict[str, float],
         followed: str = "") -> str:
    """followed: the part on the long video, "" while there is none."""
    numbers = "".join(f'<div><div class=number style="color:{COLORS[m]}">{top1[m]:.1f}%</div>{TITLES[m]}</div>'
                      for m in COLORS)
    matrices = "".join(f"<figure><figcaption>{TITLES[m]}</figcaption>{image_tag(read(runs / m / 'confusion.png'))}"
                       "</figure>" for m in COLORS)
    videos = "".join(video_block(video) for video in shown)
    return f"""<!doctype html><html lang=en><meta charset=utf-8><title>TSM quickstart</title><style>{STYLE}</style>
<h1>Does the model see time?</h1>
<p>Eight gestures in four time-reversed pairs: played backwards, a video of one class is a video of its twin, so no
single frame, and no set of frames without their order, tells the two apart. A model that ignores order cannot score
above 50% on average. Both models are the same ResNet-18, trained alike from random weights; one shifts an eighth of
its channels to the next frame and an eighth to the previous one, which costs no parameter and no multiplication.</p>
<div class=pair>{numbers}</div>
<h2>Training (top-1, percent, by epoch)</h2>{chart(curves, COLORS, TITLES)}
<h2>Confusion (rows: truth, columns: prediction)</h2><div class=pair>{matrices}</div>
<h2>Validation videos, the first of each class</h2>{videos}
{followed}</html>
"""


def video_block(video: Shown) -> str:
    width, height = video.frames[0].size
    strip = Image.new("RGB", ((width + 2) * len(video.frames), height), "white")
    for i, frame in enumerate(video.frames):
        strip.paste(frame, (i * (width + 2), 0))
    answers = ", ".join(f'{TITLES[m]}: <span class={"right" if name == video.truth else "wrong"}>{html.escape(name)}'
                        f"</span> ({100 * chance:.0f}%)" for m, (name, chance) in video.answers.items())
    return (f"<div class=video><b>{html.escape(video.truth)}</b> &mdash; {answers}"
            f"{image_tag(coded(strip, 'JPEG', quality=88), 'jpeg')}</div>")


# ---- the long video ------------------------------------------------------------------------------------------

def streaming(runs: Path, names: Sequence[str]) -> str:
    """The page's part on the long video; its score into stream/score.json."""
    directory = runs / "stream"
    truth, answers = read_truth(directory / "truth.json"), read_answers(directory / "answers.jsonl")
    score = score_stream(truth, answers)
    with atomic_write(directory / "score.json") as f:
        json.dump(score._asdict(), f, indent=1)
    timeline = coded(draw_stream(truth, answers, score.known, names), "PNG", optimize=True)
    late = [(g.name, g.start + 0.75 * (g.end - g.start)) for g in truth.gestures[2:]]  # the history is filled by then
    still = poster(runs / "annotated.mp4", next((t for name, t in late if standing(answers, t) == name), 0.0))
    clip_top1 = json.loads(read(runs / "uni" / "results.json"))["top1"]
    gap = truth.seconds / len(answers)
    segments = read_checkpoint(runs / "demo_online.pth.tar")["settings"]["num_segments"]
    return f"""<h2>The same network behind a camera</h2>
<p>A third ResNet-18, with <code>--shift_direction unidirectional</code>: an eighth of its channels comes from the
previous frame, none from the next, which a camera has not taken yet. It started from TSM's weights, and every frame
of a clip was trained to tell the class (<code>--consensus_type identity</code>), because a stream asks every frame.
<code>tools/convert_to_online.py</code> renamed its weights into a model that takes one frame and a small memory, and
<code>online_demo/main.py</code> showed it one long video, {1 / gap:.1f} frames of each second:
{len(truth.gestures)} gestures in {truth.seconds:.0f} seconds, made from other random numbers than the data set's.
Nobody told it where a gesture begins or ends, and its memory was never reset.</p>
<div class=pair>{_numbers(clip_top1, score)}</div>
<p>Time in seconds. Above what happens, below what the model answered; green between them: counted as known.</p>
{image_tag(timeline, attributes='class=wide alt="truth above answers over time"')}
<p><b>What is counted.</b> A gesture is known if its class is the standing answer at its last frame, or becomes it
within {GRACE:g} seconds after its end (the shortest pause, so never from the next gesture). The chance value gives the
same answers to the same moments, but with the true classes moved along by one gesture, by two, and so on. Right
frames: of all frames inside gestures, those at which the standing answer is right, however early; 100% is out of
reach, because the first frames of a gesture do not tell it yet. Pauses count nowhere: the model has no class for
&ldquo;no gesture&rdquo;, so it names one there too.</p>
<p><b>What it does not prove.</b> A training clip is one gesture alone, as {segments} frames spread over its whole
length: {MIN_FRAMES / FPS / segments:.1f} to {MAX_FRAMES / FPS / segments:.1f} s apart. The stream gives a frame every
{gap:.1f} s, be the gesture slow or fast, and what came before it is still in the memory; so the accuracy of clips and
that of the stream measure different things. And the long video comes from the same renderer as the training videos:
nothing follows for real hands.</p>
<video class=wide controls preload=none poster="{still}" src="annotated.mp4"></video>
<p>The demo's own image of it: <a href="annotated.mp4">annotated.mp4</a>, beside this page.</p>
"""


def _numbers(clip_top1: float, score: StreamScore) -> str:
    rows = ((clip_top1, "of the validation videos, as clips"),
            (score.top1, f"of the long video's gestures known (chance: {score.chance:.0f}%)"),
            (score.frames, "of the frames inside gestures right"))
    return "".join(f"<div><div class=number>{value:.1f}%</div>{what}</div>" for value, what in rows)


# ---- the README's image -------------------------------------------------------------------------------------

def draw_image(shown: Sequence[Shown], top1: dict[str, float], rows: Optional[int] = 4) -> Image.Image:
    """One video of each pair, with both answers beside it, under the two accuracies."""
    chosen = list(shown)[::2][:rows]
    frame = chosen[0].frames[0]
    width, line = FRAMES * (frame.width + 3) + 330, frame.height + 8
    image = Image.new("RGB", (width, 48 + line * len(chosen)), "white")
    draw = ImageDraw.Draw(image)
    head: Any = ImageFont.load_default(20)
    small: Any = ImageFont.load_default(15)
    for i, model in enumerate(COLORS):
        draw.text((10 + 330 * i, 12), f"{TITLES[model]}: {top1[model]:.1f}%", font=head, fill=COLORS[model])
    for i, video in enumerate(chosen):
        top = 46 + i * line
        for k, image_k in enumerate(video.frames):
            image.paste(image_k, (10 + k * (frame.width + 3), top))
        x = 24 + FRAMES * (frame.width + 3)
        draw.text((x, top + 2), video.truth, font=small, fill="black")
        for k, (model, (name, chance)) in enumerate(video.answers.items()):
            color = "#1a7f37" if name == video.truth else "#c62828"
            draw.text((x, top + 24 + 20 * k), f"{model.upper()}: {name} {100 * chance:.0f}%", font=small, fill=color)
    return image


if __name__ == "__main__":
    run(main)
