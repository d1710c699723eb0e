"""A data set: its images in memory, or in a file that is mapped into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd.data.counts import frame_statistics
from snnkd.errors import UsageError
from snnkd.files import sha256
from snnkd.seeds import derive

BLOCK = 2048
"""Images that are looked at together where all are looked at: 24 MiB at 64x64 RGB."""


@dataclass(frozen=True)
class Split:
    """Images uint8 `[N, C, H, W]`, or event frames `[N, T, C, H, W]`, and labels int64 `[N]`."""

    images: Tensor
    labels: Tensor
    rows: Tensor | None = None
    """Which of `images` these are, int64 `[N]`, where they are a part of more images that is not copied; else all, in order."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: Tensor | slice) -> Tensor:
        """These of the images, by their places in this split: all that is read of them."""
        return self.images[which] if self.rows is None else self.images[self.rows[which]]

    def blocks(self) -> Iterator[Tensor]:
        """All images in order, BLOCK at a time: where they lie in a file this is what is held of them at once."""
        for start in range(0, len(self), BLOCK):
            yield self.take(slice(start, start + BLOCK))

    def on(self, device: torch.device) -> Split:
        """The split with its own images on `device`; on the CPU they stay where they are, be that memory or a file."""
        if device.type == "cpu":
            return self
        if self.rows is None:
            return Split(self.images.to(device), self.labels.to(device))
        images = torch.empty((len(self), *self.images.shape[1:]), dtype=torch.uint8, device=device)
        for place, block in zip(range(0, len(self), BLOCK), self.blocks(), strict=True):
            images[place : place + BLOCK] = block.to(device)
        return Split(images, self.labels.to(device))


@dataclass(frozen=True)
class ImageSet:
    """Train, test and perhaps validation images of one kind; `sha256` covers all their bytes."""

    name: str
    classes: int
    train: Split
    test: Split
    val: Split | None
    sha256: str
    rule: str = ""
    """How test images were told from training images, where the data set itself does not say."""
    files: tuple[Path, ...] = ()
    """What was read, or is mapped into memory; empty for data that a function returned."""
    mapped: bool = False
    """Whether the images lie in a file that is mapped into memory, which nobody should copy as a whole."""
    part: dict[str, int | None] | None = None
    """Which part of the data set these are, `classes` and `train_per_class`; None for all of it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image, or of one event frame."""
        channels, height, width = self.train.images.shape[-3:]
        return channels, height, width

    @property
    def frames(self) -> int | None:
        """Event frames of a sample; None for still images."""
        return self.train.images.shape[1] if self.train.images.ndim == 5 else None

    def split(self, name: str) -> Split:
        """The split `test` or `val`; raises UsageError when there is no validation split."""
        if name == "test":
            return self.test
        if self.val is None:
            raise UsageError(
                f"--split {name}: {self.name} has no validation images; set data.val_fraction above 0"
            )
        return self.val

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, white being 1.

        Of event frames the mean is given as 0: it is not subtracted, so that a pixel without events stays 0.
        """
        if self.frames is not None:
            return frame_statistics(self.train)
        # histograms: exact, and without a float copy of the images
        counts = torch.zeros(self.shape[0], 256, dtype=torch.int64)
        for block in self.train.blocks():
            for channel, pixels in enumerate(block.unbind(1)):
                counts[channel] += torch.bincount(pixels.flatten().int(), minlength=256)
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for count in counts:
            share = count.double() / int(count.sum())
            average = (share * levels).sum()
            mean.append(float(average))
            std.append(max(float((share * (levels - average) ** 2).sum().sqrt()), 1e-3))
        return mean, std


def from_arrays(
    name: str, classes: int, splits: dict[str, tuple[np.ndarray, np.ndarray]], files: tuple[Path, ...] = ()
) -> ImageSet:
    """An ImageSet from uint8 arrays `[N, H, W]` or `[N, H, W, C]` with labels `[N]`, under train, test and perhaps val."""
    digest = sha256(
        *(
            np.ascontiguousarray(a).data.cast("B")
            for pair in splits.values()
            for a in (pair[0], pair[1].astype("<i8"))
        )
    )
    made = {key: _split(images, labels) for key, (images, labels) in splits.items()}
    return ImageSet(name, classes, made["train"], made["test"], made.get("val"), digest, files=files)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    channels_last = images[..., None] if images.ndim == 3 else images
    pixels = torch.from_numpy(np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def hold_out(data: ImageSet, fraction: float) -> ImageSet:
    """Move `fraction` of the training images to the validation split; the same images for every run seed."""
    if fraction == 0:
        return data
    if data.val is not None:
        raise UsageError(
            f"data.val_fraction: {fraction} given, but {data.name} brings its own validation images; set it to 0"
        )
    count = round(len(data.train) * fraction)
    if not 0 < count < len(data.train):
        raise UsageError(f"data.val_fraction: {fraction} of {len(data.train)} images leaves a split empty")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(derive(0, "validation")))
    held, kept = order[:count].sort().values, order[count:].sort().values
    return dataclasses.replace(
        data, train=rows_of(data.train, kept, data.mapped), val=rows_of(data.train, held, data.mapped)
    )


def rows_of(whole: Split, rows: Tensor, mapped: bool) -> Split:
    """These of the images: a copy, or a view where they lie in a file."""
    if not mapped:
        return Split(whole.images[rows], whole.labels[rows])
    return Split(whole.images, whole.labels[rows], rows if whole.rows is None else whole.rows[rows])
