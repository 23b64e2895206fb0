"""Video files: loaded twice alike, or refused; extraction leaves a whole directory or none."""
import shutil
from pathlib import Path

import numpy as np

from ops.common.errors import UserError
from ops.prepare.extract import extract_video
from ops.prepare.inspect_video import inspect_video
from ops.video.frames import FramesOrVideos
from tools.fuzzing.damage import damaged
from tools.fuzzing.material import TEMPLATE, quiet, real_videos, video_file
from tools.fuzzing.process import Fault

LARGEST = 600_000  # bytes of a real video: each input is written


def make(root: Path, seed: int) -> "Videos":
    return Videos(root, seed)


class Videos:
    """Each input is one of the whole videos with damage."""

    def __init__(self, root: Path, seed: int) -> None:
        quiet(root)
        self.root, self.seed, self.source = root, seed, FramesOrVideos(root, TEMPLATE)
        self.whole = [video_file(root / "whole" / f"{i}{suffix}", i)
                      for i, suffix in enumerate((".mp4", ".webm", ".mkv", ".avi", ".mov"))]
        self.whole += [video for video in real_videos() if video.stat().st_size < LARGEST]
        self.names: list[str] = []

    def __call__(self, number: int) -> list[str]:
        rng = np.random.default_rng((self.seed, number))
        original = self.whole[number % len(self.whole)]
        name = f"damaged {number}{original.suffix}"
        (self.root / name).write_bytes(damaged(original.read_bytes(), rng))
        self.names = [str(self.root / name)]
        try:
            return self.load(name, rng, extract=number // len(self.whole) % 4 == 0)
        finally:
            (self.root / name).unlink()

    def load(self, name: str, rng: np.random.Generator, extract: bool) -> list[str]:
        if extract:
            self.extract(name)
        inspect_video(self.root, name, TEMPLATE)  # what tools/check_dataset.py does; must not raise
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
                raise Fault("the same frames, read again, are others")
        return [f"{count} frames"]

    def extract(self, name: str) -> None:
        """All of the frames, or no directory; a refusal here does not excuse the loader."""
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
