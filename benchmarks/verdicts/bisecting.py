"""How often ``greencompute bisect`` is right, and what it costs beside a plain bisect. Run: python benchmarks/verdicts/bisecting.py

Each history has 64 commits; one of them, anywhere, made the test dearer by 8 to 30 %, and 5 % of the others cannot be measured. Half of all
launches are 12 % dearer, each side's for itself (``_noise.py``), and within a launch a side's sets have 1 or 2 % of noise. The plain bisect
halves the history and measures the commit in the middle until that step is wrong as seldom as it must be for all steps together to be
wrong as seldom as the search claims. Each step has the same model of launches, and what was measured of the bad commit until it was as
likely to be worse as the search asks for, but nothing of other commits. It is told which commits cannot be measured.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from _noise import MODES
from tabulate import tabulate

from pytest_greencompute.bisecting.belief import believe
from pytest_greencompute.bisecting.evidence import Evidence
from pytest_greencompute.bisecting.search import LEAST, LIKELY, PAIRS, Commits, LaunchCost, NextLaunch, Suspects, next_step

HISTORIES, COMMITS, CLAIM = 200, 64, 0.99
NOISES = (0.01, 0.02)
STEP, BROKEN = (0.08, 0.30), 0.05
DISTURBANCE = (0.15, 0.6)
COST = LaunchCost(launch_s=5.0, pair_s=1.0, checkout_s=1.0)
STEPS = math.ceil(math.log2(COMMITS))
MOST_OF_A_STEP = 60
CLAIMS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0001)


@dataclass
class History:
    """A history with a known truth. ``guilty`` is the number of the commit, ``broken`` are those that cannot be measured, ``disturbed`` the
    share of sets that something else made dearer.
    """

    noise: float
    seed: int
    disturbed: float
    launches: list[Evidence] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._luck = np.random.default_rng([self.seed, round(1e4 * self.noise)])
        self.guilty = int(self._luck.integers(1, COMMITS + 1))
        self.step = float(self._luck.uniform(*STEP))
        self.broken = frozenset(int(each) for each in range(1, COMMITS) if self._luck.random() < BROKEN)

    @property
    def pairs(self) -> int:
        """How many were measured."""
        return sum(len(each.changes) for each in self.launches)

    def measure(self, commit: int, pairs: int) -> Evidence:
        """A launch of that commit beside the good one."""
        modes = np.where(self._luck.random(2) < 0.5, 1 + MODES, 1.0)
        good, other = modes[:, None] * (1 + self.noise * self._luck.standard_normal((2, pairs)))
        if self.disturbed:
            hit = self._luck.random((2, pairs)) < self.disturbed
            good, other = np.array([good, other]) * (1 + hit * self._luck.uniform(*DISTURBANCE, (2, pairs)))
        dearer = 1 + self.step if commit >= self.guilty else 1.0
        self.launches.append(Evidence(commit, tuple(np.log(other * dearer / good).tolist())))
        return self.launches[-1]


@dataclass(frozen=True)
class Outcome:
    """What an answer claimed, whether it was right, and how many pairs and launches it took; ``claims`` are those made on the way."""

    claimed: float
    right: bool
    pairs: int
    launches: int
    seconds: float
    ranged: bool = False
    claims: Sequence[tuple[float, bool]] = ()


def searched(noise: float, seed: int, disturbed: float) -> Outcome:
    """A history, by the search."""
    history, commits = History(noise, seed, disturbed), Commits(COMMITS, claim=CLAIM)
    claims = []
    while isinstance(now := next_step(commits, history.launches, COST), NextLaunch):
        if now.commit in history.broken:
            commits = Commits(COMMITS, commits.broken | {now.commit}, CLAIM)
            continue
        history.measure(now.commit, now.pairs)
        leader = believe(COMMITS, history.launches, least=LEAST, near=commits.near).leader
        claims.append((leader.probability, leader.before < history.guilty <= leader.at))
    return _outcome(history, now.probability, now, claims)


def _outcome(history: History, claimed: float, found: Suspects, claims: Sequence[tuple[float, bool]] = ()) -> Outcome:
    right = found.ending in {"found", "unclear"} and found.first <= history.guilty <= found.last
    seconds = len(history.launches) * COST.launch_s + history.pairs * COST.pair_s
    seconds += len({each.commit for each in history.launches}) * COST.checkout_s
    return Outcome(claimed, right, history.pairs, len(history.launches), seconds, found.last > found.first, claims)


def halved(noise: float, seed: int, disturbed: float) -> Outcome:
    """The same history, by the plain bisect: a side is kept once a step is as sure as all steps together need."""
    history, error = History(noise, seed, disturbed), (1 - CLAIM) / STEPS
    bad: list[Evidence] = []
    while not bad or believe(2, bad, least=LEAST, near=LEAST).worse < LIKELY:
        bad.append(Evidence(2, history.measure(COMMITS, PAIRS[0]).changes))
    before, after = 0, COMMITS
    while inside := [each for each in range(before + 1, after) if each not in history.broken]:
        middle = min(inside, key=lambda each: abs(2 * each - before - after))
        here: list[Evidence] = []
        raised = 0.5
        while error < raised < 1 - error and len(here) < MOST_OF_A_STEP:
            here.append(Evidence(1, history.measure(middle, PAIRS[0]).changes))
            raised = believe(2, [*here, *bad], least=LEAST, near=LEAST).raised[1]
        before, after = (before, middle) if raised > 0.5 else (middle, after)
    right = before < history.guilty <= after
    seconds = len(history.launches) * COST.launch_s + history.pairs * COST.pair_s
    seconds += len({each.commit for each in history.launches}) * COST.checkout_s
    return Outcome(CLAIM, right, history.pairs, len(history.launches), seconds)


def calibration(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """How often claims were right, by how sure they were: of all that were made on the way, and of all answers."""
    claims = np.array([each for outcome in outcomes for each in outcome.claims])
    rows = []
    for low, high in itertools.pairwise(CLAIMS):
        some = claims[(claims[:, 0] >= low) & (claims[:, 0] < high)]
        if len(some):
            rows.append([f"{low:.0%} to {min(1, high):.0%}", str(len(some)), f"{some[:, 0].mean():.1%}", f"{some[:, 1].mean():.1%}"])
    rows.append(["all on the way", str(len(claims)), f"{claims[:, 0].mean():.1%}", f"{claims[:, 1].mean():.1%}"])
    answers = np.array([(each.claimed, each.right) for each in outcomes])
    return [*rows, ["all answers", str(len(answers)), f"{answers[:, 0].mean():.1%}", f"{answers[:, 1].mean():.1%}"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=HISTORIES, help=f"how many, half at each noise (default: {HISTORIES})")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (default: 0)")
    parser.add_argument("--disturbed", type=float, default=0.0, help="share of sets that are 15 to 60 %% dearer by chance (default: 0)")
    given = parser.parse_args()
    everything: list[Outcome] = []
    table = []
    for noise in NOISES:
        seeds = range(given.seed, given.seed + given.histories // len(NOISES))
        ours, plain = ([way(noise, seed, given.disturbed) for seed in seeds] for way in (searched, halved))
        everything += ours
        for name, found in (("bisect", ours), ("plain bisect", plain)):
            sure = [each.right for each in found if each.claimed >= CLAIM]
            costs = [sum(getattr(each, what) for each in found) / len(found) for what in ("pairs", "launches", "seconds")]
            right, ranged = f"{sum(sure)} of {len(sure)}", sum(each.ranged for each in found)
            table.append([f"{noise:.0%}", name, right, ranged, *(f"{each:.1f}" for each in costs), f"{costs[0] / _pairs(plain):.2f}"])
    heads = [
        "noise",
        "way",
        f"right of those that claim {CLAIM:.0%}",
        "ranges",
        "pairs",
        "launches",
        "seconds",
        "pairs, of the plain one's",
    ]
    print(tabulate(table, heads, tablefmt="github", disable_numparse=True))
    print()
    print(tabulate(calibration(everything), ["claimed", "claims", "in the mean", "right"], tablefmt="github", disable_numparse=True))


def _pairs(found: Sequence[Outcome]) -> float:
    return sum(each.pairs for each in found) / len(found)


if __name__ == "__main__":
    main()
