"""Video files: read twice with the same pixels, or refused. Extraction leaves a complete directory or none."""
import shutil
from pathlib import Path

import numpy as np

from ops.common.errors import UserError
from ops.prepare.extract import extract_video
from ops.prepare.inspect_video import inspect_video
from ops.video.frames import FramesOrVideos
from tools.fuzzing.damage import damage
from tools.fuzzing.material import TEMPLATE, make_video_file, set_up
from tools.fuzzing.process import Fault
from tools.shared.real_videos import real_videos

LARGEST = 600_000  # bytes of a real video, since every input is written to disk


def make(root: Path, seed: int) -> "Videos":
    return Videos(root, seed)


class Videos:
    """Each input is one of the videos with damage."""

    def __init__(self, root: Path, seed: int) -> None:
        set_up(root)
        self.root, self.seed, self.source = root, seed, FramesOrVideos(root, TEMPLATE)
        self.originals = [make_video_file(root / "whole" / f"{i}{suffix}", i)
                          for i, suffix in enumerate((".mp4", ".webm", ".mkv", ".avi", ".mov"))]
        self.originals += [video for video in real_videos() if video.stat().st_size < LARGEST]
        self.names: list[str] = []

    def __call__(self, number: int) -> list[str]:
        rng = np.random.default_rng((self.seed, number))
        original = self.originals[number % len(self.originals)]
        name = f"damaged {number}{original.suffix}"
        (self.root / name).write_bytes(damage(original.read_bytes(), rng))
        self.names = [str(self.root / name)]
        try:
            return self.load(name, rng, extract=number // len(self.originals) % 4 == 0)
        finally:
            (self.root / name).unlink()

    def load(self, name: str, rng: np.random.Generator, extract: bool) -> list[str]:
        if extract:
            self.extract(name)
        inspect_video(self.root, name, TEMPLATE)  # as tools/check_dataset.py does; must not raise
        count = self.source.count(name)
        indices = np.sort(rng.integers(1, count + 1, 4)).tolist()
        clips = [self.source.load(name, indices) for _ in range(2)]
        arrays = self.source.load_arrays(name, indices)
        for first, again, array in zip(*clips, arrays, strict=True):
            height, width, _ = array.shape
            if first.size != clips[0][0].size or (width, height) != first.size:
                raise Fault("images of several sizes")
            same = np.array_equal(np.asarray(first), np.asarray(again))
            if not same or not np.array_equal(np.asarray(first), array[0:height, 0:width]):
                raise Fault("the same frames, read again, have other pixels")
        return [f"{count} frames"]

    def extract(self, name: str) -> None:
        """Extract all frames or no directory. The loader is tried even if this is refused."""
        out = self.root / "extracted"
        shutil.rmtree(out, ignore_errors=True)
        try:
            count = extract_video(self.root / name, out / "video")
        except UserError:
            count = 0
        left = sorted(path.name for path in out.rglob("*") if path.is_file()) if out.exists() else []
        if left != [TEMPLATE.format(i) for i in range(1, count + 1)]:
            raise Fault(f"extraction of {count} frames left {left[:3]}")
        if not count and (out / "video").exists():
            raise Fault("extraction failed and left a directory")
