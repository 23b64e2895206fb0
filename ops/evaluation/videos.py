"""Any video for prediction: which files a name stands for, when a video's frames are shown, its windows in time."""
import glob
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional, Protocol, Sequence

import numpy as np

from ops.common.errors import UserError, shown
from ops.video.discovery import find_videos, frame_names, holds_frames, is_video_name
from ops.video.frames import FrameDirectory, read_image
from ops.video.video_files import VideoFiles

log = logging.getLogger(__name__)


# ---- files ----------------------------------------------------------------------------------------------------

def expand(name: str) -> list[Path]:
    """The videos that a file, a frame directory, a directory of videos or a pattern stands for.

    UserError when there are none.
    """
    path = Path(name)
    if not path.exists():
        if not set(name) & set("*?["):
            raise UserError("there is no such file or directory")
        return _matching(name)
    if not path.is_dir():
        return [path]
    videos = _videos_in(path)
    if not videos:
        raise UserError("the directory holds neither videos nor frames")
    return videos


def _videos_in(directory: Path) -> list[Path]:
    return [directory] if holds_frames(directory) else [directory / video for video in find_videos(directory)]


def _matching(pattern: str) -> list[Path]:
    """The videos among the matches of a pattern, each once; the other matches are logged."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    if not matches:
        raise UserError("no file matches")
    found = {match: _videos_of_match(match) for match in matches}
    other = [match.name for match, videos in found.items() if not videos]
    if len(other) == len(matches):
        raise UserError(f"none of the {len(matches)} matches is a video or holds one, the first is {other[0]}")
    if other:
        log.info("%s: left out, neither a video nor a directory with one: %s", shown(pattern),
                 shown(", ".join(other[:5]) + ", ..." * (len(other) > 5)))
    return list(dict.fromkeys(video for videos in found.values() for video in videos))


def _videos_of_match(match: Path) -> list[Path]:
    if not match.is_dir():
        return [match] if is_video_name(match.name) else []
    try:
        return _videos_in(match)
    except UserError:  # a directory that cannot be read; opening it gives the reason
        return [match]


# ---- one video ------------------------------------------------------------------------------------------------

class Frames(Protocol):
    """A source of frames, such as `VideoFiles` or `FrameDirectory`."""

    def load(self, video: str, indices: Sequence[int]) -> list[Any]:
        """The PIL images at these 1-based frames."""
        ...


class Window(NamedTuple):
    """A part of a video: frames first + 1 to last (1-based; `first` frames precede it), and its time in seconds."""
    first: int
    last: int
    start: float
    end: float


@dataclass(frozen=True)
class Video:
    """An opened video. source.load(key, indices) reads its frames.

    times: (num_frames + 1,) the seconds from the beginning at which each frame is shown, then the end of the last one;
    None where the file does not hold them.
    """
    name: str
    source: Frames
    key: str
    num_frames: int
    times: Optional[np.ndarray]

    @property
    def seconds(self) -> Optional[float]:
        return None if self.times is None else float(self.times[-1])

    def load(self, indices: Sequence[int]) -> list[Any]:
        """The PIL images at these 1-based frames."""
        return self.source.load(self.key, indices)

    def whole(self) -> Window:
        """The whole video as one window."""
        return Window(0, self.num_frames, 0.0, self.seconds or 0.0)

    def windows(self, length: float, stride: Optional[float] = None) -> list[Window]:
        """Windows of `length` seconds, one every `stride` seconds (default: half a window).

        UserError when the frames' times are unknown, or the stride is shorter than a frame.
        """
        if self.times is None or self.seconds is None:
            raise UserError(f"{self.name} does not hold the times at which its frames are shown: give fps", "fps")
        stride, frame = length / 2 if stride is None else stride, float(np.median(np.diff(self.times)))
        if stride < frame / 2:
            raise UserError(f"{self.name}: a stride of {stride:g} s is shorter than a frame ({frame:.3g} s):"
                            " choose a longer stride or window")
        return slide(self.times[:-1], self.seconds, length=length, stride=stride)


class NumberedFrames(FrameDirectory):
    """A frame directory whose file names may count from any number; `load` counts from 1."""

    def __init__(self, root: Path, template: str, first: int) -> None:
        super().__init__(root, template)
        self.first = first

    def load(self, video: str, indices: Sequence[int]) -> list[Any]:
        images = {i: read_image(self.root / video / self.template.format(self.first + i - 1)) for i in set(indices)}
        return [images[i] for i in indices]


def load_video(path: Path, fps: Optional[float] = None) -> Video:
    """Open a video file or frame directory. fps: where the frames' times are unknown. UserError when it cannot be read."""
    if path.is_dir():
        names = frame_names(path)
        frames = NumberedFrames(path.parent, names.template, names.first)
        return Video(str(path), frames, path.name, names.num_frames, _at_rate(names.num_frames, fps))
    files = VideoFiles(path.parent)
    if files.path(path.name) != path:
        raise UserError(f"{path} and {files.path(path.name)} share one stem: give the file name with its extension")
    times = files.times(path.name)
    count = files.count(path.name)
    return Video(str(path), files, path.name, count, times if len(times) else _at_rate(count, fps))


def holds_times(path: Path) -> bool:
    """Whether a video tells when its frames are shown, so that `fps` has no effect; also true if it cannot be read."""
    try:
        return load_video(path).times is not None
    except UserError:
        return True


def _at_rate(count: int, fps: Optional[float]) -> Optional[np.ndarray]:
    return None if fps is None else np.arange(count + 1) / fps


def slide(times: np.ndarray, duration: float, *, length: float, stride: float) -> list[Window]:
    """Windows of `length` seconds every `stride` seconds; the last one ends with the video; a short video is one.

    A window during which no new frame is shown (videos with long still images) holds the frame shown throughout.
    """
    tiny = 1e-6  # seconds: sums of strides are not exact
    count = max(0, int((duration - length) / stride + tiny)) + 1
    starts = [i * stride for i in range(count)]
    if starts[-1] + length < duration - tiny:
        starts.append(duration - length)
    windows = []
    for start in starts:
        first, last = np.searchsorted(times, [start - tiny, start + length - tiny])
        first = min(int(first), max(int(last), 1) - 1)
        windows.append(Window(first, max(int(last), first + 1), start, min(start + length, duration)))
    return windows
