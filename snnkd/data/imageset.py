"""A data set: its splits, and where they come from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from snnkd.data.split import Split, permutation
from snnkd.data.statistics import frame_statistics, image_statistics
from snnkd.errors import FileError, UsageError
from snnkd.files import sha256


@dataclass(frozen=True)
class ImageSet:
    """Training, test and optional validation images of one shape; `sha256` covers all their bytes."""

    name: str
    classes: int
    train: Split
    test: Split
    val: Split | None
    sha256: str
    split_rule: str = ""
    """How the test images were chosen, for data sets without an official test split."""
    files: tuple[Path, ...] = ()
    """Files that the images were read from or are mapped from; empty for a user's function."""
    mapped: bool = False
    """Whether the images are memory-mapped from a file, so that they must not be copied all at once."""
    subset: dict[str, int | None] | None = None
    """`classes` and `train_per_class` of a subset; None for all images."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes by number, of your own data; None for published and generated data."""

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

        The mean of event frames is given as 0, so that pixels without events stay 0.
        """
        return image_statistics(self.train) if self.frames is None else frame_statistics(self.train)


class NotPrepared(FileError):
    """The published files exist, but are not unpacked or decoded yet.

    `nominal`, if known, is the number of classes, the image shape and the number of training images to
    expect.
    """

    def __init__(self, message: str, nominal: tuple[int, tuple[int, int, int], int] | None = None) -> None:
        super().__init__(message)
        self.nominal = nominal


def from_arrays(
    name: str, classes: int, splits: dict[str, tuple[np.ndarray, np.ndarray]], files: tuple[Path, ...] = ()
) -> ImageSet:
    """An ImageSet of uint8 arrays `[N, H, W]`, `[N, H, W, C]` or `[N, T, C, H, W]`, and labels `[N]`.

    `splits` are train, test and optionally val.
    """
    digest = sha256(
        *(
            np.ascontiguousarray(array).data.cast("B")
            for images, labels in splits.values()
            for array in (images, labels.astype("<i8"))
        )
    )
    tensors = {key: _to_split(images, labels) for key, (images, labels) in splits.items()}
    return ImageSet(name, classes, tensors["train"], tensors["test"], tensors.get("val"), digest, files=files)


def _to_split(images: np.ndarray, labels: np.ndarray) -> Split:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4:  # event frames have their channels first
        images = images.transpose(0, 3, 1, 2)
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def hold_out(data: ImageSet, fraction: float) -> ImageSet:
    """Move `fraction` of the training images to the validation split, the same images for every run seed.

    Raises UsageError when the data set has a validation split already, or when a split would be empty.
    """
    if fraction == 0:
        return data
    if data.val is not None:
        raise UsageError(
            f"data.val_fraction: {fraction}, but {data.name} has its own validation images; set it to 0"
        )
    count = round(len(data.train) * fraction)
    if not 0 < count < len(data.train):
        raise UsageError(f"data.val_fraction: {fraction} of {len(data.train)} images leaves a split empty")
    order = permutation(len(data.train), 0, "validation")
    val, train = order[:count].sort().values, order[count:].sort().values
    return dataclasses.replace(
        data, train=data.train.select(train, data.mapped), val=data.train.select(val, data.mapped)
    )
