"""Intervals, corrections and the bootstrap, against scipy, against numbers worked out by hand, and against
their laws."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, t, ttest_1samp, ttest_rel

from snnkd.compare.statistics import (
    LEVEL,
    Difference,
    Equivalence,
    corrected,
    holm,
    levels,
    over_images,
    paired,
    spread,
)

PS = st.lists(st.floats(0, 1), min_size=1, max_size=8)
GAPS = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8)


def seeds(values):
    return dict(enumerate(values))


def test_mean_and_sample_deviation():
    assert spread([1.0, 2.0, 4.0]) == spread([4.0, 1.0, 2.0])
    found = spread([2.0, 4.0])
    assert (found.mean, found.n) == (3.0, 2)
    assert found.sd == pytest.approx(math.sqrt(2))
    assert spread([7.5]).sd is None
    with pytest.raises(ValueError, match="no values"):
        spread([])


# the paired t


def test_student_1908():
    """The sleep data with which Student introduced the test: additional hours by two drugs on ten patients; t
    = 4.0621."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(seeds(two), seeds(one))
    assert found.mean == pytest.approx(1.58)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert (found.low, found.high) == (pytest.approx(0.7001142, abs=1e-6), pytest.approx(2.4598858, abs=1e-6))
    assert found.verdict == "above"


@given(GAPS)
def test_as_scipy_has_it(gaps):
    gaps = [gap / 20 for gap in gaps]
    ours, theirs = [80 + gap for gap in gaps], [80.0] * len(gaps)
    found = paired(seeds(ours), seeds(theirs))
    if statistics.stdev(gaps) < 1e-6:
        return
    wanted = ttest_rel(ours, theirs)
    interval = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(float(wanted.pvalue), rel=1e-6, abs=1e-12)
    assert found.low == pytest.approx(float(interval.low), rel=1e-6, abs=1e-9)
    assert found.high == pytest.approx(float(interval.high), rel=1e-6, abs=1e-9)


@given(GAPS)
def test_the_other_way_round_is_the_negative(gaps):
    ours, theirs = seeds([gap / 20 for gap in gaps]), seeds([0.0] * len(gaps))
    a, b = paired(ours, theirs), paired(theirs, ours)
    assert a.mean == -b.mean
    assert a.p == b.p
    assert (a.low is None) or (a.low, a.high) == (-b.high, -b.low)
    assert {"above": "below", "below": "above"}.get(a.verdict, a.verdict) == b.verdict


def test_only_shared_seeds_are_paired():
    found = paired({0: 5.0, 1: 6.0, 7: 99.0}, {1: 4.0, 0: 4.0, 3: -50.0})
    assert (found.seeds, found.mean) == ((0, 1), 1.5)
    assert paired({0: 1.0}, {1: 1.0}) is None


ROW = st.dictionaries(st.integers(0, 9), st.integers(0, 2000).map(lambda value: value / 20), max_size=8)


@given(ROW, ROW, st.randoms())
def test_pairs_are_those_of_the_shared_seeds_in_any_order(ours, theirs, random):
    shared = sorted(ours.keys() & theirs.keys())
    found = paired(ours, theirs)
    if not shared:
        assert found is None
        return
    assert found.seeds == tuple(shared)
    assert found.mean == pytest.approx(statistics.fmean(ours[seed] - theirs[seed] for seed in shared))
    pairs = [(ours[seed], theirs[seed]) for seed in shared]
    random.shuffle(pairs)
    renumbered = paired(seeds([a for a, _ in pairs]), seeds([b for _, b in pairs]))
    assert renumbered.verdict == found.verdict
    assert (renumbered.p or 0) == pytest.approx(found.p or 0, abs=1e-9)


def test_one_pair_has_no_interval():
    found = paired({3: 5.0}, {3: 4.0})
    assert found == Difference(1.0, (3,), "n = 1")
    assert corrected([found], margin=5.0) == [found]


