"""The distributions that judging needs, against scipy as oracle; the guarantees by exact computation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from pytest_greencompute.distributions import (
    binomial_cdf,
    binomial_interval,
    incomplete_beta,
    mcnemar_p,
    order_statistic_ranks,
    student_t_cdf,
    student_t_quantile,
)

shapes = st.floats(0.05, 5000)


@given(shapes, shapes, st.floats(0, 1))
def test_the_incomplete_beta_function_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-11)


@given(st.floats(-200, 200), st.floats(1, 1e5))
def test_students_cdf_agrees_with_scipy(t: float, df: float) -> None:
    assert student_t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-6, abs=1e-10)


@given(st.floats(0.0005, 0.9999), st.integers(1, 2000))
def test_students_quantile_agrees_with_scipy(p: float, df: int) -> None:
    assert student_t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("p", "df", "table"), [(0.995, 2, 9.9248), (0.975, 10, 2.2281), (0.995, 1, 63.657), (0.9995, 4, 8.6103)])
def test_students_quantile_agrees_with_the_printed_table(p: float, df: int, table: float) -> None:
    assert student_t_quantile(p, df) == pytest.approx(table, rel=1e-4)
    assert student_t_quantile(1 - p, df) == pytest.approx(-table, rel=1e-4)


@given(st.data(), st.integers(1, 3000), st.floats(0.001, 0.999))
def test_the_binomial_cdf_agrees_with_scipy(data: st.DataObject, n: int, p: float) -> None:
    k = data.draw(st.integers(-1, n + 1))
    assert binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-6, abs=1e-11)


@given(st.data(), st.integers(1, 2000), st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_the_interval_of_a_proportion_is_clopper_and_pearsons(data: st.DataObject, n: int, confidence: float) -> None:
    successes = data.draw(st.integers(0, n))
    exact = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    assert binomial_interval(successes, n, confidence) == pytest.approx((exact.low, exact.high), abs=1e-8)


@pytest.mark.parametrize("n", [5, 20, 100])
def test_the_interval_of_a_proportion_covers_at_least_as_often_as_it_promises(n: int) -> None:
    intervals = [binomial_interval(k, n, 0.99) for k in range(n + 1)]
    for p in (0.01, 0.1, 0.5, 0.77, 0.95, 0.99):
        covered = sum(stats.binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high)
        assert covered >= 0.99 - 1e-9


@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_order_statistics_enclose_a_quantile_at_least_as_often_as_promised_and_no_tighter_pair_does(
    n: int, fraction: float, confidence: float
) -> None:
    low, high = order_statistic_ranks(n, fraction, confidence)
    tail = (1 - confidence) / 2 + 1e-9

    def misses_below(rank: int) -> float:
        """The chance that the value of this rank lies above the quantile."""
        return float(stats.binom.cdf(rank - 1, n, fraction))

    def misses_above(rank: int) -> float:
        return float(stats.binom.sf(rank - 1, n, fraction))

    if low is None:
        assert misses_below(1) > tail - 2e-9
    else:
        assert misses_below(low) <= tail
        assert low == n or misses_below(low + 1) > tail - 2e-9
    if high is None:
        assert misses_above(n) > tail - 2e-9
    else:
        assert misses_above(high) <= tail
        assert high == 1 or misses_above(high - 1) > tail - 2e-9


@pytest.mark.parametrize(("fraction", "needed"), [(0.95, 104), (0.99, 528), (0.5, 8)])
def test_how_many_values_bound_a_percentile_on_both_sides_at_99_per_cent(fraction: float, needed: int) -> None:
    assert None in order_statistic_ranks(needed - 1, fraction, 0.99)
    assert None not in order_statistic_ranks(needed, fraction, 0.99)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemars_p_is_the_exact_binomial_one(worse: int, better: int) -> None:
    n = worse + better
    expected = 1.0 if n == 0 else stats.binomtest(worse, n, 0.5, alternative="greater").pvalue
    assert mcnemar_p(worse, better) == pytest.approx(expected, abs=1e-11)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(5, 0) == pytest.approx(1 / 32)
    assert mcnemar_p(0, 5) == 1.0
    assert mcnemar_p(2, 1) == pytest.approx(0.5)
    assert math.isclose(mcnemar_p(7, 0), 1 / 128)
