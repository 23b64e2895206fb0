"""A user's videos: the order of their classes, names that cannot be listed, and lists that appear together."""
import pytest

from ops.common.errors import UserError
from ops.common.files import CannotWrite
from ops.prepare import own_dataset
from ops.prepare.labeled_videos import LabeledVideo
from ops.prepare.own_dataset import UsableVideos, check_videos, class_order, extract_videos, write_dataset
from tests.helpers.clips import clip
from tests.helpers.disks import small_disk
from tests.helpers.files import tree


def test_classes_are_numbered_in_order():
    assert class_order(["b", "a", "B", "a"]) == ["B", "a", "b"]
    assert class_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert class_order(["10", "9", "x"]) == ["10", "9", "x"]


def make_videos(root, *names, label="x"):
    (root / label).mkdir(parents=True)
    for name in names:
        clip(root / label / name, 3)
    return [LabeledVideo(f"{label}/{name}", label.strip()) for name in names]


def test_videos_that_cannot_be_listed_are_not_opened(tmp_path, monkeypatch):
    videos = make_videos(tmp_path, "fine.mp4", "line\nbreak.mp4")
    opened, inspect = [], own_dataset.inspect_video
    monkeypatch.setattr(own_dataset, "inspect_video",
                        lambda root, path, template: opened.append(path) or inspect(root, path, template))
    usable = check_videos(tmp_path, videos, workers=1)
    assert list(usable.counts.values()) == [3] and opened == ["x/fine.mp4"]
    (path, reason), = usable.bad
    assert path == "x/line\\nbreak.mp4" and "cannot be written to a list: rename it" in reason


def test_extracted_directories_that_cannot_be_listed_are_named_before_the_work(tmp_path):
    """Without its extension the second name ends in a space."""
    videos = make_videos(tmp_path / "v", "fine.mp4", "space .mp4", "line\nbreak.mp4")
    usable = extract_videos(tmp_path / "v", videos, tmp_path / "frames", height=32, workers=1)
    assert {video.path: count for video, count in usable.counts.items()} == {"x/fine": 3}
    assert [path for path, _ in usable.bad] == ["x/space .mp4", "x/line\\nbreak.mp4"]
    assert all("cannot be written to a list: rename it" in reason for _, reason in usable.bad)
    assert [path.name for path in (tmp_path / "frames" / "x").iterdir()] == ["fine"]


def test_a_class_that_cannot_be_listed_is_refused_before_the_work(tmp_path):
    videos = [LabeledVideo(video.path, "a\nb") for video in make_videos(tmp_path / "v", "fine.mp4")]
    with pytest.raises(UserError, match=r"the class 'a\\nb' cannot be written to a list: rename it"):
        extract_videos(tmp_path / "v", videos, tmp_path / "frames", height=32, workers=1)
    assert not (tmp_path / "frames").exists()
    with pytest.raises(UserError, match=r"the class 'a\\nb' cannot be written to a list: rename it"):
        check_videos(tmp_path / "v", videos, workers=1)


def test_a_full_disk_leaves_the_older_lists(tmp_path):
    def write(count, out):
        videos = [LabeledVideo(f"{label}/{i:0100d}.mp4", label) for label in "ab" for i in range(count)]
        usable = UsableVideos(tmp_path, counts=dict.fromkeys(videos, 9), bad=[("a/bad.mp4", "it is empty")] * count)
        write_dataset("mine", usable, {"train": videos[::2], "val": videos[1::2], "test": []}, out=out)

    with small_disk(tmp_path / "disk", 128 << 10) as disk:
        with pytest.raises(CannotWrite, match="No space left on device"):
            write(2000, disk)
        assert not list(disk.iterdir())
        write(2, disk)
        older = tree(disk)
        with pytest.raises(CannotWrite, match="No space left on device"):
            write(2000, disk)
        assert tree(disk) == older and set(older) == {
            "category.txt", "unreadable.txt", "train_videofolder.txt", "val_videofolder.txt"}
