"""When to stop measuring: looks planned ahead, the error shared among them.

After each planned look the verdicts may already be certain. Each look uses an interval at confidence
1 - (1 - confidence) / looks, so that all looks together err with at most 1 - confidence (Bonferroni). That is safe for any
dependence between looks; it costs a few per cent more samples than the sharpest rule.
"""

from __future__ import annotations

MIN_SAMPLES = 5
GROWTH = 1.6


def looks(longest: int) -> tuple[int, ...]:
    """The numbers of sets at which to look, the last being ``longest`` (at least 1): 5, 8, 13, 21, …"""
    longest = max(1, longest)
    counts: list[int] = []
    count = float(MIN_SAMPLES)
    while round(count) < longest:
        counts.append(round(count))
        count *= GROWTH
    return (*counts, longest)


def sets_that_fit(seconds_left: float, seconds_per_set: float) -> int:
    """How many complete sets fit into the time limit: at least one, since a run without a set says nothing."""
    return max(1, int(seconds_left / max(seconds_per_set, 1e-9)))
