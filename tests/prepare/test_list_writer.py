"""Writing list files: the frames that are counted for them, and lists that appear together."""
import pytest

from ops.common.errors import UserError
from ops.data.list_files import count_frames
from ops.prepare.annotations import Annotation, Annotations, Split
from ops.prepare.list_writer import write_lists
from tests.helpers.disks import small_disk
from tests.helpers.label_files import add_frames


def test_counting_frames(tmp_path):
    add_frames(tmp_path, "img_{:05d}.jpg", {"whole": 12, "gap": 12, "zero": 3, "wide": 2})
    (tmp_path / "gap" / "img_00012.jpg").rename(tmp_path / "gap" / "img_00013.jpg")
    (tmp_path / "zero" / "img_00000.jpg").touch()
    for name in ("flow_x_00001.jpg", "img_00001.png", "xximg_00013.jpg", "img_0013.jpg.tmp", "notes"):
        (tmp_path / "whole" / name).touch()
    (tmp_path / "wide" / "img_3.jpg").touch()
    assert count_frames(tmp_path / "whole", "img_{:05d}.jpg") == 12
    with pytest.raises(UserError, match="img_00012.jpg is missing, the directory has 12 frames$"):
        count_frames(tmp_path / "gap", "img_{:05d}.jpg")
    with pytest.raises(UserError, match="must start at 1, not at 0"):
        count_frames(tmp_path / "zero", "img_{:05d}.jpg")
    with pytest.raises(UserError, match="img_00003.jpg is missing"):
        count_frames(tmp_path / "wide", "img_{:05d}.jpg")
    with pytest.raises(UserError, match="no frame like 00001.jpg"):
        count_frames(tmp_path / "whole", "{:05d}.jpg")


def test_a_full_disk_leaves_no_half_data_set(tmp_path):
    add_frames(tmp_path / "frames", "{:06d}.jpg", {"v": 2})
    videos = [Annotation(("v",), 0)] + [Annotation((f"{number:0100d}",), 0) for number in range(2000)]
    splits = [Split("train.txt", "missing_train.txt", videos[:1]), Split("val.txt", "missing_val.txt", videos)]
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        with pytest.raises(UserError, match="cannot write the lists to .*: No space left on device"):
            write_lists(Annotations(splits, ["a class"]), tmp_path / "frames", disk, template="{:06d}.jpg")
        assert not list(disk.iterdir())
