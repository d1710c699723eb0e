"""One split of a data set: images and labels, in memory or in a memory-mapped file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from snnkd.seeds import derive

BLOCK = 2048
"""Images read at a time when all are read: 24 MiB at 64x64 RGB."""


def permutation(count: int, seed: int, *names: str | int) -> Tensor:
    """A random order int64 `[count]` of the stream `names` under `seed`, the same on every machine."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed, *names)))


@dataclass(frozen=True)
class Split:
    """Images uint8 `[N, C, H, W]`, or event frames `[N, T, C, H, W]`, and labels int64 `[N]`."""

    images: Tensor
    labels: Tensor
    rows: Tensor | None = None
    """Indices into `images`, int64 `[N]`, of a subset that is not copied; None for all images."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor | slice) -> Tensor:
        """The images at these indices of the split; no other image is read."""
        return self.images[indices] if self.rows is None else self.images[self.rows[indices]]

    def blocks(self, size: int = BLOCK) -> Iterator[Tensor]:
        """All images in order, `size` at a time, which bounds the memory for memory-mapped images."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def to(self, device: torch.device) -> Split:
        """The split with its images on `device`; for the CPU the split itself, in memory or memory-mapped."""
        if device.type == "cpu":
            return self
        if self.rows is None:
            return Split(self.images.to(device), self.labels.to(device))
        images = torch.empty((len(self), *self.images.shape[1:]), dtype=torch.uint8, device=device)
        for start, block in zip(range(0, len(self), BLOCK), self.blocks(), strict=True):
            images[start : start + BLOCK] = block.to(device)
        return Split(images, self.labels.to(device))

    def select(self, rows: Tensor, mapped: bool) -> Split:
        """The split of these rows, int64 `[n]`: a copy, or a view when the images are memory-mapped."""
        if not mapped:
            return Split(self.images[rows], self.labels[rows])
        return Split(self.images, self.labels[rows], rows if self.rows is None else self.rows[rows])
