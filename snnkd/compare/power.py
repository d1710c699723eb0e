"""Power of the paired t test: the difference that n seeds detect, and the seeds that detect a difference.

Under a mean difference of d standard deviations, t follows the noncentral t distribution with n - 1 degrees
of freedom and noncentrality d √n (Cohen 1988). Power is the probability of significance with the right sign.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

POWER = 0.8
"""Probability with which a detectable difference is significant."""
MAX_SEEDS = 1000
POINTS = 2000
"""Quadrature points; the error of a power is below 1 / POINTS."""


def power(effect: float, n: int, level: float) -> float:
    """Power of n pairs to detect a mean of `effect` > 0 standard deviations, two-sided p below `level`."""
    return _upper_tail(effect * math.sqrt(n), n, level)


@lru_cache(maxsize=1000)
def detectable_effect(n: int, level: float) -> float:
    """The mean in standard deviations that n >= 2 pairs detect with probability POWER."""
    low, high = 0.0, 1.0
    while _upper_tail(high, n, level) < POWER:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _upper_tail(middle, n, level) < POWER else (low, middle)
    return high / math.sqrt(n)


def seeds_needed(effect: float, level: float) -> int | None:
    """Pairs that detect `effect` standard deviations with probability POWER; None above MAX_SEEDS."""
    low, high = 1, MAX_SEEDS  # one pair has no power
    if power(abs(effect), high, level) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(abs(effect), middle, level) < POWER else (low, middle)
    return high


def _upper_tail(noncentrality: float, n: int, level: float) -> float:
    """P(t > critical) of noncentral t = (z + noncentrality) / s: P(z > critical s - noncentrality) over s.

    scipy.stats.nct takes a second to import, and scipy.special.nctdtr is NaN for some arguments.
    """
    from scipy.special import ndtr, stdtrit  # type: ignore[import-untyped, unused-ignore]

    critical = stdtrit(n - 1, 1 - level / 2)
    return float(ndtr(noncentrality - critical * _deviations(n)).mean())


@lru_cache(maxsize=1000)
def _deviations(n: int) -> NDArray[Any]:
    """Quantiles of the sample standard deviation of n standard normal values, `[POINTS]`."""
    from scipy.special import gammaincinv

    middles = (np.arange(POINTS) + 0.5) / POINTS
    quantiles: NDArray[Any] = np.sqrt(gammaincinv((n - 1) / 2, middles) * 2 / (n - 1))
    return quantiles
