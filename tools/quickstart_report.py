"""One self-contained page of a quickstart run: curves, confusion matrices, videos with both models' predictions.

    python tools/quickstart_report.py --runs runs/quickstart [--picture docs/quickstart.png]
"""
import base64
import html
import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.cli import Parser, run  # noqa: E402
from ops.dataset import VideoRecord, read_list  # noqa: E402
from ops.dataset_config import Located, locate  # noqa: E402
from ops.errors import UserError  # noqa: E402
from ops.frame_sources import FrameFolder  # noqa: E402
from ops.run_log import read_log  # noqa: E402
from ops.runtime import atomic_write  # noqa: E402
from ops.sampling import sample_test  # noqa: E402

COLOURS = {"tsm": "#08519c", "tsn": "#d94801"}
TITLES = {"tsm": "TSM (--shift)", "tsn": "TSN (no shift)"}
FRAMES = 8


class Shown(NamedTuple):
    """A validation video: its frames as the models see them, the true class, each model's answer and probability."""
    frames: list[Image.Image]
    truth: str
    answers: dict[str, tuple[str, float]]


def main() -> None:
    parser = Parser(description="Write report.html of a quickstart run.")
    parser.add_argument("--runs", default="runs/quickstart", help="folder of the run")
    parser.add_argument("--root_dataset", default=None)
    parser.add_argument("--picture", default=None, metavar="PNG", help="also draw the README's picture")
    args = parser.parse_args()
    runs = Path(args.runs)
    data = locate("gestures", "RGB", args.root_dataset)
    names = data.class_names or [str(i) for i in range(data.num_class)]
    curves = {model: read_curve(runs, model) for model in COLOURS}
    shown = choose_videos(data, names, {model: load(runs / model / "scores.npy") for model in COLOURS})
    top1 = {model: json.loads(read(runs / model / "results.json"))["top1"] for model in COLOURS}
    with atomic_write(runs / "report.html") as f:
        f.write(page(runs, curves, shown, top1))
    if args.picture:
        with atomic_write(Path(args.picture), "wb") as f:
            draw_picture(shown, top1).save(f, "PNG", optimize=True)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UserError(f"there is no {path}: run scripts/quickstart.sh first") from None


def load(path: Path) -> np.ndarray:
    return np.load(io.BytesIO(read(path)))


def read_curve(runs: Path, model: str) -> list[dict[str, float]]:
    """Rows of the model's log.csv as numbers."""
    shift = "_shift8_blockres" if model == "tsm" else ""
    folders = sorted(runs.glob(f"log/TSM_gestures_RGB_resnet18{shift}_avg_segment*_e*_none_cos"))
    if not folders:
        raise UserError(f"there is no training log of {model} under {runs / 'log'}: run scripts/quickstart.sh first")
    return [{key: float(value) for key, value in row.items() if value} for row in read_log(folders[-1] / "log.csv")]


def choose_videos(data: Located, names: Sequence[str], scores: dict[str, np.ndarray]) -> list[Shown]:
    """The first validation video of every class."""
    records = read_list(data.val_list, data.num_class)
    first: dict[int, int] = {}
    for i, record in enumerate(records):
        first.setdefault(record.label, i)
    source = FrameFolder(data.frames, data.template)
    return [show(records[i], source, names, {m: s[i] for m, s in scores.items()}) for _, i in sorted(first.items())]


def show(record: VideoRecord, source: FrameFolder, names: Sequence[str], logits: dict[str, np.ndarray]) -> Shown:
    answers = {}
    for model, row in logits.items():
        chances = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        answers[model] = (names[int(row.argmax())], float(chances.max()))
    return Shown(source.load(record.path, sample_test(record.num_frames, FRAMES)), names[record.label], answers)


