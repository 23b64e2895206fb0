"""Traps of the published data loading, each with a test that bears its name."""
import pytest
import torch

from ops.common.errors import UserError
from ops.data.list_files import read_list
from ops.data.loader import make_loader
from ops.data.tsn_dataset import BadVideo, TSNDataSet, collate
from tests.helpers.programs import make_frames, write_list


def test_a_missing_video_is_not_replaced_by_another(tmp_path):
    make_frames(tmp_path, {"there": (4, 0)})
    write_list(tmp_path / "list.txt", {"gone": (4, 1), "there": (4, 0)})
    with pytest.raises(UserError, match="gone"):
        TSNDataSet(tmp_path, tmp_path / "list.txt", 2, image_tmpl="{:06d}.jpg")[0]
    item = TSNDataSet(tmp_path, tmp_path / "list.txt", 2, image_tmpl="{:06d}.jpg", skip_bad=True)[0]
    assert isinstance(item, BadVideo) and item.path == "gone"
    assert collate([item]).clips is None


def test_an_unreadable_frame_is_not_replaced_by_frame_1(tmp_path):
    make_frames(tmp_path, {"a": (4, 0)})
    write_list(tmp_path / "list.txt", {"a": (4, 0)})
    (tmp_path / "a" / "000003.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(UserError, match="000003.jpg"):
        TSNDataSet(tmp_path, tmp_path / "list.txt", 4, image_tmpl="{:06d}.jpg", random_shift=False)[0]


def test_paths_with_spaces_are_one_path(tmp_path):
    write_list(tmp_path / "list.txt", {"my clip 7": (12, 3)})
    record, = read_list(tmp_path / "list.txt")
    assert (record.path, record.num_frames, record.label) == ("my clip 7", 12, 3)


def test_workers_do_not_share_one_random_state(tmp_path):
    make_frames(tmp_path, {f"v{i}": (30, 0) for i in range(8)})
    write_list(tmp_path / "list.txt", {f"v{i}": (30, 0) for i in range(8)})

    class Indices(TSNDataSet):
        def __getitem__(self, key):
            self.transform = lambda frames: torch.tensor(self.drawn)
            return super().__getitem__(key)

        def segment_indices(self, num_frames):
            self.drawn = super().segment_indices(num_frames)
            return self.drawn
    data = Indices(tmp_path, tmp_path / "list.txt", 4, image_tmpl="{:06d}.jpg")
    rows = [tuple(row) for batch in make_loader(data, 1, workers=2, train=True) for row in batch.clips.tolist()]
    assert len(set(rows)) >= 7  # with one shared state, the two workers would draw equal rows
