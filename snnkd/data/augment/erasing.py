"""Cutout and random erasing: one filled rectangle per image, any number of channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnkd.data.augment.rng import BatchRng, to_device

ATTEMPTS = 10
"""Rectangles that random erasing tries; if none fits into the image, it is unchanged."""


def cutout_boxes(rng: BatchRng, height: int, width: int, size: int) -> Tensor:
    """Squares of side `size` around a random pixel, clipped: top, left, bottom, right `[B, 4]` on the CPU.

    Cutout: DeVries and Taylor 2017 (arXiv 1708.04552).
    """
    top, left = rng.choices(height) - size // 2, rng.choices(width) - size // 2
    ends = torch.stack((top, left, top + size, left + size), 1)
    return ends.clamp_min(0).minimum(torch.tensor([height, width, height, width]))


def erasing_boxes(
    rng: BatchRng,
    height: int,
    width: int,
    *,
    p: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Rectangles of random area and aspect ratio with probability `p`, otherwise empty ones.

    `[B, 4]` as from `cutout_boxes`. The distribution is that of torchvision's `RandomErasing` (Zhong et al.
    2020, AAAI, arXiv 1708.04896): the fraction of the area uniform in `scale`, height over width log-uniform
    in `ratio`.
    """
    applied = rng.fractions() < p
    area = height * width * _between(rng.fractions(ATTEMPTS), scale)
    aspect = _between(rng.fractions(ATTEMPTS), (math.log(ratio[0]), math.log(ratio[1]))).exp()
    high, wide = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (high < height) & (wide < width)
    first = fits.long().argmax(1, keepdim=True)
    applied &= fits.any(1)
    high, wide = (side.gather(1, first).squeeze(1) * applied for side in (high, wide))
    top, left = (
        (rng.fractions() * (full - side + 1)).long() for full, side in ((height, high), (width, wide))
    )
    return torch.stack((top, left, top + high, left + wide), 1)


def _between(fractions: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * fractions


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Whether each pixel lies in the box of its image, bool `[B, 1, H, W]`."""
    top, left, bottom, right = boxes.T[:, :, None]
    y, x = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)
    return (rows[:, :, None] & columns[:, None])[:, None]


def paint(images: Tensor, boxes: Tensor, colour: Tensor) -> Tensor:
    """uint8 images `[B, C, H, W]` with the boxes `[B, 4]`, on the CPU, filled with `colour` `[C]`."""
    return torch.where(
        box_mask(to_device(boxes, images.device), *images.shape[2:]), colour.view(1, -1, 1, 1), images
    )
