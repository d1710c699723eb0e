"""Power, Holm's correction and equivalence of random tables, as statsmodels computes them."""

from __future__ import annotations

import numpy as np
import pytest

from snnkd.compare.power import POWER, detectable_effect, power
from snnkd.compare.statistics import Difference, corrected, paired

multitest = pytest.importorskip("statsmodels.stats.multitest")
weightstats = pytest.importorskip("statsmodels.stats.weightstats")
t_power = pytest.importorskip("statsmodels.stats.power").TTestPower()

TABLES = [(rows, n, margin) for rows in (1, 3, 8) for n in (3, 5, 10) for margin in (0.5, 2.0)]


def random_table(rows: int, n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Accuracies of rows and of their baseline by seed; a seed is as lucky for all, and rows differ."""
    rng = np.random.default_rng(100 * rows + n)
    luck = rng.normal(80, 2, n)
    values = [luck + rng.normal(rng.normal(0, 2), rng.uniform(0.2, 2), n) for _ in range(rows)]
    return values, luck + rng.normal(0, 0.5, n)


def by_seed(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def compared(rows: int, n: int, margin: float) -> list[Difference]:
    values, base = random_table(rows, n)
    differences = corrected([paired(by_seed(row), by_seed(base)) for row in values], margin)
    return [difference for difference in differences if difference]


@pytest.mark.parametrize(("rows", "n", "margin"), TABLES)
def test_verdicts(rows: int, n: int, margin: float) -> None:
    """Holm's p of the paired t tests, and of Schuirmann's two one-sided tests."""
    values, base = random_table(rows, n)
    raw = [weightstats.DescrStatsW(row - base).ttest_mean()[1] for row in values]
    significant, holm = multitest.multipletests(raw, method="holm")[:2]
    within = [weightstats.ttost_paired(row, base, -margin, margin)[0] for row in values]
    holm_within = multitest.multipletests(within, method="holm")[1]
    for row, is_significant, p, p_within in zip(
        compared(rows, n, margin), significant, holm, holm_within, strict=True
    ):
        assert row.p_holm == pytest.approx(p, rel=1e-9)
        assert row.equivalence
        assert row.equivalence.p_holm == pytest.approx(p_within, rel=1e-9)
        assert (row.verdict in ("above", "below")) == is_significant
        assert (row.verdict == "equivalent") == (p_within < 0.05 and not is_significant)


@pytest.mark.parametrize(("rows", "n", "margin"), TABLES[::2])
def test_power_of_each_row(rows: int, n: int, margin: float) -> None:
    """The smallest difference detected and the seeds needed, at the level that Holm leaves the row."""
    for row in compared(rows, n, margin):
        assert row.power
        assert row.sd
        level, detectable = row.power.level, row.power.detectable / row.sd
        assert detectable == pytest.approx(detectable_effect(n, level))
        # one tail at half the level: the share that is significant with the wrong sign does not count
        options = {"alpha": level / 2, "alternative": "larger"}
        assert t_power.power(detectable, n, **options) == pytest.approx(POWER, abs=1e-3)
        effect, needed = abs(row.mean) / row.sd, row.power.seeds_needed
        assert power(effect, n, level) == pytest.approx(float(t_power.power(effect, n, **options)), abs=1e-3)
        if needed is not None:
            assert t_power.power(effect, needed, **options) >= POWER - 1e-3
        if needed != 2:  # one seed has no power
            assert t_power.power(effect, (needed or 1001) - 1, **options) < POWER + 1e-3
