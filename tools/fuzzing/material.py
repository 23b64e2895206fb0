"""The undamaged files. Their images are bar codes of the numbers of the video and of the frame."""
import os
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image

from ops.video import opencv_log
from ops.video.encode import encode_video

WIDTH, HEIGHT, FRAMES = 96, 64, 12
TEMPLATE = "{:06d}.jpg"


def set_up(directory: Path) -> None:
    """Prepare this process: one thread, a cache of its own, and no messages of the decoders about damaged input."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    opencv_log.set_log_level(opencv_log.SILENT)
    os.environ["TSM_CACHE"] = str(directory / "cache")
    av.logging.set_level(av.logging.PANIC)


def make_image(video: int, frame: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: eight bars, black or white, for the bits of the two numbers (4 bits each, lowest first)."""
    bits = [240 * (number >> bit & 1) for number in (video, frame) for bit in range(4)]
    row = np.repeat(np.array(bits, np.uint8), WIDTH // 8)
    image = np.stack([np.tile(row, (HEIGHT, 1))] * 3, -1)
    image[HEIGHT // 2:] += np.random.default_rng((video, frame)).integers(0, 16, (HEIGHT // 2, WIDTH, 3), np.uint8)
    return image


def read_code(image: Image.Image) -> tuple[int, int]:
    """The numbers (video, frame) of an image of `make_image`."""
    row = np.asarray(image.convert("L"), float)[:HEIGHT // 2].mean(0)
    bits = [int(bar.mean() > 120) for bar in np.array_split(row, 8)]
    video, frame = (sum(bit << place for place, bit in enumerate(part)) for part in (bits[:4], bits[4:]))
    return video, frame


def make_frame_directory(directory: Path, video: int) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for frame in range(1, FRAMES + 1):
        Image.fromarray(make_image(video, frame)).save(directory / TEMPLATE.format(frame), quality=92)
    return directory


def make_video_file(path: Path, video: int) -> Path:
    images = [make_image(video, frame) for frame in range(1, FRAMES + 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".avi":
        _write_avi(path, images)
    else:
        encode_video(path, images, 25)
    return path


def _write_avi(path: Path, images: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"b": "2000000", "bf": "2", "g": "6"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