def test_pairs_without_spread_have_no_interval():
    assert paired(seeds([5.1, 6.2, 7.3]), seeds([4.1, 5.2, 6.3])).verdict == "no spread"
    same = paired(seeds([5.1, 6.2]), seeds([5.1, 6.2]))
    assert (same.mean, same.p, same.low, same.verdict) == (0.0, 1.0, None, "not distinguishable")


# Holm


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to the one before: 0.06), 0.04 x 1 (likewise)."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.2]) == [0.2]
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(PS)
def test_holm_keeps_order_and_lies_between_nothing_and_bonferroni(ps):
    made = holm(ps)
    for p, q in zip(ps, made, strict=True):
        assert p <= q <= min(1.0, len(ps) * p + 1e-12) or math.isclose(q, p)
    for (p, q), (other, held) in itertools.combinations(zip(ps, made, strict=True), 2):
        assert p == other or (q <= held) == (p < other) or q == held


@given(PS, st.randoms())
def test_holm_does_not_mind_the_order(ps, random):
    order = list(range(len(ps)))
    random.shuffle(order)
    assert [holm([ps[i] for i in order])[order.index(k)] for k in range(len(ps))] == pytest.approx(holm(ps))


def test_a_row_that_stands_out_alone_may_not_among_others():
    """Student's t of 1, 2 and 1.4 is 5.05, p = 0.037; of three rows 0.11."""
    others = [paired(seeds([0.3, -0.5, 0.1 * k]), seeds([0.0] * 3)) for k in (1, 2)]
    rows = [paired(seeds([1.0, 2.0, 1.4]), seeds([0.0] * 3)), None, *others]
    assert rows[0].verdict == "above"
    made = corrected(rows)
    assert made[1] is None
    assert made[0].p_holm == pytest.approx(3 * made[0].p)
    assert made[0].p_holm > 0.05 > made[0].p
    assert made[0].verdict == "not distinguishable"
    assert (made[0].low, made[0].high) == (rows[0].low, rows[0].high)


def test_rows_without_p_do_not_count_in_the_correction():
    alone = paired({0: 1.0}, {0: 0.0})
    tested = paired(seeds([1.0, 2.0, 1.4]), seeds([0.0] * 3))
    assert corrected([alone, tested]) == [alone, corrected([tested])[0]]
    assert corrected([tested])[0].p_holm == tested.p


@given(PS)
def test_a_row_is_significant_below_the_level_that_holm_leaves_it(ps):
    """Exactly there: also where other rows are significant, and change the level."""
    for p, level, adjusted in zip(ps, levels(ps), holm(ps), strict=True):
        if not math.isclose(p, level) and not math.isclose(adjusted, 1 - LEVEL):
            assert (p < level) == (adjusted < 1 - LEVEL)


def test_levels_by_hand():
    """Three rows, one far below 0.05 / 3: it needs 0.05 / 3 itself, and leaves the others 0.05 / 2."""
    assert levels([0.001, 0.3, 0.4]) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2])
    assert levels([0.2]) == pytest.approx([0.05])
    assert levels([]) == []


# equivalence


def test_equivalence_by_hand():
    """Mean 0, s.d. 1, n = 4: t of ± 1.5 is 3, one-sided p of 3 degrees of freedom 0.0288."""
    gaps = [math.sqrt(1.5), -math.sqrt(1.5), 0.0, 0.0]
    (row,) = corrected([paired(seeds(gaps), seeds([0.0] * 4))], margin=1.5)
    assert row.equivalence == Equivalence(
        1.5, pytest.approx(float(t.sf(3, 3))), pytest.approx(0.0288, abs=1e-4)
    )
    assert row.verdict == "equivalent"
    (row,) = corrected([paired(seeds(gaps), seeds([0.0] * 4))], margin=1.0)
    assert row.verdict == "not distinguishable"
    assert corrected([paired(seeds(gaps), seeds([0.0] * 4))])[0].equivalence is None


