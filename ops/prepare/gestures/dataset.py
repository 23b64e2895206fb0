"""Prepare the gestures data set: videos, frames and lists, by the same steps as Something-Something-V2."""
import logging
from pathlib import Path

from ops.common.errors import UserError
from ops.prepare.annotations import parse_sthv2
from ops.prepare.extract import extract_directory
from ops.prepare.gestures.definition import VIDEOS
from ops.prepare.gestures.make import make_gestures
from ops.prepare.list_writer import write_lists
from ops.video.discovery import TEMPLATE

log = logging.getLogger(__name__)


def prepare_gestures(root: Path) -> None:
    """Make videos, frames and lists in root/gestures, unless they exist; resumes an interrupted run."""
    directory = root / "gestures"
    if all((directory / f"{split}_videofolder.txt").exists() for split in ("train", "val")):
        return
    log.info("the gestures data set is not in %s yet: making its %d videos", directory, VIDEOS)
    make_gestures(directory, VIDEOS)
    # The videos are small: extract them at their own height instead of scaling them up to 256 pixels.
    summary = extract_directory(directory / "videos", directory / "frames", TEMPLATE, height=0)
    if summary.failures:
        raise UserError(f"{len(summary.failures)} gesture videos could not be extracted, the first is"
                        f" {summary.failures[0]}: delete {directory} and start again")
    lists = write_lists(parse_sthv2(directory), directory / "frames", directory, template=TEMPLATE)
    if any(lists.missing.values()):
        raise UserError(f"gesture videos without frames: {lists.missing}: delete {directory} and start again")
