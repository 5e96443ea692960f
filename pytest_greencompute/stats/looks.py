"""When to stop measuring: looks planned ahead, the error shared among them; or a walk, whose error at every step is known.

After each planned look the verdicts may already be certain. Each look uses an interval at confidence
1 - (1 - confidence) / looks, so that all looks together err with at most 1 - confidence (Bonferroni). That is safe for any
dependence between looks; it costs a few per cent more samples than the sharpest rule. Where samples are dear, early looks get more of
the error than late ones (``shares``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from pytest_greencompute.stats.distributions import binomial_cdf

MIN_SAMPLES = 5
EARLIEST = 3
LAST_SHARE = 0.1  # of the error, at least: what is not clear at the last look is inconclusive
GROWTH = 1.6


def looks(longest: int, *, first: int = MIN_SAMPLES, growth: float = GROWTH) -> tuple[int, ...]:
    """The numbers of samples at which to look, the last being ``longest`` (at least 1): 5, 8, 13, 20, …

    ``growth`` must leave a whole sample between the first two looks (``first * (growth - 1) >= 1``), so that no two are the same.
    """
    longest = max(1, longest)
    counts: list[int] = []
    count = float(first)
    while round(count) < longest:
        counts.append(round(count))
        count *= growth
    return (*counts, longest)


def share(error: float, planned: int, *, budgets: int = 1) -> float:
    """The part of an ``error`` rate that one of ``planned`` looks may use, where ``budgets`` verdicts share it (Bonferroni)."""
    return error / (planned * budgets)


def shares(plan: Sequence[int], error: float) -> tuple[float, ...]:
    """The part of an ``error`` rate for each look of ``plan``: in proportion to 1 / sqrt(samples), ``LAST_SHARE`` or more for the last.

    They add up to ``error``. What an early look may use saves samples in most comparisons, what a late one may use in few.
    """
    parts = [count**-0.5 for count in plan]
    parts[-1] = max(parts[-1], LAST_SHARE / (1 - LAST_SHARE) * math.fsum(parts[:-1]))
    return tuple(error * each / math.fsum(parts) for each in parts)


def early_and(plan: Sequence[int]) -> tuple[int, ...]:
    """The looks of ``plan`` and those that are worth taking before the first of them."""
    return (*range(EARLIEST, min(plan)), *plan)


@lru_cache(maxsize=256)
def lead(longest: int, error: float) -> int:
    """The lead that heads have over tails at some time within ``longest`` tosses of a fair coin with probability at most ``error``.

    By the reflection principle (Feller, An Introduction to Probability Theory I, III.7). More than ``longest`` where no lead is so rare.
    """
    needed = 1
    while needed <= longest and _has_led(longest, needed) > error:
        needed += 1
    return needed


def _has_led(longest: int, by: int) -> float:
    """P(the lead reaches ``by`` within ``longest`` tosses): that it ends there or above, and that it ends above."""
    ends_there, ends_above = math.ceil((longest + by) / 2), (longest + by) // 2 + 1
    return 2 - binomial_cdf(ends_there - 1, longest, 0.5) - binomial_cdf(ends_above - 1, longest, 0.5)


def sets_that_fit(seconds_left: float, seconds_per_set: float) -> int:
    """How many complete sets fit into the time limit: at least one, since a run without a set says nothing."""
    return max(1, int(seconds_left / max(seconds_per_set, 1e-9)))
