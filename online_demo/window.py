"""Drawing a frame with its predictions (`draw`), and the window that shows the result (`Window`)."""
import colorsys
import os
import sys
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Optional, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
HISTORY = 20.0  # seconds of predictions in the strip
BACK, TRACK, TEXT, FAINT = (20, 22, 27), (40, 44, 53), (240, 242, 245), (142, 149, 163)
NO_PREDICTION = (62, 67, 78)
KEYS = "q quit   f full screen   r reset   m mirror   s snapshot"
PANEL, STRIP, MARGIN = 340, 84, 18  # pixels, if the frame is drawn with BASE rows
BASE, LARGEST = 480, 720  # limits of the rows of the drawn frame


@dataclass
class View:
    """What is drawn around the frame.

    names: of the classes. topk: number of classes shown. mirror: mirror the frame. keys: list the keys (in a window).
    now: time of the frame, seconds. prediction: class index, None if there is none. scores: (num_class,) probabilities,
    None before the first decision. rate: the model's frames per second. latency: seconds. history: (time, prediction),
    oldest first.
    """
    names: Sequence[str]
    topk: int = 5
    mirror: bool = False
    keys: bool = False
    now: float = 0.0
    prediction: Optional[int] = None
    scores: Optional[np.ndarray] = None
    rate: float = 0.0
    latency: float = 0.0
    history: deque[tuple[float, Optional[int]]] = field(default_factory=deque)

    def add(self, seconds: float, prediction: Optional[int], scores: np.ndarray) -> None:
        """Add a prediction. The history keeps the changes of the last 20 seconds."""
        self.prediction, self.scores = prediction, scores
        if not self.history or self.history[-1][1] != prediction:
            self.history.append((seconds, prediction))
        while len(self.history) > 1 and self.history[1][0] < seconds - HISTORY:
            self.history.popleft()

    def clear(self) -> None:
        """Remove the current prediction."""
        self.prediction = self.scores = None
        self.history.append((self.now, None))


# ---- drawing ------------------------------------------------------------------------------------------------

def canvas_size(width: int, height: int) -> tuple[int, int]:
    """(width, height), both even, of the canvas for frames of this size, pixels."""
    rows = min(max(height, BASE), LARGEST)
    columns = min(max(width * rows / height, rows * 9 / 16), rows * 16 / 9)  # beyond that, black bars
    scale = rows / BASE
    return 2 * round((columns + PANEL * scale) / 2), 2 * round((rows + STRIP * scale) / 2)


