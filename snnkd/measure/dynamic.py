"""Dynamic inference: an image stops at the first timestep whose answer is confident enough.

Confidence is the largest softmax probability of the mean logits until then (Li, Jones, Furber 2023, arXiv 2304.10230; Li et
al. 2023, SEENN, arXiv 2304.01230). The thresholds are a fixed range, none of them chosen on the images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd.measure.curve import means_to_now

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def dynamic_inference(
    logits: Tensor, labels: Tensor, thresholds: tuple[float, ...] = THRESHOLDS
) -> list[dict[str, float]]:
    """For each threshold the mean timesteps used and top-1 in percent; `logits` of each timestep `[T, N, C]`, `labels` `[N]`.

    An image that never becomes confident takes all T timesteps.
    """
    confidence, answer = means_to_now(logits).softmax(-1).max(-1)  # [T, N]
    last = torch.full((logits.shape[1],), len(logits) - 1)
    rows = []
    for threshold in thresholds:
        sure = confidence >= threshold
        stop = torch.where(sure.any(0), sure.int().argmax(0), last)
        right = answer.gather(0, stop[None])[0] == labels
        rows.append(
            {
                "threshold": threshold,
                "timesteps": float((stop + 1).double().mean()),
                "top1": 100 * float(right.double().mean()),
            }
        )
    return rows
