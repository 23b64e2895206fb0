"""Images on which the position of a crop can be read, and the check of several crops."""
import numpy as np
from PIL import Image


def chart(width, height, frames=2):
    """Frames whose pixel (x, y) of frame i has the color (x, y, i)."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return [Image.fromarray(np.dstack([columns, rows, np.full_like(rows, i)]).astype(np.uint8))
            for i in range(frames)]


def pixels(clip):
    """Comparable content of frames, images or arrays."""
    arrays = [np.asarray(frame) for frame in clip]
    return [(array.shape, array.tobytes()) for array in arrays]


def check_crops(crops, places, source, size, flip):
    """Crop-major: all frames of a crop, then all of its mirror, then the next crop."""
    expected = [(place, mirrored, frame) for place in places
                for mirrored in ((False, True) if flip else (False,)) for frame in range(len(source))]
    assert len(crops) == len(expected)
    for crop, ((left, top), mirrored, i) in zip(crops, expected):
        wanted = np.asarray(source[i])[top:top + size, left:left + size]
        assert np.array_equal(np.asarray(crop), wanted[:, ::-1] if mirrored else wanted)
