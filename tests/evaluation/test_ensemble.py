"""Which lists name the same videos, and the mean of an ensemble."""
import pytest
import torch

from ops.common.errors import UserError
from ops.data.list_files import VideoRecord
from ops.evaluation.ensemble import ScoredList, check_same_videos, combine
from ops.evaluation.metrics import Predictions


def listed(name, *paths, labels=(0, 1)):
    return ScoredList(name, [VideoRecord((path, 5 + len(path), label)) for path, label in zip(paths, labels)])


@pytest.mark.parametrize("first, other", [
    (["a/1", "b/1"], ["a/1", "b/1"]),
    (["a/1", "b/1"], ["/flow/a/1", "/flow/b/1"]),
    (["rgb/a/1", "rgb/b/1"], ["flow/a/1", "flow/b/1"]),
    (["a/1", "b/1"], ["./a/1.webm", "b//1.webm"]),
    (["1", "2"], ["videos/1.MP4", "videos/2.MP4"]),
    (["v_a_g01.x264", "v_b_g01.x264"], ["v_a_g01.x264.avi", "v_b_g01.x264.avi"]),
])
def test_roots_and_extensions_do_not_matter(first, other):
    check_same_videos([listed("rgb.txt", *first), listed("flow.txt", *other), listed("again.txt", *first)])


@pytest.mark.parametrize("first, other, words", [
    (["a/1", "b/1"], ["a/1", "b/2"], "video 2 is 'b/1' in rgb.txt, but 'b/2' in flow.txt"),
    (["a/1", "b/1"], ["b/1", "a/1"], "video 1 is 'a/1' in rgb.txt, but 'b/1' in flow.txt"),
    (["a/1", "a/2"], ["a/1.5", "a/2"], "video 1 is 'a/1' in rgb.txt, but 'a/1.5' in flow.txt"),
    (["a/1", "b/1"], ["a/1"], "rgb.txt has 2 videos, and flow.txt has 1"),
])
def test_other_videos_are_refused(first, other, words):
    with pytest.raises(UserError) as error:
        check_same_videos([listed("rgb.txt", *first), listed("flow.txt", *other)])
    assert words in str(error.value) and "--test_list" in error.value.for_command_line()


def test_other_labels_are_refused():
    with pytest.raises(UserError, match="video 2, 'b', has label 1 in rgb.txt, but 0 in flow.txt"):
        check_same_videos([listed("rgb.txt", "a", "b"), listed("flow.txt", "a", "b", labels=(0, 0))])


def test_the_mean_is_weighted():
    labels = torch.tensor([0, 1])
    scored = [Predictions(torch.eye(2), labels), Predictions(torch.ones(2, 2), labels)]
    assert torch.equal(combine(scored, [1, 3]).logits, (torch.eye(2) + 3) / 2)
