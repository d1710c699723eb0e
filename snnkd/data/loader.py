"""Batches from uint8 images on the device, or from a memory-mapped file on a CPU.

A training batch is a function of (seed, epoch, step): resuming in the middle of an epoch needs no stored
state. The order and the augmentation have separate random streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from snnkd import distributed
from snnkd.data.augment.mixing import mix, mixing_of, with_partner
from snnkd.data.augment.pipeline import augment, fill_colour
from snnkd.data.augment.rng import BatchRng, to_device
from snnkd.data.split import Split
from snnkd.schema.augment import Operation
from snnkd.seeds import derive


class TrainBatches:
    """Shuffled, augmented batches of `split`.

    `batch(epoch, step)` gives images float32 in 0..1 `[B, C, H, W]` (event frames `[T, B, C, H, W]`) and
    labels int64 `[B]`, or soft labels `[B, classes]` with operations that mix images. With several processes
    each gets its slice of the batch; concatenated they are the batch of one process.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        operations: Sequence[Operation],
        seed: int,
        device: torch.device,
        classes: int = 0,
    ) -> None:
        self._split = split.to(device)
        self._batch_size, self._operations, self._seed = batch_size, tuple(operations), seed
        self._mixing, self._classes = mixing_of(operations), classes
        self._colour = fill_colour(operations, self._split)
        self.steps = len(split) // batch_size
        """Steps of an epoch; the incomplete last batch is dropped."""
        self._order: tuple[int, Tensor] | None = None

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        own = distributed.rank_slice(self._batch_size)
        part = with_partner(self._batch_size, own) if self._mixing else own
        order = self.order(epoch)[step * self._batch_size : (step + 1) * self._batch_size]
        rows = order[part if isinstance(part, slice) else to_device(part, order.device)]
        images, labels = self._split.take(rows), self._split.labels[rows]
        generator = torch.Generator().manual_seed(derive(self._seed, "augmentation", epoch, step))
        rng = BatchRng(generator, self._batch_size, part, images.device, rows, epoch)
        images = augment(images, self._operations, rng, self._colour)
        if not self._mixing:
            return to_batch(images), labels
        mixed, soft_labels = mix(to_float(images), labels, self._mixing, self._classes, rng)
        return time_first(mixed), soft_labels

    def order(self, epoch: int) -> Tensor:
        """The image indices of an epoch in shuffled order, `[N]`."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
            order = torch.randperm(len(self._split), generator=generator)
            self._order = epoch, order.to(self._split.labels.device)
        return self._order[1]


def measure_batches(split: Split, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Unaugmented images of `split` in order, and their labels; each of R processes gets every R-th batch."""
    for start in _starts(split, batch_size):
        part = slice(start, start + batch_size)
        yield to_batch(split.take(part).to(device)), split.labels[part].to(device)


def count_batches(split: Split, batch_size: int) -> int:
    """Number of `measure_batches` of this process."""
    return len(_starts(split, batch_size))


def _starts(split: Split, batch_size: int) -> range:
    """Index of the first image of each batch of this process."""
    return range(batch_size * distributed.rank(), len(split), batch_size * distributed.world_size())


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1."""
    return images.float().div_(255)


def to_batch(images: Tensor) -> Tensor:
    """Network input, float32 in 0..1: images `[B, C, H, W]`, event frames time first, `[T, B, C, H, W]`."""
    return to_float(time_first(images))


def time_first(images: Tensor) -> Tensor:
    """Event frames `[B, T, C, H, W]` as `[T, B, C, H, W]`; images unchanged."""
    return images if images.ndim == 4 else images.movedim(1, 0)
