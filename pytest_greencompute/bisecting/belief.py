"""What launches say of a history: where it rose, by how much, and how sure that is.

A commit's change stays what it was until some commit changes it: a history is segments of one level each, the first of which is that of the
good commit, zero. How many segments there are is not given. All ways to cut the history at the commits that were measured are weighed, each
by how likely it makes what was seen (``cuts``). Levels and the spread of launches are grids, so nothing is sampled and nothing is random.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_greencompute.bisecting.cuts import Cuts
from pytest_greencompute.bisecting.evidence import Evidence, Spread, likely_spreads, pair_noise

if TYPE_CHECKING:
    from pytest_greencompute.bisecting.evidence import Floats

CAUSES, MOST_CAUSES = 0.7, 0.9  # changes that are expected in a history before anything was measured; in a part of it, at most
LEVELS = (-0.405, 0.7)  # changes of a commit that are thought of at least: -33 % to +100 %
APART, AROUND, MOST_LEVELS = 0.0065, 0.2, 400  # one from the next; beyond what was measured; how many at most
HALF, OTHERS = 0.5, (0.3, 0.7)  # of the whole rise: where the history is said to have risen
DOUBT_MORE = 0.2  # of a commit, that another part must save
HELD = 0.95  # of a level's interval


@dataclass(frozen=True, slots=True)
class Extent:
    """A change with its interval of 95 %, as logarithms."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Crossing:
    """The history rose after commit ``before`` and up to commit ``at``, with that ``probability``; nothing between the two was measured."""

    before: int
    at: int
    probability: float


@dataclass(frozen=True, slots=True)
class Belief:
    """``crossings`` are the gaps between measured commits, in order, each with the probability that the metric rose there through
    ``threshold``; ``raised`` is the probability that a measured commit is above it, by number; ``levels`` are the measured commits' own.
    ``worse`` and ``better`` are the probabilities that the bad commit is so by more than ``least``, ``close`` that it is within ``near``.
    """

    crossings: tuple[Crossing, ...]
    raised: Mapping[int, float]
    levels: Mapping[int, Extent]
    worse: float
    better: float
    close: float
    threshold: float
    pair_sd: float
    spread: Spread
    spread_weight: Floats

    @property
    def leader(self) -> Crossing:
        """The likeliest gap."""
        return max(self.crossings, key=lambda each: each.probability)

    def raised_at(self, commit: int) -> float:
        """The probability that a commit is above the threshold; between measured ones a rise may be anywhere."""
        at = sorted(self.raised)
        after = next(each for each in at if each >= commit)
        before = max(each for each in at if each <= commit)
        share = 0.0 if after == before else (commit - before) / (after - before)
        return self.raised[before] + share * (self.raised[after] - self.raised[before])


def believe(commits: int, launches: Sequence[Evidence], *, least: float, near: float) -> Belief:
    """What the launches say of a history whose last commit, number ``commits``, has been measured."""
    import numpy as np

    spread, pair_sd = likely_spreads(), pair_noise(launches)
    levels = _levels([each.change for each in launches])
    at = [0, *sorted({each.commit for each in launches})]
    likely = np.zeros((len(at), len(levels), len(spread.weight)))
    for each in launches:
        change, pairs = each.weighed(pair_sd)
        likely[at.index(each.commit)] += spread.log_density(change - levels, pair_sd, pairs)
    cuts = Cuts(np.minimum(MOST_CAUSES, CAUSES * np.diff(at) / commits), levels, likely, spread.weight)
    shown = cuts.levels_at()
    last = shown[-1]
    rise = max(float(last @ levels), least)
    # A commit whose own level is half of the rise is neither before nor after it: then another part tells more.
    found = [(share * rise, *cuts.crossings(share * rise)) for share in (HALF, *OTHERS)]
    doubts = [float((raised * (1 - raised)).sum()) for _, _, raised in found]
    threshold, crossed, raised = found[0 if doubts[0] <= DOUBT_MORE + min(doubts) else int(np.argmin(doubts))]
    return Belief(
        tuple(Crossing(*gap, float(each)) for gap, each in zip(itertools.pairwise(at), crossed, strict=True)),
        dict(zip(at, map(float, raised), strict=True)),
        {commit: _level(each, levels) for commit, each in zip(at, shown, strict=True)},
        float(last[levels > least].sum()),
        float(last[levels < -least].sum()),
        float(last[np.abs(levels) <= near].sum()),
        threshold,
        pair_sd,
        spread,
        cuts.spread_weight,
    )


def _levels(measured: Sequence[float]) -> Floats:
    """The changes of a commit that are thought of, as far as what was ``measured`` leads; one of them is zero."""
    import numpy as np

    low, high = min(LEVELS[0], min(measured) - AROUND), max(LEVELS[1], max(measured) + AROUND)
    step = max(APART, (high - low) / MOST_LEVELS)
    levels: Floats = np.multiply(np.arange(round(low / step), round(high / step) + 1), step)
    return levels


def _level(weights: Floats, levels: Floats) -> Extent:
    below = weights.cumsum()
    low, high = (float(levels[min(int(below.searchsorted(share)), len(levels) - 1)]) for share in ((1 - HELD) / 2, (1 + HELD) / 2))
    return Extent(float(weights @ levels), low, high)
