"""Write report.html of a quickstart run: training curves, confusion matrices, and videos played in both directions.

    python tools/showcase/report.py --runs runs/quickstart [--stream] [--image docs/quickstart.png]

--stream adds how the unidirectional model followed the long video, and writes stream/score.json.
"""
import json
import sys
from pathlib import Path
from typing import Sequence

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ops.common.cli import Parser, add_root_dataset_flag, check_usage, image_file, run


def build_parser() -> Parser:
    parser = Parser(description="Write report.html of a quickstart run.")
    parser.add_argument("--runs", default="runs/quickstart", help="directory of the quickstart run (default: %(default)s)")
    add_root_dataset_flag(parser)
    parser.add_argument("--stream", action="store_true", help="add the long video")
    parser.add_argument("--image", type=image_file(".png"), metavar="OUT.png", help="also draw the README's image")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

from ops.common.errors import UserError
from ops.common.files import atomic_write, check_not_an_input
from ops.common.plots import RIGHT, WRONG, draw_stream, draw_training, png_bytes
from ops.dataset_config import resolve_dataset
from ops.prepare.gestures.definition import FPS, MAX_FRAMES, MIN_FRAMES
from ops.streaming.stream_metrics import (
    GRACE,
    StreamScore,
    merge_repeats,
    prediction_at,
    read_ground_truth,
    read_predictions,
    score_stream,
)
from ops.training.run_log import read_log
from ops.weights import read_checkpoint
from tools.showcase.page import chart_tag, encode_image, poster_url
from tools.showcase.twins import COLORS, MODELS, draw_pairs, first_pairs, read_bytes, read_scores, twins_section


def main() -> None:
    args = build_parser().parse_args()
    runs = Path(args.runs)
    data = resolve_dataset("gestures", "RGB", args.root_dataset)
    class_names = data.class_names or [str(i) for i in range(data.num_class)]
    if args.image:
        check_not_an_input(args.image, [*runs.glob("*/*"), data.frames, data.val_list], "image")
    results = {model: json.loads(read_bytes(runs / model / "results.json")) for model in MODELS}
    logs = {MODELS[model]: read_training_log(runs, Path(results[model]["weights"][0])) for model in MODELS}
    scores = {model: read_scores(runs, model, data) for model in MODELS}
    pairs = first_pairs(data, class_names, scores)
    top1 = {model: results[model]["top1"] for model in MODELS}
    section = stream_section(runs, class_names) if args.stream else ""
    with atomic_write(runs / "report.html") as f:
        f.write(page(runs, logs, top1, twins=twins_section(pairs, scores), stream=section))
    if args.image:
        with atomic_write(args.image, "wb") as f:
            image = draw_pairs(pairs, top1, scores).quantize(256, dither=Image.Dither.NONE)  # less than half the bytes
            f.write(encode_image(image, "PNG", optimize=True))


# ---- the run's files -----------------------------------------------------------------------------------------

def read_training_log(runs: Path, weights: Path) -> list[dict[str, float]]:
    """The numbers of the log.csv of the run that wrote these weights. Other runs may have logs in the same directory."""
    path = runs / "log" / weights.parent.name / "log.csv"
    rows = read_log(path)
    if not rows:
        raise UserError(f"there is no {path}, the log of {weights}: run scripts/quickstart.sh first")
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


# ---- the page ------------------------------------------------------------------------------------------------

STYLE = f"""body{{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#222}}
h1{{font-size:1.5em}}h2{{font-size:1.15em;margin-top:2em}}img,video{{max-width:100%;height:auto}}
.row{{display:flex;gap:1em 2em;flex-wrap:wrap}}.row figure{{flex:1 1 400px}}.number{{font-size:2.2em;font-weight:600}}
.example{{margin:.9em 0}}.example img{{display:block}}.right{{color:{RIGHT}}}.wrong{{color:{WRONG}}}
figure{{margin:0}}figcaption{{font-weight:600}}"""


def page(runs: Path, logs: dict[str, list[dict[str, float]]], top1: dict[str, float], *, twins: str,
         stream: str = "") -> str:
    """The whole page. twins, stream: its parts about videos played backwards and about the long video ("" before that
    part of the quickstart has run)."""
    numbers = "".join(f'<div><div class=number style="color:{COLORS[model]}">{top1[model]:.1f}%</div>{MODELS[model]}</div>'
                      for model in MODELS)
    training = png_bytes(draw_training(logs, {MODELS[model]: COLORS[model] for model in MODELS}))
    matrices = "".join(f"<figure><figcaption>{title}</figcaption>" + chart_tag(
        read_bytes(runs / model / "confusion.png"), f"confusion matrix of {title}") + "</figure>"
        for model, title in MODELS.items())
    return f"""<!doctype html><html lang=en><meta charset=utf-8><title>TSM quickstart</title><style>{STYLE}</style>
<h1>Does the model see time?</h1>
<p>There are eight gestures in four time-reversed pairs: played backwards, a video of one class is a video of its twin.
Only the order of the frames separates the two, so a model that ignores order cannot score above 50% on average. Both
models are the same ResNet-18, trained from random weights with the same recipe. In one of them, an eighth of the
channels is shifted to the next frame and an eighth to the previous frame, at no extra parameter or multiplication.</p>
<div class=row>{numbers}</div>
<h2>Training (top-1 by epoch)</h2>{chart_tag(training, "top-1 of both models after each epoch")}
<h2>Confusion</h2><div class=row>{matrices}</div>
{twins}
{stream}</html>
"""


