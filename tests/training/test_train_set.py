"""The clips of a run: mirrored flow and its labels, which the published code got wrong."""
from types import SimpleNamespace

import torch
from PIL import Image

from ops.data.list_files import VideoRecord
from ops.dataset_config import resolve_dataset
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.train_set import balanced_draws, class_counts, training_set
from tests.helpers.programs import write_list


def test_flow_is_not_flipped_where_flips_are_forbidden(tmp_path):
    """The published code mirrored flow in every data set. Here, motion to the right has the value 200, mirrored 55."""
    for name in ("a", "b"):
        (tmp_path / "flow" / name).mkdir(parents=True)
        for i in range(1, 7):
            Image.merge("RGB", [Image.new("L", (40, 36), value) for value in (200, 100, 0)]).save(
                tmp_path / "flow" / name / f"{i:06d}.jpg", quality=100, subsampling=0)
    write_list(tmp_path / "list.txt", {"a": (6, 86), "b": (6, 87)})
    data = resolve_dataset("somethingv2", "Flow", str(tmp_path), train_list=str(tmp_path / "list.txt"),
                           root_path=str(tmp_path / "flow"))
    settings = ModelSpec(174, 1, "Flow", arch="resnet18", input_size=32)
    model = TSN.from_spec(settings)

    def motions(flip):
        videos = training_set(model, data, flip=flip)
        items = [videos[epoch, index] for epoch in range(10) for index in range(2)]
        assert all(abs(float(clip[1::2].float().mean()) - 100) < 3 for clip, _ in items)
        return {(round(float(clip[::2].float().mean()), -1), label) for clip, label in items}
    assert motions("none") == {(200, 86), (200, 87)}
    assert motions("auto") == motions("labels") == {(200, 86), (200, 87), (60, 86), (60, 87)}


def labelled(*labels, mirror=None):
    return SimpleNamespace(video_list=[VideoRecord(("video", 1, label)) for label in labels], mirror_labels=mirror)


def test_clips_per_class_count_mirrored_ones_for_their_own_class():
    assert class_counts(labelled(0, 0, 0, 2), 4).tolist() == [3, 0, 1, 0]
    assert class_counts(labelled(0, 0, 0, 2, mirror=[1, 0, 2, 3]), 4).tolist() == [1.5, 1.5, 1, 0]
    several = labelled((0, 2), (), (2,), (1, 2), mirror=[1, 0, 2, 3])
    assert class_counts(several, 4).tolist() == [1, 1, 3, 0], "a clip counts for each of its classes"


def test_balanced_draws_give_each_class_of_the_list_the_same_share():
    draws = balanced_draws(labelled(0, 0, 3, 0, 2))
    assert torch.allclose(draws, torch.tensor([1, 1, 3, 1, 3], dtype=torch.float64) / 9)
