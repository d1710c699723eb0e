"""Batches from images that lie on the device as uint8, or in a file from which a CPU reads them.

A training batch is a function of (seed, epoch, step): nothing has to be remembered to continue in the middle of an
epoch, and order and augmentation are separate random streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from snnkd import distributed
from snnkd.data.augment.mixing import mix, mixing_of, with_partner
from snnkd.data.augment.pipeline import augment, colour_for
from snnkd.data.augment.rng import BatchRng, to_device
from snnkd.data.imageset import Split
from snnkd.schema.augment import Operation
from snnkd.seeds import derive


class TrainBatches:
    """Shuffled, augmented batches of `split`; `batch(epoch, step)` gives images float 0..1 `[B, C, H, W]` and labels `[B]`.

    With operations that mix images the labels are shares of the `classes`, `[B, classes]`. With several processes each
    gets its part of the batch: joined, they are what one process would get.
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
        self._split = split.on(device)
        self._batch_size, self._operations, self._seed = batch_size, tuple(operations), seed
        self._mixing, self._classes = mixing_of(operations), classes
        self._colour = colour_for(operations, self._split)
        self.steps = len(split) // batch_size
        """Steps of an epoch; the incomplete last batch is left out."""
        self._order: tuple[int, Tensor] | None = None

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        own = distributed.rank_slice(self._batch_size)
        part = with_partner(self._batch_size, own) if self._mixing else own
        order = self.order(epoch)[step * self._batch_size : (step + 1) * self._batch_size]
        chosen = order[part if isinstance(part, slice) else to_device(part, order.device)]
        images, labels = self._split.take(chosen), self._split.labels[chosen]
        generator = torch.Generator().manual_seed(derive(self._seed, "augmentation", epoch, step))
        draws = BatchRng(generator, self._batch_size, part, images.device)
        images = augment(images, self._operations, draws, self._colour)
        if not self._mixing:
            return to_batch(images), labels
        mixed, shares = mix(to_float(images), labels, self._mixing, self._classes, draws)
        return time_first(mixed), shares

    def order(self, epoch: int) -> Tensor:
        """The images of an epoch in order, `[N]`."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
            self._order = (
                epoch,
                torch.randperm(len(self._split), generator=generator).to(self._split.labels.device),
            )
        return self._order[1]


def measure_batches(split: Split, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of `split` in order, unaugmented, with their labels; with several processes every so-many-th batch."""
    for start in range(batch_size * distributed.rank(), len(split), batch_size * distributed.world_size()):
        part = slice(start, start + batch_size)
        yield to_batch(split.take(part).to(device)), split.labels[part].to(device)


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1."""
    return images.float().div_(255)


def to_batch(images: Tensor) -> Tensor:
    """As networks take them: images `[B, C, H, W]`, or of event frames `[B, T, C, H, W]` the time first, `[T, B, C, H, W]`."""
    return to_float(time_first(images))


def time_first(images: Tensor) -> Tensor:
    """Event frames `[B, T, C, H, W]` as `[T, B, C, H, W]`; images as they are."""
    return images if images.ndim == 4 else images.movedim(1, 0)
