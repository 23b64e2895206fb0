"""A close look at one video of a list: its frames counted, first, middle and last (or all) decoded, faults named."""
import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError
from ops.video.decode import BrokenVideo, decoded_frames, frame_image, upright_size
from ops.video.discovery import is_image_name, is_video_name
from ops.video.frame_index import frame_index
from ops.video.video_files import VideoFiles, read_frames

# What can be wrong with a video, and in words.
KINDS = {
    "missing": "no such directory or file, or no frame of the expected name",
    "empty": "nothing in it",
    "truncated": "a frame, or the video file, ends early",
    "unreadable": "cannot be decoded",
    "index_base": "frames counted from 0, they must count from 1",
    "gap": "a frame is missing before the last",
    "sizes": "frames of different sizes in one video",
    "count": "the list's number of frames is another than the video's",
    "short": "fewer frames than a clip has segments",
    "color": "images that are not RGB (the loader converts them)",
}
# Such a video cannot be trained on whatever the list says of it.
FATAL = ("missing", "empty", "truncated", "unreadable", "index_base", "gap", "sizes")
_MODES = {"L": "grayscale", "LA": "grayscale with transparency", "I;16": "16-bit grayscale", "I": "32-bit grayscale",
          "1": "black and white", "P": "a palette image"}


@dataclass
class VideoReport:
    """What was seen of a video. count: frames from 1 on without a gap. sizes: (width, height) -> images seen."""
    count: int = 0
    faults: dict[str, str] = field(default_factory=dict)  # kind -> detail
    sizes: Counter = field(default_factory=Counter)
    signature: list[bytes] = field(default_factory=list)
    uniform: bool = True

    def blame(self, kind: str, detail: str) -> None:
        """Keep the first fault of each kind."""
        self.faults.setdefault(kind, " ".join(detail.split()))

    def see(self, image: Image.Image, signs: bool) -> None:
        """signs: the image is one of those that tell videos apart."""
        self.sizes[image.size] += 1
        if len(self.sizes) > 1:
            (a, b), (c, d) = list(self.sizes)[:2]
            self.blame("sizes", f"frames of {a}x{b} and of {c}x{d} pixels: extract the video again")
        if signs:
            self.signature.append(hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest())
            self.uniform &= all(low == high for low, high in _extrema(image))

    @property
    def digest(self) -> Optional[str]:
        """Of the first and middle image; None without them, or where both are of one color, as many videos begin."""
        return None if self.uniform else hashlib.sha256(b"".join(self.signature)).hexdigest()

    @property
    def fatal(self) -> dict[str, str]:
        return {kind: detail for kind, detail in self.faults.items() if kind in FATAL}


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    return [band.getextrema() for band in image.split()]  # type: ignore[misc]


def inspect_video(root: Path, video: str, template: str, num_frames: Optional[int] = None, min_frames: int = 1,
                  full: bool = False, data_format: str = "auto") -> VideoReport:
    """Look at the video file or frame directory `video` under `root`.

    template, data_format: as for `ops.video.frames` (RGB or flow). num_frames: what the list says. min_frames: fewer
    are too few. full: decode every frame.
    """
    look = VideoReport()
    is_file = data_format == "video" or data_format == "auto" and is_video_name(video) and not (root / video).is_dir()
    try:
        if is_file:
            _look_at_file(look, VideoFiles(root).path(video), full)
        else:
            _look_at_directory(look, root, video, template, full)
    except UserError as error:
        look.blame("missing", str(error))
    if look.count and not {"gap", "index_base"} & set(look.faults):  # with these the count means nothing
        if num_frames is not None and num_frames != look.count:
            look.blame("count", f"the list says {num_frames} frames, there are {look.count}")
        if look.count < min_frames:
            look.blame("short", f"{look.count} frames, fewer than {min_frames}")
    return look


def _middle(count: int) -> int:
    return (count + 1) // 2


def _wanted(count: int, full: bool) -> list[int]:
    """The 1-based frames to decode."""
    return list(range(1, count + 1)) if full or count < 3 else [1, _middle(count), count]


# ---- frame directories ------------------------------------------------------------------------------------------

