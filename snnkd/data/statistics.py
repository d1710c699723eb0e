"""Mean and standard deviation of each channel, by which networks normalise their input."""

from __future__ import annotations

import torch

from snnkd.data.split import Split

SAMPLES = 64
"""Event samples read at a time, which bounds the memory."""


def image_statistics(split: Split) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (at least 1e-3) of each channel over all images, white being 1."""
    # histograms: exact, and without a float copy of the images
    counts = torch.zeros(split.images.shape[1], 256, dtype=torch.int64)
    for block in split.blocks():
        for channel, pixels in enumerate(block.unbind(1)):
            counts[channel] += torch.bincount(pixels.flatten().int(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for count in counts:
        share = count.double() / int(count.sum())
        average = (share * levels).sum()
        mean.append(float(average))
        std.append(max(float((share * (levels - average) ** 2).sum().sqrt()), 1e-3))
    return mean, std


def frame_statistics(split: Split) -> tuple[list[float], list[float]]:
    """Standard deviation of each polarity over all event frames, 255 events being 1; the mean is always 0.

    Subtracting a mean would inject current into every pixel without events. For a polarity without events the
    deviation is that of one event, 1/255.
    """
    polarities = split.images.shape[2]
    histogram = torch.zeros(polarities, 256, dtype=torch.float64)
    for block in split.blocks(SAMPLES):
        for polarity in range(polarities):
            counts = torch.bincount(block[:, :, polarity].flatten().int(), minlength=256)
            histogram[polarity] += counts.double()
    share, levels = histogram / histogram.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = (share * levels).sum(1, keepdim=True)
    std = (share * (levels - mean) ** 2).sum(1).sqrt()
    return [0.0] * polarities, [float(s) or 1 / 255 for s in std]
