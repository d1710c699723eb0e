"""Shear, translation and rotation of uint8 images with nearest-neighbour interpolation.

The convention is torchvision's for tensors (`torchvision.transforms.v2.functional.affine` and `rotate`):
coordinates are those of pixel centres relative to the image's centre, the matrix maps output to input, and
pixels from outside are 0.
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
"""2 x 3, row by row: input x and y from output x, y and 1."""


def _shear_x(magnitude: float, height: int, width: int) -> Matrix:
    # the fixed point is the top left corner, as in the published policies, not the centre
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
    angle = math.radians(-(magnitude % 360))
    cos, sin = math.cos(angle), math.sin(angle)
    return (cos, sin, 0.0, -sin, cos, 0.0)


MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}


def transform(images: Tensor, name: str, magnitudes: Sequence[float]) -> Tensor:
    """Shear (slope), translate (pixels) or rotate (degrees) each image of a batch uint8 `[B, C, H, W]`."""
    count, channels, height, width = images.shape
    matrix = MATRICES[name]
    indices = torch.stack([_source_indices(matrix(m, height, width), height, width) for m in magnitudes])
    sources = to_device(indices, images.device)[:, None].expand(-1, channels, -1)
    outside = images.new_zeros(count, channels, 1)
    return torch.cat((outside, images.flatten(2)), 2).gather(2, sources).view(images.shape)


# a policy has few distinct transforms: at most 310 (TrivialAugment)
@lru_cache(maxsize=512)
def _source_indices(matrix: Matrix, height: int, width: int) -> Tensor:
    """Index of the input pixel of each output pixel, from 1, or 0 if outside; `[H * W]` on the CPU.

    An image of indices is sampled as torchvision samples the image itself, so that ties between two pixels
    are broken in the same way; on the CPU, so that this holds for every device.
    """
    # float32 counts exactly up to 4096x4096 pixels
    indices = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    grid = _grid(matrix, height, width)
    return F.grid_sample(indices, grid, "nearest", "zeros", align_corners=False).long().flatten()


def _grid(matrix: Matrix, height: int, width: int) -> Tensor:
    """Sampling positions `[1, H, W, 2]` in units of half the image, computed in float32 as in torchvision."""
    x = torch.linspace((1.0 - width) * 0.5, (width - 1.0) * 0.5, width)
    y = torch.linspace((1.0 - height) * 0.5, (height - 1.0) * 0.5, height)
    centres = torch.stack(
        (x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)), -1
    )
    theta = torch.tensor(matrix).view(1, 2, 3).transpose(1, 2) / torch.tensor([0.5 * width, 0.5 * height])
    return centres.view(1, -1, 3).bmm(theta).view(1, height, width, 2)
