"""Average precision and the other measures of videos with several classes, and their report."""
import csv
import json

import numpy as np
import pytest
import torch

from ops.common.meters import accuracy
from ops.data.list_files import VideoRecord
from ops.data.preprocessing import Preprocessing
from ops.data.tsn_dataset import Batch
from ops.evaluation.ensemble import ScoredList, check_same_videos, combine
from ops.evaluation.evaluate import evaluate
from ops.evaluation.metrics import Predictions, write_report
from ops.evaluation.multi_label import MultiLabelPredictions, average_precision
from ops.evaluation.predict import rank_classes
from ops.evaluation.timeline import presences
from ops.spec import ModelSpec
from tests.helpers.datasets import refused

LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
LOGITS = torch.tensor([[2.0, -1, 0], [1, 3, 0], [0, 2, 0], [-1, 4, 0]])


def test_average_precision_by_hand():
    """Best first: positive, negative, positive, negative, positive. Precision at the positives: 1/1, 2/3, 3/5."""
    scores, positive = np.array([5.0, 4, 3, 2, 1]), np.array([1, 0, 1, 0, 1], bool)
    assert average_precision(scores, positive) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert average_precision(-scores, positive) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert average_precision(scores, positive[[1, 0, 2, 3, 4]]) == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)


def test_equal_scores_share_a_threshold():
    """Of [3, 2, 2, 1]: recall 1/2 with precision 1, then both of the twos together: recall 1 with precision 2/3."""
    for positive in ([1, 1, 0, 0], [1, 0, 1, 0]):
        assert average_precision(np.array([3.0, 2, 2, 1]), np.array(positive, bool)) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert average_precision(np.zeros(8), np.arange(8) < 2) == pytest.approx(2 / 8), "chance: the share of positives"
    assert np.isnan(average_precision(np.zeros(8), np.zeros(8, bool)))


def by_definition(scores, positive):
    """Recall and precision at every threshold, counted anew."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        recall, precision = positive[chosen].sum() / positive.sum(), positive[chosen].mean()
        area, before = area + (recall - before) * precision, recall
    return area


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 12, 60).astype(float), rng.random(60) < 0.3
    assert average_precision(scores, positive) == pytest.approx(by_definition(scores, positive), abs=1e-12)


@pytest.mark.parametrize("scores, positive, expected", [
    ([9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1], [0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1], 0.5909090909090909),
    ([0, 2, 2, 2, 1, 2, 3, 1, 1, 3, 3, 3, 1, 2], [0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0], 0.4547008547008547),
    ([15, 10, 22, 11, 9, 26], [0, 0, 0, 0, 0, 1], 1.0),
    ([2, 2, 7, 7, 0, 0], [1, 1, 1, 1, 1, 1], 1.0),
    ([3, 3, 3, 3, 3], [0, 1, 0, 0, 1], 0.4),
    ([2, -3, 1, -6, 5, -1, 6, 4, 3, -5, 4, -8, 1, -2, 7, -5, 7, -7, 1, 1],
     [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0.11858974358974358)])
def test_average_precision_is_that_of_scikit_learn(scores, positive, expected):
    """The expected values were computed by `average_precision_score` of scikit-learn 1.9.1."""
    assert average_precision(np.array(scores, float), np.array(positive, bool)) == pytest.approx(expected, abs=1e-12)


def test_the_measures_of_a_list():
    scores = MultiLabelPredictions(LOGITS, LABELS)
    first, second, third = scores.average_precisions()
    assert (first, second) == pytest.approx((100 * (1 + 2 / 3) / 2, 100 * (1 / 2 + 2 / 3) / 2)) and np.isnan(third)
    assert scores.mean_ap == pytest.approx((first + second) / 2), "a class without videos does not count"
    assert scores.top1 == pytest.approx(75), "the best class of three videos is one of theirs; the fourth has none"
    assert scores.loss == pytest.approx(float(torch.nn.BCEWithLogitsLoss()(LOGITS, LABELS)))
    assert scores.present() == [[0, 2], [1, 0, 2], [1, 0, 2], [1, 2]]
    probabilities = MultiLabelPredictions(LOGITS.sigmoid(), LABELS, probabilities=True)
    assert probabilities.loss == pytest.approx(scores.loss, rel=1e-5) and probabilities.present() == scores.present()


def test_top_k_counts_any_of_the_labels():
    assert [float(value) for value in accuracy(LOGITS, LABELS, topk=(1, 2))] == [75.0, 75.0]
    assert float(accuracy(LOGITS, LABELS[:, [1, 0, 2]])[0]) == 25.0


def test_a_report_has_average_precisions_and_no_confusion(tmp_path):
    """Nor that of an earlier report in the same directory."""
    write_report(Predictions(LOGITS, torch.tensor([0, 1, 1, 2])), tmp_path, names=None, extra={})
    assert (tmp_path / "confusion.png").exists()
    written = write_report(MultiLabelPredictions(LOGITS, LABELS), tmp_path, names=["left", "right", "none"],
                           extra={"views": 1})
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "per_class.csv", "scores.npy"}
    assert set(written) == set(tmp_path.iterdir())
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["videos"] == 4 and results["map"] == pytest.approx(70.8333, abs=1e-3) and results["views"] == 1
    rows = list(csv.DictReader((tmp_path / "per_class.csv").open()))
    assert [(row["name"], row["videos"], row["average_precision"]) for row in rows] == [
        ("left", "2", "83.33"), ("right", "2", "58.33"), ("none", "0", "")]
    no_positives = MultiLabelPredictions(LOGITS, torch.zeros_like(LABELS))
    assert no_positives.summary()["map"] is None


class Echo:
    """A network whose logits are a clip's first three values."""
    class_names = None
    preprocessing = Preprocessing((0.0,), (1.0,))

    def __init__(self, multi_label=True):
        self.spec = ModelSpec(3, 1, multi_label=multi_label)

    def __call__(self, clips):
        return clips.flatten(1)[:, :3].float()


