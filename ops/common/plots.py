"""Every chart of this repository, drawn with matplotlib. The functions return figures; `save_png` writes one to a file.

matplotlib is imported on the first call, because it takes a moment. pyplot and its global state are not used.
"""
import io
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.common.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[float, float, float]  # red, green, blue, 0-1
Span = tuple[float, float, Optional[str]]  # start and end in seconds, class; None: no class

DPI = 200  # twice the 100 pixels per inch at which the charts are meant to be shown: sharp on any screen
LARGEST = 30000  # pixels: image viewers still open this height
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a8f98", "grid.color": "#e6e8ec",
    "text.parse_math": False}  # a class name may contain dollar signs
BLUE, GRAY, PALE = "#08306b", "#8a8f98", "#eceef1"
RIGHT, WRONG = "#1a7f37", "#c62828"
COLORS = ("#1f77b4", "#d64541", "#2c8c3c", "#9467bd", "#e37714", "#0096a0", "#be3c8c", "#785a3c")
PAIRS = ("#8ecae6", "#1d6fa5", "#b7e4c7", "#2d8a57", "#ffd6a5", "#d9772b", "#d8bbff", "#7b4bb7")  # light, dark; ...


@contextmanager
def _styled() -> Iterator[None]:
    """Our style while a figure is drawn or rendered, without matplotlib's log lines and warnings about rare letters."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    import matplotlib
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@_styled()
def png_bytes(figure: "Figure") -> bytes:
    """The figure as a PNG, cropped to what is drawn."""
    content = io.BytesIO()
    figure.savefig(content, format="png", bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
    return content.getvalue()


def save_png(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG file, complete or not at all. Raises CannotWrite."""
    with atomic_write(path, "wb") as f:
        f.write(png_bytes(figure))


# ---- confusion matrix -----------------------------------------------------------------------------------------

NAMED_CLASSES = 30  # with more classes, names and counts would be too small to read


@_styled()
def draw_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> "Figure":
    """The confusion matrix; the darker a cell, the larger its share of the row.

    confusion: (num_class, num_class) counts; row = true class, column = predicted class. Up to 30 classes are named, and
    their cells show the counts.
    """
    count = len(confusion)
    named = count <= NAMED_CLASSES
    figure = _figure(*2 * [0.34 * count if named else max(8.0, 0.02 * count)])
    axes = figure.add_axes((0, 0, 1, 1))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    cells = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    if named:
        axes.set_xticks(range(count), class_names, rotation=90)
        axes.set_yticks(range(count), class_names)
        axes.tick_params(length=0)
        for row, column in np.argwhere(confusion):
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=8,
                      color="white" if share[row, column] > 0.5 else "black")
    else:
        figure.colorbar(cells, cax=figure.add_axes((1.02, 0, 0.02, 1)), label="share of the true class's videos")
    return figure


# ---- curves ---------------------------------------------------------------------------------------------------

@_styled()
def draw_accuracy(top1: np.ndarray, running: np.ndarray, *, videos: int, stride: int) -> "Figure":
    """Top-1 over the number of streamed frames, and in gray the share of videos that have not ended yet.

    top1: (frames,) percent. running: (frames,) number of videos with such a frame. videos: how many were streamed.
    stride: one of every `stride` frames of a video was streamed.
    """
    figure = _figure(7.6, 3.6)
    axes = figure.add_axes((0, 0, 1, 1))
    frames = np.arange(1, len(top1) + 1)
    marker = "o" if len(frames) <= 60 else ""
    axes.plot(frames, 100 * running / running[0], color=GRAY, marker=marker, markersize=3, label="videos still running, %")
    axes.plot(frames, top1, color=BLUE, linewidth=2, marker=marker, markersize=4, label=f"top-1, %: {top1[0]:.1f} after"
              f" the first frame, {top1[-1]:.1f} at the end ({counted(videos, 'video')})")
    axes.set_xlabel("frames streamed" + (f" (one of every {stride} frames of a video)" if stride > 1 else ""))
    _scale(axes, len(frames))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), reverse=True)
    return figure


@_styled()
def draw_training(logs: Mapping[str, Sequence[Mapping[str, float]]], colors: Mapping[str, str]) -> "Figure":
    """Top-1 of several models after each epoch: validation solid, training dashed.

    logs: the rows of a model's log.csv (epoch from 0, train_top1 and val_top1 in percent), by the model's name.
    colors: by the same names.
    """
    figure = _figure(6.0, 2.6)
    axes = figure.add_axes((0, 0, 1, 1))
    _draw_curves(axes, logs, colors, "top1")
    axes.set(xlabel="epochs", ylabel="top-1, %")
    _scale(axes, max(int(row["epoch"]) + 1 for rows in logs.values() for row in rows))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@_styled()
