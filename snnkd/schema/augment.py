"""The items of `data.augment:`, a dataclass per operation. A field's docstring is its help.

An item is a name, or a mapping of `name` and options. An item with default options only is reduced to its
name, so that both forms are the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from snnkd.errors import UsageError
from snnkd.schema.marks import Bounds, Named

Bins = Annotated[int, Bounds(2, 1000)]
Probability = Annotated[float, Bounds(0, 1)]
Ratio = Annotated[float, Bounds(0, 100, open_low=True)]
Alpha = Annotated[float, Bounds(0, 100, open_low=True)]


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Random crop after zero padding by an eighth of the size."""

    name: Literal["crop"] = "crop"


@dataclass(frozen=True, kw_only=True)
class FlipConfig:
    """Horizontal flip with probability 0.5."""

    name: Literal["flip"] = "flip"
    alternate: bool = False
    """Flip each image in every second epoch, half of them in the first (Jordan 2024, arXiv 2404.00498)."""


@dataclass(frozen=True, kw_only=True)
class AutoAugmentConfig:
    """AutoAugment, CIFAR-10 policy: one of 25 pairs of operators."""

    name: Literal["autoaugment"] = "autoaugment"


@dataclass(frozen=True, kw_only=True)
class RandAugmentConfig:
    """RandAugment: a few of 14 operators, all at one magnitude."""

    name: Literal["randaugment"] = "randaugment"
    ops: Annotated[int, Bounds(1, 16)] = 2
    """Operators applied to each image."""
    magnitude: Annotated[int, Bounds(0, 999)] = 9
    """Magnitude of all operators, from 0 to bins - 1."""
    bins: Bins = 31
    """Number of magnitudes, the last the strongest."""


@dataclass(frozen=True, kw_only=True)
class TrivialAugmentConfig:
    """TrivialAugment: one of 14 operators at a random magnitude, wide space."""

    name: Literal["trivialaugment"] = "trivialaugment"
    bins: Bins = 31
    """Number of magnitudes, the last the strongest."""


@dataclass(frozen=True, kw_only=True)
class CutoutConfig:
    """Cutout: a square of the training images' mean colour at a random centre."""

    name: Literal["cutout"] = "cutout"
    size: Annotated[int | None, Bounds(1, 4096)] = None
    """Side of the square in pixels; empty for half the shorter side of the image, 16 at 32x32."""


@dataclass(frozen=True, kw_only=True)
class EraseConfig:
    """Random erasing: a rectangle of the training images' mean colour within the image."""

    name: Literal["erase"] = "erase"
    p: Probability = 0.5
    """Probability for each image."""
    scale_low: Probability = 0.02
    """Smallest fraction of the image's area."""
    scale_high: Probability = 0.33
    """Largest fraction of the image's area."""
    ratio_low: Ratio = 0.3
    """Smallest ratio of height to width."""
    ratio_high: Ratio = 3.3
    """Largest ratio of height to width."""


@dataclass(frozen=True, kw_only=True)
class MixupConfig:
    """Mixup: image and label interpolated with another of the batch."""

    name: Literal["mixup"] = "mixup"
    alpha: Alpha = 1.0
    """Parameter of Beta(alpha, alpha), the distribution of the mixing weight."""
    p: Probability = 1.0
    """Probability for each image."""


@dataclass(frozen=True, kw_only=True)
class CutMixConfig:
    """CutMix: a rectangle from another image of the batch, labels mixed by area."""

    name: Literal["cutmix"] = "cutmix"
    alpha: Alpha = 1.0
    """Parameter of Beta(alpha, alpha), the distribution of the area that the image keeps, before clipping at
    the border."""
    p: Probability = 1.0
    """Probability for each image."""


Options = (
    CropConfig
    | FlipConfig
    | AutoAugmentConfig
    | RandAugmentConfig
    | TrivialAugmentConfig
    | CutoutConfig
    | EraseConfig
    | MixupConfig
    | CutMixConfig
)
Operation = str | Options
"""An item as stored: its name, or its dataclass where options differ from the defaults."""
OPERATIONS: dict[str, type[Options]] = {
    "crop": CropConfig,
    "flip": FlipConfig,
    "autoaugment": AutoAugmentConfig,
    "randaugment": RandAugmentConfig,
    "trivialaugment": TrivialAugmentConfig,
    "cutout": CutoutConfig,
    "erase": EraseConfig,
    "mixup": MixupConfig,
    "cutmix": CutMixConfig,
}
MIXING = ("mixup", "cutmix")
"""Operations that mix images and their labels."""
FILLING = ("cutout", "erase")
"""Operations that fill a region with the mean colour."""
COLOURS = ("autoaugment", "randaugment", "trivialaugment")
"""Operations that need grey or RGB images."""
Augmentation = Annotated[Operation, Named(tuple(OPERATIONS.items()))]


def options_of(operation: Operation) -> Options:
    """The options of an item."""
    return OPERATIONS[operation]() if isinstance(operation, str) else operation


def check_augment(operations: Sequence[Operation]) -> None:
    """Check the items of `data.augment` together. Raises UsageError."""
    items = [options_of(operation) for operation in operations]
    names = [options.name for options in items]
    if len(set(names)) != len(names):
        raise UsageError(f"data.augment: {names} has an operation twice; remove one")
    for i, options in enumerate(items):
        if options.name in MIXING and any(name not in MIXING for name in names[i:]):
            later = next(name for name in names[i:] if name not in MIXING)
            raise UsageError(f"data.augment: {later} after {options.name}; put {', '.join(MIXING)} last")
        if isinstance(options, RandAugmentConfig) and options.magnitude >= options.bins:
            raise UsageError(
                f"data.augment.{i}.magnitude: {options.magnitude} must be below bins, {options.bins}"
            )
        if isinstance(options, EraseConfig):
            for key in ("scale", "ratio"):
                low, high = getattr(options, f"{key}_low"), getattr(options, f"{key}_high")
                if low > high:
                    raise UsageError(f"data.augment.{i}.{key}_low: {low} is above {key}_high, {high}")


def mixing_names(operations: Sequence[Operation]) -> list[str]:
    """Names of the operations that mix images."""
    return [name for name in (options_of(operation).name for operation in operations) if name in MIXING]
