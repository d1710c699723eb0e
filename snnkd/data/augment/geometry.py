"""Shear, translation and rotation of uint8 images by nearest pixel: from where in the old image each new pixel comes.

The convention is torchvision's for tensors (`torchvision.transforms.v2.functional.affine` and `rotate`): coordinates are
those of pixel centres around the image's centre, the matrix maps new to old, and what comes from outside is 0 (black).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd.data.augment.rng import to_device

Matrix = tuple[float, float, float, float, float, float]
"""Row by row, the old x and y from the new x, y and 1."""


def _shear_x(magnitude: float, height: int, width: int) -> Matrix:
    # the point that stays is the upper left corner, as in the published policies, not the centre
    slope = math.tan(math.radians(math.degrees(math.atan(magnitude))))
    return (1.0, slope, slope * height * 0.5, 0.0, 1.0, 0.0)


def _shear_y(magnitude: float, height: int, width: int) -> Matrix:
    slope = math.tan(math.radians(math.degrees(math.atan(magnitude))))
    return (1.0, 0.0, 0.0, slope, 1.0, slope * width * 0.5)


def _translate_x(magnitude: float, height: int, width: int) -> Matrix:
    return (1.0, 0.0, -float(int(magnitude)), 0.0, 1.0, 0.0)


def _translate_y(magnitude: float, height: int, width: int) -> Matrix:
    return (1.0, 0.0, 0.0, 0.0, 1.0, -float(int(magnitude)))


def _rotate(magnitude: float, height: int, width: int) -> Matrix:
    turn = math.radians(-(magnitude % 360))
    cos, sin = math.cos(turn), math.sin(turn)
    return (cos, sin, 0.0, -sin, cos, 0.0)


MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}


def move(images: Tensor, name: str, magnitudes: Sequence[float]) -> Tensor:
    """`images` uint8 `[B, C, H, W]`, each sheared (slope), translated (whole pixels) or rotated (degrees) by its magnitude."""
    count, channels, height, width = images.shape
    matrix = MATRICES[name]
    places = torch.stack([_sources(matrix(m, height, width), height, width) for m in magnitudes])
    sources = to_device(places, images.device)[:, None].expand(-1, channels, -1)
    outside = images.new_zeros(count, channels, 1)
    return torch.cat((outside, images.flatten(2)), 2).gather(2, sources).view(images.shape)


# the settings of a policy are few and come again: 310 at most (TrivialAugment)
@lru_cache(maxsize=512)
def _sources(matrix: Matrix, height: int, width: int) -> Tensor:
    """For each new pixel the number of the old one, counted from 1; 0 where it lies outside. `[H * W]`, on the CPU.

    Found by letting torch sample an image of numbers, as torchvision samples the image itself, so that pixels that lie
    half way fall to the same side; on the CPU, so that they do on every device.
    """
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(
        1, 1, height, width
    )  # exact up to 4096x4096
    return (
        F.grid_sample(numbers, _grid(matrix, height, width), "nearest", "zeros", align_corners=False)
        .long()
        .flatten()
    )


def _grid(matrix: Matrix, height: int, width: int) -> Tensor:
    """Where each new pixel is looked for, in float32 as torchvision computes it; `[1, H, W, 2]` in units of half the image."""
    x = torch.linspace((1.0 - width) * 0.5, (width - 1.0) * 0.5, width)
    y = torch.linspace((1.0 - height) * 0.5, (height - 1.0) * 0.5, height)
    here = torch.stack(
        (x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)), -1
    )
    theta = torch.tensor(matrix).view(1, 2, 3).transpose(1, 2) / torch.tensor([0.5 * width, 0.5 * height])
    return here.view(1, -1, 3).bmm(theta).view(1, height, width, 2)
