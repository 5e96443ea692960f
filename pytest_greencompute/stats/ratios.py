"""How many times worse: ratios with their intervals, on the log scale, of what was measured in pairs or launch by launch.

Two ways in, for two kinds of data:

* ``pairs_ratio``: base and head measured side by side, so what drifts is shared and cancels. Two intervals are laid over each
  other, Student's t of the mean and the order statistics' of the median; each may miss with its part of the error, so what both
  hold misses with no more than all of it (Bonferroni). The mean decides within few pairs, the median where outliers spoil the mean.
* ``launches_ratio``: launches of the same code differ, so a launch is the sample (a random-effects model). A few launches say
  little of their spread, so it is joined with what is assumed of launches anywhere (``PRIORS``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greencompute.stats.distributions import order_statistic_ranks, student_t_quantile
from pytest_greencompute.stats.intervals import FAR, FINEST

_FAR = math.log(FAR)
PLAIN_SHARE = 0.7  # of the error goes to the interval of the mean, the rest to that of the median


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times worse than the base (1.10: 10 % worse), with its interval; 0 and infinity are open sides."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    @property
    def margin(self) -> float:
        """How many times beyond a limit the ratio must be for the low side to be beyond it too (1 or more, infinite if open)."""
        return self.value / self.low if self.low > 0 else math.inf


@dataclass(frozen=True, slots=True)
class LaunchLevel:
    """What one launch measured: the logarithm of its figure, and the standard error of that within the launch."""

    log: float
    error: float


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed of launches before any is seen: they differ by ``spread`` (standard deviation of the logarithm).

    It weighs as much as ``degrees`` + 1 launches that were seen to do so.
    """

    spread: float
    degrees: int


# A false alarm costs more trust than a warning, and launches in two modes 12 % apart are known (half of them in each): the low side,
# which makes a FAIL, assumes more, so that two launches a side that happen to fall apart are no FAIL. The high side makes a PASS.
PRIORS = {"low": Prior(0.023, 5), "high": Prior(0.0125, 3)}


def exp(log: float) -> float:
    """e to the power of ``log``, infinite rather than an OverflowError: an interval of a figure near zero can be that wide."""
    return math.exp(log) if log < 700 else math.inf


def pairs_ratio(changes: Sequence[float], *, low_error: float, high_error: float) -> Ratio:
    """The ratio that pairs show, ``changes`` being the logarithm of each pair's ratio (at least one).

    Its low side is above the true ratio with probability at most ``low_error``, its high side below it with ``high_error``.
    Student's t needs changes that are about normal, and is wider than it need be for heavier tails; the order statistics of the
    median (the sign test: David and Nagaraja, Order Statistics, 7.1) hold for any noise, since the difference of two like noises is
    symmetric. The value is the median. Where the two intervals do not meet, both are covered. What is FAR from a ratio in every pair is
    not within the interval, however much the pairs differ.
    """
    n = len(changes)
    middle = statistics.median(changes)
    if n == 1:
        return without_spread(exp(middle))
    lows = _lows(sorted(changes), low_error)
    highs = [-low for low in _lows(sorted(-change for change in changes), high_error)]
    low, high = max(lows), min(highs)
    if low > high:
        low, high = min(lows), max(highs)
    low, high = max(low, min(changes) - _FAR), min(high, max(changes) + _FAR)
    value = min(max(middle, low), high)
    return Ratio(exp(value), exp(min(low, value - FINEST)), exp(max(high, value + FINEST)))


def without_spread(value: float) -> Ratio:
    """A ratio whose noise is not known: open on both sides, but for what is FAR beyond 1."""
    return Ratio(value, value / FAR if value > FAR else 0.0, value * FAR if value < 1 / FAR else math.inf)


def _lows(ordered: Sequence[float], chance: float) -> list[float]:
    """Lower bounds that together are too high with probability at most ``chance``: of the mean and, where n is enough, of the median."""
    n = len(ordered)
    mean = math.fsum(ordered) / n
    error = math.sqrt(math.fsum((each - mean) ** 2 for each in ordered) / (n - 1) / n)
    rank, _ = order_statistic_ranks(n, 0.5, 1 - 2 * (1 - PLAIN_SHARE) * chance)
    if rank is None:
        return [mean + student_t_quantile(chance, n - 1) * error]
    return [mean + student_t_quantile(PLAIN_SHARE * chance, n - 1) * error, ordered[rank - 1]]


def launches_ratio(base: Sequence[LaunchLevel], head: Sequence[LaunchLevel], *, low_error: float, high_error: float) -> Ratio:
    """The ratio of the mean levels of launches (at least one a side), by a random-effects model.

    The variance between launches is the moment estimate of DerSimonian and Laird (1986), shrunk towards the prior as Smyth (2004)
    does for many small samples; Student's t has the degrees of freedom of both together. The sides err as in ``pairs_ratio``, as
    far as launches vary no more than the prior says or the launches show. FAR as there: from launches that are all so far apart.
    """
    change = statistics.fmean(each.log for each in head) - statistics.fmean(each.log for each in base)
    apart = min(each.log for each in head) - max(each.log for each in base), max(each.log for each in head) - min(each.log for each in base)
    return _around(change, apart, (base, head), low_error, high_error)


def level_ratio(levels: Sequence[LaunchLevel], *, low_error: float, high_error: float) -> Ratio:
    """The mean level of launches (at least one) as a ratio to one unit, by the model of ``launches_ratio``: there is no other side."""
    apart = min(each.log for each in levels), max(each.log for each in levels)
    return _around(statistics.fmean(each.log for each in levels), apart, (levels,), low_error, high_error)


def _around(
    change: float, apart: tuple[float, float], sides: Sequence[Sequence[LaunchLevel]], low_error: float, high_error: float
) -> Ratio:
    """``apart`` is how far the launches are at least and at most."""
    low = max(change - _half_width(sides, PRIORS["low"], low_error), apart[0] - _FAR)
    high = min(change + _half_width(sides, PRIORS["high"], high_error), apart[1] + _FAR)
    return Ratio(exp(change), exp(low), exp(high))


def _half_width(sides: Sequence[Sequence[LaunchLevel]], prior: Prior, chance: float) -> float:
    """Half-width, on the log scale, of the difference of the two sides' means, or of the mean of one."""
    seen = degrees = within = fewer = 0.0
    for side in sides:
        m, mean = len(side), statistics.fmean(each.log for each in side)
        noise = sum(each.error**2 for each in side)
        seen += max(0.0, sum((each.log - mean) ** 2 for each in side) - noise * (1 - 1 / m))
        degrees += m - 1
        within += noise / m**2
        fewer += 1 / m
    degrees += prior.degrees
    between = (prior.degrees * prior.spread**2 + seen) / degrees
    return student_t_quantile(1 - chance, degrees) * math.sqrt(between * fewer + within)
