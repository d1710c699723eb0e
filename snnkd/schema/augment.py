"""The items of `data.augment:`, one dataclass an operation. A field's docstring is its help, `Bounds` its range.

An item is a name, or a mapping of `name` and options; one whose options are all as usual is its name again, so that
both are the same run.
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
    """Zero padding of an eighth of the size, then a window of the old size, anywhere."""

    name: Literal["crop"] = "crop"


@dataclass(frozen=True, kw_only=True)
class FlipConfig:
    """Mirrored left to right with probability one half."""

    name: Literal["flip"] = "flip"


@dataclass(frozen=True, kw_only=True)
class AutoAugmentConfig:
    """The policy found for CIFAR-10: one of 25 pairs of operators."""

    name: Literal["autoaugment"] = "autoaugment"


@dataclass(frozen=True, kw_only=True)
class RandAugmentConfig:
    """Some operators of 14, all of one magnitude."""

    name: Literal["randaugment"] = "randaugment"
    ops: Annotated[int, Bounds(1, 16)] = 2
    """Operators an image goes through."""
    magnitude: Annotated[int, Bounds(0, 999)] = 9
    """Of all of them, as the number of a bin from 0 to bins - 1."""
    bins: Bins = 31
    """Magnitudes there are, the last the strongest."""


@dataclass(frozen=True, kw_only=True)
class TrivialAugmentConfig:
    """One operator of 14, of any magnitude, from the wide space."""

    name: Literal["trivialaugment"] = "trivialaugment"
    bins: Bins = 31
    """Magnitudes there are, the last the strongest."""


@dataclass(frozen=True, kw_only=True)
class CutoutConfig:
    """A square in the training images' mean colour, its centre anywhere."""

    name: Literal["cutout"] = "cutout"
    size: Annotated[int | None, Bounds(1, 4096)] = None
    """Side of the square in pixels; empty for half the image's shorter side, 16 at 32x32."""


@dataclass(frozen=True, kw_only=True)
class EraseConfig:
    """Random erasing: a rectangle in the training images' mean colour, inside the image."""

    name: Literal["erase"] = "erase"
    p: Probability = 0.5
    """Probability that an image gets one."""
    scale_low: Probability = 0.02
    """Smallest share of the image's area."""
    scale_high: Probability = 0.33
    """Largest share of the image's area."""
    ratio_low: Ratio = 0.3
    """Smallest ratio of height to width."""
    ratio_high: Ratio = 3.3
    """Largest ratio of height to width."""


@dataclass(frozen=True, kw_only=True)
class MixupConfig:
    """The image blended with another of the batch, the label likewise."""

    name: Literal["mixup"] = "mixup"
    alpha: Alpha = 1.0
    """The image's own share is drawn from Beta(alpha, alpha)."""
    p: Probability = 1.0
    """Probability that an image is blended."""


@dataclass(frozen=True, kw_only=True)
class CutMixConfig:
    """A rectangle from another image of the batch, the label by area."""

    name: Literal["cutmix"] = "cutmix"
    alpha: Alpha = 1.0
    """The share that the image keeps is drawn from Beta(alpha, alpha), before its rectangle is cut off at the border."""
    p: Probability = 1.0
    """Probability that an image gets one."""


Options = (
    CropConfig | FlipConfig | AutoAugmentConfig | RandAugmentConfig | TrivialAugmentConfig | CutoutConfig | EraseConfig
    | MixupConfig | CutMixConfig
)  # fmt: skip
Operation = str | Options
"""What an item becomes: its name, or with unusual options its dataclass."""
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
"""Those that mix images and their labels."""
PAINTING = ("cutout", "erase")
"""Those that paint over a part in the mean colour."""
COLOURS = ("autoaugment", "randaugment", "trivialaugment")
"""Those that need grey or RGB images."""
Augmentation = Annotated[Operation, Named(tuple(OPERATIONS.items()))]


def options_of(operation: Operation) -> Options:
    """The dataclass of an item."""
    return OPERATIONS[operation]() if isinstance(operation, str) else operation


def check_augment(operations: Sequence[Operation]) -> None:
    """Rules over the items of `data.augment` and over their keys. Raises UsageError."""
    made = [options_of(operation) for operation in operations]
    names = [options.name for options in made]
    if len(set(names)) != len(names):
        raise UsageError(f"data.augment: {names} names an operation twice")
    for i, options in enumerate(made):
        if options.name in MIXING and any(name not in MIXING for name in names[i:]):
            later = next(name for name in names[i:] if name not in MIXING)
            raise UsageError(
                f"data.augment: {later} stands after {options.name}; what mixes images comes last"
            )
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
    """Those of the operations that mix images, by name."""
    return [name for name in (options_of(operation).name for operation in operations) if name in MIXING]
