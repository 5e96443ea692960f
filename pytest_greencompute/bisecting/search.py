"""Which commit to measure next, and when the answer is there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_greencompute.bisecting.belief import Belief, Extent, believe
from pytest_greencompute.bisecting.evidence import Evidence
from pytest_greencompute.errors import SettingsError

if TYPE_CHECKING:
    from pytest_greencompute.bisecting.evidence import Floats

LEAST = math.log(1.01)  # a smaller rise is not looked for
HARDLY, LIKELY = 0.05, 0.9  # how likely a rise may be that is given up; and must be before it is looked for elsewhere
MOST_LAUNCHES = 150  # of a whole search
MOST_OF_BAD = 30  # of them, for whether there is a rise at all
LEAST_OF_BAD = 4  # before it is given up: where launches fall into two modes, so many hide a rise as large as their distance once in 256
PAIRS = (2, 3, 5, 8)  # of a launch
AROUND, OUTCOMES = 0.5, 300  # what a launch may show: so far around the levels, in so many steps
Ended = Literal["found", "no rise", "better", "unclear"]


@dataclass(frozen=True, slots=True)
class LaunchCost:
    """Seconds: of ``launch``ing both sides until they are ready, of a ``pair``, and of getting a commit ready that was not measured yet."""

    launch_s: float
    pair_s: float
    checkout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NextLaunch:
    """What to measure: so many pairs of that commit beside the good one, in a fresh launch of both."""

    commit: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """The search is over. The guilty commit is one of ``first`` to ``last`` (numbers) with ``probability``.

    ``ending`` is "found" where that is as sure as was claimed, and no measurable commit could narrow it; "no rise" and "better" where bad
    is not worse than good; "unclear" where the launches ran out. ``rise`` is bad's change in all, ``explained`` the part of it that came
    with the suspects, ``before`` that of the last commit before them.
    """

    ending: Ended
    first: int
    last: int
    probability: float
    rise: Extent
    before: Extent
    explained: float


@dataclass(frozen=True, slots=True)
class Commits:
    """What is searched: commits 0 (good) to ``count`` (bad); ``broken`` are those that cannot be measured. Raises SettingsError.

    ``claim`` is the probability that an answer must have, ``tolerance`` the share by which bad may be worse and still be called as good
    as good (0.05: 5 %).
    """

    count: int
    broken: frozenset[int] = frozenset()
    claim: float = 0.99
    tolerance: float = 0.05
    near: float = field(init=False)

    def __post_init__(self) -> None:
        if self.count < 1 or self.broken & {0, self.count}:
            raise SettingsError("A search needs a good and a bad commit that can be measured.")
        if not 0.5 < self.claim < 1:
            raise SettingsError(f"confidence is {self.claim!r}.", remedy="Write it like 0.99; at least 0.5.")
        object.__setattr__(self, "near", math.log1p(self.tolerance))


def next_step(
    commits: Commits, launches: Sequence[Evidence], cost: LaunchCost, most_launches: int = MOST_LAUNCHES
) -> NextLaunch | Suspects:
    """What to measure next, or the answer. Launches of commits that are broken by now are left out."""
    kept = [each for each in launches if each.commit not in commits.broken]
    if not any(each.commit == commits.count for each in kept):
        return NextLaunch(commits.count, PAIRS[1])
    belief = believe(commits.count, kept, least=LEAST, near=commits.near)
    ended = _ended(commits, belief, kept, most_launches)
    if ended is not None:
        return _suspects(commits, belief, ended)
    gains = {each: _gains(commits, belief, each) for each in PAIRS}
    seen = {each.commit for each in kept}

    def worth(probe: NextLaunch) -> float:
        seconds = cost.launch_s + probe.pairs * cost.pair_s + (0.0 if probe.commit in seen else cost.checkout_s)
        return gains[probe.pairs].get(probe.commit, 0.0) / seconds

    return max((NextLaunch(commit, pairs) for pairs, found in gains.items() for commit in found), key=worth)


def _ended(commits: Commits, belief: Belief, launches: Sequence[Evidence], most: int) -> Ended | None:
    of_bad = sum(each.commit == commits.count for each in launches)
    if of_bad >= LEAST_OF_BAD and belief.better >= commits.claim:
        return "better"
    if of_bad >= LEAST_OF_BAD and belief.close >= commits.claim and belief.worse <= HARDLY:
        return "no rise"
    leader = belief.leader
    if leader.probability >= commits.claim and not _between(commits, leader.before, leader.at):
        return "found"
    out_of_launches = len(launches) >= most or (of_bad >= MOST_OF_BAD and belief.worse < LIKELY)
    return "unclear" if out_of_launches else None


def _between(commits: Commits, before: int, at: int) -> Sequence[int]:
    """The commits between two that can be measured."""
    return [each for each in range(before + 1, at) if each not in commits.broken]


def _gains(commits: Commits, belief: Belief, pairs: int) -> Mapping[int, float]:
    """By commit: the information (in nats) that a launch of so many pairs is expected to give on whether the commit is before the rise."""
    import numpy as np

    rise = belief.levels[commits.count].value
    outcomes = np.linspace(-AROUND, max(rise, 0.0) + AROUND, OUTCOMES)

    def density(level: float) -> Floats:
        found: Floats = np.exp(belief.spread.log_density(outcomes - level, belief.pair_sd, pairs)) @ belief.spread_weight
        found /= found.sum()
        return found

    if belief.worse < LIKELY:  # whether there is a rise at all: the bad commit says most of that
        return {commits.count: float(pairs)} if pairs == PAIRS[1] else {}
    before, after = density(0.0), density(max(rise, LEAST))
    found = {}
    for commit in range(1, commits.count + 1):
        if commit not in commits.broken:
            share = min(1.0, max(0.0, belief.raised_at(commit)))
            mixed = share * after + (1 - share) * before
            found[commit] = float(share * after @ np.log(after / mixed) + (1 - share) * before @ np.log(before / mixed))
    return found


def _suspects(commits: Commits, belief: Belief, ending: Ended) -> Suspects:
    """The answer: the likeliest gap, widened on its likelier side until it holds the rise as surely as was claimed."""
    gaps = belief.crossings
    first = last = gaps.index(belief.leader)
    probability = belief.leader.probability
    while probability < commits.claim and (first > 0 or last < len(gaps) - 1) and ending == "unclear":
        ahead, behind = (gaps[each].probability if 0 <= each < len(gaps) else -1.0 for each in (first - 1, last + 1))
        first, last = (first - 1, last) if ahead >= behind else (first, last + 1)
        probability = min(1.0, probability + max(ahead, behind))
    before, after = belief.levels[gaps[first].before], belief.levels[gaps[last].at]
    return Suspects(
        ending, gaps[first].before + 1, gaps[last].at, probability, belief.levels[commits.count], before, after.value - before.value
    )