def batches():
    return [Batch(LOGITS[rows].repeat(1, 2)[:, :, None, None], LABELS[rows], []) for rows in (slice(3), slice(3, 4))]


def test_evaluation_keeps_the_labels_of_each_video():
    scores = evaluate(Echo(), batches(), mirrored=(False, True), mirror_labels=[1, 0, 2])
    assert isinstance(scores, MultiLabelPredictions) and torch.equal(scores.labels, LABELS)
    assert torch.allclose(scores.logits, (LOGITS + LOGITS[:, [1, 0, 2]]) / 2), "a mirror image's left is a right"
    as_probabilities = evaluate(Echo(), batches(), mirrored=(False, False), softmax=True)
    assert torch.allclose(as_probabilities.logits, LOGITS.sigmoid())


def test_an_ensemble_of_probabilities_stays_one_of_probabilities():
    parts = [MultiLabelPredictions(logits.sigmoid(), LABELS, probabilities=True) for logits in (LOGITS, -LOGITS)]
    both = combine(parts, [3.0, 1.0])
    assert isinstance(both, MultiLabelPredictions)
    assert torch.allclose(both.logits, (3 * LOGITS.sigmoid() + (-LOGITS).sigmoid()) / 4)


def test_a_member_that_counts_against_the_others_does_not_turn_the_ranking_around():
    parts = [MultiLabelPredictions(scores, LABELS, probabilities=True) for scores in (LABELS, 0.5 * torch.ones_like(LABELS))]
    against = combine(parts, [1.0, -2.0])
    assert torch.allclose(against.logits, (LABELS - 1) / 3)
    assert against.mean_ap == 100


def test_members_with_other_labels_are_refused():
    lists = [ScoredList(name, [VideoRecord(("v", 4, labels))])
             for name, labels in (("a", (0, 1)), ("b", (1,)), ("c", (1, 0)))]
    check_same_videos([lists[0], lists[2]])
    with refused("has label 0,1 in a, but 1 in b"):
        check_same_videos(lists)


def test_the_probabilities_of_several_classes_do_not_exclude_each_other():
    rows = rank_classes(torch.tensor([0.0, 4.0, 4.0]), ["a", "b", "c"], 3, multi_label=True)
    assert [row["class"] for row in rows] == ["b", "c", "a"]
    assert [row["probability"] for row in rows] == pytest.approx([0.982, 0.982, 0.5], abs=1e-3)


def test_a_timeline_shows_when_each_class_is_present():
    windows = [(0.9, 0.1), (0.8, 0.7), (0.2, 0.9), (0.6, 0.4)]
    timeline = [{"start": float(i), "end": i + 1.0, "predictions": [
        {"class": name, "probability": value} for name, value in zip("ab", values)]} for i, values in enumerate(windows)]
    assert presences(timeline) == [(0.0, 2.0, "a", pytest.approx(0.85)), (1.0, 3.0, "b", pytest.approx(0.8)),
                                   (3.0, 4.0, "a", 0.6)]