def draw_scaling(frames: Sequence[int], seconds: Sequence[float], megabytes: Sequence[float]) -> "Figure":
    """Time and peak memory of a training step by frames per clip, each beside the straight line that fits it best."""
    figure = _figure(7.0, 2.4)
    for left, values, label in ((0.0, seconds, "step, s"), (0.57, [value / 1000 for value in megabytes], "peak memory, GB")):
        axes = figure.add_axes((left, 0, 0.43, 1))
        slope, offset = np.polyfit(frames, values, 1)
        axes.plot([0, max(frames)], [offset, offset + slope * max(frames)], color=GRAY, linewidth=1, label="linear fit")
        axes.plot(frames, values, "o", color=BLUE, label="measured")
        axes.set(xlabel="frames per clip", ylabel=label, xticks=frames, xlim=(0, None), ylim=(0, None))
        axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


@_styled()
def draw_runs(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> "Figure":
    """The loss (above) and top-1 (below) of any number of runs after each epoch: validation solid, training dashed.

    If all runs are on multi-label data sets, the mean average precision takes the place of top-1; training has none.
    logs: the rows of a run's log.csv, as for `draw_training`, by the run's name. The colors repeat after eight runs.
    """
    figure = _figure(7.0, 5.8)
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(logs)}
    above, below = figure.add_axes((0, 0.53, 1, 0.47)), figure.add_axes((0, 0, 1, 0.47))
    multi_label = all(any("val_map" in row for row in rows) for rows in logs.values())
    for axes, quantity in ((above, "loss"), (below, "map" if multi_label else "top1")):
        _draw_curves(axes, logs, colors, quantity)
        _scale(axes, max(int(row["epoch"]) + 1 for rows in logs.values() for row in rows), percent=axes is below)
    above.set(ylabel="loss")
    below.set(xlabel="epochs", ylabel="mAP, %" if multi_label else "top-1, %")
    above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _draw_curves(axes: "Axes", logs: Mapping[str, Sequence[Mapping[str, float]]], colors: Mapping[str, str],
                 quantity: str) -> None:
    """The columns val_* and train_* of each run."""
    for name, rows in logs.items():
        for kind, label, dashes in (("val", "validation", "-"), ("train", "training", "--")):
            points = [(row["epoch"] + 1, row[f"{kind}_{quantity}"]) for row in rows if f"{kind}_{quantity}" in row]
            marker = "o" if len(points) == 1 else ""
            axes.plot(*(zip(*points) if points else ((), ())), color=colors[name], linestyle=dashes, linewidth=2,
                      marker=marker, label=f"{name}, {label}")


def _scale(axes: "Axes", last: int, percent: bool = True) -> None:
    """1 to `last` along x, with round whole numbers; 0 to 100 percent along y, or from 0 on."""
    from matplotlib.ticker import MaxNLocator
    axes.set(xlim=(1 - 0.02 * last, last * 1.02), ylim=(0, 102 if percent else None))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if percent:
        axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y")


# ---- timelines ------------------------------------------------------------------------------------------------

class Panel(NamedTuple):
    """One video's timeline. edges: seconds, where its windows' parts begin, and the end of the last one.

    best: the best class of each window. probabilities: of each class to be shown, its probability in every window.
    """
    title: str
    edges: Sequence[float]
    best: Sequence[str]
    probabilities: Mapping[str, Sequence[float]]


WIDTH, ROW = 9.0, 0.24  # inches


@_styled()
def draw_timelines(panels: Sequence[Panel]) -> "Figure":
    """One panel per video, one below the other: a band with the best class, and a row per class, darker for a higher
    probability. A class has the same color in all panels, as far as there are colors. UserError for too many panels.
    """
    heights = [ROW * (len(panel.probabilities) + 4) for panel in panels]
    total = sum(heights)
    dpi = min(DPI, LARGEST / total)
    if dpi < DPI / 2:
        raise UserError(f"{len(panels)} videos make an image of {round(total * DPI / 2)} pixels in height"
                        f" (at most {LARGEST}): draw fewer")
    figure, top = _figure(WIDTH, total, dpi), 0.0
    for panel, colors, height in zip(panels, _colors_of(panels), heights):
        inside = height - 2.75 * ROW  # without the title above and the seconds below
        axes = figure.add_axes((0, 1 - (top + ROW + inside) / total, 1, inside / total))
        _draw_panel(axes, panel, colors)
        top += height
    return figure


def _draw_panel(axes: "Axes", panel: Panel, colors: Mapping[str, str]) -> None:
    spans = [(start, end - start) for start, end in zip(panel.edges, panel.edges[1:])]
    axes.broken_barh(spans, (0, 0.96), facecolors=[colors.get(name, "#5a5a5a") for name in panel.best], label="best")
    for row, (name, probabilities) in enumerate(panel.probabilities.items()):
        shades = [shade(colors[name], probability) for probability in probabilities]
        axes.broken_barh(spans, (row + 1.25, 0.96), facecolors=shades, label=name)
    count = len(panel.probabilities)
    axes.set(xlim=(panel.edges[0], max(panel.edges[-1], panel.edges[0] + 1e-6)), ylim=(count + 1.25, 0))
    axes.set_yticks([0.48, *(row + 1.73 for row in range(count))], ["best", *panel.probabilities])
    axes.set_title(panel.title, loc="left")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _seconds_axis(axes)


