"""The smoothed and weighted cross-entropy, against the definition written out."""
import math

import pytest
import torch

from ops.common.errors import UserError
from ops.training.losses import balancing_weights, make_criterion, make_multi_label_criterion, positive_weights

OUTPUT = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


def by_hand(output, labels, s=0.0, weights=(1, 1, 1, 1)):
    """The mean over clips of -weight * sum of target * log probability."""
    losses = []
    for scores, label in zip(output, labels.tolist()):
        logs = scores - scores.exp().sum().log()
        targets = [1 - s if k == label else s / 3 for k in range(4)]
        losses.append(-weights[label] * sum(target * log for target, log in zip(targets, logs)))
    return float(sum(losses) / len(losses))


@pytest.mark.parametrize("s", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0.5, 2, 1, 0.7)])
def test_the_loss_is_the_definition(s, weights):
    criterion = make_criterion(4, "smooth", s, torch.tensor(weights))
    assert float(criterion(OUTPUT, LABELS)) == pytest.approx(by_hand(OUTPUT, LABELS, s, weights), rel=1e-5)


def test_a_mixed_clip_has_the_mixed_loss():
    """With probabilities, as mixup gives: 0.3 of one label's loss and 0.7 of another's."""
    criterion = make_criterion(4, "smooth", 0.1, torch.tensor([0.5, 2, 1, 0.7]))
    other = LABELS.roll(1)
    mixed = 0.3 * torch.eye(4)[LABELS] + 0.7 * torch.eye(4)[other]
    expected = 0.3 * criterion(OUTPUT, LABELS) + 0.7 * criterion(OUTPUT, other)
    assert torch.allclose(criterion(OUTPUT, mixed), expected)


@pytest.mark.parametrize("labels", [LABELS, torch.eye(4)[LABELS]])
def test_every_frame_of_a_clip_has_its_label(labels):
    """The identity consensus: (N, T, num_class)."""
    criterion = make_criterion(4, "smooth", 0.1)
    frames = torch.stack([OUTPUT, OUTPUT.flip(0)], dim=1)
    expected = (criterion(OUTPUT, LABELS) + criterion(OUTPUT.flip(0), LABELS)) / 2
    assert torch.allclose(criterion(frames, labels), expected)


def test_a_weighted_batch_can_be_divided():
    criterion = make_criterion(4, class_weights=balancing_weights(torch.bincount(LABELS)))
    halves = [criterion(OUTPUT[part], LABELS[part]) for part in (slice(3), slice(3, 6))]
    assert torch.allclose(sum(halves) / 2, criterion(OUTPUT, LABELS))


def test_weights_balance_the_classes():
    counts = torch.tensor([6.0, 2.0, 0.0, 1.0])
    weights = balancing_weights(counts)
    assert torch.allclose(weights * counts, torch.tensor([3.0, 3.0, 0.0, 3.0])), "each class counts as much as the others"


def test_plain_cross_entropy_ignores_the_smoothing():
    assert torch.equal(make_criterion(4, "nll", 0.3)(OUTPUT, LABELS), torch.nn.functional.cross_entropy(OUTPUT, LABELS))


@pytest.mark.parametrize("classes, most", [(2, "0.5"), (4, "0.75"), (1, "0")])
def test_a_smoothing_that_prefers_other_classes_is_refused(classes, most):
    with pytest.raises(UserError, match=f"label_smoothing 0.8 with {classes} classes: choose a number below {most}$"):
        make_criterion(classes, "smooth", 0.8)


# ---- multi-label ------------------------------------------------------------------------------------------------

SEVERAL = torch.tensor([[1., 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 0]])


def binary_by_hand(output, labels, s=0.0, weights=(1, 1, 1, 1)):
    """The mean over clips and classes of the two-way cross-entropy of each class."""
    losses = []
    for scores, row in zip(output.tolist(), labels.tolist()):
        for score, label, weight in zip(scores, row, weights):
            present, target = 1 / (1 + math.exp(-score)), label * (1 - s) + s / 2
            losses.append(-weight * target * math.log(present) - (1 - target) * math.log(1 - present))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("loss_type, s", [("nll", 0.0), ("smooth", 0.1)])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0.5, 2, 1, 7)])
def test_the_loss_of_several_labels_is_the_definition(loss_type, s, weights):
    criterion = make_multi_label_criterion(loss_type, 0.1, torch.tensor(weights))
    assert float(criterion(OUTPUT, SEVERAL)) == pytest.approx(binary_by_hand(OUTPUT, SEVERAL, s, weights), rel=1e-5)
    mixed = 0.3 * SEVERAL + 0.7 * SEVERAL.roll(1, 0)
    assert float(criterion(OUTPUT, mixed)) == pytest.approx(binary_by_hand(OUTPUT, mixed, s, weights), rel=1e-5)


def test_every_frame_of_a_clip_has_its_several_labels():
    criterion = make_multi_label_criterion()
    frames = torch.stack([OUTPUT, OUTPUT.flip(0)], dim=1)
    expected = (criterion(OUTPUT, SEVERAL) + criterion(OUTPUT.flip(0), SEVERAL)) / 2
    assert torch.allclose(criterion(frames, SEVERAL), expected)


def test_positive_weights_balance_both_sides_of_each_class():
    weights = positive_weights(torch.tensor([2.0, 8.0, 0.0, 10.0]), clips=10)
    assert weights.tolist() == [4.0, 0.25, 1.0, 1.0], "2 with and 8 without: each of the 2 counts four times"
