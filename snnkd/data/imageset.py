"""A data set in memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snnkd.errors import RequestError
from snnkd.files import sha256
from snnkd.seeds import derive


@dataclass(frozen=True)
class Split:
    """Images uint8 `[N, C, H, W]` and labels int64 `[N]`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSet:
    """Train, test and perhaps validation images of one kind; `sha256` covers all their bytes."""

    name: str
    classes: int
    train: Split
    test: Split
    val: Split | None
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def split(self, name: str) -> Split:
        """The split `test` or `val`; raises RequestError when there is no validation split."""
        if name == "test":
            return self.test
        if self.val is None:
            raise RequestError(f"--split {name}: {self.name} has no validation images; set data.val_fraction above 0")
        return self.val

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, white being 1."""
        channels = self.train.images.transpose(0, 1).flatten(1)
        # histograms: exact, and without a float copy of the images
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in channels:
            share = torch.bincount(channel.flatten().int(), minlength=256).double() / channel.numel()
            average = (share * levels).sum()
            mean.append(float(average))
            std.append(max(float((share * (levels - average) ** 2).sum().sqrt()), 1e-3))
        return mean, std


def from_arrays(name: str, classes: int, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> ImageSet:
    """An ImageSet from uint8 arrays `[N, H, W]` or `[N, H, W, C]` with labels `[N]`, under train, test and perhaps val."""
    digest = sha256(*(np.ascontiguousarray(a).data.cast("B") for pair in splits.values() for a in (pair[0], pair[1].astype("<i8"))))
    made = {key: _split(images, labels) for key, (images, labels) in splits.items()}
    return ImageSet(name, classes, made["train"], made["test"], made.get("val"), digest)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    channels_last = images[..., None] if images.ndim == 3 else images
    pixels = torch.from_numpy(np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def hold_out(data: ImageSet, fraction: float) -> ImageSet:
    """Move `fraction` of the training images to the validation split; the same images for every run seed."""
    if fraction == 0:
        return data
    if data.val is not None:
        raise RequestError(f"data.val_fraction: {fraction} given, but {data.name} brings its own validation images; set it to 0")
    count = round(len(data.train) * fraction)
    if not 0 < count < len(data.train):
        raise RequestError(f"data.val_fraction: {fraction} of {len(data.train)} images leaves a split empty")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(derive(0, "validation")))
    held, kept = order[:count].sort().values, order[count:].sort().values
    take = data.train
    return dataclasses.replace(
        data,
        train=Split(take.images[kept], take.labels[kept]),
        val=Split(take.images[held], take.labels[held]),
    )
