"""Loading frames: from which file each comes, and what is said when one cannot be read.

A source has `load` (PIL images, the evaluation's exact pixels), `load_arrays` (the same pixels for training, as what
has a `shape` and can be sliced like an array (H, W, 3), uint8 RGB) and `count` (the frames of a video).
"""
import io
import re
from pathlib import Path
from typing import Any, Callable, Sequence

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ops.common.errors import UserError
from ops.video.discovery import is_video_name
from ops.video.shards import Shards, is_sharded
from ops.video.video_files import VideoFiles

_SCAN, _ONE_SCAN_FRAMES = 0xDA, (0xC0, 0xC1)  # markers of JPEG: data follow; a frame that is not progressive
_MARKER = re.compile(b"\xff[^\\0]")  # in a scan's data
DATA_FORMATS = ("auto", "frames", "video", "shards")
Read = Callable[[Path], bytes]  # an image's content; OSError like that of a file


def read_image(path: Path, mode: str = "RGB", read: Read = Path.read_bytes) -> Image.Image:
    """The whole image in PIL's `mode` (RGB: 0-255). UserError with the file's name when that is impossible."""
    try:
        with Image.open(io.BytesIO(read(path))) as image:
            return image.convert(mode)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"missing frame: {path}: extract the video again, correct the list, or train with"
                        " --skip_bad") from None
    except UnidentifiedImageError:  # whose text would name the memory that was read, at another place each time
        raise UserError(f"unreadable frame: {path}: cannot identify image file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL's readers raise
        raise UserError(f"unreadable frame: {path}: {error}") from None


def read_pixels(path: Path, read: Read = Path.read_bytes) -> np.ndarray:
    """The pixels of read_image(path), (H, W, 3) uint8 RGB, in half the time where the file is an ordinary JPEG."""
    try:
        content = read(path)
        if _is_plain_jpeg(content):
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8),
                                  cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if pixels is not None:
                return pixels
    except (OSError, ValueError, cv2.error):
        pass  # what is wrong, read_image says
    return np.array(read_image(path, read=read))


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether it is a JPEG of three colors in one scan, whose data holds no marker but the end's.

    Only of such do OpenCV and PIL make the same: of four colors (CMYK) OpenCV makes others, and it gives images
    for some damaged files that PIL refuses.
    """
    if not (content.startswith(b"\xff\xd8\xff") and content.endswith(b"\xff\xd9")):
        return False
    place, colors = 2, 0
    while place + 9 < len(content) and content[place] == 0xFF and content[place + 1] != _SCAN:
        colors = content[place + 9] if content[place + 1] in _ONE_SCAN_FRAMES else colors
        place += 2 + int.from_bytes(content[place + 2:place + 4], "big")
    marker = _MARKER.search(content, place + 2)
    return colors == 3 and marker is not None and marker.end() == len(content)


class FrameDirectory:
    """Frames as images in a directory per video. template: the file name of frame `index` (1-based).

    `load` gives the frames at 1-based `indices`; each file is read once however often it is asked for.
    read: where the files' contents come from.
    """

    def __init__(self, root: Path, template: str, read: Read = Path.read_bytes) -> None:
        self.root, self.template, self.read = Path(root), template, read

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return self._read(indices, lambda index: [self.root / video / self.template.format(index)])

    def load_arrays(self, video: str, indices: Sequence[int]) -> list[Any]:
        pixels = {index: read_pixels(self.root / video / self.template.format(index), self.read)
                  for index in set(indices)}
        return [pixels[index] for index in indices]

    def count(self, video: str) -> int:
        raise UserError(f"{video!r} has no number of frames in the list, and is no video file: frame directories need lines"
                        " of the form: path num_frames label")

    def _read(self, indices: Sequence[int], files: Callable[[int], list[Path]], mode: str = "RGB") -> list[Image.Image]:
        images = {index: [read_image(path, mode, self.read) for path in files(index)] for index in set(indices)}
        return [image for index in indices for image in images[index]]


class FlowDirectory(FrameDirectory):
    """Optical flow, 0-255 with 128 at rest: for each index a gray image of motion along x, then one along y.

    The template tells the layout: `flow_{}_{:05d}.jpg` (x or y, index), `{:06d}-{}_{:05d}.jpg` (video number, x or
    y, index; in a directory of six digits), or one color image per index with x in red and y in green.
    """

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        fields = self.template.count("{")
        if fields == 1:
            images = self._read(indices, lambda index: [self.root / video / self.template.format(index)])
            return [band for image in images for band in image.split()[:2]]
        if fields == 2:
            return self._read(indices, lambda index: [self.root / video / self.template.format(axis, index)
                                                      for axis in "xy"], "L")
        number = _video_number(video)
        directory = self.root / f"{number:06d}"
        return self._read(indices, lambda index: [directory / self.template.format(number, axis, index)
                                                  for axis in "xy"], "L")


class FramesOrVideos:
    """Frame directories, and video files where a name ends like one (and is no directory)."""

    def __init__(self, root: Path, template: str) -> None:
        self.root, self.frames, self.videos = Path(root), FrameDirectory(root, template), VideoFiles(root)

    def _source(self, video: str) -> Any:
        return self.videos if is_video_name(video) and not (self.root / video).is_dir() else self.frames

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return self._source(video).load(video, indices)

    def load_arrays(self, video: str, indices: Sequence[int]) -> list[Any]:
        return self._source(video).load_arrays(video, indices)

    def count(self, video: str) -> int:
        return self._source(video).count(video)


def make_source(data_format: str, modality: str, root: Path, template: str) -> Any:
    """The source of a data set's frames; data_format: frames, video, shards, or auto, which looks at what is there."""
    if data_format not in DATA_FORMATS:
        raise UserError(f"--data_format {data_format!r}: choose {' or '.join(DATA_FORMATS)}")
    if data_format == "shards" or data_format == "auto" and is_sharded(root):
        return (FlowDirectory if modality == "Flow" else FrameDirectory)(root, template, Shards(root).read)
    if modality == "Flow":
        if data_format == "video":
            raise UserError("--data_format video with Flow: optical flow lies in directories of images: choose frames")
        return FlowDirectory(root, template)
    return (VideoFiles(root) if data_format == "video" else FrameDirectory(root, template) if data_format == "frames"
            else FramesOrVideos(root, template))


def _video_number(video: str) -> int:
    if not video.isdigit():
        raise UserError(f"flow video {video!r}: this data set's flow directories are numbered: the list must name numbers")
    return int(video)
