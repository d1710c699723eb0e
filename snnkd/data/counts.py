"""Event frames as numbers: bytes that count events, and the scale that networks see them at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from snnkd.data.imageset import Split

BLOCK = 64
"""Samples looked at together, which bounds the memory."""


def frame_statistics(split: Split) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each polarity over all frames of `split`, 255 events being 1; the mean is given as 0.

    Subtracted, it would put a current into every pixel where nothing happened. A polarity without any event has the
    deviation of one event.
    """
    polarities = split.images.shape[2]
    histogram = torch.zeros(polarities, 256, dtype=torch.float64)
    for start in range(0, len(split), BLOCK):
        block = split.take(slice(start, start + BLOCK))
        for polarity in range(polarities):
            histogram[polarity] += torch.bincount(
                block[:, :, polarity].flatten().int(), minlength=256
            ).double()
    share, levels = histogram / histogram.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = (share * levels).sum(1, keepdim=True)
    std = (share * (levels - mean) ** 2).sum(1).sqrt()
    return [0.0] * polarities, [float(s) or 1 / 255 for s in std]
