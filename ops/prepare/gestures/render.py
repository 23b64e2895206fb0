"""Render gesture clips: an object moves in front of a wall, filmed by a slightly shaky and noisy camera.

The two classes of a pair are the same process played forwards or backwards. So the frames of a clip, taken as a set,
do not reveal which of the two it is: only their order does.
"""
from typing import Callable, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from ops.common.errors import UserError
from ops.prepare.gestures.definition import MAX_FRAMES, MIN_FRAMES, SIZE, TURNING, Size
from ops.prepare.gestures.shapes import LARGEST, Rng, Sprite, choose_object, draw_sprite, draw_wall

SHAKE = 0.03  # largest displacement of the camera / the frame's smaller side


class Poses(NamedTuple):
    """The object's pose in each frame, arrays (T,): x, y, radius in pixels, angle in radians, clockwise."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


class Camera(NamedTuple):
    """What is the same in all frames of a scene."""

    size: Size
    wall: np.ndarray  # (H + 2m, W + 2m, 3) uint8 RGB: m spare pixels on every side for the shake
    swing: np.ndarray  # (3, 3): rows x, y (pixels) and exposure (fraction); amplitude, frequency, phase
    grain: float  # standard deviation of the sensor noise, gray levels


def check_size(size: Size) -> None:
    """UserError for a size that cannot be rendered or encoded."""
    width, height = size
    if not (32 <= min(width, height) and max(width, height) <= 1024) or width % 2 or height % 2:
        raise UserError(f"size {width}x{height}: choose two even numbers from 32 to 1024, such as {SIZE[0]}x{SIZE[1]}",
                        "size")


def render_clip(label: int, rng: Rng, size: Size = SIZE) -> np.ndarray:
    """A random clip of class `label`: (T, H, W, 3) uint8 RGB, T from 20 to 60; size is (width, height).

    With the same state of `rng`, the twin class gives exactly the same frames in reverse order.
    """
    pair, backwards = divmod(label, 2)
    name = object_of_clip(label, rng)  # chosen first: make_gestures asks for it without rendering
    camera = _camera(rng, size)
    sprite, poses = _gesture(pair, name, rng=rng, camera=camera)
    frames = np.stack([_render_frame(camera, t, rng, sprite=sprite, pose=pose) for t, pose in enumerate(zip(*poses))])
    # The finished frames are reversed, including shake, exposure and grain: nothing else depends on the direction.
    return frames[::-1] if backwards else frames


def object_of_clip(label: int, rng: Rng) -> str:
    """The name of the object in render_clip(label, rng), such as "open hand", for the same state of `rng`."""
    return choose_object(rng, hands_only=label // 2 == TURNING)


def render_stream(labels: Sequence[int], rng: Rng, size: Size = SIZE
                  ) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """One long video: these gestures in sequence in front of the same wall, with short pauses around each.

    Returns (T, H, W, 3) uint8 RGB frames and, for each gesture, (first frame, last frame, label), 0-based.
    """
    camera = _camera(rng, size)
    frames: list[np.ndarray] = []
    segments = []
    for label in labels:
        frames += [_render_frame(camera, len(frames) + t, rng) for t in range(rng.integers(6, 13))]
        sprite, poses = _gesture(label // 2, object_of_clip(label, rng), rng=rng, camera=camera)
        moments = list(zip(*poses))
        segments.append((len(frames), len(frames) + len(moments) - 1, label))
        for pose in moments[::-1] if label % 2 else moments:
            frames.append(_render_frame(camera, len(frames), rng, sprite=sprite, pose=pose))
    frames += [_render_frame(camera, len(frames) + t, rng) for t in range(rng.integers(6, 13))]
    return np.stack(frames), segments


def _camera(rng: Rng, size: Size) -> Camera:
    width, height = size
    spare = int(np.ceil(SHAKE * min(size))) + 1
    wall = draw_wall(rng, width + 2 * spare, height + 2 * spare)
    largest = np.array([SHAKE * min(size), SHAKE * min(size), 0.08])
    # Sines with random phases: played backwards they are again sines with random phases.
    swing = np.stack([largest * rng.random(3), 1 / rng.uniform(20, 60, 3), rng.random(3)], axis=1)
    return Camera(size, wall, swing, grain=rng.uniform(0.5, 4))


def _gesture(pair: int, name: str, *, rng: Rng, camera: Camera) -> tuple[Sprite, Poses]:
    """The object, and its motion in the pair's first class (left, up, in, clockwise)."""
    sprite = draw_sprite(name, rng, radius=round(LARGEST * min(camera.size)), wall=camera.wall.mean((0, 1)))
    return sprite, MOTIONS[pair](rng, camera.size, _progress(rng))


def _progress(rng: Rng) -> np.ndarray:
    """The progress of a gesture from 0 to 1 over its frames: short rests at both ends, random easing.

    Rests and easing have the same distribution at both ends, so a progress is as likely as 1 minus its reverse.
    """
    length = int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
    rests, (ease_in, ease_out) = rng.uniform(0, 0.08, 2), rng.uniform(1, 1.6, 2)
    time = np.clip((np.linspace(0, 1, length) - rests[0]) / (1 - rests.sum()), 0, 1)
    return time ** ease_in / (time ** ease_in + (1 - time) ** ease_out)


