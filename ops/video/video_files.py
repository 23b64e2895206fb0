"""Load single frames of video files: only the requested ones are decoded, from the key frame before them."""
import os
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence, TypeVar, Union

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError
from ops.common.files import AnyPath
from ops.video.container_ends import BrokenVideo
from ops.video.decode import SCALING, frame_image, open_video, upright_size, video_stream
from ops.video.discovery import VIDEO_SUFFIXES, is_video_name
from ops.video.forward import read_forward
from ops.video.frame_index import FrameIndex, frame_index, padded_packet, recount

_SEEK_OVER = 256  # packets: reading over fewer is cheaper than a seek

Result = TypeVar("Result")


class VideoFiles:
    """Video files below `root`; a name without an extension means the one video file of that name.

    `load` returns the frames at 1-based `indices`, upright, in the video's own size and colors: the images that
    `ops.prepare.extract` writes with height 0, before JPEG. Every error is a UserError that names the file.
    """

    def __init__(self, root: AnyPath) -> None:
        self.root = Path(root)

    def count(self, video: str) -> int:
        """The number of frames."""
        path = self.path(video)
        return _name_errors(path, lambda: frame_index(path).count)

    def times(self, video: str) -> np.ndarray:
        """When its frames are shown: `FrameIndex.times`."""
        path = self.path(video)
        return _name_errors(path, lambda: frame_index(path).times)

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return [frame.image() for frame in self.load_arrays(video, indices)]

    def load_arrays(self, video: str, indices: Sequence[int]) -> list["VideoImage"]:
        """The same frames as objects that can be sliced like an array (H, W, 3), uint8."""
        path = self.path(video)
        return _name_errors(path, lambda: _load(path, indices))

    def path(self, video: str) -> Path:
        """The file that a list means by `video`."""
        path = self.root / video
        if is_video_name(video):
            return path
        found = [file for suffix in VIDEO_SUFFIXES if os.path.exists(file := path.with_name(path.name + suffix))]
        if len(found) > 1:
            raise UserError(f"video {path} is ambiguous: there are {' and '.join(file.name for file in found)}:"
                            " write the file's full name into the list")
        return found[0] if found else path


def _name_errors(path: Path, work: Callable[[], Result]) -> Result:
    """The result of `work()`; its errors become UserErrors that name the file."""
    try:
        return work()
    except FileNotFoundError:
        raise UserError(f"missing video: {path}: correct the list, or train with skip_bad", "skip_bad") from None
    except BrokenVideo as error:
        raise UserError(f"unreadable video: {path}: {error}") from None
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UserError(f"unreadable video: {path}: {getattr(error, 'strerror', None) or error}") from None


class VideoImage:
    """A decoded frame that is converted to RGB when it is sliced: image[top:bottom, left:right] is (H, W, 3) uint8.

    Raises a UserError with `name`, the file and the frame, if it cannot be converted.
    """

    def __init__(self, frame: av.VideoFrame, size: tuple[int, int], scaler: VideoReformatter, *,
                 name: str = "") -> None:
        self.frame, self.size, self.scaler, self.name = frame, size, scaler, name
        self.shape = (size[1], size[0], 3)

    def image(self) -> Image.Image:
        return self._converted(lambda: frame_image(self.frame, self.size, self.scaler))

    def __getitem__(self, rows_and_columns: tuple[slice, slice]) -> np.ndarray:
        return self._converted(lambda: self._slice(rows_and_columns))

    def _converted(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"unreadable video: {self.name} cannot be converted:"
                            f" {getattr(error, 'strerror', None) or error}") from None

    def _slice(self, rows_and_columns: tuple[slice, slice]) -> np.ndarray:
        if self.frame.side_data.get("DISPLAYMATRIX"):
            return np.array(frame_image(self.frame, self.size, self.scaler))[rows_and_columns]
        # Like frame_image, but the three planes stay planes, as the network needs them.
        scaled = self.scaler.reformat(self.frame, *self.size, "gbrp", interpolation=SCALING, threads=1)
        green, blue, red = (_pixels(plane)[:, :plane.width][rows_and_columns] for plane in scaled.planes)
        return np.stack([red, green, blue]).transpose(1, 2, 0)


