"""Write video files: H.264 (.mp4, .mov, .mkv) and VP9 (.webm), through PyAV's own codecs."""
from fractions import Fraction
from pathlib import Path
from typing import Dict, Iterable, Optional, Sequence, Tuple, Union

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from ops.common.errors import UserError
from ops.common.files import AnyPath, whole_file

# suffix -> (container, encoder)
FORMATS = {
    ".mp4": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}

ORDINARY: Dict[str, Dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8"},
}

# Every frame is a key frame at one fixed quantizer: no rate control, no look-ahead and no reference to a neighbor, so
# that the bits of a frame depend on that frame alone.
INTRA_ONLY: Dict[str, Dict[str, str]] = {
    "libx264": {"qp": "23", "preset": "veryfast", "g": "1", "bf": "0", "x264-params": "rc-lookahead=0"},
    "libvpx-vp9": {"crf": "16", "qmin": "16", "qmax": "16", "b": "0", "g": "0", "lag-in-frames": "0",
                   "auto-alt-ref": "0", "deadline": "realtime", "cpu-used": "8"},
}


def encode_video(path: AnyPath, frames: Iterable[np.ndarray], fps: Union[int, Fraction], *,
                 intra_only: bool = False) -> int:
    """Encode frames, each (H, W, 3) uint8 RGB with H and W even, into `path`; its suffix picks the codec.

    intra_only: code every frame alone at a constant quantizer; larger files that show nothing of the frames' order.
    The file appears under its name only when it is complete. Equal input gives equal bytes: one encoder thread, no time
    stamps. Returns the number of frames.
    Raises UserError for an unknown suffix, an odd height or width, or no frames; CannotWrite.
    """
    path = Path(path)
    container_format, codec = _format_of(path)
    with whole_file(path) as temporary:
        with av.open(str(temporary), "w", format=container_format) as container:
            count = _encode(container, codec, frames, fps=Fraction(fps), intra_only=intra_only)
        if not count:
            raise UserError(f"{path}: a video needs at least one frame, got none")
    return count


def _format_of(path: Path) -> Tuple[str, str]:
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: cannot write this kind of video: choose a name that ends in "
                        + ", ".join(sorted(FORMATS)))
    return FORMATS[path.suffix.lower()]


def _encode(container: av.container.OutputContainer, codec: str, frames: Iterable[np.ndarray], *,
            fps: Fraction, intra_only: bool) -> int:
    stream: Optional[av.VideoStream] = None
    count = 0
    for count, image in enumerate(frames, start=1):
        if stream is None:
            stream = _open_stream(container, codec, image.shape, fps=fps, intra_only=intra_only)
            strip = _comment_filter(container, stream) if intra_only and codec == "libx264" else None
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = count - 1
        _mux(container, stream, strip, stream.encode(frame))
    if stream is not None:
        _mux(container, stream, strip, [*stream.encode(None), None])
    return count


def _comment_filter(container: av.container.OutputContainer, stream: av.VideoStream) -> BitStreamFilterContext:
    """A filter that drops x264's description of its settings (an SEI unit) from the first frame's packet."""
    container.start_encoding()  # it sets the codec parameters that the filter needs
    return BitStreamFilterContext("filter_units=remove_types=6", stream)


def _mux(container: av.container.OutputContainer, stream: av.VideoStream, strip: Optional[BitStreamFilterContext],
         packets: Sequence[Optional[av.Packet]]) -> None:
    """Write packets through the filter `strip`, if there is one; a None among them flushes it."""
    for packet in packets:
        for bare in [packet] if strip is None else strip.filter(packet):
            if bare is not None:
                bare.stream = stream
                container.mux(bare)


def _open_stream(container: av.container.OutputContainer, codec: str, shape: Tuple[int, ...], *,
                 fps: Fraction, intra_only: bool) -> av.VideoStream:
    height, width = shape[:2]
    if height % 2 or width % 2:
        raise UserError(f"frames of {width}x{height}: width and height must be even (4:2:0 color)")
    stream = container.add_stream(codec, rate=fps, options=(INTRA_ONLY if intra_only else ORDINARY)[codec])
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = 1 / fps
    stream.codec_context.thread_count = 1  # the callers run one process per core
    return stream
