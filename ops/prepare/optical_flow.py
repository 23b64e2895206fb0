"""Optical flow between neighbouring frames, as images: x and y displacements in pixels, scaled to 0-255.

n frames give n - 1 flow images (pairs), numbered from 1; image i is the motion from frame i to frame i + 1.
Layouts, the three that the published loader reads (each data set of the table has one of them):
  ucf           <video>/flow_x_00001.jpg and flow_y_00001.jpg, gray; the directory may contain the RGB frames too
  something_v1  <video, 6 digits>/<video, 6 digits>-x_00001.jpg and ...-y_00001.jpg, gray; its lists count both files
  rgb           <video>/000001.jpg, red: x, green: y, blue: 0
"""
import os
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from ops.common.errors import UserError
from ops.common.files import put_in_place, temporary_directory
from ops.common.pool import Stopped
from ops.data.list_files import count_frames
from ops.prepare.extraction import save_jpeg
from ops.prepare.flow_options import BOUND, HEIGHT, LAYOUTS, METHODS, QUALITY
from ops.video.container_ends import BrokenVideo
from ops.video.decode import decoded_frames, frame_image, upright_size
from ops.video.discovery import numbered_directory, video_number
from ops.video.frames import IMAGE_ERRORS, open_image

TEMPLATES = ("img_{:05d}.jpg", "{:06d}.jpg", "{:05d}.jpg", "image_{:05d}.jpg")  # usual file names of frames
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


# ---- methods and layouts ----------------------------------------------------------------------------------------------

def flow_function(method: str) -> FlowFunction:
    """Two gray uint8 images (H, W) -> the displacements between them, pixels, float32 (H, W, 2: x, y).

    "dis": DIS (arXiv:1603.03590), medium preset. "tvl1": TV-L1, the published method, from OpenCV's extra modules.
    UserError for any other method, and for tvl1 without these modules.
    """
    if method not in METHODS:
        raise UserError(f"method {method!r}: choose {' or '.join(METHODS)}", "method")
    if method == "dis":
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
        return lambda first, second: dis.calc(first, second, None)
    extra: Any = getattr(cv2, "optflow", None)
    create = getattr(extra, "DualTVL1OpticalFlow_create", None) or getattr(extra, "createOptFlow_DualTVL1", None)
    if create is None:
        raise UserError("method tvl1 needs OpenCV's extra modules: install opencv-contrib-python-headless instead of"
                        " opencv-python-headless, or choose method dis", "method")
    tvl1 = create()
    return lambda first, second: tvl1.calc(first, second, None)


def scale_flow(flow: np.ndarray, bound: float = BOUND) -> np.ndarray:
    """Displacements of [-bound, bound] pixels -> uint8 0 to 255, clipped beyond; no motion is 128."""
    return np.rint((np.clip(flow, -bound, bound) / bound + 1) * 127.5).astype(np.uint8)


def file_templates(layout: str, video: str) -> list[str]:
    """Templates of the file names of a video's flow, for numbers from 1: for x and y, or one for both."""
    if layout == "rgb":
        return ["{:06d}.jpg"]
    start = "flow_" if layout == "ucf" else f"{directory_name(layout, video)}-"
    return [f"{start}{axis}_{{:05d}}.jpg" for axis in "xy"]


def directory_name(layout: str, video: str) -> str:
    """The directory of a video's flow. UserError for an unknown layout, or something_v1 and a name that is not a number."""
    if layout not in LAYOUTS:
        raise UserError(f"layout {layout!r}: choose {', '.join(LAYOUTS)}", "layout")
    if layout != "something_v1":
        return video
    number = video_number(video)
    if number is None:
        raise UserError(f"layout something_v1 names its files by the video's number, but {video!r} is not a number: choose"
                        " ucf or rgb", "layout")
    return numbered_directory(number)


# ---- one video -----------------------------------------------------------------------------------------------

def gray_frames(source: Path, height: int = HEIGHT, template: str = "") -> Iterator[np.ndarray]:
    """The frames of a video file, or of a directory of frames, as gray uint8 (H, W), scaled to `height` (0: unscaled).

    template: file name of frame n in the directory; "": the first of TEMPLATES that fits.
    Raises BrokenVideo when a frame is missing, cannot be read, or has a different size than the first.
    """
    size: Optional[tuple[int, int]] = None
    for number, image in enumerate(_images(source, height, template), start=1):
        size = size or image.size
        if image.size != size:
            raise BrokenVideo(f"frame {number} has {'x'.join(map(str, image.size))} pixels, the first"
                              f" {'x'.join(map(str, size))}")
        yield np.asarray(image.convert("L"))


