"""Writing the annotated video: an MP4 that plays at every moment of its making, whatever ends the program."""
import os
from fractions import Fraction
from pathlib import Path
from typing import Optional

import av
import numpy as np
from av.video.reformatter import Colorspace

from ops.common.errors import UserError

CLOCK = Fraction(1, 90000)  # of the time stamps, seconds
# A fragmented MP4 (ISO/IEC 14496-12, 8.8): its head comes first, and each group of images is complete in itself.
# A program that is killed therefore loses the last fragment and nothing else.
MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof"
FRAGMENT = 1.0  # seconds: the most that a kill loses
CODING = {"preset": "veryfast", "tune": "zerolatency", "crf": "21"}


class Recorder:
    """An H.264 file of RGB images at the times of their source. Use as a context manager.

    The file begins with the first image; until then an older file of that name stays as it is. All images have
    the first one's size, with even sides. Raises UserError when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"--output {path}: only .mp4 can be written: choose a name that ends so")
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"--output {path}: {path.parent} is not a directory that can be written to")
        if path.is_dir():
            raise UserError(f"--output {path} is a directory: name a file")
        self.path = path
        self._container: Optional[av.container.OutputContainer] = None
        self._last = -1  # time stamps, in CLOCK
        self._fragment = 0.0  # when the fragment under way began

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: np.ndarray, seconds: float) -> None:
        """The next image, (H, W, 3) uint8 RGB, shown from this time on (seconds since the first)."""
        begin = self._container is None or seconds >= self._fragment + FRAGMENT
        try:
            container = self._container or self._open(image.shape[1], image.shape[0])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            self._last = max(self._last + 1, round(seconds / CLOCK))  # times must grow
            frame.pts, frame.time_base = self._last, CLOCK
            if begin:
                frame.pict_type, self._fragment = av.video.frame.PictureType.I, seconds
            container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Complete the file; without an image there is none."""
        container, self._container = self._container, None
        if container is None:
            return
        try:
            container.mux(self._stream.encode(None))
            container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def _open(self, width: int, height: int) -> av.container.OutputContainer:
        self._container = container = av.open(str(self.path), "w", format="mp4", options={
            "movflags": MOVFLAGS, "flush_packets": "1"})
        self._stream = container.add_stream("libx264", rate=30, options=CODING)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = CLOCK
        self._stream.codec_context.colorspace = Colorspace.ITU601  # players guess another one for large images
        self._stream.codec_context.gop_size = 10 ** 6  # key frames come by the clock, see write()
        return container

    def _failed(self, error: Exception) -> UserError:
        return UserError(f"--output {self.path}: cannot be written: {getattr(error, 'strerror', None) or error}")