# ---- the long video ------------------------------------------------------------------------------------------

def stream_section(runs: Path, class_names: Sequence[str]) -> str:
    """The part of the page about the long video. Writes its score to stream/score.json."""
    directory = runs / "stream"
    truth, predictions = read_ground_truth(directory / "truth.json"), read_predictions(directory / "answers.jsonl")
    score = score_stream(truth, predictions)
    with atomic_write(directory / "score.json") as f:
        json.dump(score._asdict(), f, indent=1)
    timeline = png_bytes(draw_stream(truth.gestures, merge_repeats(predictions, truth.seconds), recognised=score.known,
                                     seconds=truth.seconds, class_names=class_names))
    # For the poster: a moment late in a recognised gesture, after the model has seen its first few frames.
    late = [(gesture.name, gesture.start + 0.75 * (gesture.end - gesture.start)) for gesture in truth.gestures[2:]]
    poster = poster_url(runs / "annotated.mp4", next((t for name, t in late if prediction_at(predictions, t) == name), 0.0))
    clip_top1 = json.loads(read_bytes(runs / "uni" / "results.json"))["top1"]
    segments = read_checkpoint(runs / "demo_online.pth.tar")["settings"]["num_segments"]
    return f"""<h2>The same network behind a camera</h2>
<p>A third ResNet-18 was trained with <code>--shift_direction unidirectional</code>: an eighth of its channels comes from
the previous frame and none from the next, which a camera has not taken yet. Training started from TSM's weights and
used <code>--consensus_type identity</code>, so that every frame of a clip learnt to predict the class, as a stream
needs. <code>tools/convert_to_online.py</code> converted it into a model that takes one frame and a small state, and
<code>online_demo/main.py</code> ran it on one long video at {len(predictions) / truth.seconds:.1f} frames per second. The
video has {len(truth.gestures)} gestures in {truth.seconds:.0f} seconds, rendered from other random numbers than the data
set. The model was never told where a gesture begins or ends, and its state was never reset.</p>
<div class=row>{_score_numbers(clip_top1, score)}</div>
<p>What the video shows, above what the model answered. A green line marks a gesture that was recognised.</p>
{chart_tag(timeline, "true gestures above the model's answers over time")}
<p><b>How it is scored.</b> A gesture is recognised if the model's current answer is its class at its last frame, or
becomes its class within {GRACE:g} seconds after its end. (That is the shortest pause, so such an answer never belongs to
the next gesture.) The chance value scores the same answers at the same moments against the true classes moved along by
one gesture, by two, and so on. The share of frames counts all frames inside gestures, however early; 100% is out of
reach, because the first frames of a gesture do not show yet which one it is. Pauses are not scored: the model has no
class for &ldquo;no gesture&rdquo;, so it names a gesture there too.</p>
<p><b>What it does not prove.</b> A training clip holds one gesture alone, as {segments} frames spread over its whole
length, so {MIN_FRAMES / FPS / segments:.1f} to {MAX_FRAMES / FPS / segments:.1f} s apart. The stream takes a frame every
{truth.seconds / len(predictions):.1f} s, whether the gesture is slow or fast, and the state still holds what came before. So
the accuracy on clips and the accuracy on the stream measure different things. The same program rendered the long video
and the training videos, so nothing follows for real hands.</p>
<video controls preload=none poster="{poster}" src="annotated.mp4"></video>
<p>The video with the answers drawn in: <a href="annotated.mp4">annotated.mp4</a>, next to this page.</p>
"""


def _score_numbers(clip_top1: float, score: StreamScore) -> str:
    numbers = ((clip_top1, "of the validation videos, as clips"),
               (score.top1, f"of the long video's gestures recognised (chance: {score.chance:.0f}%)"),
               (score.frames, "of the frames inside gestures right"))
    return "".join(f"<div><div class=number>{value:.1f}%</div>{meaning}</div>" for value, meaning in numbers)


if __name__ == "__main__":
    run(main)
