"""Images: one frame of a directory is damaged. Evaluation and training read the same pixels from it, or both refuse it."""
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ops.common.errors import UserError
from ops.data.tsn_dataset import TSNDataSet
from ops.prepare.inspect_video import inspect_video
from tools.fuzzing.damage import damage
from tools.fuzzing.material import FRAMES, TEMPLATE, make_frame_directory, make_image, read_code, set_up
from tools.fuzzing.process import Fault

VIDEO = 5
FORMS: list[tuple[str, str, dict]] = [
    ("JPEG", "RGB", {"quality": 92}), ("JPEG", "RGB", {"quality": 92}), ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {}), ("JPEG", "CMYK", {}), ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True})]


def make(root: Path, seed: int) -> "Images":
    return Images(root, seed)


class Images:
    """Each input damages one frame of a directory; the other frames must stay as they are."""

    def __init__(self, root: Path, seed: int) -> None:
        set_up(root)
        self.root, self.seed = root, seed
        make_frame_directory(root / "video", VIDEO)
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
                Image.fromarray(make_image(VIDEO, frame)).convert(mode).save(memory, form, **options)
                file.write_bytes(damage(memory.getvalue(), rng))
            self.names = [str(file)]
            return self.load(file, frame)
        finally:
            file.write_bytes(whole)

    def load(self, file: Path, frame: int) -> list[str]:
        indices = list(range(1, FRAMES + 1))
        report = inspect_video(self.root, "video", TEMPLATE)  # as tools/check_dataset.py does; must not raise
        try:
            clip, _ = self.data[0]
        except UserError as error:
            self.check_refused(indices, str(error))
            raise
        arrays = self.data.source.load_arrays("video", indices)
        for i, image, array in zip(indices, clip, arrays, strict=True):
            if i != frame and read_code(image) != (VIDEO, i):
                raise Fault(f"frame {i} shows {read_code(image)}")
            if not np.array_equal(np.asarray(image), array):
                raise Fault(f"training and evaluation read frame {i} differently")
        if report.count != FRAMES:
            raise Fault(f"check_dataset counts {report.count} frames")
        return [str(file)]

    def check_refused(self, indices: list[int], message: str) -> None:
        """`Fault` unless training refuses these frames with the same message."""
        try:
            self.data.source.load_arrays("video", indices)
        except UserError as error:
            if str(error) != message:
                raise Fault(f"training says {error}, evaluation {message}") from None
            return
        raise Fault(f"training reads what evaluation refuses: {message}")
