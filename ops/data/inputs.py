"""What the videos of lists are read from, so that no program writes over it (`ops.common.files.check_not_an_input`)."""
import os
from pathlib import Path
from typing import Iterable, Iterator

from ops.data.list_files import parse_line, read_lines
from ops.video.discovery import VIDEO_SUFFIXES, is_video_name, numbered_directory, video_number
from ops.video.shards import shard_files


def listed_inputs(lists: Iterable[Path], root: Path) -> Iterator[Path]:
    """The lists, and every file and directory below `root` that their videos may be read from, in any data format.

    Some of the paths do not exist. Malformed lines are skipped; UserError for a list that cannot be read. Nothing is read
    before the first path is asked for.
    """
    yield from shard_files(root)
    for file in lists:
        yield file
        for _, text in read_lines(file):
            if line := parse_line(text):
                yield from _places(root, line.path)


def _places(root: Path, video: str) -> Iterator[Path]:
    """A directory of frames or a video file, also one that the list names without its extension."""
    path = root / video
    yield path
    if not is_video_name(video) and not os.path.exists(path):
        yield from (path.with_name(path.name + suffix) for suffix in VIDEO_SUFFIXES)
    number = video_number(video)
    if number is not None:  # published behaviour: one layout of flow names its directories so, whatever the list has
        yield root / numbered_directory(number)
