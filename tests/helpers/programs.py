"""Run the programs in this process, with the status and output of a process of their own, and small data for them."""
import importlib
import logging
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ops.common import cli


class Done(NamedTuple):
    status: int
    out: str
    err: str


def run(monkeypatch, capfd, program: str, *argv) -> Done:
    """Run `main()` of a module (main, test_models, tools.x) behind `cli.run`, as the command line would."""
    monkeypatch.setattr(sys, "argv", [f"{program}.py", *map(str, argv)])
    for handler in logging.getLogger().handlers[:]:  # a fresh process would have none
        logging.getLogger().removeHandler(handler)
    capfd.readouterr()
    try:
        cli.run(importlib.import_module(program).main)
    except SystemExit as end:
        return Done(int(end.code or 0), *capfd.readouterr())
    raise AssertionError("cli.run returned")


def assert_refused(done: Done, *words: str) -> None:
    """Status 2, no traceback, and a single error line, the last on standard error, that contains all of `words`."""
    assert done.status == 2, done
    assert "Traceback" not in done.err
    lines = done.err.strip().splitlines()
    last = lines[-1]
    assert [line for line in lines if ": error: " in line] == [last], done.err
    for word in words:
        assert word in last, f"{word!r} is not in: {last}"


def make_frames(root: Path, videos: dict[str, tuple[int, int]], size=(48, 40), seed=0) -> None:
    """Frame directories of JPEGs: name -> (number of frames, class); each class has a color, so that it can be learnt."""
    rng = np.random.default_rng(seed)
    for name, (count, label) in videos.items():
        (root / name).mkdir(parents=True)
        color = 60 + 150 * np.array([label >> 0 & 1, label >> 1 & 1, label >> 2 & 1])
        for i in range(1, count + 1):
            image = np.clip(color + rng.normal(0, 40, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / name / f"{i:06d}.jpg")


def write_list(path: Path, videos: dict[str, tuple[int, int]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {count} {label}\n" for name, (count, label) in videos.items()))
    return path


def make_somethingv2(root: Path, train: int = 12, val: int = 7, classes: int = 4) -> None:
    """A small data set in the place of somethingv2; its names contain spaces."""
    base = root / "something" / "v2"
    videos = {f"clip {i}": (3 + 5 * i % 11, i % classes) for i in range(train + val)}
    make_frames(base / "20bn-something-something-v2-frames", videos)
    rows = list(videos.items())
    write_list(base / "train_videofolder.txt", dict(rows[:train]))
    write_list(base / "val_videofolder.txt", dict(rows[train:]))
    (base / "category.txt").write_text("".join(f"Doing {i}\n" for i in range(classes)))