def _tremble(rng: Rng, length: int, amplitude: float) -> np.ndarray:
    return amplitude * rng.random() * np.sin(2 * np.pi * (np.arange(length) / rng.uniform(15, 40) + rng.random()))


def _swipe(heading: float, across: float) -> Callable[[Rng, Size, np.ndarray], Poses]:
    """Motion along `heading` (radians, 0 right, pi/2 down). across: range of the path's center to the sides."""
    def move(rng: Rng, size: Size, progress: np.ndarray) -> Poses:
        side, length = min(size), len(progress)
        course = heading + rng.uniform(-0.25, 0.25)
        extent = size[0] if abs(np.cos(heading)) > 0.5 else size[1]
        along = (progress - 0.5) * extent * rng.uniform(0.75, 1.1)
        aside = across * side * rng.uniform(-1, 1) + rng.uniform(-0.12, 0.12) * side * np.sin(np.pi * progress)
        return Poses(
            x=(size[0] - 1) / 2 + along * np.cos(course) - aside * np.sin(course),
            y=(size[1] - 1) / 2 + along * np.sin(course) + aside * np.cos(course),
            radius=side * rng.uniform(0.25, 0.38) * (1 + _tremble(rng, length, 0.08)),
            angle=rng.uniform(-0.6, 0.6) + rng.uniform(-0.4, 0.4) * (progress - 0.5) + _tremble(rng, length, 0.2))
    return move


def _drift(rng: Rng, size: Size, progress: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A position near the middle with a slow drift."""
    start, drift = rng.uniform(-0.1, 0.1, 2), rng.uniform(-0.1, 0.1, 2)
    x, y = ((extent - 1) / 2 + min(size) * (s + d * (progress - 0.5)) for extent, s, d in zip(size, start, drift))
    return x, y


def _zoom(rng: Rng, size: Size, progress: np.ndarray) -> Poses:
    x, y = _drift(rng, size, progress)
    small, large = min(size) * rng.uniform(0.13, 0.2), min(size) * rng.uniform(0.48, LARGEST)
    angle = rng.uniform(-0.6, 0.6) + rng.uniform(-0.3, 0.3) * (progress - 0.5) + _tremble(rng, len(progress), 0.15)
    return Poses(x, y, small * (large / small) ** progress, angle)


def _turn(rng: Rng, size: Size, progress: np.ndarray) -> Poses:
    """By 120 to 190 degrees around an upright position, as far as a wrist and an elbow can turn."""
    x, y = _drift(rng, size, progress)
    radius = min(size) * rng.uniform(0.4, 0.54) * (1 + _tremble(rng, len(progress), 0.06))
    return Poses(x, y, radius, rng.uniform(-0.5, 0.5) + np.radians(rng.uniform(120, 190)) * (progress - 0.5))


MOTIONS = (_swipe(np.pi, across=0.14), _swipe(-np.pi / 2, across=0.2), _zoom, _turn)


def _render_frame(camera: Camera, t: int, rng: Rng, *, sprite: Optional[Sprite] = None,
                  pose: Sequence[float] = ()) -> np.ndarray:
    """Frame number `t` of a scene, (H, W, 3) uint8 RGB: the sprite in that pose, or only the wall."""
    (width, height), (rows, columns) = camera.size, camera.wall.shape[:2]
    amplitude, frequency, phase = camera.swing.T
    dx, dy, exposure = amplitude * np.sin(2 * np.pi * (frequency * t + phase))
    center = ((columns - 1) / 2 + dx, (rows - 1) / 2 + dy)
    image = cv2.getRectSubPix(camera.wall, camera.size, center)
    if sprite is not None:
        x, y, radius, angle = pose
        layer = _draw_layer(sprite, camera.size, x=x - dx, y=y - dy, radius=radius, angle=angle)
        behind = cv2.bitwise_not(layer[..., 3])
        image = cv2.multiply(image, cv2.merge([behind] * 3), scale=1 / 255)
        image = cv2.add(image, cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB))
    # Gray grain: 4:2:0 video would keep little of colored grain, which is also three times the work.
    grain = cv2.merge([rng.standard_normal((height, width), np.float32)] * 3)
    return cv2.addWeighted(image.astype(np.float32), 1 + exposure, grain, camera.grain, 0, dtype=cv2.CV_8U)


def _draw_layer(sprite: Sprite, size: Size, *, x: float, y: float, radius: float, angle: float) -> np.ndarray:
    """The sprite on a transparent frame: (H, W, 4) uint8 RGBA."""
    # The level that is shrunk by less than two, so that bilinear sampling skips no pixels.
    shrink = sprite.radius / radius
    level = int(np.clip(np.floor(np.log2(max(shrink, 1))), 0, len(sprite.levels) - 1))
    image = sprite.levels[level]
    scale, middle = radius / sprite.radius * sprite.levels[0].shape[0] / image.shape[0], (image.shape[0] - 1) / 2
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cos, -sin, x - middle * (cos - sin)], [sin, cos, y - middle * (sin + cos)]])
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
