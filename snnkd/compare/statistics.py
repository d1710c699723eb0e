"""Spread over seeds, paired differences with Student's t, Holm's correction, and a bootstrap over images.

Textbook formulas: Student 1908 (paired t), Holm 1979 (step-down correction), Efron 1979 (percentile
bootstrap).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence level of every interval; a corrected p below 1 - LEVEL is significant."""
DRAWS = 10_000
"""Bootstrap resamples: between random seeds, interval ends vary by about 1 % of its length."""

Verdict = Literal["above", "below", "not distinguishable", "no spread", "n = 1"]


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
class Difference:
    """Mean difference of pairs with its verdict; interval and p need two pairs or more."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    """Two-sided, uncorrected."""
    p_holm: float | None
    """Holm-corrected over the rows of a column."""
    seeds: tuple[int, ...]
    verdict: Verdict


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
        return Difference(mean, None, None, None, None, seeds, "n = 1")
    error = statistics.stdev(gaps) / math.sqrt(n)
    if error < 1e-9:  # accuracies are multiples of one image: smaller differences are rounding
        same = abs(mean) < 1e-9
        return Difference(
            mean,
            None,
            None,
            1.0 if same else None,
            None,
            seeds,
            "not distinguishable" if same else "no spread",
        )
    half = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, p, None, seeds, _verdict(mean, p))


def _verdict(mean: float, p: float) -> Verdict:
    return "not distinguishable" if p >= 1 - LEVEL else "above" if mean > 0 else "below"


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p values by Holm's step-down method, in the given order.

    The i-th smallest of m (from 0) is multiplied by m - i, kept at or above the one before, and capped at 1.
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for i, k in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        largest = max(largest, min(1.0, (len(ps) - i) * ps[k]))
        adjusted[k] = largest
    return adjusted


def corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Add Holm's p and its verdict to the rows of one column; rows without a p are not counted."""
    ps = {i: row.p for i, row in enumerate(differences) if row is not None and row.p is not None}
    rows = list(differences)
    for i, p in zip(ps, holm(list(ps.values())), strict=True):
        row = rows[i]
        assert row is not None
        rows[i] = replace(row, p_holm=p, verdict=_verdict(row.mean, p))
    return rows


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
