"""The power of the paired t test: against scipy, published tables and simulated runs."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nct, t

from snnkd.compare.power import MAX_SEEDS, POWER, detectable_effect, power, seeds_needed
from snnkd.compare.statistics import corrected, paired

LEVELS = (0.05, 0.05 / 8, 0.05 / 200)


def test_cohens_medium_effect() -> None:
    """Cohen 1988, G*Power: d = 0.5 at 0.05 two-sided with power 0.8 takes 34 pairs, then 0.808."""
    assert seeds_needed(0.5, 0.05) == seeds_needed(-0.5, 0.05) == 34
    assert power(0.5, 34, 0.05) == pytest.approx(0.8078, abs=1e-4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [2, 3, 5, 20, 300])
def test_as_scipy_has_it(n: int, level: float) -> None:
    effect = detectable_effect(n, level)
    for each in (0.1 * effect, effect, 1.3 * effect):
        wanted = nct.sf(t.isf(level / 2, n - 1), n - 1, each * math.sqrt(n))
        assert power(each, n, level) == pytest.approx(float(wanted), abs=2e-4)
    assert power(effect, n, level) == pytest.approx(POWER, abs=1e-9)


@settings(max_examples=30)
@given(st.floats(0.2, 30), st.sampled_from(LEVELS))
def test_the_seeds_needed_are_the_fewest(effect: float, level: float) -> None:
    n = seeds_needed(effect, level)
    assert n is not None
    assert power(effect, n, level) >= POWER
    assert n == 2 or power(effect, n - 1, level) < POWER
    assert detectable_effect(n, level) <= effect * (1 + 1e-9)


def test_no_number_of_seeds_tells_nothing_from_nothing() -> None:
    assert seeds_needed(0.0, 0.05) is None
    assert seeds_needed(0.01, 0.05) is None, f"above {MAX_SEEDS}"


@pytest.mark.parametrize(("n", "rows"), [(3, 1), (3, 8), (5, 8), (10, 3)])
def test_simulated_runs_are_told_as_often(n: int, rows: int) -> None:
    """Rows of seeded draws whose true difference is the detectable one: 80 % are significant after Holm.

    The other rows are equal to the baseline, so that Holm leaves 0.05 / rows.
    """
    level = 0.05 / rows
    gap = detectable_effect(n, level)
    gaps = np.random.default_rng(0).normal(gap, 1, (4000, n))
    statistic = gaps.mean(1) / (gaps.std(1, ddof=1) / math.sqrt(n))
    assert np.mean(statistic > t.isf(level / 2, n - 1)) == pytest.approx(POWER, abs=0.03)
    for values in gaps[:20]:
        row = paired(dict(enumerate(values)), dict.fromkeys(range(n), 0.0))
        same = paired(dict.fromkeys(range(n), 0.0), dict.fromkeys(range(n), 0.0))
        first = corrected([row, *[same] * (rows - 1)])[0]
        assert first is not None
        assert first.power is not None
        assert first.power.level == pytest.approx(level)
        assert first.power.detectable == pytest.approx(statistics.stdev(values) * gap)
        assert (first.verdict == "above") == (first.p < level)  # type: ignore[operator]
