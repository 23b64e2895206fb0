"""Traps of the published accuracies, each with a test that bears its name."""
import json

import numpy as np
import torch

from ops.common.meters import accuracy
from ops.evaluation.metrics import Predictions, write_report


def test_top5_with_fewer_than_five_classes():
    top1, top5 = accuracy(torch.eye(3), torch.tensor([0, 1, 0]), topk=(1, 5))
    assert (round(float(top1), 3), float(top5)) == (66.667, 100.0)


def test_last_classes_absent_from_the_list_do_not_spoil_the_mean(tmp_path):
    """The published confusion matrix divided by zero for a class without videos."""
    scores = Predictions(torch.eye(3)[[0, 1]], torch.tensor([0, 1]))
    write_report(scores, tmp_path, names=None, extra={})
    assert json.loads((tmp_path / "results.json").read_text())["class_accuracy"] == 100
    assert np.isnan(scores.class_accuracies()[2])
