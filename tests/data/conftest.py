"""Data sets that several files of tests read."""
import numpy as np
import pytest
from PIL import Image

from tests.helpers.datasets import TEMPLATE, VIDEOS, write_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A root with the VIDEOS and `list.txt`; labels are the videos' positions in the list."""
    root = tmp_path_factory.mktemp("videos")
    for i, (name, frames) in enumerate(VIDEOS.items()):
        write_video(root / name, frames, 20 * i)
    (root / "list.txt").write_text("".join(f"{name} {frames} {i}\n"
                                           for i, (name, frames) in enumerate(VIDEOS.items())))
    return root


@pytest.fixture(scope="session")
def noisy(tmp_path_factory):
    """Ten videos of noise, so that every crop looks different; labels 0 to 9."""
    root = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    for i in range(10):
        (root / f"v {i}").mkdir()
        for k in range(1, 7):
            Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(
                root / f"v {i}" / TEMPLATE.format(k))
    (root / "list.txt").write_text("".join(f"v {i} 6 {i}\n" for i in range(10)))
    return root


@pytest.fixture
def damaged(tmp_path):
    """Six videos of four frames: number 1 lacks a frame, number 4 has a truncated one; labels 0 to 5."""
    for i in range(6):
        write_video(tmp_path / f"v {i}", 4, 40 * i)
    (tmp_path / "v 1" / "00003.jpg").unlink()
    cut = tmp_path / "v 4" / "00002.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    (tmp_path / "list.txt").write_text("".join(f"v {i} 4 {i}\n" for i in range(6)))
    return tmp_path
