"""What the gestures data set shows: hands and other shapes as sprites, and the walls behind them."""
import colorsys
from typing import Callable, NamedTuple, Sequence

import cv2
import numpy as np

Rng = np.random.Generator
Point = tuple[float, float]

# Indices into a shape's palette. NOTHING is transparent.
NOTHING, EDGE, FILL, SECOND = range(4)

SUPERSAMPLE = 3  # shapes are drawn this many times larger, then shrunk by area, for smooth edges
MARGIN = 1.15  # half the sprite's side / the shape's radius: room for the outline and the soft shadow

# RGB, 0-255. Bare hands have the skin tones.
COLORS = np.array([(208, 44, 48), (238, 126, 34), (244, 204, 50), (62, 160, 74), (32, 160, 160), (46, 98, 206),
                   (132, 70, 178), (238, 118, 164), (238, 238, 232), (42, 42, 48)])
SKIN = np.array([(250, 214, 186), (232, 184, 148), (204, 146, 104), (160, 104, 70), (112, 72, 50), (78, 50, 38)])
LARGEST = 0.72  # largest radius of an object / the frame's smaller side
CONTRAST = 75  # smallest distance between an object's color and the wall's mean color, RGB units


class Sprite(NamedTuple):
    """A shape as an image pyramid: `levels[k]` is (S/2^k, S/2^k, 4) uint8 RGBA, colors multiplied by alpha."""

    levels: tuple[np.ndarray, ...]
    radius: int  # of the shape in levels[0], pixels


class Pen:
    """Draws palette indices, in units of the shape's radius: (0, 0) is the center, y points down."""

    def __init__(self, side: int) -> None:
        self.canvas = np.zeros((side, side), np.uint8)
        self.unit = side / (2 * MARGIN)

    def _at(self, points: Sequence[Point]) -> np.ndarray:
        return np.rint(np.asarray(points) * self.unit + self.canvas.shape[0] / 2).astype(np.int32)

    def stroke(self, start: Point, end: Point, width: float, ink: int = FILL) -> None:
        """A line with round ends."""
        ends = self._at([start, end])
        cv2.line(self.canvas, ends[0].tolist(), ends[1].tolist(), ink, max(1, round(width * self.unit)))

    def polygon(self, points: Sequence[Point], ink: int = FILL, edge: float = 0.06) -> None:
        """A filled polygon with an outline that extends by `edge` to both sides."""
        corners = self._at(points)
        cv2.fillPoly(self.canvas, [corners], ink)
        cv2.polylines(self.canvas, [corners], True, EDGE, max(1, round(2 * edge * self.unit)))

    def disc(self, center: Point, radius: float, ink: int = FILL) -> None:
        cv2.circle(self.canvas, self._at([center])[0].tolist(), round(radius * self.unit), ink, -1)


def _polar(radii: Sequence[float], start: float = -np.pi / 2) -> list:
    """Points around the center at equal angles, clockwise from the top, at these distances."""
    angles = start + 2 * np.pi * np.arange(len(radii)) / len(radii)
    return [(r * np.cos(a), r * np.sin(a)) for r, a in zip(radii, angles)]


# A right palm seen from behind, thumb first: base x, base y, lean from upright (radians), length.
FINGERS = ((0.24, 0.32, 0.85, 0.62), (0.28, 0.02, 0.22, 0.76), (0.1, -0.04, 0.07, 0.86),
           (-0.09, -0.02, -0.09, 0.78), (-0.27, 0.06, -0.28, 0.58))
# Which fingers are stretched. There is no closed fist: it is so round that its turning is hard to see.
HANDS = {"open hand": (1, 1, 1, 1, 1), "victory sign": (0, 1, 1, 0, 0), "pointing hand": (0, 1, 0, 0, 0),
         "thumb": (1, 0, 0, 0, 0), "flat hand": (0, 1, 1, 1, 1), "hand with three fingers": (1, 1, 1, 0, 0)}