@settings(max_examples=30)
@given(GAPS, st.floats(0.1, 20))
def test_equivalence_is_the_larger_of_two_one_sided_tests(gaps, margin):
    gaps = [gap / 20 for gap in gaps]
    if statistics.stdev(gaps) < 1e-6:
        return
    (row,) = corrected([paired(seeds(gaps), seeds([0.0] * len(gaps)))], margin)
    below = ttest_1samp(gaps, margin, alternative="less").pvalue
    above = ttest_1samp(gaps, -margin, alternative="greater").pvalue
    assert row.equivalence.p == pytest.approx(max(below, above), rel=1e-6, abs=1e-9)


def test_a_significant_difference_stays_the_verdict_within_the_margin():
    (row,) = corrected([paired(seeds([0.2, 0.21, 0.19]), seeds([0.0] * 3))], margin=1.0)
    assert row.verdict == "above"
    assert row.equivalence.p_holm < 0.05


def test_equivalence_is_corrected_over_the_rows():
    rows = [paired(seeds([0.1, -0.5, 0.1 * k]), seeds([0.0] * 3)) for k in (1, 2)]
    both = corrected(rows, margin=1.5)
    assert [row.equivalence.p_holm for row in both] == holm([row.equivalence.p for row in both])
    assert both[0].equivalence.p < both[0].equivalence.p_holm


# over images


def test_the_bootstrap_has_the_binomials_quantiles():
    """Against a network that is never right, the difference is an accuracy: its quantiles are a
    binomial's."""
    right = np.arange(400) < 300
    found = over_images({0: (right, np.zeros(400, bool))}, draws=40_000)
    assert found.mean == 75.0
    assert found.low == pytest.approx(100 * binom.ppf(0.025, 400, 0.75) / 400, abs=0.26)
    assert found.high == pytest.approx(100 * binom.ppf(0.975, 400, 0.75) / 400, abs=0.26)


def test_it_is_what_drawing_images_gives():
    rng = np.random.default_rng(1)
    pairs = {seed: (rng.random(300) < 0.8, rng.random(300) < 0.7) for seed in range(3)}
    gap = np.mean([ours.astype(float) - theirs for ours, theirs in pairs.values()], axis=0)
    drawn = 100 * gap[rng.integers(0, 300, (20_000, 300))].mean(1)
    found = over_images(pairs, draws=20_000)
    assert found.mean == pytest.approx(100 * gap.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.15)


def test_it_is_the_same_every_time_and_the_negative_the_other_way_round():
    rng = np.random.default_rng(2)
    a, b = rng.random(500) < 0.9, rng.random(500) < 0.85
    found, again, turned = over_images({0: (a, b)}), over_images({0: (a, b)}), over_images({0: (b, a)})
    assert found == again
    assert found.low < found.mean < found.high
    assert turned.mean == -found.mean
    assert turned.low == pytest.approx(-found.high, abs=0.3)


def test_pairing_narrows_it():
    """Networks that err on the same images are compared more sharply than ones that do not."""
    rng = np.random.default_rng(3)
    a = rng.random(1000) < 0.8
    alike, apart = a.copy(), rng.permutation(a)
    alike[:20] = ~alike[:20]
    narrow, wide = over_images({0: (a, alike)}), over_images({0: (a, apart)})
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_equal_answers_have_an_interval_of_nothing():
    a = np.arange(10) < 5
    found = over_images({0: (a, a), 4: (a, a)})
    assert (found.mean, found.low, found.high, found.seeds, found.images) == (0, 0, 0, (0, 4), 10)


@pytest.mark.parametrize(
    "pairs", [{}, {0: (np.ones(3, bool), np.ones(3, bool)), 1: (np.ones(4, bool), np.ones(4, bool))}]
)
def test_what_cannot_be_resampled(pairs):
    with pytest.raises(ValueError, match="non-empty arrays of equal size"):
        over_images(pairs)