def draw(image: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
    """The frame with the best classes on its right and the history below, (height, width, 3) uint8 RGB.

    image: the frame, (H, W, 3) uint8 RGB of any size. size: (width, height) of the canvas, see `canvas_size`.
    """
    width, height = size
    scale = height / (BASE + STRIP)
    panel, strip = round(PANEL * scale), round(STRIP * scale)
    canvas = np.empty((height, width, 3), np.uint8)
    shown = image[:, ::-1] if view.mirror else image
    canvas[:height - strip, :width - panel] = fit(shown, width - panel, height - strip)
    canvas[:height - strip, width - panel:] = _panel(view, panel, height - strip, scale)
    canvas[height - strip:] = _strip(view, width, strip, scale)
    return canvas


def fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image scaled to fit into (height, width), with its aspect ratio kept and black bars around it."""
    scale = min(width / image.shape[1], height / image.shape[0])
    columns, rows = (max(1, min(limit, round(side * scale)))
                     for side, limit in ((image.shape[1], width), (image.shape[0], height)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(np.ascontiguousarray(image), (columns, rows), interpolation=method)
    fitted = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted[top:top + rows, left:left + columns] = scaled
    return fitted


def color_of(label: Optional[int]) -> Color:
    """The color of a class, far from those of neighboring classes; gray for None."""
    if label is None:
        return NO_PREDICTION
    red, green, blue = colorsys.hsv_to_rgb(0.55 + 0.618034 * label, 0.45 + 0.17 * (label // 4 % 3), 0.92)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Pen:
    """Draws on a new image. Sizes of text are given for a frame of BASE rows, and scaled."""

    def __init__(self, width: int, height: int, scale: float) -> None:
        self.image = Image.new("RGB", (width, height), BACK)
        self.scale = scale
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: int, color: Color, anchor: str = "ls") -> None:
        """anchor: the point of the text that is at (x, y), as in PIL; "ls" is the left end of the base line."""
        left, top, mask = _text_mask(text, round(size * self.scale), anchor)
        self._draw.bitmap((round(x) + left, round(y) + top), mask, color)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0) -> None:
        """right and bottom are inside the box."""
        self._draw.rounded_rectangle((left, top, max(left, right), bottom), radius, color)

    def length(self, text: str, size: int) -> float:
        """Width of the text, pixels."""
        return _length(text, round(size * self.scale))

    def shorten(self, text: str, size: int, width: float) -> str:
        """The text, shortened with "..." if it is wider than `width`."""
        if self.length(text, size) <= width:
            return text
        fits = (end for end in range(len(text), 0, -1) if self.length(text[:end] + "...", size) <= width)
        return text[:next(fits, 0)] + "..."


@lru_cache(maxsize=16)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


# Text takes most of the time (0.2 ms a line), and the same few lines are drawn again and again.
@lru_cache(maxsize=1024)
def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)


@lru_cache(maxsize=1024)
def _text_mask(text: str, size: int, anchor: str) -> tuple[int, int, Image.Image]:
    """(left, top, image) of a line of text, relative to its anchor."""
    left, top, right, bottom = map(round, _font(size).getbbox(text, anchor=anchor))
    mask = Image.new("L", (max(1, right - left + 1), max(1, bottom - top + 1)))
    ImageDraw.Draw(mask).text((-left, -top), text, 255, _font(size), anchor=anchor)
    return left, top, mask


def _panel(view: View, width: int, height: int, scale: float) -> np.ndarray:
    """The prediction, the bars, the rate and the latency."""
    pen, margin = _Pen(width, height, scale), MARGIN * scale
    inner = width - 2 * margin
    title = "..." if view.scores is None else "no answer" if view.prediction is None else view.names[view.prediction]
    size = next((size for size in (30, 26, 22, 19) if pen.length(title, size) <= inner), 16)
    pen.text(margin, margin + 12 * scale, "the model's answer", 13, FAINT)
    pen.text(margin, margin + 40 * scale, pen.shorten(title, size, inner), size,
             FAINT if view.prediction is None else TEXT, "lm")
    if view.scores is not None:
        _bars(pen, view, margin, margin + 72 * scale, inner, height - 2 * margin - 96 * scale)
    y = height - margin
    pen.text(margin, y, f"{view.rate:.1f} frames per second", 14, TEXT)
    pen.text(width - margin, y, f"{1000 * view.latency:.0f} ms latency", 14, TEXT, "rs")
    return np.asarray(pen.image)


def _bars(pen: _Pen, view: View, left: float, top: float, width: float, height: float) -> None:
    """The best classes, as many as fit into `height`: name and percentage, and a bar below them."""
    assert view.scores is not None
    scale, step = pen.scale, 48 * pen.scale
    best = np.argsort(-view.scores, kind="stable")[:min(view.topk, int(height / step))]
    for row, label in enumerate(best):
        y, part = top + row * step, float(view.scores[label])
        color = TEXT if label == view.prediction else FAINT
        room = width - pen.length("100%  ", 15)
        pen.text(left, y + 18 * scale, pen.shorten(view.names[label], 15, room), 15, color)
        pen.text(left + width, y + 18 * scale, f"{100 * part:.0f}%", 15, color, "rs")
        bar, bottom, radius = y + 25 * scale, y + 33 * scale, 4 * scale
        pen.box(left, bar, left + width, bottom, TRACK, radius)
        if width * part >= 2 * radius:
            pen.box(left, bar, left + width * part, bottom, color_of(int(label)), radius)


def _strip(view: View, width: int, height: int, scale: float) -> np.ndarray:
    """The predictions of the last seconds as colored bars, the newest on the right."""
    pen, margin = _Pen(width, height, scale), MARGIN * scale
    left, right, top, bottom = margin, width - margin, 10 * scale, 46 * scale
    pen.box(left, top, right, bottom, TRACK)
    ends = [seconds for seconds, _ in list(view.history)[1:]] + [view.now]
    for (begin, label), end in zip(view.history, ends):
        x0, x1 = (right - (right - left) * min(view.now - seconds, HISTORY) / HISTORY for seconds in (begin, end))
        if x1 <= x0:
            continue
        pen.box(x0, top, x1, bottom, color_of(label))
        if label is not None:
            size, lines = _label_lines(pen, view.names[label], x1 - max(x0, left) - 4 * scale)
            for number, line in enumerate(lines):
                y = (top + bottom) / 2 + (number - (len(lines) - 1) / 2) * (size + 1) * scale
                pen.text((max(x0, left) + x1) / 2, y, line, size, BACK, "mm")
    y = height - 12 * scale
    pen.text(left, y, f"last {HISTORY:g} seconds", 13, FAINT)
    pen.text(right, y, KEYS if view.keys else f"{view.now:.1f} s", 13, FAINT, "rs")
    return np.asarray(pen.image)


def _label_lines(pen: _Pen, name: str, width: float) -> tuple[int, list[str]]:
    """(size of the text, lines) with which the name fits into a bar: up to three lines; no lines if it does not fit."""
    if pen.length(name, 13) <= width:
        return 13, [name]
    lines: list[str] = []
    for word in name.split():
        joined = f"{lines[-1]} {word}" if lines else word
        lines[-1:] = [joined] if pen.length(joined, 11) <= width else [*lines[-1:], word]
    fits = len(lines) <= 3 and all(pen.length(line, 11) <= width for line in lines)
    return 11, lines if fits else []


# ---- the window ---------------------------------------------------------------------------------------------

class NoWindow(Exception):
    """The window cannot be opened; the text gives the reason."""


class Window:
    """A window on the screen, through pygame (SDL 2). Raises NoWindow without pygame or without a display."""

    def __init__(self, fullscreen: bool = False) -> None:
        self._pygame = pygame = _import_pygame()
        if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))):
            raise NoWindow("there is no display")  # SDL might otherwise take over the text console
        try:
            pygame.display.init()
        except pygame.error as error:
            raise NoWindow(f"there is no display ({error})") from None
        if pygame.display.get_driver() == "offscreen" and "SDL_VIDEODRIVER" not in os.environ:
            pygame.display.quit()  # SDL falls back to an invisible window
            raise NoWindow(f"the display {os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')} does not"
                           " answer")
        self.fullscreen = fullscreen
        self._size = (0, 0)  # of the canvas; set by the first show()
        self._screen: Any = None

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *_: object) -> None:
        self._pygame.display.quit()

    def show(self, canvas: np.ndarray) -> None:
        """Show a canvas, (H, W, 3) uint8 RGB, scaled to the window's current size. The first call opens the window."""
        size = (canvas.shape[1], canvas.shape[0])
        if self._screen is None:
            self._size = size
            self._open()
        width, height = self._screen.get_size()
        fitted = canvas if (width, height) == size else fit(canvas, width, height)
        self._pygame.surfarray.blit_array(self._screen, fitted.swapaxes(0, 1))
        self._pygame.display.flip()

    def toggle_fullscreen(self) -> None:
        self.fullscreen = not self.fullscreen
        if self._screen is not None:
            self._open()

    def keys(self) -> str:
        """The keys pressed since the last call, as letters; Esc and the window's close button count as q."""
        pygame = self._pygame
        letters = {pygame.K_ESCAPE: "q", **{getattr(pygame, f"K_{letter}"): letter for letter in "qfrms"}}
        pressed = ""
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                pressed += "q"
            elif event.type == pygame.KEYDOWN:
                pressed += letters.get(event.key, "")
        return pressed

    def _open(self) -> None:
        pygame = self._pygame
        pygame.display.set_caption("TSM online")
        self._screen = (pygame.display.set_mode((0, 0), pygame.FULLSCREEN) if self.fullscreen
                        else pygame.display.set_mode(self._size, pygame.RESIZABLE))


def _import_pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame's greeting would mix with the lines of --json
    try:
        import pygame
    except ImportError:
        raise NoWindow("pygame is not installed (pip install -r requirements-demo.txt)") from None
    return pygame
