"""Lists whose videos have any number of labels, and the clips made of them."""
import pytest
import torch

from ops.common.errors import UserError
from ops.data.augment import make_mix
from ops.data.batch_pictures import BatchPictures
from ops.data.list_files import ListLine, format_line, parse_line, read_list
from ops.data.loader import make_loader
from ops.data.tsn_dataset import TSNDataSet
from tests.helpers.datasets import TEMPLATE, dataset, refused, write_video


@pytest.mark.parametrize("line, parsed", [
    ("a b 12 3,17,42", ListLine("a b", 12, (3, 17, 42))), ("a 12 17,3,17", ListLine("a", 12, (17, 3, 17))),
    ("a 12 -", ListLine("a", 12, ())), ("a.mp4 3,4", ListLine("a.mp4", None, (3, 4))),
    ("a.mp4 -", ListLine("a.mp4", None, ())),
    ("a 12 3", ListLine("a", 12, 3)), ("a 12 3,", None), ("a 12 ,3", None), ("a 12 3;4", None), ("a 12 3, 4", None),
    ("- 12 -", ListLine("-", 12, ()))])
def test_labels_are_numbers_between_commas_or_a_dash(line, parsed):
    assert parse_line(line) == parsed
    if parsed and parsed.num_frames:
        assert parse_line(format_line(*parsed)).path == parsed.path


def test_a_multi_label_list_is_read(tmp_path):
    (tmp_path / "list.txt").write_text("a 9 2,0\nb 5 -\nc 4 1\n")
    assert [record.labels for record in read_list(tmp_path / "list.txt", 3, multi_label=True)] == [(0, 2), (), (1,)]


@pytest.mark.parametrize("line, words", [("a 9 0,2", "2 labels (0,2)"), ("a 9 -", "no labels (-)")])
def test_a_list_of_single_labels_has_one_in_each_line(tmp_path, line, words):
    (tmp_path / "list.txt").write_text(f"c 4 1\n{line}\n")
    with refused("list.txt:2", words, "multi_label: true"):
        read_list(tmp_path / "list.txt", 3)
    assert len(read_list(tmp_path / "list.txt", multi_label=None)) == 2, "programs that need only the videos read it"


@pytest.mark.parametrize("line, words", [("a 9 0,3", "label 3 is outside the classes 0 to 2"), ("a 9 1,-1", "label -1"),
                                         ("a 9 2,1,2", "label 2 twice")])
def test_wrong_classes_are_refused_with_their_line(tmp_path, line, words):
    (tmp_path / "list.txt").write_text(f"c 4 1\n{line}\n")
    with refused("list.txt:2", words):
        read_list(tmp_path / "list.txt", 3, multi_label=True)


@pytest.fixture
def videos(tmp_path):
    for i, name in enumerate("abcd"):
        write_video(tmp_path / name, 4, 20 * i)
    (tmp_path / "list.txt").write_text("a 4 0,2\nb 4 -\nc 4 1\nd 4 0,1,2\n")
    return dataset(tmp_path, num_class=3, multi_label=True, transform=lambda clip: torch.zeros(9, 4, 4, dtype=torch.uint8))


def test_a_batch_has_multi_hot_labels(videos):
    batch, = make_loader(videos, 4, workers=0, train=False)
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]


def test_a_mirrored_clip_swaps_its_classes(videos):
    videos.mirror_labels = [1, 0, 2]
    seen = {tuple(videos[epoch, 0][1].tolist()) for epoch in range(20)}
    assert seen == {(1, 0, 1), (0, 1, 1)}, "left and right swap, the third class stays"
    assert {tuple(videos[epoch, 3][1].tolist()) for epoch in range(20)} == {(1, 1, 1)}


def test_multi_hot_labels_need_the_number_of_classes(videos):
    with pytest.raises(UserError, match="num_class"):
        TSNDataSet(videos.root_path, videos.list_file, image_tmpl=TEMPLATE, multi_label=True)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_clips_have_mixed_labels(videos, kind):
    torch.manual_seed(0)
    labels = torch.stack([videos[i][1] for i in range(4)])
    clips = torch.arange(4.0)[:, None, None, None].expand(4, 3, 8, 8).clone()
    mixed, shares = make_mix(3, **{kind: 1.0})(clips, labels)
    own = float((shares[0] - labels[3])[1] / (labels[0] - labels[3])[1])  # the share of clip 0 in itself
    assert 0 < own < 1
    assert torch.allclose(shares, own * labels + (1 - own) * labels.roll(1, 0))
    assert float(mixed[1].mean()) == pytest.approx(own * 1 + (1 - own) * 0, abs=1e-5), "the pixels have the same shares"


def test_pictures_name_all_classes():
    pictures = BatchPictures(None, 1, class_names=["left", "right", "disc"])
    assert pictures.text(torch.tensor([1.0, 0, 1])) == "left, disc"
    assert pictures.text(torch.zeros(3)) == "no class"
    assert pictures.text(torch.tensor([0.25, 1.0, 0])) == "1.00 right + 0.25 left"
