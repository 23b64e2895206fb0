"""What is in a directory: video files and directories of frames, and how the frames are named."""
import os
import re
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

from ops.common.errors import UserError
from ops.common.files import AnyPath
from ops.common.words import counted

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Of the published data sets; what the extraction commands look for unless they are given other extensions.
DATASET_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi")
VIDEO_SUFFIXES = (*DATASET_SUFFIXES, ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
TEMPLATE = "{:06d}.jpg"


class FrameNames(NamedTuple):
    """The names of a directory's frames. template: contains {:06d} or the like. first: number of the first frame."""
    template: str
    first: int
    num_frames: int


def is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def is_video_name(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def without_extension(path: str) -> str:
    """The path of a video file without its extension; any other path unchanged."""
    return path.rsplit(".", 1)[0] if is_video_name(path) else path


def video_number(video: str) -> Optional[int]:
    """The number that a list names a video by, whatever its leading zeros; None if its name is not a number."""
    return int(video) if video.isascii() and video.isdecimal() and len(video) < 20 else None


def numbered_directory(number: int) -> str:
    """The flow directory of a video with this number, in the published layout whose files are named by it, too."""
    return f"{number:06d}"


def holds_frames(directory: AnyPath) -> bool:
    """Whether a directory contains one video's frames: images, and no video files."""
    names = _names(directory)
    return any(map(is_image_name, names)) and not any(map(is_video_name, names))


def _names(directory: AnyPath) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from None


def find_videos(directory: AnyPath) -> Iterator[str]:
    """The video files and frame directories in `directory`, at any depth, as relative paths, without hidden ones.

    UserError for a directory that cannot be read.
    """
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read the directory {error.filename}: {error.strerror}") from None

    seen = {os.path.realpath(directory)}  # a link may lead back to a directory above it
    for here, directories, files in os.walk(directory, onerror=refuse, followlinks=True):
        real = {name: os.path.realpath(os.path.join(here, name)) for name in directories}
        directories[:] = sorted(name for name in directories if not name.startswith(".") and real[name] not in seen)
        seen.update(real.values())
        videos = sorted(name for name in files if is_video_name(name) and not name.startswith("."))
        parent = Path(here).relative_to(directory)
        if not videos and any(map(is_image_name, files)):
            directories.clear()
            yield parent.as_posix()
        yield from ((parent / name).as_posix() for name in videos)


def frame_names(directory: AnyPath) -> FrameNames:
    """How the images of a frame directory are named. UserError: no images, names of several forms, or a gap."""
    names = list(filter(is_image_name, _names(directory)))
    if not names:
        raise UserError("the directory holds no images")
    parts = [re.fullmatch(r"(.*?)(\d{1,9})(\.\w+)", name, re.DOTALL | re.ASCII) for name in names]
    for name, part in zip(names, parts):
        if part is None or part.groups()[::2] != parts[0].groups()[::2]:  # type: ignore[union-attr]
            raise UserError(f"images are named in several ways: {names[0]} and {name}" if part is not None
                            else f"the image {name} has no number")
    width = min(len(part[2]) for part in parts if part)
    template = f"{parts[0][1]}{{:0{width}d}}{parts[0][3]}"  # type: ignore[index]
    if not is_template(template) or any(template.format(int(part[2])) != part[0] for part in parts if part):
        raise UserError(f"images are named in several ways: {names[0]} and {names[-1]}")
    numbers = sorted(int(part[2]) for part in parts if part)
    for expected, number in enumerate(numbers, numbers[0]):
        if number != expected:
            raise UserError(f"{template.format(expected)} is missing, the directory has {counted(len(numbers), 'image')}")
    return FrameNames(template, numbers[0], len(numbers))


def is_template(text: str) -> bool:
    """Whether `text` can name a frame: a file name with one number, as {:05d} or the like."""
    return re.fullmatch(r"[^{}/\0]*\{:0[1-9]d\}[^{}/\0]*", text) is not None
