"""Rectangles painted over, one for each image: Cutout and random erasing, for any number of channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnkd.data.augment.rng import BatchRng, to_device

ATTEMPTS = 10
"""Rectangles drawn for random erasing until one is smaller than the image; without one the image stays as it is."""


def cutout_boxes(draws: BatchRng, height: int, width: int, size: int) -> Tensor:
    """Squares of `size` pixels whose centre is any pixel, cut off at the border; top, left, bottom, right, `[B, 4]` on the CPU.

    DeVries and Taylor 2017 (arXiv 1708.04552).
    """
    top, left = draws.choices(height) - size // 2, draws.choices(width) - size // 2
    ends = torch.stack((top, left, top + size, left + size), 1)
    return ends.clamp_min(0).minimum(torch.tensor([height, width, height, width]))


def erasing_boxes(
    draws: BatchRng,
    height: int,
    width: int,
    *,
    p: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Rectangles of random share of the image and random ratio of height to width, inside the image, with probability `p`.

    `[B, 4]` as of `cutout_boxes`; an image that keeps all has an empty one. The rule is that of torchvision's
    `RandomErasing` (Zhong et al. 2020, AAAI, arXiv 1708.04896): share uniform, ratio log-uniform.
    """
    happens = draws.fractions() < p
    area = height * width * _between(draws.fractions(ATTEMPTS), scale)
    aspect = _between(draws.fractions(ATTEMPTS), (math.log(ratio[0]), math.log(ratio[1]))).exp()
    high, wide = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (high < height) & (wide < width)
    first = fits.long().argmax(1, keepdim=True)
    happens &= fits.any(1)
    high, wide = (side.gather(1, first).squeeze(1) * happens for side in (high, wide))
    top, left = (
        (draws.fractions() * (whole - side + 1)).long() for whole, side in ((height, high), (width, wide))
    )
    return torch.stack((top, left, top + high, left + wide), 1)


def _between(fractions: Tensor, ends: tuple[float, float]) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * fractions


def inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in their image's box, `[B, 1, H, W]`."""
    top, left, bottom, right = boxes.T[:, :, None]
    y, x = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)
    return (rows[:, :, None] & columns[:, None])[:, None]


def paint(images: Tensor, boxes: Tensor, colour: Tensor) -> Tensor:
    """uint8 `[B, C, H, W]` with each image's box (of the CPU) in `colour` `[C]`."""
    return torch.where(
        inside(to_device(boxes, images.device), *images.shape[2:]), colour.view(1, -1, 1, 1), images
    )
