"""Pairs of a percentile, from batches that both sides ran side by side.

A section holds as many batches as the percentile needs to be one of them, and a section's own order statistic says little: of twenty
batches one decides. All batches so far say more. The figure of a side is the order statistic that a section of them has on average, over
every choice of so many batches (a U-statistic: Serfling, Approximation Theorems of Mathematical Statistics, 5.1), of logarithms, so that
a batch that a neighbour held up weighs no more than it must. Its change by one more section is that section's pair (sequential
pseudo-values), so that the mean of all pairs is the ratio of the figures, and each pair stays what it was when it came.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.rule import is_number

LEAST_SECTION = 20  # batches of which the order statistic is meant


def batches_for(fraction: float) -> int:
    """How many values a percentile needs to be one of them and not merely the largest: 20 for p95, 100 for p99."""
    return math.ceil(1 / (1 - fraction) - 1e-9)


def rank_in(size: int, fraction: float) -> int:
    """Which of ``size`` values, counted from the smallest, is the percentile: 19 of 20 for p95."""
    return max(1, math.ceil(size * fraction - 1e-9))


def order_statistic(ordered: Sequence[float], size: int, rank: int) -> float:
    """The mean, over all choices of ``size`` of the values, of the one with this rank (1: the smallest)."""
    return math.fsum(map(operator.mul, _weights(len(ordered), size, rank), ordered[rank - 1 :]))


@lru_cache(maxsize=64)
def _weights(count: int, size: int, rank: int) -> tuple[float, ...]:
    """How often each of so many ordered values is the one with this rank in a choice, from the first that can be."""
    # Value number i of the ordered ones is it in C(i - 1, rank - 1) C(count - i, size - rank) of the C(count, size) choices.
    chosen = math.comb(count - rank, size - rank)
    total, weights = math.comb(count, size), []
    for number in range(rank, count - size + rank + 1):
        weights.append(chosen / total)
        chosen = chosen * number * (count - number - size + rank) // ((number - rank + 1) * max(count - number, 1))
    return tuple(weights)


def percentile_sections(sets: Sequence[Sequence[float]], fraction: float) -> list[float]:
    """The percentile of each section of the sets of one side: samples that share no batch (sectioning: Asmussen and Glynn, III.5)."""
    found: list[float] = []
    section: list[float] = []
    for each in sets:
        section.extend(each)
        if len(section) >= batches_for(fraction):
            found.append(sorted(section)[rank_in(len(section), fraction) - 1])
            section = []
    return found


@dataclass(slots=True)
class PercentilePairs:
    """Told the seconds of each set's batches on both sides, gives a pair (base, head) once the batches that came since the last are enough.

    Raises SettingsError for a ``fraction`` outside 0..1.
    """

    fraction: float
    _fresh: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []), init=False)
    _logs: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []), init=False)
    _pairs: int = field(default=0, init=False)
    _change: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if not is_number(self.fraction) or not 0 < self.fraction < 1:
            raise SettingsError(f"fraction is {self.fraction!r}.", remedy="Write it like 0.95.")

    def tell(self, base: Sequence[float], head: Sequence[float]) -> tuple[float, float] | None:
        """The next pair, or None where there are too few batches for one. A side on which a batch took no time at all gives zero."""
        for fresh, seconds in zip(self._fresh, (base, head), strict=True):
            fresh.extend(seconds)
        if min(map(len, self._fresh)) < batches_for(self.fraction):
            return None
        if min(map(min, self._fresh)) <= 0:
            return min(self._fresh[0]), min(self._fresh[1])
        for fresh, logs in zip(self._fresh, self._logs, strict=True):
            logs.extend(map(math.log, fresh))
            logs.sort()
            fresh.clear()
        before, now = map(self._level, self._logs)
        fresh_change = (self._pairs + 1) * (now - before) - self._pairs * self._change
        self._pairs, self._change = self._pairs + 1, now - before
        return math.exp(before), math.exp(before + fresh_change)

    def _level(self, logs: Sequence[float]) -> float:
        size = min(len(logs), max(LEAST_SECTION, batches_for(self.fraction)))
        return order_statistic(logs, size, rank_in(size, self.fraction))


def percentile_pairs(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]], fraction: float) -> list[tuple[float, float]]:
    """All pairs of a percentile: ``base[i]`` and ``head[i]`` are the latencies of sets measured side by side.

    Raises SettingsError where the sides differ in the number of sets, and for a ``fraction`` outside 0..1.
    """
    if len(base) != len(head):
        raise SettingsError(f"base has {len(base)} sets and head {len(head)}.", remedy="Pass sets that were measured side by side.")
    pairs = PercentilePairs(fraction)
    return [pair for before, now in zip(base, head, strict=True) if (pair := pairs.tell(before, now)) is not None]
