"""Random augmentation as batched tensor operations on uint8 images `[B, C, H, W]`, independent for each image.

Random numbers are drawn on the CPU from the generator given, so that a batch is the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Zero-pad each side by an eighth of the size (4 at 32x32) and cut out a window of the old size, anywhere."""
    count, _, height, width = images.shape
    pad_y, pad_x = max(1, height // 8), max(1, width // 8)
    top = torch.randint(2 * pad_y + 1, (count, 1, 1), generator=generator).to(images.device)
    left = torch.randint(2 * pad_x + 1, (count, 1, 1), generator=generator).to(images.device)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y)).movedim(1, -1)
    rows = top + torch.arange(height, device=images.device).view(1, -1, 1)
    columns = left + torch.arange(width, device=images.device).view(1, 1, -1)
    which = torch.arange(count, device=images.device).view(-1, 1, 1)
    return padded[which, rows, columns].movedim(-1, 1)


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    chosen = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool().to(images.device)
    return torch.where(chosen, images.flip(-1), images)


OPERATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {"crop": crop, "flip": flip}


def augment(images: Tensor, names: Sequence[str], generator: Generator) -> Tensor:
    for name in names:
        images = OPERATIONS[name](images, generator)
    return images
