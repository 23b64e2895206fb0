"""Accuracies, the confusion matrix and the report files, against counting by hand."""
import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ops.common.errors import UserError
from ops.common.meters import accuracy
from ops.evaluation.metrics import Predictions, names_or_numbers, write_report

# Six videos, four classes; class 2 has no video. Predictions: 0, 0, 1, 3, 3, 0.
LOGITS = torch.tensor([[9., 1, 2, 0], [5, 4, 3, 2], [1, 8, 7, 0], [0, 1, 2, 3], [2, 1, 0, 7], [4, 3, 2, 1]])
LABELS = torch.tensor([0, 1, 1, 3, 0, 3])
CONFUSION = [[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]


@pytest.fixture
def scores():
    return Predictions(LOGITS, LABELS)


@pytest.mark.filterwarnings("error")
def test_scores_by_hand(scores):
    assert scores.predictions.tolist() == [0, 0, 1, 3, 3, 0]
    assert scores.confusion().tolist() == CONFUSION
    assert scores.class_accuracies() == pytest.approx([50, 50, math.nan, 50], nan_ok=True)
    assert scores.class_accuracy == pytest.approx(50)
    assert scores.top1 == pytest.approx(50)
    assert scores.top5 == 100
    exponents = LOGITS.double().exp()
    by_hand = [-math.log(exponents[i, label] / exponents[i].sum()) for i, label in enumerate(LABELS)]
    assert scores.loss == pytest.approx(sum(by_hand) / 6, rel=1e-5)


def test_class_accuracy_weighs_classes_and_not_videos():
    logits = torch.eye(3)[[0, 0, 0, 0, 1]]
    scores = Predictions(logits, torch.tensor([0, 0, 0, 1, 1]))
    assert scores.class_accuracies() == pytest.approx([100, 50, math.nan], nan_ok=True)
    assert scores.class_accuracy == pytest.approx(75) and scores.top1 == pytest.approx(80)


def test_summary_is_plain_numbers(scores):
    summary = json.loads(json.dumps(scores.summary()))
    assert summary == {"videos": 6, "top1": 50.0, "top5": 100.0, "class_accuracy": 50.0,
                       "loss": pytest.approx(scores.loss)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 10 ** 6))
def test_accuracy_and_confusion_equal_counting(classes, videos, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.permuted(np.tile(np.arange(classes), (videos, 1)), axis=1), rng.integers(0, classes, videos)
    scores = Predictions(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels))
    ranks = [int((row > row[label]).sum()) for row, label in zip(logits, labels)]
    for k in (1, 2, 5):
        wanted = 100 * sum(rank < k for rank in ranks) / videos
        assert float(accuracy(scores.logits, scores.labels, topk=(k,))[0]) == pytest.approx(wanted)
    assert scores.top5 == pytest.approx(100 * sum(rank < 5 for rank in ranks) / videos)
    confusion = np.zeros((classes, classes), int)
    for row, label in zip(logits, labels):
        confusion[label, row.argmax()] += 1
    assert np.array_equal(scores.confusion(), confusion)


def test_top_k_beyond_the_classes():
    logits, labels = torch.tensor([[3., 2, 1], [1, 2, 3], [2, 3, 1]]), torch.tensor([0, 0, 0])
    top1, top2, top5 = (float(value) for value in accuracy(logits, labels, topk=(1, 2, 5)))
    assert (top1, top2, top5) == (pytest.approx(100 / 3), pytest.approx(200 / 3), 100)


def test_top_k_in_any_order():
    top5, top1 = accuracy(LOGITS, LABELS, topk=(5, 1))
    assert (float(top5), float(top1)) == (100, 50)


# ---- reports --------------------------------------------------------------------------------------------------

NAMES = ["Swiping Left", "Swiping, Right", "Größer", "\"Quoted\""]


def test_report_files(scores, tmp_path):
    directory = tmp_path / "runs" / "one"
    write_report(scores, directory, names=NAMES, extra={"checkpoint": "a.pth", "seconds": 1.5})
    assert sorted(path.name for path in directory.iterdir()) == [
        "confusion.npy", "confusion.png", "per_class.csv", "results.json", "scores.npy"]
    results = json.loads((directory / "results.json").read_text())
    assert results == {**scores.summary(), "checkpoint": "a.pth", "seconds": 1.5}
    assert np.load(directory / "confusion.npy").tolist() == CONFUSION
    assert np.array_equal(np.load(directory / "scores.npy"), LOGITS.numpy())
    with open(directory / "per_class.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))
    assert rows == [["class", "name", "videos", "correct", "accuracy"],
                    ["0", "Swiping Left", "2", "1", "50.00"], ["1", "Swiping, Right", "2", "1", "50.00"],
                    ["2", "Größer", "0", "0", ""], ["3", "\"Quoted\"", "2", "1", "50.00"]]
    with Image.open(directory / "confusion.png") as image:
        assert image.format == "PNG" and min(image.size) > 4 * 68


def test_report_replaces_an_older_one(scores, tmp_path):
    for extra in ({"run": 1}, {"run": 2}):
        write_report(scores, tmp_path, names=None, extra=extra)
    assert json.loads((tmp_path / "results.json").read_text())["run"] == 2
    with open(tmp_path / "per_class.csv", newline="") as f:
        assert [row["name"] for row in csv.DictReader(f)] == ["0", "1", "2", "3"]


def test_a_report_that_cannot_be_written_is_one_line(scores, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*/file/results.json: "):
        write_report(scores, tmp_path / "file", names=None, extra={})


def test_names_or_numbers():
    assert names_or_numbers(["a", "b"], 2) == ["a", "b"]
    assert names_or_numbers(None, 3) == ["0", "1", "2"] == names_or_numbers([], 3)


def test_results_are_valid_json_where_a_number_is_not_finite(tmp_path):
    scores = Predictions(torch.tensor([[3e38, -3e38], [0, 1]]), torch.tensor([1, 1]))
    assert scores.loss == math.inf
    write_report(scores, tmp_path, names=None, extra={})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert (found["loss"], found["top1"]) == (None, 50)
