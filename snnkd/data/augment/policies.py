"""Which operators an image goes through, drawn for each image on its own: AutoAugment, RandAugment, TrivialAugment.

Operators and magnitudes are those of torchvision's `AutoAugment(AutoAugmentPolicy.CIFAR10)`, `RandAugment` and
`TrivialAugmentWide` with their default interpolation (nearest) and fill (black). A policy draws for its whole batch
first, on the CPU, so that images can be grouped by operator without asking the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from snnkd.data.augment.rng import BatchRng

Table = dict[str, tuple[tuple[float, ...], bool]]
"""By operator: its magnitude in each bin (none for one without), and whether it also goes the other way."""
SubPolicy = tuple[tuple[str, float, int], tuple[str, float, int]]
"""Two operators, each with its probability and the bin of its magnitude."""

# Cubuk et al. 2019, CVPR (arXiv 1805.09501), table 7; an operator without magnitude has bin 0
CIFAR10: tuple[SubPolicy, ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
AUTOAUGMENT_BINS = 10


@dataclass(frozen=True)
class Step:
    """What happens to each image of a batch at once: the operator `names[i]` with `magnitudes[i]` to image i."""

    names: Sequence[str]
    magnitudes: Sequence[float]


@cache
def usual_table(bins: int, height: int, width: int) -> Table:
    """The magnitudes of AutoAugment and RandAugment; translations grow with the image."""
    return _table(bins, 0.3, (150 / 331 * width, 150 / 331 * height), 30.0, 0.9, 4)


@cache
def wide_table(bins: int) -> Table:
    """The magnitudes of TrivialAugment's wide space; translations are of up to 32 pixels whatever the size."""
    return _table(bins, 0.99, (32.0, 32.0), 135.0, 0.99, 6)


def _table(
    bins: int, shear: float, far: tuple[float, float], turn: float, factor: float, fewer_bits: int
) -> Table:
    """Each from nothing to the given end; the order is torchvision's, with invert for AutoAugment at the end."""

    def rising(end: float) -> tuple[tuple[float, ...], bool]:
        return tuple(torch.linspace(0.0, end, bins).tolist()), True

    bits = 8 - (torch.arange(bins) / ((bins - 1) / fewer_bits)).round()
    return {
        "identity": ((), False),
        "shear_x": rising(shear),
        "shear_y": rising(shear),
        "translate_x": rising(far[0]),
        "translate_y": rising(far[1]),
        "rotate": rising(turn),
        **{name: rising(factor) for name in ("brightness", "color", "contrast", "sharpness")},
        "posterize": (tuple(bits.tolist()), False),
        "solarize": (tuple(torch.linspace(255.0, 0.0, bins).tolist()), False),
        "autocontrast": ((), False),
        "equalize": ((), False),
        "invert": ((), False),
    }


DRAWN = 14
"""Of a table's operators, those that RandAugment and TrivialAugment draw from: all but invert, which is the last."""


def magnitude_of(table: Table, name: str, bin: int, negative: bool) -> float:
    """0 for an operator that has none; `negative` counts for those that go both ways."""
    magnitudes, signed = table[name]
    magnitude = magnitudes[bin] if magnitudes else 0.0
    return -magnitude if signed and negative else magnitude


def autoaugment(draws: BatchRng, height: int, width: int) -> list[Step]:
    """The policy found for CIFAR-10: one of 25 pairs of operators for each image, each with its probability and a random sign."""
    table = usual_table(AUTOAUGMENT_BINS, height, width)
    chosen, drawn, signs = (
        draws.choices(len(CIFAR10)).tolist(),
        draws.fractions(2).tolist(),
        draws.choices(2, 2).tolist(),
    )

    def step(i: int) -> Step:
        names, magnitudes = [], []
        for which, fractions, sides in zip(chosen, drawn, signs, strict=True):
            name, probability, bin = CIFAR10[which][i]
            happens = fractions[i] < probability
            names.append(name if happens else "identity")
            magnitudes.append(magnitude_of(table, name, bin, sides[i] == 0) if happens else 0.0)
        return Step(names, magnitudes)

    return [step(0), step(1)]


def randaugment(draws: BatchRng, height: int, width: int, ops: int, magnitude: int, bins: int) -> list[Step]:
    """`ops` operators for each image, any of 14 each time, all of one magnitude with random sign (Cubuk et al. 2020, arXiv 1909.13719)."""
    table = usual_table(bins, height, width)
    return [_drawn_step(draws, table, lambda count: [magnitude] * count) for _ in range(ops)]


def trivialaugment(draws: BatchRng, bins: int) -> list[Step]:
    """One operator for each image, any of 14, of any magnitude and sign (Müller and Hutter 2021, ICCV, arXiv 2103.10158)."""
    return [_drawn_step(draws, wide_table(bins), lambda count: draws.choices(bins).tolist())]


def _drawn_step(draws: BatchRng, table: Table, bins_of: Callable[[int], list[int]]) -> Step:
    operators = list(table)[:DRAWN]
    names = [operators[i] for i in draws.choices(DRAWN).tolist()]
    signs = draws.choices(2).tolist()
    bins = bins_of(len(names))
    return Step(
        names,
        [
            magnitude_of(table, name, bin, sign == 1)
            for name, bin, sign in zip(names, bins, signs, strict=True)
        ],
    )
