"""Dynamic inference, or early exit: an image stops at the first timestep whose prediction is confident
enough.

Confidence is the largest softmax probability of the mean logits so far (Li, Jones, Furber 2023, arXiv
2304.10230; Li et
al. 2023, SEENN, arXiv 2304.01230). The thresholds are fixed; none is tuned on the images.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from snnkd.measure.curve import running_means

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class DynamicEntry(TypedDict):
    """Dynamic inference with one confidence threshold."""

    threshold: float
    timesteps: float
    """Mean over images."""
    top1: float
    """In percent."""


def dynamic_inference(
    logits: Tensor, labels: Tensor, thresholds: tuple[float, ...] = THRESHOLDS
) -> list[DynamicEntry]:
    """Measure each threshold; `logits` of each timestep `[T, N, C]`, `labels` `[N]`.

    An image that never becomes confident takes all T timesteps.
    """
    confidence, prediction = running_means(logits).softmax(-1).max(-1)  # [T, N]
    last = torch.full((logits.shape[1],), len(logits) - 1)
    entries: list[DynamicEntry] = []
    for threshold in thresholds:
        confident = confidence >= threshold
        stop = torch.where(confident.any(0), confident.int().argmax(0), last)
        correct = prediction.gather(0, stop[None])[0] == labels
        entries.append(
            {
                "threshold": threshold,
                "timesteps": float((stop + 1).double().mean()),
                "top1": 100 * float(correct.double().mean()),
            }
        )
    return entries