def _look_at_directory(look: VideoReport, root: Path, video: str, template: str, full: bool) -> None:
    directory, files_of = frame_files(root, video, template)
    try:
        names = set(os.listdir(directory))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        look.blame("missing", f"no directory {directory}: {getattr(error, 'strerror', None) or error}")
        return
    while names.issuperset(files_of(look.count + 1)):
        look.count += 1
    from_zero = names.issuperset(files_of(0))
    if from_zero:
        look.blame("index_base", f"its first frame is {files_of(0)[0]}: rename the frames to count from 1")
    elif not look.count:
        _report_absence(look, names, files_of(1)[0])
    elif (total := _count_matching(names, template)) > look.count * len(files_of(1)):
        gap = next(name for name in files_of(look.count + 1) if name not in names)
        look.blame("gap", f"{gap} is missing, though {total} images are there")
    for index in _wanted(look.count, full):
        for name in files_of(index):
            image = _read_image(look, directory / name, is_flow=template.count("{") > 1)
            if image is not None:
                look.see(image, index in (1, _middle(look.count)))


def frame_files(root: Path, video: str, template: str) -> tuple[Path, Callable[[int], list[str]]]:
    """(directory, index -> file names) of a video's frames; flow has two files an index, or one with both."""
    fields = template.count("{")
    if fields < 3:
        return root / video, lambda index: (
            [template.format(index)] if fields == 1 else [template.format(axis, index) for axis in "xy"])
    if not video.isdigit():
        raise UserError(f"flow directories are numbered in this data set, {video!r} is no number")
    return root / f"{int(video):06d}", lambda index: [template.format(int(video), axis, index) for axis in "xy"]


def _report_absence(look: VideoReport, names: set[str], wanted: str) -> None:
    images = sorted(filter(is_image_name, names))
    if images:
        look.blame("missing", f"none of its {len(images)} images is called {wanted}, the first is {images[0]}")
    else:
        look.blame("empty", "the directory holds no images")


def _count_matching(names: set[str], template: str) -> int:
    form = re.compile(re.sub(r"\\\{.*?\\\}", r"\\w+", re.escape(template)))
    return sum(form.fullmatch(name) is not None for name in names)


def _read_image(look: VideoReport, file: Path, is_flow: bool) -> Optional[Image.Image]:
    try:
        with Image.open(file) as image:
            mode, converted = image.mode, image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL's readers raise
        if isinstance(error, FileNotFoundError):
            look.blame("missing", f"{file.name} points to nothing")
        elif not file.stat().st_size:
            look.blame("empty", f"{file.name} has no bytes")
        else:
            look.blame("truncated" if _says_truncated(str(error)) else "unreadable", f"{file.name}: {error}")
        return None
    if mode != "RGB" and not is_flow:
        look.blame("color", f"{file.name} is {_MODES.get(mode, mode)}")
    return converted


def _says_truncated(reason: str) -> bool:
    return any(word in reason.lower() for word in ("truncated", "broken data stream", "unexpected end"))


# ---- video files --------------------------------------------------------------------------------------------

def _look_at_file(look: VideoReport, file: Path, full: bool) -> None:
    try:
        look.count = frame_index(file).count
        wanted = _wanted(look.count, full)
        if full:
            count = 0
            scaler = VideoReformatter()
            for count, frame in enumerate(decoded_frames(file), 1):
                _see_frame(look, count, frame, scaler)
            look.count = count
        else:
            for number, frame in sorted(read_frames(file, wanted).items()):
                _see_frame(look, number, frame, VideoReformatter())
    except FileNotFoundError:
        look.blame("missing", f"no file {file}")
    except (BrokenVideo, av.FFmpegError, OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        kind = "empty" if "is empty" in reason else "truncated" if _says_truncated(reason) else "unreadable"
        look.blame(kind, reason)


def _see_frame(look: VideoReport, number: int, frame: av.VideoFrame, scaler: VideoReformatter) -> None:
    signs = number in (1, _middle(look.count))
    look.see(frame_image(frame, upright_size(frame, 0), scaler), signs)
    if frame.format.name.startswith(("gray", "mono", "ya8", "ya16")):
        look.blame("color", f"its images are {frame.format.name}")
