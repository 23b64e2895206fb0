"""Loading frames straight from video files: only those asked for, by way of the key frame before them."""
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence, TypeVar, Union

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError
from ops.video.decode import _SCALING, BrokenVideo, decoded_frames, frame_image, open_video, upright_size, video_stream
from ops.video.discovery import VIDEO_SUFFIXES, is_video_name
from ops.video.frame_index import FrameIndex, frame_index, padded_packet, recount

_SEEK_OVER = 256  # packets: passing over fewer is cheaper than a seek

Result = TypeVar("Result")


class VideoFiles:
    """Videos under `root`; a name without extension finds the one video file of that name.

    `load` gives the frames at 1-based `indices`, upright, in the video's own size and colors: the images that
    tools/vid2img_*.py would write with --height 0, before JPEG. Every error is a UserError that names the file.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def count(self, video: str) -> int:
        """The number of frames."""
        path = self.path(video)
        return _explained(path, lambda: frame_index(path).count)

    def load(self, video: str, indices: Sequence[int]) -> list[Image.Image]:
        return [frame.image() for frame in self.load_arrays(video, indices)]

    def load_arrays(self, video: str, indices: Sequence[int]) -> list["VideoImage"]:
        """The same as what can be sliced like an array (H, W, 3), uint8."""
        path = self.path(video)
        return _explained(path, lambda: _load(path, indices))

    def path(self, video: str) -> Path:
        """The file of a list's video."""
        path = self.root / video
        if is_video_name(video):
            return path
        found = [file for suffix in VIDEO_SUFFIXES if (file := path.with_name(path.name + suffix)).exists()]
        if len(found) > 1:
            raise UserError(f"video {path} is ambiguous: there are {' and '.join(file.name for file in found)}:"
                            " write the file's whole name into the list")
        return found[0] if found else path


def _explained(path: Path, work: Callable[[], Result]) -> Result:
    """The result of `work()`, its errors with the file's name."""
    try:
        return work()
    except FileNotFoundError:
        raise UserError(f"missing video: {path}: correct the list, or train with --skip_bad") from None
    except BrokenVideo as error:
        raise UserError(f"unreadable video: {path}: {error}") from None
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UserError(f"unreadable video: {path}: {getattr(error, 'strerror', None) or error}") from None


class VideoImage:
    """A decoded frame that becomes RGB when it is looked at: image[top:bottom, left:right] is (H, W, 3) uint8.

    Looking at it raises a UserError with `name`, the file and the frame, where it cannot be converted.
    """

    def __init__(self, frame: av.VideoFrame, size: tuple[int, int], scaler: VideoReformatter, name: str = "") -> None:
        self.frame, self.size, self.scaler, self.name = frame, size, scaler, name
        self.shape = (size[1], size[0], 3)

    def image(self) -> Image.Image:
        return self._converted(lambda: frame_image(self.frame, self.size, self.scaler))

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        return self._converted(lambda: self._part(place))

    def _converted(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"unreadable video: {self.name} cannot be converted:"
                            f" {getattr(error, 'strerror', None) or error}") from None

    def _part(self, place: tuple[slice, slice]) -> np.ndarray:
        if self.frame.side_data.get("DISPLAYMATRIX"):
            return np.array(frame_image(self.frame, self.size, self.scaler))[place]
        # As frame_image does it, but the three planes stay planes: the network wants them so.
        scaled = self.scaler.reformat(self.frame, *self.size, "gbrp", interpolation=_SCALING, threads=1)
        green, blue, red = (_pixels(plane)[:, :plane.width][place] for plane in scaled.planes)
        return np.stack([red, green, blue]).transpose(1, 2, 0)