def _hand(pen: Pen, rng: Rng, stretched: Sequence[int]) -> None:
    spread, thick, edge = rng.uniform(0.75, 1.25), rng.uniform(0.17, 0.2), 0.055
    bones = [((-0.22, 0.1), (0.24, 0.08), 0.36), ((-0.18, 0.32), (0.18, 0.32), 0.5),
             ((0, 0.45), (0, 0.78), 0.34)]  # knuckles, heel of the hand, wrist
    for start, end, width in bones:
        pen.stroke(start, end, width + 2 * edge, EDGE)
    for (x, y, lean, length), out in zip(FINGERS, stretched):
        reach = length * rng.uniform(0.93, 1.0) if out else 0.14
        tip = (x + reach * np.sin(lean * spread), y - reach * np.cos(lean * spread))
        pen.stroke((x, y), tip, thick + 2 * edge, EDGE)
        pen.stroke((x, y), tip, thick)
    for start, end, width in bones:
        pen.stroke(start, end, width)
    pen.stroke((-0.2, 0.2), (0.22, 0.1), 0.03, EDGE)  # lines of the palm
    pen.stroke((0.2, 0.24), (0.02, 0.5), 0.03, EDGE)
    pen.polygon([(-0.24, 0.74), (0.24, 0.74), (0.29, 0.95), (-0.29, 0.95)], SECOND)  # the cuff


def _disc(pen: Pen, rng: Rng) -> None:
    for radius, ink in ((1.0, EDGE), (0.9, FILL), (0.55, SECOND), (rng.uniform(0.15, 0.35), FILL)):
        pen.disc((0, 0), radius, ink)


def _ring(pen: Pen, rng: Rng) -> None:
    inner = rng.uniform(0.4, 0.6)
    for radius, ink in ((1.0, EDGE), (0.92, FILL), (inner, EDGE), (inner - 0.08, NOTHING)):
        pen.disc((0, 0), radius, ink)


def _star(pen: Pen, rng: Rng) -> None:
    points = int(rng.integers(4, 8))
    pen.polygon(_polar([0.94, rng.uniform(0.4, 0.55)] * points))
    pen.disc((0, 0), 0.22, SECOND)


def _polygon(pen: Pen, rng: Rng) -> None:
    corners = int(rng.integers(3, 7))
    pen.polygon(_polar([0.93] * corners))
    pen.polygon(_polar([0.5] * corners), SECOND, edge=0.03)


def _cross(pen: Pen, rng: Rng) -> None:
    a = rng.uniform(0.22, 0.34)
    pen.polygon([(-a, -0.9), (a, -0.9), (a, -a), (0.9, -a), (0.9, a), (a, a), (a, 0.9), (-a, 0.9), (-a, a),
                 (-0.9, a), (-0.9, -a), (-a, -a)])


def _arrow(pen: Pen, rng: Rng) -> None:
    a, neck = rng.uniform(0.2, 0.3), rng.uniform(-0.15, 0.1)
    pen.polygon([(0, -0.93), (0.75, neck), (a, neck), (a, 0.9), (-a, 0.9), (-a, neck), (-0.75, neck)])
    pen.stroke((0, 0.3), (0, 0.65), 0.14, SECOND)


def _heart(pen: Pen, rng: Rng) -> None:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 0.92 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 17.5
    pen.polygon(list(zip(x, y)))
    pen.disc((-0.42, -0.3), rng.uniform(0.12, 0.2), SECOND)


def _leaf(pen: Pen, rng: Rng) -> None:
    t = np.linspace(0, np.pi, 20)
    half = rng.uniform(0.42, 0.58) * np.sin(t) ** 1.3 * np.exp(-0.35 * (t - np.pi / 2))
    y = -0.93 * np.cos(t)
    right, left = list(zip(half, -y)), list(zip(-half, -y))
    pen.polygon(right + left[::-1])
    pen.stroke((0, 0.9), (0, -0.45), 0.07, SECOND)
    for foot in (0.5, 0.15):
        pen.stroke((0, foot), (0.25, foot - 0.25), 0.05, SECOND)
        pen.stroke((0, foot), (-0.25, foot - 0.25), 0.05, SECOND)


