"""The distributions that judging needs, against scipy as oracle; the guarantees by exact computation."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from pytest_greencompute.stats.distributions import (
    binomial_cdf,
    binomial_interval,
    incomplete_beta,
    mcnemar_p,
    order_statistic_ranks,
    paired_difference_interval,
    student_t_cdf,
    student_t_quantile,
)

shapes = st.floats(0.05, 5000)


@given(shapes, shapes, st.floats(0, 1))
def test_the_incomplete_beta_function_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-11)


@given(st.floats(-200, 200), st.floats(1, 1e5))
@example(2.6641830410164215e-06, 99052.37334626619)  # 0.5 to within a rounding of df / (df + t²)
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


# The difference of two shares of the same questions


def score_statistic(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic from its definition: the other share is the likeliest one at this difference, found by a search."""

    def unlikely(p21: float) -> float:
        p12 = p21 + difference
        cells = ((gained, p12), (lost, p21), (n - gained - lost, 1 - p12 - p21))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    p21 = optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * difference) / math.sqrt(n * (2 * p21 + difference * (1 - difference)))


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (1, 9, 30), (7, 7, 300), (3, 0, 40), (40, 25, 100)])
def test_the_ends_of_the_paired_interval_are_where_the_score_test_no_longer_rejects(gained: int, lost: int, n: int) -> None:
    low, high = paired_difference_interval(gained, lost, n, 0.95)
    assert low < (gained - lost) / n < high
    assert score_statistic(gained, lost, n, low) == pytest.approx(1.95996, abs=2e-3)
    assert score_statistic(gained, lost, n, high) == pytest.approx(-1.95996, abs=2e-3)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200), st.sampled_from([0.9, 0.99]))
def test_the_paired_interval_holds_the_difference_and_is_the_same_from_the_other_side(
    gained: int, lost: int, rest: int, confidence: float
) -> None:
    n = max(1, gained + lost + rest)
    low, high = paired_difference_interval(gained, lost, n, confidence)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert paired_difference_interval(lost, gained, n, confidence) == pytest.approx((-high, -low), abs=1e-9)


def test_no_changed_answer_bounds_the_difference_but_does_not_prove_it_zero() -> None:
    # By hand: with b = c = 0 the test accepts while n d / sqrt(n d (1 - d)) <= z, so d <= z^2 / (n + z^2).
    z2 = 2.575829**2
    assert paired_difference_interval(0, 0, 100, 0.99) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-6)


@pytest.mark.parametrize(("p12", "p21"), [(0.2, 0.1), (0.05, 0.05), (0.02, 0.0), (0.3, 0.02)])
def test_the_paired_interval_covers_as_often_as_it_promises(p12: float, p21: float) -> None:
    n, promised = 100, 0.95
    grid = [(gained, lost) for gained in range(n + 1) for lost in range(n + 1 - gained)]
    chances = stats.multinomial.pmf([(gained, lost, n - gained - lost) for gained, lost in grid], n, [p12, p21, 1 - p12 - p21])
    likely = [(pair, chance) for pair, chance in zip(grid, chances, strict=True) if chance > 1e-6]
    covered = 0.0
    for (gained, lost), chance in likely:
        low, high = paired_difference_interval(gained, lost, n, promised)
        covered += float(chance) * (low <= p12 - p21 <= high)
    assert promised - 0.015 <= covered  # by exact summation; a score interval holds on average, not at each point
