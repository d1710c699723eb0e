"""Random augmentation as batched tensor operations on uint8 images `[B, C, H, W]`, independent for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd.data.draws import Draws


def crop(images: Tensor, draws: Draws) -> Tensor:
    """Zero-pad each side by an eighth of the size (4 at 32x32) and cut out a window of the old size, anywhere."""
    count, _, height, width = images.shape
    pad_y, pad_x = max(1, height // 8), max(1, width // 8)
    top, left = draws.integers(2 * pad_y + 1, 1, 1), draws.integers(2 * pad_x + 1, 1, 1)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y)).movedim(1, -1)
    rows = top + torch.arange(height, device=images.device).view(1, -1, 1)
    columns = left + torch.arange(width, device=images.device).view(1, 1, -1)
    which = torch.arange(count, device=images.device).view(-1, 1, 1)
    return padded[which, rows, columns].movedim(-1, 1)


def flip(images: Tensor, draws: Draws) -> Tensor:
    """Mirror each image left to right with probability one half."""
    return torch.where(draws.integers(2, 1, 1, 1).bool(), images.flip(-1), images)


OPERATIONS: dict[str, Callable[[Tensor, Draws], Tensor]] = {"crop": crop, "flip": flip}


def augment(images: Tensor, names: Sequence[str], draws: Draws) -> Tensor:
    for name in names:
        images = OPERATIONS[name](images, draws)
    return images
