"""Frame sources: load the frames of a video from images, video files or shards.

A source has `load` (PIL images, for evaluation), `load_arrays` (the same pixels for training: objects that have a `shape`
and can be sliced like an array (H, W, 3), uint8 RGB) and `count` (the number of frames of a video).
"""
import io
import os
import re
import struct
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Callable, Sequence, Union

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ops.common.choices import DATA_FORMATS
from ops.common.errors import UserError, shown
from ops.common.files import AnyPath
from ops.video.discovery import is_video_name, numbered_directory, video_number
from ops.video.shards import Shards, holds_shards
from ops.video.video_files import VideoFiles

_SCAN, _ONE_SCAN_FRAMES = 0xDA, (0xC0, 0xC1)  # JPEG markers: start of the data; headers of images in one scan
_MARKER = re.compile(b"\xff[^\\0]")  # a marker in the data of a scan
Read = Callable[[Path], bytes]  # reads the content of an image; raises OSError like a file
# The largest image that any reader decodes: PIL's own limit, from which on it warns. An image of 8K video has 33 million.
MAX_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # open_image refuses the image
IMAGE_ERRORS = (OSError, SyntaxError, ValueError)  # what PIL's readers, and open_image, raise


def open_image(file: Union[Path, BinaryIO]) -> Image.Image:
    """Open an image with PIL. Raises one of IMAGE_ERRORS, also if it has more than MAX_PIXELS."""
    try:
        image = Image.open(file)
    except Image.DecompressionBombError:  # from twice that number on
        raise ValueError(f"it has more than {MAX_PIXELS} pixels") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has more than {MAX_PIXELS} pixels: {image.width}x{image.height}")
    return image


def read_image(path: AnyPath, mode: str = "RGB", read: Read = Path.read_bytes) -> Image.Image:
    """The whole image in PIL's `mode` (RGB: 0-255). UserError that names the file if it is missing or damaged."""
    try:
        with open_image(io.BytesIO(read(Path(path)))) as image:
            return image.convert(mode)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"missing frame: {path}: extract the video again, correct the list, or train with skip_bad",
                        "skip_bad") from None
    except UnidentifiedImageError:  # its text would contain a memory address
        raise UserError(f"unreadable frame: {path}: cannot identify image file") from None
    except IMAGE_ERRORS as error:
        raise UserError(f"unreadable frame: {path}: {error}") from None


def read_pixels(path: AnyPath, read: Read = Path.read_bytes) -> np.ndarray:
    """The pixels of read_image(path), (H, W, 3) uint8 RGB; for an ordinary JPEG in half the time."""
    try:
        content = read(Path(path))
        if _is_plain_jpeg(content):
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8),
                                  cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if pixels is not None:
                return pixels
    except (OSError, ValueError, cv2.error):
        pass  # read_image raises the error
    return np.array(read_image(path, read=read))


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether it is a JPEG of three colors in one scan whose data contains no marker but the final one, not too large.

    Only for these do OpenCV and PIL decode the same pixels: OpenCV converts four colors (CMYK) differently, and it decodes
    some damaged files that PIL refuses.
    """
    if not (content.startswith(b"\xff\xd8\xff") and content.endswith(b"\xff\xd9")):
        return False
    place, colors, pixels = 2, 0, 0
    while place + 9 < len(content) and content[place] == 0xFF and content[place + 1] != _SCAN:
        if content[place + 1] in _ONE_SCAN_FRAMES:
            height, width, colors = struct.unpack_from(">HHB", content, place + 5)
            pixels = width * height
        place += 2 + int.from_bytes(content[place + 2:place + 4], "big")
    marker = _MARKER.search(content, place + 2)
    return colors == 3 and pixels <= MAX_PIXELS and marker is not None and marker.end() == len(content)


class FrameDirectory:
    """Frames as images, in a directory per video. template: file name of a frame, with its number from 1.

    `load` returns the frames at 1-based `indices`; a file is read once even if its index repeats. read: reads a file.
    """

    def __init__(self, root: AnyPath, template: str, read: Read = Path.read_bytes) -> None:
        self.root, self.template, self.read = Path(root), template, read

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return self._read(indices, lambda index: [self.root / video / self.template.format(index)])

    def load_arrays(self, video: str, indices: Sequence[int]) -> list[Any]:
        pixels = {index: read_pixels(self.root / video / self.template.format(index), self.read)
                  for index in set(indices)}
        return [pixels[index] for index in indices]

    def count(self, video: str) -> int:
        raise UserError(f"{video!r} has no number of frames in the list and is not a video file: frame directories need"
                        " lines of the form: path num_frames label")

    def _read(self, indices: Sequence[int], files: Callable[[int], list[Path]], mode: str = "RGB") -> list[Image.Image]:
        images = {index: [read_image(path, mode, self.read) for path in files(index)] for index in set(indices)}
        return [image for index in indices for image in images[index]]


class FlowDirectory(FrameDirectory):
    """Optical flow, 0-255 with 128 for no motion: for each index a gray image of motion along x, then one along y.

    The template decides the layout: `flow_{}_{:05d}.jpg` (x or y, index), `{:06d}-{}_{:05d}.jpg` (video number, x or
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
        number = video_number(video)
        if number is None:
            raise UserError(f"flow video {shown(video)[:80]!r}: this data set's flow directories are numbers: the list must"
                            " name them so")
        directory = self.root / numbered_directory(number)
        return self._read(indices, lambda index: [directory / self.template.format(number, axis, index)
                                                  for axis in "xy"], "L")


class FramesOrVideos:
    """Video files where a path has the extension of one and is not a directory; otherwise frame directories."""

    def __init__(self, root: AnyPath, template: str) -> None:
        self.root, self.frames, self.videos = Path(root), FrameDirectory(root, template), VideoFiles(root)

    def _source(self, video: str) -> Any:
        return self.videos if is_video_name(video) and not os.path.isdir(self.root / video) else self.frames

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return self._source(video).load(video, indices)

    def load_arrays(self, video: str, indices: Sequence[int]) -> list[Any]:
        return self._source(video).load_arrays(video, indices)

    def count(self, video: str) -> int:
        return self._source(video).count(video)


def make_source(root: AnyPath, template: str, *, modality: str, data_format: str) -> Any:
    """The source of a data set's frames. data_format: frames, video, shards, or auto: shards if the root holds them, else
    whatever each path names.

    UserError for an unknown data_format, shards that are not complete, and Flow from video files.
    """
    if data_format not in DATA_FORMATS:
        raise UserError(f"data_format {data_format!r}: choose {' or '.join(DATA_FORMATS)}", "data_format")
    if data_format == "shards" or data_format == "auto" and holds_shards(root):
        return (FlowDirectory if modality == "Flow" else FrameDirectory)(root, template, Shards(root).read)
    if modality == "Flow":
        if data_format == "video":
            raise UserError("data_format video with Flow: optical flow is stored in directories of images: choose frames",
                            "data_format")
        return FlowDirectory(root, template)
    return (VideoFiles(root) if data_format == "video" else FrameDirectory(root, template) if data_format == "frames"
            else FramesOrVideos(root, template))
