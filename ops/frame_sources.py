"""Loading frames: from which file each comes, and what is said when one cannot be read."""
from pathlib import Path
from typing import Callable, Sequence

from PIL import Image

from ops.errors import UserError


def read_image(path: Path, mode: str = "RGB") -> Image.Image:
    """The whole picture in PIL's `mode` (RGB: 0-255). UserError with the file's name when that is impossible."""
    try:
        with Image.open(path) as picture:
            return picture.convert(mode)
    except FileNotFoundError:
        raise UserError(f"missing frame: {path}: extract the video again, correct the list, or train with"
                        " --skip_bad") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL's readers raise
        raise UserError(f"unreadable frame: {path}: {error}") from None


class FrameFolder:
    """Frames as pictures in a folder per video. template: the file name of frame `index` (1-based).

    `load` gives the frames at 1-based `indices`; each file is read once however often it is asked for.
    """

    def __init__(self, root: Path, template: str) -> None:
        self.root, self.template = Path(root), template

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return self._read(indices, lambda index: [self.root / video / self.template.format(index)])

    @staticmethod
    def _read(indices: Sequence[int], files: Callable[[int], list[Path]], mode: str = "RGB") -> list[Image.Image]:
        pictures = {index: [read_image(path, mode) for path in files(index)] for index in set(indices)}
        return [picture for index in indices for picture in pictures[index]]


class FlowFolder(FrameFolder):
    """Optical flow, 0-255 with 128 at rest: for each index a grey picture of motion along x, then one along y.

    The template tells the layout: `flow_{}_{:05d}.jpg` (x or y, index), `{:06d}-{}_{:05d}.jpg` (video number, x or
    y, index; in a folder of six digits), or one colour picture per index with x in red and y in green.
    """

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        fields = self.template.count("{")
        if fields == 1:
            pictures = self._read(indices, lambda index: [self.root / video / self.template.format(index)])
            return [band for picture in pictures for band in picture.split()[:2]]
        if fields == 2:
            return self._read(indices, lambda index: [self.root / video / self.template.format(axis, index)
                                                      for axis in "xy"], "L")
        number = _video_number(video)
        folder = self.root / f"{number:06d}"
        return self._read(indices, lambda index: [folder / self.template.format(number, axis, index)
                                                  for axis in "xy"], "L")


def _video_number(video: str) -> int:
    if not video.isdigit():
        raise UserError(f"flow video {video!r}: this data set's flow folders are numbered: the list must name numbers")
    return int(video)
