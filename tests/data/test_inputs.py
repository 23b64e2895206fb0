"""What lists are read from, in every data format."""
import pytest

from ops.common.errors import UserError
from ops.data.inputs import listed_inputs
from ops.video.shards import pack
from tests.helpers.clips import clip
from tests.helpers.programs import make_frames, write_list


def existing(lists, root):
    return {path.relative_to(root).as_posix() for path in listed_inputs(lists, root) if path.exists()}


def test_frames_videos_and_numbered_flow_are_found(tmp_path):
    make_frames(tmp_path, {"frames.mp4": (2, 0), "000042": (2, 0)})
    for name in ("a/named.mp4", "a/short.webm", "a/other.mp4"):
        (tmp_path / "a").mkdir(exist_ok=True)
        clip(tmp_path / name, 2)
    train = write_list(tmp_path / "train.txt", {"frames.mp4": (2, 0), "a/named.mp4": (2, 0), "a/short": (2, 0)})
    val = write_list(tmp_path / "val.txt", {"42": (2, 0), "gone": (2, 0), "null \0": (2, 0)})
    val.write_text(val.read_text() + "no line\n")
    assert existing([train, val], tmp_path) == {
        "train.txt", "val.txt", "frames.mp4", "a/named.mp4", "a/short.webm", "000042"}


def test_shards_are_inputs(tmp_path):
    make_frames(tmp_path / "frames", {f"v{i}": (2, 0) for i in range(3)})
    pack(tmp_path / "frames", tmp_path / "shards", per_shard=2, workers=1)
    assert existing([], tmp_path / "shards") == {"index.sqlite", "shard-000000.tar", "shard-000001.tar"}


def test_a_list_that_cannot_be_read_is_an_error_when_it_is_asked_for(tmp_path):
    paths = listed_inputs([tmp_path / "gone.txt"], tmp_path)
    with pytest.raises(UserError, match="cannot read the video list .*gone.txt"):
        list(paths)
