"""Frames: one of a directory is damaged. Evaluation and training read the same pixels of it, or both refuse it."""
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ops.common.errors import UserError
from ops.data.tsn_dataset import TSNDataSet
from ops.prepare.inspect_video import inspect_video
from tools.fuzzing.damage import damaged
from tools.fuzzing.material import FRAMES, TEMPLATE, code_of, coded, frame_directory, quiet
from tools.fuzzing.process import Fault

VIDEO = 5
FORMS: list[tuple[str, str, dict]] = [
    ("JPEG", "RGB", {"quality": 92}), ("JPEG", "RGB", {"quality": 92}), ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {}), ("JPEG", "CMYK", {}), ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True})]


def make(root: Path, seed: int) -> "Images":
    return Images(root, seed)


class Images:
    """A directory of frames, of which each input damages one; that the others are theirs is checked."""

    def __init__(self, root: Path, seed: int) -> None:
        quiet(root)
        self.root, self.seed = root, seed
        frame_directory(root / "video", VIDEO)
        (root / "list.txt").write_text(f"video {FRAMES} 0\n")
        self.data = TSNDataSet(root, root / "list.txt", FRAMES, image_tmpl=TEMPLATE, random_shift=False)
        self.names = [str(root / "video")]

    def __call__(self, number: int) -> list[str]:
        rng = np.random.default_rng((self.seed, number))
        frame = int(rng.integers(1, FRAMES + 1))
        file = self.root / "video" / TEMPLATE.format(frame)
        whole = file.read_bytes()
        form, mode, options = FORMS[number % len(FORMS)]
        try:
            with BytesIO() as memory:
                Image.fromarray(coded(VIDEO, frame)).convert(mode).save(memory, form, **options)
                file.write_bytes(damaged(memory.getvalue(), rng))
            self.names = [str(file)]
            return self.load(file, frame)
        finally:
            file.write_bytes(whole)

    def load(self, file: Path, frame: int) -> list[str]:
        indices = list(range(1, FRAMES + 1))
        report = inspect_video(self.root, "video", TEMPLATE)  # what tools/check_dataset.py does; must not raise
        try:
            clip, _ = self.data[0]
        except UserError as error:
            self.refuses_too(indices, str(error))
            raise
        arrays = self.data.source.load_arrays("video", indices)
        for i, image, array in zip(indices, clip, arrays, strict=True):
            if i != frame and code_of(image) != (VIDEO, i):
                raise Fault(f"frame {i} shows {code_of(image)}")
            if not np.array_equal(np.asarray(image), array):
                raise Fault(f"training and evaluation read frame {i} differently")
        if report.count != FRAMES:
            raise Fault(f"check_dataset counts {report.count} frames")
        return [str(file)]

    def refuses_too(self, indices: list[int], words: str) -> None:
        try:
            self.data.source.load_arrays("video", indices)
        except UserError as error:
            if str(error) != words:
                raise Fault(f"training says {error}, evaluation {words}") from None
            return
        raise Fault(f"training reads what evaluation refuses: {words}")
