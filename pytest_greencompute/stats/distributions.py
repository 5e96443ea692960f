"""The few probability distributions that judging needs, exact, without scipy (660 ms to import).

Each is checked against scipy in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300
_STEPS = 400


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz & Stegun 26.5.8, Lentz's method).

    ``a``, ``b`` > 0 and 0 <= x <= 1; good to about 1e-12.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1.0 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS + int(math.sqrt(max(a, b)))):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < 1e-14:
            break
    return front * value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _solve(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of an increasing function between ``low`` and ``high``, by bisection to the last bit that matters."""
    for _ in range(200):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
        if high - low <= 1e-13 * max(1.0, abs(high)):
            break
    return (low + high) / 2


def student_t_cdf(t: float, df: float) -> float:
    """P(T <= t) of Student's t with ``df`` > 0 degrees of freedom (Abramowitz & Stegun 26.7.1)."""
    if t * t < 1:  # df / (df + t²) would be rounded to 1 near the middle
        return 0.5 + math.copysign(incomplete_beta(0.5, df / 2, t * t / (df + t * t)) / 2, t)
    tail = incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=1024)  # every look at a run asks for the same few
def student_t_quantile(p: float, df: float) -> float:
    """The value that Student's t with ``df`` degrees of freedom stays below with probability ``p`` (0 < p < 1)."""
    if not 0 < p < 1:
        raise ValueError(f"a quantile needs a probability between 0 and 1, not {p!r}")
    if p < 0.5:
        return -student_t_quantile(1 - p, df)
    high = 1.0
    while student_t_cdf(high, df) < p:
        high *= 2
    return _solve(lambda t: student_t_cdf(t, df) - p, 0.0, high)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X binomial with ``n`` trials of probability ``p`` (0 < p < 1)."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else incomplete_beta(n - k, k + 1, 1 - p)


def binomial_interval(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Exact two-sided interval of a proportion (Clopper and Pearson 1934): coverage is at least ``confidence``."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _solve(lambda p: incomplete_beta(successes, n - successes + 1, p) - tail, 0.0, 1.0)
    high = 1.0 if successes == n else _solve(lambda p: incomplete_beta(successes + 1, n - successes, p) - (1 - tail), 0.0, 1.0)
    return low, high


@lru_cache(maxsize=1024)
def order_statistic_ranks(n: int, fraction: float, confidence: float) -> tuple[int | None, int | None]:
    """Ranks (from 1) of the two order statistics that enclose the ``fraction`` quantile of any distribution.

    Each side misses with probability at most (1 - confidence) / 2; None where ``n`` values cannot bound that side
    (David and Nagaraja, Order Statistics, section 7.1).
    """
    tail = (1 - confidence) / 2
    low = _last(n, lambda rank: binomial_cdf(rank - 1, n, fraction) <= tail)
    above = _last(n, lambda rank: 1 - binomial_cdf(rank - 1, n, fraction) > tail)
    return (low or None), (above + 1 if above < n else None)


def values_to_bound(fraction: float, confidence: float) -> int:
    """How many values bound the ``fraction`` quantile, the median or beyond, on both sides: for 99 %, p95 needs 104 and p99 528."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(fraction))


def _last(n: int, holds: Callable[[int], bool]) -> int:
    """The largest rank in 1..n at which a condition holds that holds up to some rank and not beyond; 0 if nowhere."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def mcnemar_p(worse: int, better: int) -> float:
    """Exact one-sided p value that answers got worse, from the discordant pairs (McNemar 1947; binomial, p = 1/2).

    ``worse`` answers were right before and are wrong now, ``better`` the other way round. 1.0 where nothing changed.
    """
    n = worse + better
    return 1.0 if n == 0 else 1.0 - binomial_cdf(worse - 1, n, 0.5)


def normal_reach(confidence: float) -> float:
    """How many standard errors a two-sided interval of a normal figure reaches either way: 2.58 at 99 %."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def paired_difference_interval(gained: int, lost: int, n: int, confidence: float) -> tuple[float, float]:
    """Interval of the difference of two shares of right answers to the same ``n`` questions.

    ``gained`` questions are right only now, ``lost`` only before. The score interval of Tango, Statistics in Medicine 17 (1998): the
    differences at which the score test does not reject, which holds near zero discordant answers too.
    """
    z = normal_reach(confidence)

    def score(difference: float) -> float:
        b = -gained - lost + (2 * n - gained + lost) * difference
        p21 = (math.sqrt(max(0.0, b * b + 8 * n * lost * difference * (1 - difference))) - b) / (4 * n)
        spread = math.sqrt(max(n * (2 * p21 + difference * (1 - difference)), _TINY))
        return (n * difference - (gained - lost)) / spread

    middle = (gained - lost) / n
    low = -1.0 if middle <= -1 else _solve(lambda difference: score(difference) + z, -1.0, middle)
    high = 1.0 if middle >= 1 else _solve(lambda difference: score(difference) - z, middle, 1.0)
    return low, high