# ---- the page -----------------------------------------------------------------------------------------------

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}.pair{display:flex;gap:2em;flex-wrap:wrap}
.number{font-size:2.2em;font-weight:600}.video{margin:.9em 0}.video img{display:block;max-width:100%}
.right{color:#1a7f37}.wrong{color:#c62828}figure{margin:0}figcaption{font-weight:600}"""


def page(runs: Path, curves: dict[str, list[dict[str, float]]], shown: Sequence[Shown], top1: dict[str, float]) -> str:
    numbers = "".join(f'<div><div class=number style="color:{COLOURS[m]}">{top1[m]:.1f}%</div>{TITLES[m]}</div>'
                      for m in COLOURS)
    matrices = "".join(f"<figure><figcaption>{TITLES[m]}</figcaption>{picture_tag(read(runs / m / 'confusion.png'))}"
                       "</figure>" for m in COLOURS)
    videos = "".join(video_block(video) for video in shown)
    return f"""<!doctype html><html lang=en><meta charset=utf-8><title>TSM quickstart</title><style>{STYLE}</style>
<h1>Does the model see time?</h1>
<p>Eight gestures in four time-reversed pairs: played backwards, a video of one class is a video of its twin, so no
single frame, and no set of frames without their order, tells the two apart. A model that ignores order cannot score
above 50% on average. Both models are the same ResNet-18, trained alike from random weights; one shifts an eighth of
its channels to the next frame and an eighth to the previous one, which costs no parameter and no multiplication.</p>
<div class=pair>{numbers}</div>
<h2>Training (top-1, percent, by epoch)</h2>{chart(curves)}
<h2>Confusion (rows: truth, columns: prediction)</h2><div class=pair>{matrices}</div>
<h2>Validation videos, the first of each class</h2>{videos}</html>
"""


def picture_tag(data: bytes, kind: str = "png") -> str:
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def video_block(video: Shown) -> str:
    width, height = video.frames[0].size
    strip = Image.new("RGB", ((width + 2) * len(video.frames), height), "white")
    for i, frame in enumerate(video.frames):
        strip.paste(frame, (i * (width + 2), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=88)
    answers = ", ".join(f'{TITLES[m]}: <span class={"right" if name == video.truth else "wrong"}>{html.escape(name)}'
                        f"</span> ({100 * chance:.0f}%)" for m, (name, chance) in video.answers.items())
    return (f"<div class=video><b>{html.escape(video.truth)}</b> &mdash; {answers}"
            f"{picture_tag(buffer.getvalue(), 'jpeg')}</div>")


def chart(curves: dict[str, list[dict[str, float]]]) -> str:
    """An SVG of training (dashed) and validation (solid) top-1."""
    width, height, left, bottom = 640, 260, 44, 34
    epochs = max(len(rows) for rows in curves.values())

    def place(epoch: float, percent: float) -> str:
        x = left + (width - left - 10) * epoch / max(epochs, 1)
        return f"{x:.1f},{(height - bottom) * (1 - percent / 100) + 8:.1f}"
    lines = [f'<text x="4" y="{float(place(0, p).split(",")[1]) + 4:.0f}" font-size="12">{p}%</text>'
             f'<polyline points="{place(0, p)} {place(epochs, p)}" stroke="#ddd"/>' for p in (0, 25, 50, 75, 100)]
    lines += [f'<text x="{float(place(e, 0).split(",")[0]) - 3:.0f}" y="{height - 6}" font-size="12">{e}</text>'
              for e in range(1, epochs + 1)]
    for i, (model, rows) in enumerate(curves.items()):
        for column, dash in (("train_top1", "5 4"), ("val_top1", "none")):
            points = " ".join(place(row["epoch"] + 1, row[column]) for row in rows if column in row)
            lines.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[model]}" stroke-width="2.5"'
                         f' stroke-dasharray="{dash}"/>')
        lines.append(f'<text x="{left + 12}" y="{26 + 17 * i}" font-size="13" fill="{COLOURS[model]}">{TITLES[model]}:'
                     " validation solid, training dashed</text>")
    return f'<svg width="{width}" height="{height}" font-family="system-ui,sans-serif">{"".join(lines)}</svg>'


# ---- the README's picture -------------------------------------------------------------------------------------

def draw_picture(shown: Sequence[Shown], top1: dict[str, float], rows: Optional[int] = 4) -> Image.Image:
    """One video of each pair, with both answers beside it, under the two accuracies."""
    chosen = list(shown)[::2][:rows]
    frame = chosen[0].frames[0]
    width, line = FRAMES * (frame.width + 3) + 330, frame.height + 8
    picture = Image.new("RGB", (width, 48 + line * len(chosen)), "white")
    draw = ImageDraw.Draw(picture)
    head: Any = ImageFont.load_default(20)
    small: Any = ImageFont.load_default(15)
    for i, model in enumerate(COLOURS):
        draw.text((10 + 330 * i, 12), f"{TITLES[model]}: {top1[model]:.1f}%", font=head, fill=COLOURS[model])
    for i, video in enumerate(chosen):
        top = 46 + i * line
        for k, picture_k in enumerate(video.frames):
            picture.paste(picture_k, (10 + k * (frame.width + 3), top))
        x = 24 + FRAMES * (frame.width + 3)
        draw.text((x, top + 2), video.truth, font=small, fill="black")
        for k, (model, (name, chance)) in enumerate(video.answers.items()):
            colour = "#1a7f37" if name == video.truth else "#c62828"
            draw.text((x, top + 24 + 20 * k), f"{model.upper()}: {name} {100 * chance:.0f}%", font=small, fill=colour)
    return picture


if __name__ == "__main__":
    run(main)
