"""Recorder: writes the annotated video as an MP4 that can be played at any time, however the program ends."""
import os
from fractions import Fraction
from pathlib import Path
from typing import Optional

import av
import numpy as np
from av.video.reformatter import Colorspace

from ops.common.errors import UserError

CLOCK = Fraction(1, 90000)  # unit of the time stamps, seconds
# A fragmented MP4 (ISO/IEC 14496-12, 8.8): the header comes first, and each fragment is complete in itself. A killed
# program therefore loses only the last fragment.
MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof"
FRAGMENT = 1.0  # seconds: the most that a killed program loses
CODING = {"preset": "veryfast", "tune": "zerolatency", "crf": "21"}


class Recorder:
    """An H.264 file of RGB frames at the times of their source. Use as a context manager.

    The first frame opens the file; until then, an older file of that name stays unchanged. All frames must have the
    size of the first one, with even sides. Raises UserError if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"--output {path}: only .mp4 can be written: choose a name that ends in .mp4")
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"--output {path}: {path.parent} is not a writable directory")
        if path.is_dir():
            raise UserError(f"--output {path} is a directory: name a file")
        self.path = path
        self._container: Optional[av.container.OutputContainer] = None
        self._last = -1  # time stamps, in CLOCK
        self._fragment = 0.0  # start of the current fragment, seconds

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Append a frame, (H, W, 3) uint8 RGB, that is shown from this time on (seconds since the first frame)."""
        begin = self._container is None or seconds >= self._fragment + FRAGMENT
        try:
            container = self._container or self._open(image.shape[1], image.shape[0])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            self._last = max(self._last + 1, round(seconds / CLOCK))  # time stamps must increase
            frame.pts, frame.time_base = self._last, CLOCK
            if begin:
                frame.pict_type, self._fragment = av.video.frame.PictureType.I, seconds
            container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Complete the file. Without any frame, no file is written."""
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
        self._stream.codec_context.colorspace = Colorspace.ITU601  # players assume another one for large frames
        self._stream.codec_context.gop_size = 10 ** 6  # write() asks for key frames by the clock
        return container

    def _failed(self, error: Exception) -> UserError:
        return UserError(f"--output {self.path}: cannot be written: {getattr(error, 'strerror', None) or error}")
