"""Accuracy, likelihood and calibration against plain loops."""

import math

import numpy as np
import pytest
import torch

from snnkd.measure.quality import (
    ECE_BINS,
    accuracy_per_class,
    balanced_accuracy,
    calibration_error,
    confusion_counts,
    quality,
)


def random_logits(count=200, classes=12, scale=3.0, seed=0):
    generator = np.random.default_rng(seed)
    return scale * generator.standard_normal((count, classes)), generator.integers(classes, size=count)


def probabilities(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def sure(confidence):
    """Logits of two classes whose first has this probability."""
    return [math.log(confidence / (1 - confidence)), 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_against_numpy(seed):
    logits, labels = random_logits(seed=seed)
    found = quality(torch.tensor(logits), torch.tensor(labels))
    ranked = np.argsort(-logits, axis=1)
    assert found["top1"] == pytest.approx(100 * np.mean(ranked[:, 0] == labels))
    assert found["top5"] == pytest.approx(
        100 * np.mean([label in row[:5] for row, label in zip(ranked, labels, strict=True)])
    )
    nll = [-math.log(probabilities(row)[label]) for row, label in zip(logits, labels, strict=True)]
    assert found["nll"] == pytest.approx(np.mean(nll))
    assert found.keys() == {"top1", "top5", "nll", "ece"}


@pytest.mark.parametrize(("classes", "known"), [(2, False), (5, False), (6, True)])
def test_top5_needs_more_than_five_classes(classes, known):
    logits, labels = random_logits(classes=classes)
    assert (quality(torch.tensor(logits), torch.tensor(labels))["top5"] is not None) == known


def test_values_are_plain_numbers():
    logits, labels = random_logits()
    assert all(
        type(value) is float for value in quality(torch.tensor(logits).float(), torch.tensor(labels)).values()
    )


def plain_ece(logits, labels):
    rows = [probabilities(row) for row in logits]
    error = 0.0
    for i in range(15):
        inside = [
            (r, label) for r, label in zip(rows, labels, strict=True) if i / 15 < r.max() <= (i + 1) / 15
        ]
        if inside:
            accuracy = np.mean([r.argmax() == label for r, label in inside])
            error += len(inside) / len(rows) * abs(accuracy - np.mean([r.max() for r, _ in inside]))
    return error


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("classes", [2, 12])
def test_ece_against_a_plain_loop(scale, classes):
    logits, labels = random_logits(500, classes, scale)
    assert calibration_error(torch.tensor(logits), torch.tensor(labels)) == pytest.approx(
        plain_ece(logits, labels), abs=1e-12
    )


def test_ece_by_hand():
    """Two answers at 0.8 with one right, two at 0.6 both right: (2 |.5 - .8| + 2 |1 - .6|) / 4."""
    logits = torch.tensor([sure(0.8), sure(0.8), sure(0.6), sure(0.6)], dtype=torch.float64)
    assert calibration_error(logits, torch.tensor([0, 1, 0, 0])) == pytest.approx(0.35)


def test_ece_of_sure_answers():
    """Confidence 1 belongs to the last bin: no error when right, 1 when wrong."""
    logits = torch.tensor([[1e4, 0.0, 0.0]])
    assert calibration_error(logits, torch.tensor([0])) == 0
    assert calibration_error(logits, torch.tensor([1])) == 1


def test_errors_of_one_bin_cancel():
    """0.7 and 0.72 share a bin, whose accuracy 0.5 is compared with its mean confidence."""
    logits = torch.tensor([sure(0.7), sure(0.72)], dtype=torch.float64)
    assert calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(0.71 - 0.5)


def test_a_bound_belongs_to_the_bin_below():
    """15 equal logits have confidence 1/15, the end of the first bin; a little more lies in the second:
    errors do not cancel."""
    assert ECE_BINS == 15
    logits = torch.zeros(2, 15, dtype=torch.float64)
    logits[1, 3] = 1e-6
    right, wrong = logits[0].softmax(-1).max(-1).indices.item(), 4
    assert calibration_error(logits, torch.tensor([right, wrong])) == pytest.approx(
        (14 / 15 + 1 / 15) / 2, abs=1e-6
    )


def test_accuracy_of_each_class_and_their_mean():
    """Three images of class 0, two right; one of class 1, wrong; none of class 2."""
    answers, labels = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 0, 1])
    per_class = accuracy_per_class(torch.nn.functional.one_hot(answers, 3).float(), labels)
    assert per_class == [pytest.approx(200 / 3), 0, None]
    assert balanced_accuracy(per_class) == pytest.approx(100 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_equal_classes_have_the_balanced_accuracy_of_all(seed):
    logits, _ = random_logits(seed=seed)
    labels = torch.arange(len(logits)) % 4
    per_class = accuracy_per_class(torch.tensor(logits), labels)
    assert per_class[4:] == [None] * 8
    assert balanced_accuracy(per_class) == pytest.approx(quality(torch.tensor(logits), labels)["top1"])


def test_confusion_by_hand_and_by_its_sums():
    """Two images of class 0 taken for 0, one for 2; one of class 1 for 2; no image of class 2."""
    answers, labels = torch.tensor([0, 2, 0, 2]), torch.tensor([0, 0, 0, 1])
    logits = torch.nn.functional.one_hot(answers, 3).float()
    assert confusion_counts(logits, labels) == [{"0": 2, "2": 1}, {"2": 1}, {}]
    logits, labels = map(torch.tensor, random_logits())
    confusion = confusion_counts(logits, labels)
    for number, (row, top1) in enumerate(zip(confusion, accuracy_per_class(logits, labels), strict=True)):
        assert sum(row.values()) == (labels == number).sum()
        assert 100 * row.get(str(number), 0) / sum(row.values()) == pytest.approx(top1)
        assert sum(column.get(str(number), 0) for column in confusion) == (logits.argmax(-1) == number).sum()
