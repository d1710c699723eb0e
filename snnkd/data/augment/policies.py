"""AutoAugment, RandAugment and TrivialAugment: random operators, drawn for each image.

Operators and magnitudes are those of torchvision's `AutoAugment(AutoAugmentPolicy.CIFAR10)`, `RandAugment`
and `TrivialAugmentWide` with their default interpolation (nearest) and fill (black). A policy draws for the
whole batch on the CPU, so that images are grouped by operator without synchronising the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from snnkd.data.augment.rng import BatchRng

Table = dict[str, tuple[tuple[float, ...], bool]]
"""By operator name: its magnitude in each bin (empty if it has none), and whether its sign is random."""
SubPolicy = tuple[tuple[str, float, int], tuple[str, float, int]]
"""Two operators, each with its probability and the bin of its magnitude."""

# Cubuk et al. 2019, CVPR (arXiv 1805.09501), table 7; bin 0 for an operator without magnitude
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
    """One operator for each image of a batch: `names[i]` with `magnitudes[i]` for image i."""

    names: Sequence[str]
    magnitudes: Sequence[float]


@cache
def standard_table(bins: int, height: int, width: int) -> Table:
    """The magnitudes of AutoAugment and RandAugment; translations scale with the image."""
    return _table(bins, 0.3, (150 / 331 * width, 150 / 331 * height), 30.0, 0.9, 4)


@cache
def wide_table(bins: int) -> Table:
    """The magnitudes of TrivialAugment (wide); translations are up to 32 pixels for every image size."""
    return _table(bins, 0.99, (32.0, 32.0), 135.0, 0.99, 6)


def _table(
    bins: int, shear: float, translate: tuple[float, float], rotate: float, factor: float, dropped_bits: int
) -> Table:
    """Magnitudes from 0 to the given maxima, in torchvision's order; invert, for AutoAugment, comes last."""

    def linear(end: float) -> tuple[tuple[float, ...], bool]:
        return tuple(torch.linspace(0.0, end, bins).tolist()), True

    bits = 8 - (torch.arange(bins) / ((bins - 1) / dropped_bits)).round()
    return {
        "identity": ((), False),
        "shear_x": linear(shear),
        "shear_y": linear(shear),
        "translate_x": linear(translate[0]),
        "translate_y": linear(translate[1]),
        "rotate": linear(rotate),
        **{name: linear(factor) for name in ("brightness", "color", "contrast", "sharpness")},
        "posterize": (tuple(bits.tolist()), False),
        "solarize": (tuple(torch.linspace(255.0, 0.0, bins).tolist()), False),
        "autocontrast": ((), False),
        "equalize": ((), False),
        "invert": ((), False),
    }


SAMPLED = 14
"""Operators that RandAugment and TrivialAugment choose from: all of a table but the last, invert."""


def magnitude_of(table: Table, name: str, bin: int, negative: bool) -> float:
    """The magnitude in a bin, 0 for an operator without one; `negative` matters for random signs only."""
    magnitudes, signed = table[name]
    magnitude = magnitudes[bin] if magnitudes else 0.0
    return -magnitude if signed and negative else magnitude


def autoaugment(rng: BatchRng, height: int, width: int) -> list[Step]:
    """The CIFAR-10 policy: one of 25 pairs of operators for each image, each applied with its probability."""
    table = standard_table(AUTOAUGMENT_BINS, height, width)
    pairs = rng.choices(len(CIFAR10)).tolist()
    fractions = rng.fractions(2).tolist()
    signs = rng.choices(2, 2).tolist()

    def step(i: int) -> Step:
        names, magnitudes = [], []
        for pair, fraction, sign in zip(pairs, fractions, signs, strict=True):
            name, probability, bin = CIFAR10[pair][i]
            applied = fraction[i] < probability
            names.append(name if applied else "identity")
            magnitudes.append(magnitude_of(table, name, bin, sign[i] == 0) if applied else 0.0)
        return Step(names, magnitudes)

    return [step(0), step(1)]


def randaugment(rng: BatchRng, height: int, width: int, ops: int, magnitude: int, bins: int) -> list[Step]:
    """`ops` of 14 operators for each image, at one magnitude with random sign.

    Cubuk et al. 2020 (arXiv 1909.13719).
    """
    table = standard_table(bins, height, width)
    return [_random_step(rng, table, lambda count: [magnitude] * count) for _ in range(ops)]


def trivialaugment(rng: BatchRng, bins: int) -> list[Step]:
    """One of 14 operators for each image, at a random magnitude and sign.

    Müller and Hutter 2021, ICCV (arXiv 2103.10158).
    """
    return [_random_step(rng, wide_table(bins), lambda count: rng.choices(bins).tolist())]


def _random_step(rng: BatchRng, table: Table, bins_of: Callable[[int], list[int]]) -> Step:
    operators = list(table)[:SAMPLED]
    names = [operators[i] for i in rng.choices(SAMPLED).tolist()]
    signs = rng.choices(2).tolist()
    bins = bins_of(len(names))
    triples = zip(names, bins, signs, strict=True)
    return Step(names, [magnitude_of(table, name, bin, sign == 1) for name, bin, sign in triples])
