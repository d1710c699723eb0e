"""Spread over seeds, paired differences with Student's t, Holm's correction, and a bootstrap over images.

Textbook formulas: Student 1908 (paired t), Holm 1979 (step-down correction), Schuirmann 1987 (equivalence by
two one-sided tests), Efron 1979 (percentile bootstrap).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from snnkd.compare.power import detectable_effect, seeds_needed

LEVEL = 0.95
"""Confidence level of every interval; a corrected p below 1 - LEVEL is significant."""
DRAWS = 10_000
"""Bootstrap resamples: between random seeds, interval ends vary by about 1 % of its length."""

Verdict = Literal["above", "below", "equivalent", "not distinguishable", "no spread", "n = 1"]


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1 in the denominator; None at n = 1) of n values."""

    mean: float
    sd: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Compute mean and standard deviation. Raises ValueError without values."""
    if not values:
        raise ValueError("no values to average")
    return Spread(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
    )


@dataclass(frozen=True)
class Power:
    """Power of the pairs of a row, from the spread of their differences."""

    level: float
    """Uncorrected p below which the row is significant, as Holm's correction leaves it for the other rows."""
    detectable: float
    """Smallest mean difference in points that these pairs detect with probability POWER."""
    seeds_needed: int | None
    """Pairs that would detect the observed difference; None above MAX_SEEDS."""


@dataclass(frozen=True)
class Equivalence:
    """Test of a mean difference within ± `margin` points: the larger p of two one-sided t tests."""

    margin: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Difference:
    """Mean difference of pairs with its verdict; interval, p and power need two pairs that differ."""

    mean: float
    seeds: tuple[int, ...]
    verdict: Verdict
    sd: float | None = None
    """Sample standard deviation of the pairs' differences."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, uncorrected."""
    p_holm: float | None = None
    """Holm-corrected over the rows of a column."""
    power: Power | None = None
    equivalence: Equivalence | None = None
    """None without a margin."""


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The difference `ours` minus `theirs` by Student's t on the shared seeds; None without a shared seed.

    One pair has no interval, nor do pairs of equal difference, where t is undefined; if all are zero, p is 1.
    """
    from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped, unused-ignore]  # scipy.stats takes a second to import

    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        return None
    gaps = [ours[seed] - theirs[seed] for seed in seeds]
    mean, n = statistics.fmean(gaps), len(gaps)
    if n == 1:
        return Difference(mean, seeds, "n = 1")
    sd = statistics.stdev(gaps)
    error = sd / math.sqrt(n)
    if error < 1e-9:  # accuracies are multiples of one image: smaller differences are rounding
        if abs(mean) < 1e-9:
            return Difference(mean, seeds, "not distinguishable", sd=0.0, p=1.0)
        return Difference(mean, seeds, "no spread", sd=0.0)
    half = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Difference(mean, seeds, _verdict(mean, p), sd, mean - half, mean + half, p)


def _verdict(mean: float, p: float, p_equivalent: float = 1.0) -> Verdict:
    """A significant difference comes before equivalence: both may hold."""
    if p < 1 - LEVEL:
        return "above" if mean > 0 else "below"
    return "equivalent" if p_equivalent < 1 - LEVEL else "not distinguishable"


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p values by Holm's step-down method, in the given order.

    The i-th smallest of m (from 0) is multiplied by m - i, kept at or above the one before, and capped at 1.
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for i, k in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        largest = max(largest, min(1.0, (len(ps) - i) * ps[k]))
        adjusted[k] = largest
    return adjusted


def levels(ps: Sequence[float]) -> list[float]:
    """The level of each of m tests: below it, and only there, its p is significant after Holm's correction.

    1 - LEVEL over m - k, where k counts the smallest p values of the others that are significant in turn.
    """
    result = []
    for i in range(len(ps)):
        remaining = len(ps)
        for p in sorted([*ps[:i], *ps[i + 1 :]]):
            if p * remaining >= 1 - LEVEL:
                break
            remaining -= 1
        result.append((1 - LEVEL) / remaining)
    return result


def corrected(
    differences: Sequence[Difference | None], margin: float | None = None
) -> list[Difference | None]:
    """Add to the rows of one column Holm's p, power, equivalence within ± `margin` points, and the verdict.

    Rows without a p are not counted.
    """
    tested = {i: row for i, row in enumerate(differences) if row is not None and row.p is not None}
    ps = [row.p for row in tested.values() if row.p is not None]
    equivalences = _equivalences(tested, margin)
    rows = list(differences)
    for (i, row), p, level in zip(tested.items(), holm(ps), levels(ps), strict=True):
        equivalence = equivalences.get(i)
        verdict = _verdict(row.mean, p, equivalence.p_holm if equivalence else 1.0)
        rows[i] = replace(row, p_holm=p, power=_power(row, level), equivalence=equivalence, verdict=verdict)
    return rows


def _power(row: Difference, level: float) -> Power | None:
    if not row.sd:
        return None
    detectable = row.sd * detectable_effect(len(row.seeds), level)
    return Power(level, detectable, seeds_needed(row.mean / row.sd, level))


def _equivalences(tested: Mapping[int, Difference], margin: float | None) -> dict[int, Equivalence]:
    """Two one-sided tests of each row, Holm-corrected over those whose pairs differ."""
    from scipy.special import stdtr

    if margin is None:
        return {}
    ps = {
        i: float(stdtr(len(row.seeds) - 1, (abs(row.mean) - margin) / row.sd * math.sqrt(len(row.seeds))))
        for i, row in tested.items()
        if row.sd
    }
    return {
        i: Equivalence(margin, p, p_holm)
        for (i, p), p_holm in zip(ps.items(), holm(list(ps.values())), strict=True)
    }


@dataclass(frozen=True)
class Resampled:
    """Difference in percentage points, averaged over seeds, with its percentile interval over images."""

    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]
    images: int
    draws: int


def over_images(
    pairs: Mapping[int, tuple[NDArray[Any], NDArray[Any]]], draws: int = DRAWS, seed: int = 0
) -> Resampled:
    """Paired bootstrap over images; `pairs` maps a seed to which images both classify correctly, bool `[N]`.

    Images are drawn with replacement, the same for both and for all seeds, so the interval is over other
    images for these trained networks, not over other seeds. The mean over seeds has few distinct values per
    image: drawing their counts from a multinomial is equivalent to drawing images, and fast. Raises
    ValueError without pairs or for arrays of different sizes.
    """
    gaps = [ours.astype(np.int64) - theirs.astype(np.int64) for ours, theirs in pairs.values()]
    if not gaps or len({gap.shape for gap in gaps}) != 1 or gaps[0].ndim != 1 or not len(gaps[0]):
        raise ValueError("pairs must be non-empty arrays of equal size")
    images = len(gaps[0])
    values, counts = np.unique(np.sum(gaps, axis=0), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(images, counts / images, size=draws)
    to_points = 100 / (images * len(gaps))
    low, high = np.quantile(drawn @ values * to_points, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Resampled(
        float(counts @ values * to_points), float(low), float(high), tuple(sorted(pairs)), images, draws
    )
