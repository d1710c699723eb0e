"""The `data:` section, a dataclass per kind of data set. A field's docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.schema.augment import Augmentation
from snnkd.schema.marks import Bounds


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`data:`, keys of every data set."""

    name: str = "glyphs"
    """A data set of `snnkd list data`."""
    val_fraction: Annotated[float, Bounds(0, 0.5)] = 0.0
    """Fraction of the training split held out for validation, the same images for every seed; needed by
    select: best."""
    augment: tuple[Augmentation, ...] = ()
    """Applied to training images in the order given: crop, flip, autoaugment, randaugment, trivialaugment,
    cutout, erase, mixup, cutmix; with options as {name: cutout, size: 8}."""


@dataclass(frozen=True, kw_only=True)
class GlyphsConfig(DataConfig):
    """`data:` of the generated glyphs."""

    size: Annotated[int, Bounds(8, 64)] = 16
    """Height and width in pixels."""
    channels: Literal[1, 3] = 1
    """1: grey; 3: RGB with random foreground and background colours."""
    classes: Annotated[int, Bounds(2, 100)] = 100
    """Number of characters, in the order digits, upper case, lower case, Greek, symbols."""
    train_images: Annotated[int, Bounds(1, 1_000_000)] = 10_000
    """Number of training images, balanced over classes."""
    test_images: Annotated[int, Bounds(1, 1_000_000)] = 2_000
    """Number of test images, from a separate random stream."""
    noise: Annotated[float, Bounds(0, 1)] = 0.05
    """Standard deviation of Gaussian pixel noise, for pixels in 0..1."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of the images; the run's seed does not change them."""
    augment: tuple[Augmentation, ...] = ("crop",)


@dataclass(frozen=True, kw_only=True)
class SubsetConfig(DataConfig):
    """`data:` of images with subsets."""

    classes: Annotated[int | None, Bounds(2, 1_000_000)] = None
    """Number of classes, the first in the data's order; empty for all."""
    train_per_class: Annotated[int | None, Bounds(1, 1_000_000_000)] = None
    """Maximum training images per class, the first in the data's order; empty for all. Test images are not
    reduced."""


@dataclass(frozen=True, kw_only=True)
class PhotoConfig(SubsetConfig):
    """`data:` of cifar10, cifar100, tiny-imagenet and fashion-mnist."""

    augment: tuple[Augmentation, ...] = ("crop", "flip")


@dataclass(frozen=True, kw_only=True)
class DigitConfig(SubsetConfig):
    """`data:` of mnist and svhn, without flip: a mirrored digit is not a digit."""

    augment: tuple[Augmentation, ...] = ("crop",)


@dataclass(frozen=True, kw_only=True)
class NpzConfig(SubsetConfig):
    """`data:` of an npz file."""

    frames: Annotated[int | None, Bounds(1, 1024)] = None
    """Event frames per sample, of images (N, frames, 2, H, W); empty for still images."""


@dataclass(frozen=True, kw_only=True)
class ImageFolderConfig(SubsetConfig):
    """`data:` of a folder of your own images."""

    size: Annotated[int, Bounds(8, 1024)] = 64
    """Height and width in pixels: the shorter side is resized to it, then the centre is cropped."""
    channels: Literal[1, 3] = 3
    """1: grey; 3: RGB. Every picture is converted."""
    test_fraction: Annotated[float | None, Bounds(0, 0.5, open_low=True)] = None
    """Fraction of each class in the test split of a folder without splits; empty for 0.2."""
    split_seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of that split; the run's seed does not change it."""
    augment: tuple[Augmentation, ...] = ("crop", "flip")


@dataclass(frozen=True, kw_only=True)
class UserData(DataConfig):
    """`data:` of your own function."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function."""
    frames: Annotated[int | None, Bounds(1, 1024)] = None
    """Event frames per sample, of images (N, frames, 2, H, W); empty for still images."""