def _pixels(plane: Any) -> np.ndarray:
    """(H, bytes per line) of a plane, in its own memory."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)


def _load(path: Path, indices: Sequence[int]) -> list[VideoImage]:
    frames = read_frames(path, indices)
    size = upright_size(frames[indices[0]], 0)  # of the first: a clip has one size
    scaler = VideoReformatter()
    return [VideoImage(frames[index], size, scaler, f"{path}: frame {index}") for index in indices]


# ---- decoding ------------------------------------------------------------------------------------------------

def read_frames(path: Path, indices: Sequence[int]) -> dict[int, av.VideoFrame]:
    """The decoded frames at 1-based `indices`. Raises BrokenVideo, OSError."""
    index = frame_index(path)
    _check_range(indices, index)
    if len(index.packets):
        frames = _decode(path, index, indices)
        if frames is not None:
            return frames
        index = recount(path)  # packets and frames do not correspond
        _check_range(indices, index)
    wanted, last = set(indices), max(indices)
    found = {}
    for number, frame in enumerate(decoded_frames(path), 1):
        if number in wanted:
            found[number] = frame
        if number == last:
            break
    return found


def _check_range(indices: Sequence[int], index: FrameIndex) -> None:
    if max(indices) > index.count or min(indices) < 1:
        raise BrokenVideo(f"frame {max(indices)} is asked for, but it has {index.count}: correct the list's number of"
                          " frames, or leave it out")


def _decode(path: Path, index: FrameIndex, indices: Sequence[int]) -> Optional[dict[int, av.VideoFrame]]:
    """The frames, or None where the decoder does not give them all."""
    wanted = {int(index.order[number - 1]): number for number in indices}
    # The quickest way first; some streams (wrong flags, intra refresh) cannot be begun in the middle.
    ways: list[tuple[type, bool]] = [(_Container, True), (_Container, False)]
    for way, sparing in [(_Direct, True)] * (index.codec is not None) + ways:
        job = _Job(index, wanted, sparing)
        try:
            with way(path, index) as packets:
                job.run(packets)
        except BrokenVideo:  # after a seek that failed, say: what a decoding from the beginning says counts
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
    """What is to be decoded. wanted: packet -> 1-based frame. sparing: only what the wanted frames depend on."""
    index: FrameIndex
    wanted: dict[int, int]
    sparing: bool
    frames: dict[int, av.VideoFrame] = field(default_factory=dict)

    def run(self, packets: "_Packets") -> None:
        decoder, passing = packets.decoder, False
        for first, last in self.runs():
            for number, packet in packets.between(first, last):
                # A frame that no other refers to need not be decoded unless it is asked for.
                if passing != (self.sparing and number not in self.wanted):
                    passing = not passing
                    decoder.skip_frame = "NONREF" if passing else "DEFAULT"
                self.keep(decoder.decode(packet))
            self.keep(decoder.decode(None))
            decoder.flush_buffers()

    def keep(self, frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            packet = self.index.numbers.get(frame.pts)  # type: ignore[arg-type]
            if packet not in self.wanted:
                continue
            if frame.is_corrupt:  # the decoder has painted over what it could not read
                raise BrokenVideo(f"frame {self.wanted[packet]} is damaged")
            self.frames[self.wanted[packet]] = frame

    def runs(self) -> list[tuple[int, int]]:
        """(first, last) packets to decode, ascending and apart."""
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
    """An indexed file's packets by their number, read from where they lie in the file."""

    def __init__(self, path: Path, index: FrameIndex) -> None:
        assert index.codec is not None
        self.index, self.decoder = index, index.codec.decoder()
        self.file = path.open("rb", buffering=1 << 18)

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
    """An indexed file's packets by their number, read through its container."""

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self.index, self.container = index, open_video(path)
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
        """(number, packet) for first, ..., last; `first` never lies behind what was read before."""
        self._pass_to(first)
        for number, packet in self.rest:
            if number != self.next:
                raise BrokenVideo("its packets are not where they were when it was indexed")
            self.next = number + 1
            if number >= first:
                yield number, packet
            if number == last:
                return
        raise BrokenVideo("it ends before it did when it was indexed")

    def _pass_to(self, first: int) -> None:
        """Seek when `first` is far ahead. Containers seek by decoding time and may land too late: then from 0 on."""
        if first - self.next <= _SEEK_OVER:
            return
        for goal in (first, 0):
            self.container.seek(int(self.index.packets[goal, 0]), stream=self.stream)
            rest = self._demux()
            landed = next(rest, None)
            if landed is not None and 0 <= landed[0] <= first:
                self.next, self.rest = landed[0], chain([landed], rest)
                return
        raise BrokenVideo("it cannot be searched for its key frames")


_Packets = Union[_Direct, _Container]
