"""Spread over seeds, paired differences with Student's t, Holm's correction, and a bootstrap over images.

Textbook formulas: Student 1908 (paired t), Holm 1979 (step-down correction), Efron 1979 (percentile
bootstrap).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Of every interval; a row is told apart from the baseline where its corrected p is below 1 - LEVEL."""
DRAWS = 10_000
"""Of the bootstrap: its ends then move by about a hundredth of the interval from one stream to another."""

Verdict = Literal["above", "below", "not distinguishable", "no spread", "n = 1"]


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1 in the denominator; None at n = 1) of n values."""

    mean: float
    sd: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError without values."""
    if not values:
        raise ValueError("no values to average")
    return Spread(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
    )


@dataclass(frozen=True)
class Difference:
    """A mean difference of pairs, its interval and p where there are two pairs or more, and what it says in
    words."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    """Two-sided, of this row alone."""
    p_holm: float | None
    """Corrected for the rows of its column."""
    seeds: tuple[int, ...]
    verdict: Verdict


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """`ours` minus `theirs`, by Student's t on the seeds that both have; None without such a seed.

    One pair has no interval. Pairs that all differ by the same have none either, as t has no meaning there,
    and are
    told apart by nobody (all equal: p is 1).
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
    if error < 1e-9:  # percentages of whole images: what is smaller is rounding
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
    """Holm's step-down correction: the i-th smallest of m (from 0) times m - i, never below the one before,
    at most 1."""
    made, worst = [0.0] * len(ps), 0.0
    for i, at in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        worst = max(worst, min(1.0, (len(ps) - i) * ps[at]))
        made[at] = worst
    return made


def corrected(found: Sequence[Difference | None]) -> list[Difference | None]:
    """The rows of one column with Holm's p and what follows from it; rows without a p are not counted."""
    tested = [i for i, each in enumerate(found) if each is not None and each.p is not None]
    made = list(found)
    for i, p in zip(tested, holm([_p(found[i]) for i in tested]), strict=True):
        old = found[i]
        assert old is not None
        made[i] = Difference(old.mean, old.low, old.high, old.p, p, old.seeds, _verdict(old.mean, p))
    return made


def _p(found: Difference | None) -> float:
    assert found is not None
    assert found.p is not None
    return found.p


@dataclass(frozen=True)
class Resampled:
    """A difference in points, averaged over seeds, with its percentile interval over resampled images."""

    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]
    images: int
    draws: int


def over_images(
    pairs: Mapping[int, tuple[NDArray[Any], NDArray[Any]]], draws: int = DRAWS, seed: int = 0
) -> Resampled:
    """Paired bootstrap: `pairs` holds by seed which images (bool `[N]`) the row and the baseline have right.

    Images are drawn with replacement, the same for both and for all seeds: the interval is that of these
    trained
    networks over other images, not of other seeds. The mean over the seeds takes few different values on an
    image,
    so that drawing how often each occurs is the same as drawing images, and fast. Raises ValueError without
    pairs or
    for sizes that differ.
    """
    gaps = [ours.astype(np.int64) - theirs.astype(np.int64) for ours, theirs in pairs.values()]
    if not gaps or len({gap.shape for gap in gaps}) != 1 or gaps[0].ndim != 1 or not len(gaps[0]):
        raise ValueError("pairs must be of equal and some images")
    images = len(gaps[0])
    values, counts = np.unique(np.sum(gaps, axis=0), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(images, counts / images, size=draws)
    to_points = 100 / (images * len(gaps))
    low, high = np.quantile(drawn @ values * to_points, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Resampled(
        float(counts @ values * to_points), float(low), float(high), tuple(sorted(pairs)), images, draws
    )
