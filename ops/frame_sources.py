"""Loading frames: from which file each comes, and what is said when one cannot be read."""
from pathlib import Path
from typing import Sequence

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
    """Frames as pictures in a folder per video. template: the file name of frame `index` (1-based)."""

    def __init__(self, root: Path, template: str) -> None:
        self.root, self.template = Path(root), template

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        """The frames of `video` at 1-based `indices`; each file is read once however often it is asked for."""
        pictures = {index: read_image(self.root / video / self.template.format(index)) for index in set(indices)}
        return [pictures[index] for index in indices]
