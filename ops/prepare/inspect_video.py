"""A close look at one video of a list: counts its frames, decodes the first, middle and last (or all), lists findings."""
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
from ops.common.words import counted
from ops.prepare.shared_frames import Look, look_of
from ops.video.container_ends import BrokenVideo
from ops.video.decode import decoded_frames, frame_image, upright_size
from ops.video.discovery import is_image_name, is_video_name, numbered_directory, video_number
from ops.video.frame_index import frame_index
from ops.video.frames import IMAGE_ERRORS, open_image
from ops.video.video_files import VideoFiles, read_frames

# A video with one of these cannot be trained on, whatever the list says about it.
FATAL = ("missing", "empty", "truncated", "unreadable", "index_base", "gap", "sizes")
_MODES = {"L": "grayscale", "LA": "grayscale with transparency", "I;16": "16-bit grayscale", "I": "32-bit grayscale",
          "1": "black and white", "P": "a palette image"}


@dataclass
class VideoReport:
    """What was found out about a video.

    count: number of frames, from 1 on without a gap. findings: kind -> detail. sizes: (width, height) -> number of
    decoded frames. signature: hashes of the first and middle frame. uniform: whether these are of a single color.
    looks: perceptual hashes of the first, middle and last frame, of videos of three frames or more; not of optical flow.
    """
    count: int = 0
    findings: dict[str, str] = field(default_factory=dict)
    sizes: Counter = field(default_factory=Counter)
    signature: list[bytes] = field(default_factory=list)
    uniform: bool = True
    looks: list[Look] = field(default_factory=list)

    def add_finding(self, kind: str, detail: str) -> None:
        """Keep the first finding of each kind."""
        self.findings.setdefault(kind, " ".join(detail.split()))

    def add_frame(self, image: Image.Image, *, number: int, is_flow: bool = False) -> None:
        """Count the decoded frame `number`, from 1. By the first, middle and last one, copies of videos are recognized."""
        self.sizes[image.size] += 1
        if len(self.sizes) > 1:
            (a, b), (c, d) = list(self.sizes)[:2]
            self.add_finding("sizes", f"frames of {a}x{b} and of {c}x{d} pixels: extract the video again")
        if self.count > 2 and number in (1, _middle(self.count), self.count) and not is_flow:
            self.looks.append(look_of(image))
        if number in (1, _middle(self.count)):
            self.signature.append(hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest())
            self.uniform &= all(low == high for low, high in _extrema(image))

    @property
    def digest(self) -> Optional[str]:
        """Of the first and middle frame; None without them, or if both are of one color, as many videos begin."""
        return None if self.uniform else hashlib.sha256(b"".join(self.signature)).hexdigest()

    @property
    def fatal(self) -> dict[str, str]:
        return {kind: detail for kind, detail in self.findings.items() if kind in FATAL}


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    return [band.getextrema() for band in image.split()]  # type: ignore[misc]


def inspect_video(root: Path, video: str, template: str, *, num_frames: Optional[int] = None, min_frames: int = 1,
                  full: bool = False, data_format: str = "auto") -> VideoReport:
    """Inspect the video file or frame directory `video` under `root`.

    template, data_format: as for `ops.video.frames` (RGB or flow). num_frames: the list's number of frames.
    min_frames: a video with fewer is too short. full: decode every frame.
    """
    report = VideoReport()
    is_file = data_format == "video" or data_format == "auto" and is_video_name(video) and not os.path.isdir(root / video)
    try:
        if is_file:
            _inspect_file(report, VideoFiles(root).path(video), full)
        else:
            _inspect_directory(report, root, video, template=template, full=full)
    except UserError as error:
        report.add_finding("missing", str(error))
    if report.count and not {"gap", "index_base"} & set(report.findings):  # with these the count means nothing
        if num_frames is not None and num_frames != report.count:
            report.add_finding("count", f"the list has {counted(num_frames, 'frame')}, the video {report.count}")
        if report.count < min_frames:
            report.add_finding("short", f"{counted(report.count, 'frame')}, fewer than {min_frames}")
    return report


def _middle(count: int) -> int:
    return (count + 1) // 2


def _frames_to_decode(count: int, full: bool) -> list[int]:
    """1-based."""
    return list(range(1, count + 1)) if full or count < 3 else [1, _middle(count), count]


# ---- frame directories ------------------------------------------------------------------------------------------