def _pixels(plane: Any) -> np.ndarray:
    """The memory of a plane as an array (H, bytes per line)."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)


def _load(path: Path, indices: Sequence[int]) -> list[VideoImage]:
    frames = read_frames(path, indices)
    size = upright_size(frames[indices[0]], 0)  # of the first frame: a clip has one size
    scaler = VideoReformatter()
    return [VideoImage(frames[index], size, scaler, name=f"{path}: frame {index}") for index in indices]


# ---- decoding ------------------------------------------------------------------------------------------------

def read_frames(path: AnyPath, indices: Sequence[int]) -> dict[int, av.VideoFrame]:
    """The decoded frames at 1-based `indices`. Raises BrokenVideo, OSError."""
    index = frame_index(path)
    _check_range(indices, index)
    if len(index.packets):
        frames = _decode(path, index, indices)
        if frames is not None:
            return frames
        index = recount(path)  # the packets do not match the frames
        _check_range(indices, index)
    return read_forward(path, indices, index.count)


def _check_range(indices: Sequence[int], index: FrameIndex) -> None:
    if max(indices) > index.count or min(indices) < 1:
        raise BrokenVideo(f"frame {max(indices)} is requested, but it has {index.count}: correct the number of frames in"
                          " the list, or leave it out")


def _decode(path: AnyPath, index: FrameIndex, indices: Sequence[int]) -> Optional[dict[int, av.VideoFrame]]:
    """The frames, or None if the decoder does not return all of them."""
    wanted = {int(index.order[number - 1]): number for number in indices}
    # The fastest way first; some streams (wrong flags, intra refresh) cannot be decoded from the middle.
    readers: list[tuple[type, bool]] = [(_Container, True), (_Container, False)]
    for reader, sparing in [(_Direct, True)] * (index.codec is not None) + readers:
        job = _Job(index, wanted, sparing)
        try:
            with reader(path, index) as packets:
                job.run(packets)
        except BrokenVideo:  # a seek may have failed; only an error of decoding from the beginning counts
            if not sparing:
                raise
        except av.FFmpegError as error:
            if not sparing:
                raise BrokenVideo(f"cannot be decoded: {error.strerror or error}") from None
        if len(job.frames) == len(wanted):
            return job.frames
    return None


@dataclass
class _Job:
    """Decodes the wanted frames. wanted: packet -> 1-based frame. sparing: decode only what these depend on."""
    index: FrameIndex
    wanted: dict[int, int]
    sparing: bool
    frames: dict[int, av.VideoFrame] = field(default_factory=dict)

    def run(self, packets: "_Packets") -> None:
        decoder, skipping = packets.decoder, False
        for first, last in self.runs():
            for number, packet in packets.between(first, last):
                # A frame that no other refers to need not be decoded unless it is wanted.
                if skipping != (self.sparing and number not in self.wanted):
                    skipping = not skipping
                    decoder.skip_frame = "NONREF" if skipping else "DEFAULT"
                self.keep(decoder.decode(packet))
            self.keep(decoder.decode(None))
            decoder.flush_buffers()

    def keep(self, frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            packet = self.index.numbers.get(frame.pts)  # type: ignore[arg-type]
            if packet not in self.wanted:
                continue
            if frame.is_corrupt:  # the decoder filled in what it could not read
                raise BrokenVideo(f"frame {self.wanted[packet]} is damaged")
            self.frames[self.wanted[packet]] = frame

    def runs(self) -> list[tuple[int, int]]:
        """The (first, last) packets to decode: ascending ranges that do not overlap."""
        if not self.sparing:
            return [(0, max(self.wanted))]
        runs: list[tuple[int, int]] = []
        for packet in sorted(self.wanted):
            start = self.index.key_before(packet)
            if runs and start <= runs[-1][1]:
                runs[-1] = runs[-1][0], packet
            else:
                runs.append((start, packet))
        return runs


class _Direct:
    """Reads packets of an indexed file by number, from their positions in the file."""

    def __init__(self, path: AnyPath, index: FrameIndex) -> None:
        assert index.codec is not None
        self.index, self.decoder = index, index.codec.decoder()
        self.file = open(path, "rb", buffering=1 << 18)

    def __enter__(self) -> "_Direct":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def between(self, first: int, last: int) -> Iterator[tuple[int, av.Packet]]:
        """(number, packet) for first, ..., last."""
        for number in range(first, last + 1):
            stamp, _, offset, size = self.index.packets[number].tolist()
            self.file.seek(offset)
            packet = padded_packet(self.file.read(size))
            packet.pts = stamp
            yield number, packet


class _Container:
    """Reads packets of an indexed file by number, through its container."""

    def __init__(self, path: AnyPath, index: FrameIndex) -> None:
        self.index, self.container = index, open_video(path, stored_stamps=True)
        self.stream = video_stream(self.container)
        self.decoder = self.stream.codec_context
        self.next, self.rest = 0, self._demux()

    def __enter__(self) -> "_Container":
        return self

    def __exit__(self, *error: object) -> None:
        self.container.close()

    def _demux(self) -> Iterator[tuple[int, av.Packet]]:
        for packet in self.container.demux(self.stream):
            if packet.size:
                yield self.index.numbers.get(packet.pts, -1), packet  # type: ignore[arg-type]

    def between(self, first: int, last: int) -> Iterator[tuple[int, av.Packet]]:
        """(number, packet) for first, ..., last; `first` is never before what was read already."""
        self._advance_to(first)
        for number, packet in self.rest:
            if number != self.next:
                raise BrokenVideo("its packets have moved since it was indexed")
            self.next = number + 1
            if number >= first:
                yield number, packet
            if number == last:
                return
        raise BrokenVideo("it is shorter than when it was indexed")

    def _advance_to(self, first: int) -> None:
        """Seek if `first` is far ahead. Containers seek by decoding time and may land too late; then start from 0."""
        if first - self.next <= _SEEK_OVER:
            return
        for goal in (first, 0):
            self.container.seek(int(self.index.packets[goal, 0]), stream=self.stream)
            rest = self._demux()
            landed = next(rest, None)
            if landed is not None and 0 <= landed[0] <= first:
                self.next, self.rest = landed[0], chain([landed], rest)
                return
        raise BrokenVideo("it does not support seeking to key frames")


_Packets = Union[_Direct, _Container]
