"""List files: the video that a line names is loaded or refused; never another video, never another frame."""
from pathlib import Path

import numpy as np

from ops.common.errors import UserError
from ops.data.clip_transforms import ToClipTensor
from ops.data.loader import make_loader
from ops.data.tsn_dataset import TSNDataSet
from ops.video.frame_index import frame_index
from tools.fuzzing.damage import Texts, damage
from tools.fuzzing.material import FRAMES, TEMPLATE, make_frame_directory, make_video_file, read_code, set_up
from tools.fuzzing.process import Fault

NAMES = ["a", "b c", "été", "Holding [something] 7", "12", "v.mp4", "w 1.webm", "x.avi"]
CLASSES = 20


def make(root: Path, seed: int) -> "Lists":
    return Lists(root, seed)


class Lists:
    """The videos 1, 2, ... are called NAMES. Half of the lists are real ones with damage, half texts of hypothesis."""

    def __init__(self, root: Path, seed: int) -> None:
        set_up(root)
        self.root, self.seed, self.file = root, seed, root / "list.txt"
        for video, name in enumerate(NAMES, 1):
            (make_video_file if "." in name else make_frame_directory)(root / name, video)
            if "." in name:
                frame_index(root / name)
        self.texts = Texts(seed, [*NAMES, str(FRAMES), "3", "1"])
        self.names = [str(root)]

    def content(self, number: int) -> bytes:
        if number % 2:
            return self.texts[number // 2].encode("utf-8", "surrogatepass")
        rng = np.random.default_rng((self.seed, number))
        lines = [f"{name} {rng.integers(1, FRAMES + 1)} {rng.integers(CLASSES)}" for name in rng.permutation(NAMES)]
        return damage("\n".join(lines[:rng.integers(1, 9)]).encode(), rng, most=1)

    def __call__(self, number: int) -> list[str]:
        self.file.write_bytes(self.content(number))
        data = TSNDataSet(self.root, self.file, 3, image_tmpl=TEMPLATE, random_shift=False, num_class=CLASSES)
        loaded, reasons = [], []
        for i, record in enumerate(data.video_list):
            try:
                clip, label = data[i]
            except UserError as error:
                reasons.append(error)
                continue
            self.check(record, [read_code(image) for image in clip], data)
            if label != record.label:
                raise Fault(f"{record.path}: label {label} for {record.label}")
            loaded.append(record.path)
        if number % 100 == 0:
            self.check_workers(reasons)
        if reasons:
            raise reasons[0]
        return loaded

    def check(self, record, codes, data) -> None:
        """`Fault` unless the images are the sampled frames of the named video."""
        name = str(Path(record.path))
        expected = [(NAMES.index(name) + 1 if name in NAMES else 0, i)
                    for i in data.segment_frames(record.num_frames or FRAMES)]
        if codes != expected:
            raise Fault(f"{record.path!r}: images (video, frame) {codes} for {expected}")

    def check_workers(self, reasons) -> None:
        """`Fault` unless a worker process loads the same list, or refuses it with the same message."""
        data = TSNDataSet(self.root, self.file, 3, image_tmpl=TEMPLATE, random_shift=False, num_class=CLASSES,
                          transform=ToClipTensor())
        try:
            for _ in make_loader(data, 1, workers=1, train=False):
                pass
        except UserError as error:
            if not reasons or str(error) != str(reasons[0]):
                raise Fault(f"a worker process refuses with {error}") from None
            return
        if reasons:
            raise Fault(f"a worker process does not refuse with {reasons[0]}")