def _colors_of(panels: Sequence[Panel]) -> list[dict[str, str]]:
    """The color of each class of each panel: different within a panel, and the same in all of them where possible."""
    known: dict[str, str] = {}
    chosen = []
    for panel in panels:
        here: dict[str, str] = {}
        for name in sorted(panel.probabilities, key=lambda name: name not in known):
            free = [color for color in COLORS if color not in here.values()] or list(COLORS)
            unused = [color for color in free if color not in known.values()] or free
            here[name] = known[name] if known.get(name) in free else unused[0]
            known.setdefault(name, here[name])
        chosen.append(here)
    return chosen


def shade(color: str, share: float) -> Color:
    """Nearly white (share 0) to `color` (share 1)."""
    from matplotlib.colors import to_rgb
    red, green, blue = (0.965 + (value - 0.965) * share for value in to_rgb(color))
    return red, green, blue


def _seconds_axis(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g} s"))


# ---- a stream -------------------------------------------------------------------------------------------------

STREAM_ROW, STREAM_WIDTH = 30.0, 9.6  # a row: seconds, inches


@_styled()
def draw_stream(truth: Sequence[Span], answers: Sequence[Span], *, recognised: Sequence[bool], seconds: float,
                class_names: Sequence[str]) -> "Figure":
    """What a long video shows above what a model answered, in rows of 30 seconds, each class in its own color.

    A line under every gesture is green if it was recognised and red if not. truth: the gestures. recognised: a value for
    each. answers: the stretches of equal answers. seconds: the video's length. class_names: all classes, in the order
    that decides their colors.
    """
    rows = int(np.ceil(seconds / STREAM_ROW))
    height = 0.9 * rows + 0.4  # inches; the legend takes the last ones
    figure = _figure(STREAM_WIDTH, height)
    colors = {name: PAIRS[i % len(PAIRS)] for i, name in enumerate(class_names)}
    for row in range(rows):
        begin, end = row * STREAM_ROW, min((row + 1) * STREAM_ROW, seconds)
        axes = figure.add_axes((0, 1 - (0.9 * row + 0.6) / height, (end - begin) / STREAM_ROW, 0.6 / height))
        axes.set(xlim=(begin, end), ylim=(2.3, 0))
        axes.set_yticks([0.5, 1.8], ["truth", "answer"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_facecolor(PALE)
        _seconds_axis(axes)
        _draw_spans(axes, truth, 0, colors, "truth")
        axes.axhspan(1, 1.3, color="white")
        axes.broken_barh([(start, end - start) for start, end, _ in truth], (1.07, 0.16), label="recognised",
                         facecolors=[RIGHT if right else WRONG for right in recognised])
        _draw_spans(axes, answers, 1.3, colors, "answer")
    _stream_legend(figure, colors)
    return figure


def _draw_spans(axes: "Axes", spans: Sequence[Span], top: float, colors: Mapping[str, str], label: str) -> None:
    """A bar per span, with the last word of its class where that fits."""
    begin, end = axes.get_xlim()
    inside = [(max(start, begin), min(stop, end), name) for start, stop, name in spans if start < end and stop > begin]
    axes.broken_barh([(start, stop - start) for start, stop, _ in inside], (top, 1), edgecolors="white", linewidth=0.5,
                     facecolors=[colors.get(name or "", PALE) for _, _, name in inside], label=label)
    points_per_second = STREAM_WIDTH * 72 / STREAM_ROW
    for start, stop, name in inside:
        word = name.split()[-1] if name else ""
        if word and _text_width(word, 8) + 4 < (stop - start) * points_per_second:
            axes.text((start + stop) / 2, top + 0.5, word, ha="center", va="center", fontsize=8,
                      color=_ink(colors.get(name or "", PALE)))


def _stream_legend(figure: "Figure", colors: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch
    entries = [Patch(color=color, label=name) for name, color in colors.items()]
    entries += [Patch(color=RIGHT, label="recognised"), Patch(color=WRONG, label="not recognised")]
    figure.legend(handles=entries, loc="lower left", bbox_to_anchor=(0, 0), ncols=5, fontsize=8, borderaxespad=0)


def _text_width(text: str, size: float) -> float:
    """In points."""
    from matplotlib.textpath import TextPath
    return TextPath((0, 0), text, size=size).get_extents().width


def _ink(color: str) -> str:
    """Black on light colors, white on dark ones."""
    red, green, blue = (int(color[i:i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "white"


def _figure(width: float, height: float, dpi: float = DPI) -> "Figure":
    """An empty figure. width, height: inches."""
    from matplotlib.figure import Figure
    return Figure(figsize=(width, height), dpi=dpi)