def _images(source: Path, height: int, template: str) -> Iterator[Image.Image]:
    if not os.path.isdir(source):
        scaler, size = VideoReformatter(), (0, 0)
        for frame in decoded_frames(source):
            size = size if any(size) else upright_size(frame, height)
            yield frame_image(frame, size, scaler)
        return
    try:
        template = _find_template(source, template)
        count = count_frames(source, template)
    except OSError as error:
        raise BrokenVideo(f"the directory cannot be read: {error.strerror or error}") from None
    for number in range(1, count + 1):
        image = _read_frame(source / template.format(number))
        width = round(image.width * height / image.height) or 1
        same = height in (0, image.height)
        yield image if same else image.resize((width, height), Image.Resampling.BILINEAR)


def _read_frame(frame: Path) -> Image.Image:
    try:
        with open_image(frame) as image:
            return image.convert("RGB")
    except IMAGE_ERRORS as error:
        raise BrokenVideo(f"unreadable frame {frame.name}: {error}") from None


def _find_template(directory: Path, template: str) -> str:
    for candidate in [template] if template else TEMPLATES:
        if (directory / candidate.format(1)).exists():
            return candidate
    names = template.format(1) if template else ", ".join(name.format(1) for name in TEMPLATES)
    raise BrokenVideo(f"the directory has no first frame ({names}): choose another template", "template")


def template_error(template: str) -> str:
    """Why `template` cannot be the file name of numbered frames; "" if it can, or is empty."""
    try:
        return "it has no number" if template and template.format(1) == template.format(2) else ""
    except (ValueError, IndexError, KeyError) as error:
        return str(error)


def extract_flow(source: Path, directory: Path, layout: str = "ucf", *, method: str = "dis", bound: float = BOUND,
                 height: int = HEIGHT, quality: int = QUALITY, template: str = "",
                 stopped: Callable[[], bool] = lambda: False) -> int:
    """Write the flow of a video file or frame directory into `directory`, all of it or nothing.

    method: as for `flow_function`. bound: pixels that become 0 and 255. height, template: as for `gray_frames`.
    quality: JPEG, 1-100. stopped: called for every frame; True gives up the video (Stopped).
    Returns the number of pairs. Raises BrokenVideo, UserError for an impossible option.
    """
    cv2.setNumThreads(1)  # callers run one process per core; the result does not depend on the number of threads
    with temporary_directory(directory) as temporary:
        count, flow, templates = 0, flow_function(method), file_templates(layout, directory.name)
        before: Optional[np.ndarray] = None
        for frame in gray_frames(source, height, template):
            if stopped():
                raise Stopped
            if before is not None:
                count += 1
                images = scale_flow(_flow_between(flow, before, frame, number=count), bound)
                _save_images(images, [temporary / name.format(count) for name in templates], quality)
            before = frame
        if not count:
            raise BrokenVideo("it has only one frame: flow needs two")
        _move_files(temporary, directory, templates[0].format(1))
    return count


def _flow_between(flow: FlowFunction, first: np.ndarray, second: np.ndarray, *, number: int) -> np.ndarray:
    try:
        return flow(first, second)
    except cv2.error as error:  # for example for frames of a few pixels
        reason = (getattr(error, "err", "") or str(error)).strip().splitlines()[0]
        raise BrokenVideo(f"no flow from frame {number} to the next: {reason}") from None


def _save_images(flow: np.ndarray, files: list[Path], quality: int) -> None:
    """flow: uint8 (H, W, 2: x, y). To two files: one each; to one file: as red and green."""
    if len(files) == 2:
        for axis, file in enumerate(files):
            save_jpeg(Image.fromarray(np.ascontiguousarray(flow[..., axis])), file, quality=quality)
        return
    image = Image.fromarray(np.dstack([flow, np.zeros_like(flow[..., :1])]))
    save_jpeg(image, files[0], quality=quality, subsampling="4:4:4")  # others would blur x and y


def _move_files(temporary: Path, directory: Path, first: str) -> None:
    """Move the flow to `directory`: as a whole, or, if it exists (with RGB frames), file by file and `first` last.

    So a directory with the file `first` is complete, even if the process is killed.
    """
    if not directory.exists():
        return put_in_place(temporary, directory)
    for file in sorted(temporary.iterdir(), key=lambda file: file.name == first):
        os.replace(file, directory / file.name)
