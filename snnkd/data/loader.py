"""Batches from images that lie on the device as uint8.

A training batch is a function of (seed, epoch, step): nothing has to be remembered to continue in the middle of an
epoch, and order and augmentation are separate random streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from snnkd import processes
from snnkd.data.augment import augment
from snnkd.data.draws import Draws
from snnkd.data.imageset import Split
from snnkd.seeds import derive


class TrainBatches:
    """Shuffled, augmented batches of `split`; `batch(epoch, step)` gives images float 0..1 `[B, C, H, W]` and labels.

    With several processes each gets its part of the batch: joined, they are what one process would get.
    """

    def __init__(self, split: Split, batch_size: int, operations: Sequence[str], seed: int, device: torch.device) -> None:
        self._images, self._labels = split.images.to(device), split.labels.to(device)
        self._batch_size, self._operations, self._seed = batch_size, tuple(operations), seed
        self.steps = len(split) // batch_size
        """Steps of an epoch; the incomplete last batch is left out."""
        self._order: tuple[int, Tensor] | None = None

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        part = processes.share(self._batch_size)
        chosen = self.order(epoch)[step * self._batch_size : (step + 1) * self._batch_size][part]
        images, labels = self._images[chosen], self._labels[chosen]
        generator = torch.Generator().manual_seed(derive(self._seed, "augmentation", epoch, step))
        draws = Draws(generator, self._batch_size, part, images.device)
        return to_float(augment(images, self._operations, draws)), labels

    def order(self, epoch: int) -> Tensor:
        """The images of an epoch in order, `[N]`."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
            self._order = epoch, torch.randperm(len(self._labels), generator=generator).to(self._labels.device)
        return self._order[1]


def measure_batches(split: Split, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of `split` in order, unaugmented, with their labels; with several processes every so-many-th batch."""
    for start in range(batch_size * processes.index(), len(split), batch_size * processes.count()):
        part = slice(start, start + batch_size)
        yield to_float(split.images[part].to(device)), split.labels[part].to(device)


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1."""
    return images.float().div_(255)
