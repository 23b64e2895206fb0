"""What a directory contains: video files, frame directories, and the names of frames."""
import pytest

from ops.common.errors import UserError
from ops.video.discovery import FrameNames, find_videos, frame_names


def test_videos_and_frame_directories_are_found_at_any_depth(tmp_path):
    for name in ("a.mp4", "deep/er/b.MOV", "deep/notes.txt", ".hidden/c.mp4", "deep/.d.mp4", "f/1.jpg", "mixed/e.avi",
                 "mixed/cover.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(find_videos(tmp_path)) == ["a.mp4", "deep/er/b.MOV", "f", "mixed/e.avi"]


@pytest.mark.parametrize("names, wanted", [
    (["000001.jpg", "000002.jpg", "notes.txt"], FrameNames("{:06d}.jpg", 1, 2)),
    ([f"{i}.png" for i in range(8, 12)], FrameNames("{:01d}.png", 8, 4)),
    (["frame-00.JPEG", "frame-01.JPEG"], FrameNames("frame-{:02d}.JPEG", 0, 2)),
    (["v2_f001.jpg"], FrameNames("v2_f{:03d}.jpg", 1, 1)),
    (["img_1.jpg", "img_3.jpg"], "img_2.jpg is missing"), (["img_1.jpg", "flow_1.jpg"], "several ways"),
    (["1.jpg", "02.jpg"], "several ways"), (["cover.jpg"], "no number"), (["a.txt"], "no images"),
    (["{}1.jpg"], "several ways")])
def test_names_of_frames(tmp_path, names, wanted):
    for name in names:
        (tmp_path / name).touch()
    if isinstance(wanted, FrameNames):
        assert frame_names(tmp_path) == wanted
    else:
        with pytest.raises(UserError, match=wanted):
            frame_names(tmp_path)
