"""Dynamic inference (early exit): inference ends at the first timestep with a confident prediction.

Confidence is the largest softmax probability of the mean logits up to t (Li, Jones, Furber 2023, arXiv
2304.10230; Li et al. 2023, SEENN, arXiv 2304.01230). All thresholds are reported; none is tuned on
test images.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from snnkd.measure.curve import running_means

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class DynamicEntry(TypedDict):
    """Result of early exit at one confidence threshold."""

    threshold: float
    timesteps: float
    """Mean over images."""
    top1: float
    """In percent."""


def first_confident(confidence: Tensor, threshold: float) -> Tensor:
    """The first timestep, from 1, at which `confidence` `[T, N]` reaches `threshold`, `[N]`; 0 for never."""
    confident = confidence >= threshold
    return torch.where(confident.any(0), confident.int().argmax(0) + 1, 0)


def dynamic_inference(
    logits: Tensor, labels: Tensor, thresholds: tuple[float, ...] = THRESHOLDS
) -> list[DynamicEntry]:
    """Measure each threshold; `logits` of each timestep `[T, N, C]`, `labels` `[N]`.

    An image that never becomes confident takes all T timesteps.
    """
    confidence, prediction = running_means(logits).softmax(-1).max(-1)  # [T, N]
    entries: list[DynamicEntry] = []
    for threshold in thresholds:
        first = first_confident(confidence, threshold)
        stop = torch.where(first > 0, first, len(logits))
        correct = prediction.gather(0, stop[None] - 1)[0] == labels
        entries.append(
            {
                "threshold": threshold,
                "timesteps": float(stop.double().mean()),
                "top1": 100 * float(correct.double().mean()),
            }
        )
    return entries
