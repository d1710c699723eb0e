"""Quality of predictions from logits: accuracy, negative log-likelihood, calibration."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

ECE_BINS = 15
"""As in Guo et al. 2017."""


class Quality(TypedDict):
    """Quality of the predictions on a split."""

    top1: float
    """In percent."""
    top5: float | None
    """In percent; None for 5 classes or fewer."""
    nll: float
    """Negative log-likelihood in nats."""
    ece: float
    """Expected calibration error, 0..1."""


def quality(logits: Tensor, labels: Tensor) -> Quality:
    """Measure `logits` `[N, C]` against `labels` `[N]`."""
    top1 = (logits.argmax(-1) == labels).double().mean().item()
    top5 = None
    if logits.shape[1] > 5:
        top5 = 100 * (logits.topk(5, -1).indices == labels[:, None]).any(-1).double().mean().item()
    return {
        "top1": 100 * top1,
        "top5": top5,
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": calibration_error(logits, labels),
    }


def accuracy_per_class(logits: Tensor, labels: Tensor) -> list[float | None]:
    """Top-1 in percent of each class, from logits `[N, C]` and labels `[N]`; None for one without images."""
    classes = logits.shape[1]
    images = torch.bincount(labels, minlength=classes)
    correct = torch.bincount(labels[logits.argmax(-1) == labels], minlength=classes)
    return [
        100 * hits / count if count else None
        for hits, count in zip(correct.tolist(), images.tolist(), strict=True)
    ]


def confusion_counts(logits: Tensor, labels: Tensor) -> list[dict[str, int]]:
    """Images of each class by predicted class number, from logits `[N, C]` and labels `[N]`; no zeros."""
    classes = logits.shape[1]
    pairs, counts = (labels * classes + logits.argmax(-1)).unique(return_counts=True)
    confusion: list[dict[str, int]] = [{} for _ in range(classes)]
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        confusion[pair // classes][str(pair % classes)] = count
    return confusion


def balanced_accuracy(per_class: Sequence[float | None]) -> float:
    """The mean of `accuracy_per_class` over the classes that have images, in percent."""
    return statistics.fmean(top1 for top1 in per_class if top1 is not None)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = ECE_BINS) -> float:
    """Expected calibration error: |accuracy - confidence| of equal-width confidence bins, weighted by count.

    Guo, Pleiss, Sun, Weinberger 2017 (arXiv 1706.04599), eq. 3.
    """
    confidence, predicted = logits.double().softmax(-1).max(-1)
    correct = (predicted == labels).double()
    # bin i is (i/bins, (i+1)/bins]
    index = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add(
        0, index, correct - confidence
    )
    return float(gap.abs().sum() / len(labels))