def _fish(pen: Pen, rng: Rng) -> None:
    pen.polygon([(0.3, 0), (0.93, -rng.uniform(0.35, 0.5)), (0.8, 0), (0.93, rng.uniform(0.35, 0.5))], SECOND)
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    pen.polygon(list(zip(-0.22 + 0.72 * np.cos(t), rng.uniform(0.38, 0.52) * np.sin(t))))
    pen.disc((-0.6, -0.1), 0.09, EDGE)
    pen.stroke((-0.2, 0.0), (0.05, 0.08), 0.1, SECOND)


def _mug(pen: Pen, rng: Rng) -> None:
    pen.disc((0.5, 0.05), 0.45, EDGE)
    pen.disc((0.5, 0.05), 0.38, FILL)
    pen.disc((0.5, 0.05), 0.24, EDGE)
    pen.disc((0.5, 0.05), 0.17, NOTHING)
    bottom = rng.uniform(0.4, 0.55)
    pen.polygon([(-0.72, -0.72), (0.5, -0.72), (bottom, 0.8), (-bottom - 0.2, 0.8)])
    pen.polygon([(-0.66, -0.35), (0.44, -0.35), (0.42, -0.05), (-0.65, -0.05)], SECOND, edge=0.03)


Draw = Callable[[Pen, Rng], None]
SHAPES: dict[str, Draw] = {"disc": _disc, "ring": _ring, "star": _star, "polygon": _polygon, "cross": _cross,
                           "arrow": _arrow, "heart": _heart, "leaf": _leaf, "fish": _fish, "mug": _mug}


def choose_object(rng: Rng, hands_only: bool) -> str:
    """The name of a hand or, unless hands_only, half of the time of another shape."""
    return str(rng.choice(list(HANDS if hands_only or rng.random() < 0.5 else SHAPES)))


def draw_sprite(name: str, rng: Rng, *, radius: int, wall: np.ndarray) -> Sprite:
    """The object of that name, sharp up to `radius` pixels, in colors that contrast with `wall` (3,)."""
    pen = Pen(SUPERSAMPLE * 2 * round(MARGIN * radius))
    if name in HANDS:
        _hand(pen, rng, HANDS[name])
    else:
        SHAPES[name](pen, rng)
    canvas = pen.canvas[:, ::-int(rng.choice((-1, 1)))]  # left hands and right hands
    color = _contrasting(rng, wall, bare=name in HANDS and rng.random() < 0.65)
    palette = np.zeros((4, 4), np.float32)  # RGBA
    palette[1:, 3] = 255
    palette[EDGE, :3] = 0.32 * color
    palette[FILL, :3] = color
    palette[SECOND, :3] = 0.4 * color + 0.6 * rng.choice(COLORS)
    return Sprite(_pyramid(_shaded(np.take(palette.astype(np.uint8), canvas, axis=0), rng)), radius)


def _contrasting(rng: Rng, wall: np.ndarray, bare: bool) -> np.ndarray:
    """A skin tone (bare) or another color, at least CONTRAST from the wall's; the farthest one if none is."""
    colors = SKIN if bare else COLORS
    distances = np.linalg.norm(colors - wall, axis=1)
    color = rng.choice(colors[distances >= min(CONTRAST, distances.max())])
    return np.clip(color + rng.uniform(-14, 14, 3), 0, 255)