def _inspect_directory(report: VideoReport, root: Path, video: str, *, template: str, full: bool) -> None:
    directory, files_of = frame_files(root, video, template)
    try:
        names = set(os.listdir(directory))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        report.add_finding("missing", f"no directory {directory}: {getattr(error, 'strerror', None) or error}")
        return
    while names.issuperset(files_of(report.count + 1)):
        report.count += 1
    from_zero = names.issuperset(files_of(0))
    if from_zero:
        report.add_finding("index_base", f"its first frame is {files_of(0)[0]}: renumber the frames from 1")
    elif not report.count:
        _report_absence(report, names, files_of(1)[0])
    elif (total := _count_matching(names, template)) > report.count * len(files_of(1)):
        gap = next(name for name in files_of(report.count + 1) if name not in names)
        report.add_finding("gap", f"{gap} is missing, but the directory has {counted(total, 'frame')}")
    is_flow = template.count("{") > 1
    for index in _frames_to_decode(report.count, full):
        for name in files_of(index):
            image = _read_image(report, directory / name, is_flow)
            if image is not None:
                report.add_frame(image, number=index, is_flow=is_flow)


def frame_files(root: Path, video: str, template: str) -> tuple[Path, Callable[[int], list[str]]]:
    """(directory, index -> file names) of a video's frames; flow has two files per index, or one with both axes."""
    fields = template.count("{")
    if fields < 3:
        return root / video, lambda index: (
            [template.format(index)] if fields == 1 else [template.format(axis, index) for axis in "xy"])
    number = video_number(video)
    if number is None:
        raise UserError(f"this data set's flow directories have numbers as names, {video!r} is not a number")
    return root / numbered_directory(number), lambda index: [template.format(number, axis, index) for axis in "xy"]


def _report_absence(report: VideoReport, names: set[str], wanted: str) -> None:
    images = sorted(filter(is_image_name, names))
    if images:
        report.add_finding("missing", f"none of its {len(images)} images is named {wanted}, the first is {images[0]}")
    else:
        report.add_finding("empty", "the directory has no images")


def _count_matching(names: set[str], template: str) -> int:
    form = re.compile(re.sub(r"\\\{.*?\\\}", r"\\w+", re.escape(template)))
    return sum(form.fullmatch(name) is not None for name in names)


def _read_image(report: VideoReport, file: Path, is_flow: bool) -> Optional[Image.Image]:
    """The image in RGB; None, and a finding, if it cannot be read."""
    try:
        with open_image(file) as image:
            mode, converted = image.mode, image.convert("RGB")
    except IMAGE_ERRORS as error:
        if isinstance(error, FileNotFoundError):
            report.add_finding("missing", f"{file.name} is a broken link")
        elif not file.stat().st_size:
            report.add_finding("empty", f"{file.name} has no bytes")
        else:
            report.add_finding("truncated" if _is_truncation(str(error)) else "unreadable", f"{file.name}: {error}")
        return None
    if mode != "RGB" and not is_flow:
        report.add_finding("color", f"{file.name} is {_MODES.get(mode, mode)}")
    return converted


def _is_truncation(reason: str) -> bool:
    return any(word in reason.lower() for word in ("truncated", "broken data stream", "unexpected end"))


# ---- video files --------------------------------------------------------------------------------------------

def _inspect_file(report: VideoReport, file: Path, full: bool) -> None:
    try:
        report.count = frame_index(file).count
        if full:
            count, scaler = 0, VideoReformatter()
            for count, frame in enumerate(decoded_frames(file), 1):
                _add_video_frame(report, frame, number=count, scaler=scaler)
            report.count = count
        else:
            for number, frame in sorted(read_frames(file, _frames_to_decode(report.count, full)).items()):
                _add_video_frame(report, frame, number=number, scaler=VideoReformatter())
    except FileNotFoundError:
        report.add_finding("missing", f"no file {file}")
    except (BrokenVideo, av.FFmpegError, OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        kind = "empty" if "is empty" in reason else "truncated" if _is_truncation(reason) else "unreadable"
        report.add_finding(kind, reason)


def _add_video_frame(report: VideoReport, frame: av.VideoFrame, *, number: int, scaler: VideoReformatter) -> None:
    image = frame_image(frame, upright_size(frame, 0), scaler)
    report.add_frame(image, number=number)
    if frame.format.name.startswith(("gray", "mono", "ya8", "ya16")):
        report.add_finding("color", f"its frames are {frame.format.name}")
