"""Images of what is answered over time: a band with the best class, and a row per class, the darker the surer."""
from itertools import groupby
from pathlib import Path
from typing import Any, Sequence

from PIL import Image, ImageDraw, ImageFont

from ops.common.errors import UserError, shown

Color = tuple[int, int, int]
_COLORS: tuple[Color, ...] = (
    (31, 119, 180), (214, 69, 65), (44, 140, 60), (148, 103, 189), (227, 119, 20), (0, 150, 160), (190, 60, 140),
    (120, 90, 60))
_WIDTH, _ROW, _GAP, _AXIS, _MARGIN = 900, 24, 4, 30, 12
_LARGEST = 30000  # pixels: what drawing programs still open


def draw_timelines(results: Sequence[dict[str, Any]], most: int = len(_COLORS)) -> Image.Image:
    """One panel per video, below each other. results: as `ops.evaluation.predict.answer` gives them, with their timelines.

    A panel shows the `most` likeliest of the classes that its windows name. UserError for too many videos.
    """
    font = ImageFont.load_default(13)
    classes = [_likeliest(result["timeline"], most) for result in results]
    left = 2 * _MARGIN + max((int(font.getlength(name)) for names in classes for name in names), default=0)
    heights = [_ROW * (len(names) + 2) + _AXIS + _GAP + _MARGIN for names in classes]
    if sum(heights) > _LARGEST:
        raise UserError(f"--plot: {len(results)} videos make an image of {sum(heights)} pixels in height: draw fewer")
    image = Image.new("RGB", (left + _WIDTH + 2 * _MARGIN, sum(heights)), "white")
    top = 0
    for result, names, height in zip(results, classes, heights):
        _draw_panel(ImageDraw.Draw(image), result, names, left, top, font)
        top += height
    return image


def _likeliest(timeline: Sequence[dict[str, Any]], most: int) -> list[str]:
    """The classes by their largest probability in any window."""
    largest: dict[str, float] = {}
    for window in timeline:
        for row in window["predictions"]:
            largest[row["class"]] = max(largest.get(row["class"], 0.0), row["probability"])
    return sorted(largest, key=lambda name: -largest[name])[:most]


def _draw_panel(draw: ImageDraw.ImageDraw, result: dict[str, Any], names: Sequence[str], left: int, top: int,
                font: Any) -> None:
    timeline = result["timeline"]
    seconds = max(timeline[-1]["end"], 1e-6)
    edges = [left + round(_WIDTH * second / seconds) for second in borders(timeline)]
    draw.text((_MARGIN, top + _ROW / 2), shown(Path(result["video"]).name), anchor="lm", font=font, fill="black")
    top += _ROW
    for window, start, end in zip(timeline, edges, edges[1:]):
        winner = window["predictions"][0]["class"]
        color = _COLORS[names.index(winner) % len(_COLORS)] if winner in names else (90, 90, 90)
        draw.rectangle((start, top, max(start, end - 1), top + _ROW - 1), fill=color)
        for row, name in enumerate(names):
            share = next((row["probability"] for row in window["predictions"] if row["class"] == name), 0.0)
            y = top + _GAP + _ROW * (row + 1)
            color = shade(_COLORS[row % len(_COLORS)], share)
            draw.rectangle((start, y, max(start, end - 1), y + _ROW - 2), fill=color)
    draw.text((left - _MARGIN, top + _ROW / 2), "best", anchor="rm", font=font, fill="black")
    for row, name in enumerate(names):
        draw.text((left - _MARGIN, top + _GAP + _ROW * (row + 1.5)), name, anchor="rm", font=font, fill="black")
    _draw_axis(draw, seconds, left, top + _GAP + _ROW * (len(names) + 1), font)


def borders(timeline: Sequence[dict[str, Any]]) -> list[float]:
    """Where one window's part of the line ends and the next one's begins, seconds: halfway between their middles."""
    middles = [(window["start"] + window["end"]) / 2 for window in timeline]
    return [timeline[0]["start"], *((a + b) / 2 for a, b in zip(middles, middles[1:])), timeline[-1]["end"]]


def spans(timeline: Sequence[dict[str, Any]]) -> list[tuple[float, float, str, float]]:
    """(start, end, class, mean probability) of each stretch of windows with the same best class."""
    edges, best = borders(timeline), [window["predictions"][0] for window in timeline]
    found = []
    for name, group in groupby(range(len(best)), key=lambda i: best[i]["class"]):
        windows = list(group)
        mean = sum(best[i]["probability"] for i in windows) / len(windows)
        found.append((edges[windows[0]], edges[windows[-1] + 1], name, mean))
    return found


def shade(color: Color, share: float) -> Color:
    """Nearly white (0) to `color` (1)."""
    red, green, blue = (round(246 + (value - 246) * share) for value in color)
    return red, green, blue


def _draw_axis(draw: ImageDraw.ImageDraw, seconds: float, left: int, top: int, font: Any) -> None:
    step = tick(seconds)
    for i in range(int(seconds / step + 1e-9) + 1):
        x = left + round(_WIDTH * i * step / seconds)
        draw.line((x, top, x, top + 4), fill="black")
        draw.text((x, top + 6), f"{i * step:g} s", anchor="ma", font=font, fill="black")


def tick(seconds: float) -> float:
    """Seconds between two marks, such that there are ten at most: 1, 2 or 5 times a power of ten."""
    step = 1e-3
    while True:
        for factor in (1, 2, 5):
            if seconds / (step * factor) <= 10:
                return round(step * factor, 9)
        step *= 10