def _shaded(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Shrink to the final size; add light from one side, a little surface texture, and a soft shadow underneath."""
    side = image.shape[0] // SUPERSAMPLE
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    angle, axis = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, side, dtype=np.float32)
    light = 1 + rng.uniform(0, 0.2) * (np.cos(angle) * axis + np.sin(angle) * axis[:, None])
    light += 0.1 * (octaves(rng, side, side, cells=(6, 14))[..., 0] - 0.5)
    image[..., :3] *= light[..., None]
    shadow = 0.45 * cv2.GaussianBlur(image[..., 3], (0, 0), side / 30)
    image[..., 3] += (255 - image[..., 3]) * shadow / 255  # black, so only alpha changes
    return np.clip(image, 0, 255).astype(np.uint8)


def _pyramid(image: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [image]
    while levels[-1].shape[0] >= 24:
        half = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA))
    return tuple(levels)


def octaves(rng: Rng, width: int, height: int, *, cells: Sequence[int], channels: int = 1) -> np.ndarray:
    """Smooth noise (height, width, channels) float32, about 0-1: random grids of `cells` rows, enlarged and averaged."""
    total = np.zeros((height, width, channels), np.float32)
    for count in cells:
        grid = rng.random((count, max(2, count * width // height), channels), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).reshape(total.shape)
    return total / len(cells)


def _plaster(rng: Rng, width: int, height: int) -> np.ndarray:
    return octaves(rng, width, height, cells=(4, 9, 20))[..., 0]


def _stripes(rng: Rng, width: int, height: int) -> np.ndarray:
    """Wallpaper: straight stripes at any angle, with soft or hard edges."""
    angle, period = rng.uniform(0, np.pi), height * rng.uniform(0.12, 0.3)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    return np.clip(0.5 + rng.uniform(0.4, 1.5) * wave, 0, 1)


def _boards(rng: Rng, width: int, height: int) -> np.ndarray:
    """Wooden boards: one tone each, dark joints, a stretched grain."""
    count = int(rng.integers(3, 7))
    across = np.arange(height) * count / height
    tones = rng.uniform(0.2, 0.9, count)[across.astype(int)] * (np.abs(across % 1 - 0.5) < 0.46)
    grain = cv2.resize(rng.random((height // 2, 5), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return 0.75 * tones[:, None] + 0.35 * (grain - 0.3)


def _tiles(rng: Rng, width: int, height: int) -> np.ndarray:
    """A tiled wall, checkered or plain, with light joints."""
    edge = height * rng.uniform(0.18, 0.32)
    x, y = np.meshgrid((np.arange(width) + rng.uniform(0, edge)) / edge, (np.arange(height)) / edge)
    tone = 0.35 + rng.uniform(0, 0.4) * ((x.astype(int) + y.astype(int)) % 2)
    return np.where((np.minimum(x % 1, y % 1) * edge) < max(1.0, height / 60), 0.95, tone)


def _lights(rng: Rng, width: int, height: int) -> np.ndarray:
    """Out-of-focus spots."""
    image = np.full((height, width), 0.25, np.float32)
    for x, y, radius, tone in rng.random((14, 4)):
        spot = np.zeros_like(image)
        cv2.circle(spot, (int(x * width), int(y * height)), int(height * (0.05 + 0.13 * radius)), 1.0, -1, cv2.LINE_AA)
        image += (0.1 + 0.4 * tone) * spot
    return cv2.GaussianBlur(image, (0, 0), height / 60)


def _shelves(rng: Rng, width: int, height: int) -> np.ndarray:
    """Bookshelves: upright boxes of many tones in a few rows."""
    image, row = np.full((height, width), 0.15, np.float32), height / rng.integers(2, 5)
    for foot in np.arange(row, height + row, row):
        x = 0.0
        while x < width:
            wide = row * rng.uniform(0.12, 0.5)
            top = foot - row * rng.uniform(0.45, 0.88)
            cv2.rectangle(image, (int(x), int(top)), (int(x + wide) - 1, int(foot - row * 0.08)),
                          float(rng.uniform(0.1, 1)), -1)
            x += wide
    return cv2.GaussianBlur(image, (0, 0), height / 110)


WALLS = (_plaster, _stripes, _boards, _tiles, _lights, _shelves)


def draw_wall(rng: Rng, width: int, height: int) -> np.ndarray:
    """A random textured background, (height, width, 3) uint8 RGB, muted so that objects stand out."""
    pattern = WALLS[int(rng.integers(len(WALLS)))](rng, width, height)[..., None]
    pattern = np.clip(pattern + 0.35 * (octaves(rng, width, height, cells=(5, 30)) - 0.5), 0, 1)
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.45), rng.uniform(0.3, 0.85)
    first, second = _rgb(hue, saturation, value), _rgb(
        hue + rng.uniform(-0.1, 0.1), saturation * rng.uniform(0.5, 1.3), value * rng.uniform(0.6, 0.85))
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    tilt = rng.uniform(-0.18, 0.18, 2)
    light = 1.05 + tilt[0] * x + tilt[1] * y - rng.uniform(0, 0.2) * (x ** 2 + y ** 2)
    return np.clip((first + (second - first) * pattern) * light[..., None], 0, 255).astype(np.uint8)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, min(saturation, 1), value))
