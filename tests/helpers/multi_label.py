"""A small multi-label data set of real videos: a bar that may move left or right, a red floor, a disc."""
import numpy as np

from tests.helpers.clips import encode

CLASSES = ("Moving Left", "Moving Right", "Red Floor", "Disc")
SIZE, FRAMES = 48, 12


def draw(labels, rng):
    """The frames (H, W, 3) of a video with these classes."""
    start, disc = rng.integers(0, SIZE), rng.integers(8, SIZE - 24)
    direction = -3 if 0 in labels else 3 if 1 in labels else 0
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = []
    for i in range(FRAMES):
        image = rng.normal(90, 15, (SIZE, SIZE, 3))
        if 2 in labels:
            image[-12:] = (200, 30, 30)
        if 3 in labels:
            image[(rows - 14) ** 2 + (columns - disc) ** 2 < 64] = (30, 220, 60)
        image[20:34, np.arange(start + i * direction, start + i * direction + 8) % SIZE] = 250
        images.append(image.clip(0, 255).astype(np.uint8))
    return images


def random_labels(rng):
    moving = [(), (0,), (1,)][rng.integers(3)]
    return (*moving, *(label for label in (2, 3) if rng.random() < 0.5))


def make_multi_label(root, train=40, val=24, seed=0):
    """Write the videos, their lists and multi.yaml, whose data set is called `multi`, below `root`; returns multi.yaml."""
    rng = np.random.default_rng(seed)
    for name, count in (("train", train), ("val", val)):
        (root / name).mkdir(parents=True)
        lines = []
        for i in range(count):
            labels = random_labels(rng)
            encode(root / name / f"{i:03d}.mp4", draw(labels, rng))
            lines.append(f"{name}/{i:03d}.mp4 {FRAMES} {','.join(map(str, labels)) or '-'}\n")
        (root / f"{name}.txt").write_text("".join(lines))
    (root / "category.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    (root / "multi.yaml").write_text("multi: {root: ., train_list: train.txt, val_list: val.txt, categories: category.txt,"
                                     " multi_label: true}\n")
    return root / "multi.yaml"
