"""Small data sets of frame directories whose gray shows which frame it is."""
import contextlib

import numpy as np
import pytest
from PIL import Image

from ops.common.errors import UserError
from ops.data.tsn_dataset import TSNDataSet

TEMPLATE = "{:05d}.jpg"
VIDEOS = {"a video with  two spaces": 30, "sub directory/clip 7": 12, "plain": 9, "short": 2}
FLOW_TEMPLATES = ["flow_{}_{:05d}.jpg", "{:06d}-{}_{:05d}.jpg", "{:06d}.jpg"]


def write_video(directory, frames, shade):
    """JPEGs of one gray each: shade + 5 * (index - 1), up to JPEG's rounding."""
    directory.mkdir(parents=True)
    for i in range(frames):
        Image.new("RGB", (40, 32), (shade + 5 * i,) * 3).save(directory / TEMPLATE.format(i + 1), quality=95)


def write_flow(root, template, frames=4):
    """A video 12 whose flow at frame i is 10 * i along x and 100 + 10 * i along y."""
    directory = root / ("000012" if template.count("{") == 3 else "12")
    directory.mkdir(parents=True)
    for i in range(1, frames + 1):
        x, y = (Image.new("L", (16, 16), value) for value in (10 * i, 100 + 10 * i))
        if template.count("{") == 1:
            Image.merge("RGB", [x, y, Image.new("L", (16, 16), 128)]).save(
                directory / template.format(i), quality=95, subsampling=0)
        for axis, image in zip("xy", (x, y)):
            if template.count("{") == 2:
                image.save(directory / template.format(axis, i))
            elif template.count("{") == 3:
                image.save(directory / template.format(12, axis, i))


def grays(clip):
    """The mean gray of each frame."""
    return [np.asarray(frame).mean() for frame in clip]


def dataset(root, list_file="list.txt", **options):
    """The TSNDataSet of a list in `root`: three segments unless the options say otherwise."""
    return TSNDataSet(root, root / list_file, **{"num_segments": 3, "image_tmpl": TEMPLATE, **options})


@contextlib.contextmanager
def refused(*words):
    """A UserError of one line with all of `words` in it."""
    with pytest.raises(UserError) as info:
        yield
    message = str(info.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def photo(width, height, seed=0):
    """A smooth image with edges, like a photo."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    image = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    image[height // 3:height // 2, width // 4:width // 2] = rng.integers(0, 256, 3)
    return image
