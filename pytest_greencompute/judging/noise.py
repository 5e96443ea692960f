"""What a machine's noise lets a comparison see: the same code measured against itself, in pairs and in several launches. Pure.

Figures are shares (0.02: 2 %). A *change* is the logarithm of a pair's ratio; that of the same code should be zero.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.prospect import Prospect, comparison, played, typical_of
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.stats.distributions import student_t_quantile

if TYPE_CHECKING:
    import numpy as np

TOLERANCES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.50)
TRIALS = 200
ENOUGH = 0.95  # of the trials: unchanged code passes, and twice the tolerance fails
SURE = 0.999  # that a trend is none of chance: two sides and several launches are looked at
MAD_TO_SD = 1.4826  # of a normal distribution: 1 / the normal quantile of 0.75
OUTLYING, LEAST_OUTLYING = 5.0, 0.02
LEAST_MODE_GAP = 0.02
MODE_GAP_TIMES = 6.0
TREND_LEAST = 6
WORSE = 0.15  # a regression that a gate is there for; where the tolerance is large, twice that
JoulesInPairs = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Noise:
    """What was seen of the same code against itself.

    ``pair`` is the standard deviation of a pair's change within a launch, ``launch`` that of a launch's mean change beyond it (0: no more
    than pairs explain), ``drift`` the largest steady change of a side within a launch, ``outliers`` the share of sets far off their
    launch's median, ``modes`` how far apart two groups of launches lie; each 0 where it was not seen. ``tolerance`` is the smallest at
    which the same code passes and twice the tolerance fails in 95 of 100 comparisons (None: none up to 50 %), ``pairs`` the
    median of pairs that the same code needs for its PASS then.
    """

    pairs_seen: int
    launches: int
    pair: float
    launch: float
    drift: float
    outliers: float
    modes: float
    tolerance: float | None = None
    pairs: int | None = None


def noise_of(launches: Sequence[JoulesInPairs], *, most_pairs: int, confidence: float, rng: np.random.Generator) -> Noise:
    """What ``launches`` show, each a list of pairs of the same code, all positive; ``most_pairs`` is what a comparison has time for.

    Raises SettingsError for fewer than two launches of two pairs each.
    """
    if len(launches) < 2 or any(len(pairs) < 2 for pairs in launches):
        seen = ", ".join(str(len(pairs)) for pairs in launches) or "none"
        raise SettingsError(
            f"Too few pairs to tell noise from chance (pairs by launch: {seen}).", remedy="Give it more seconds or launches."
        )
    changes = _changes(launches)
    means = [statistics.fmean(each) for each in changes]
    within = math.sqrt(statistics.fmean([statistics.variance(each) for each in changes]))
    expected = statistics.fmean([within**2 / len(each) for each in changes])
    sides = [[math.log(value) for value in side] for pairs in launches for side in zip(*pairs, strict=True)]
    noise = Noise(
        pairs_seen=sum(map(len, changes)),
        launches=len(launches),
        pair=within,
        launch=math.sqrt(max(0.0, statistics.variance(means) - expected)),
        drift=max(map(trend, sides)),
        outliers=statistics.fmean([_is_outlying(side, value) for side in sides for value in side]),
        modes=mode_gap(sides),
    )
    tolerance, pairs = supported(changes, most_pairs, confidence, rng)
    return replace(noise, tolerance=tolerance, pairs=pairs)


def trend(logs: Sequence[float]) -> float:
    """By what share a side rises or falls steadily from its first set to its last; 0 where chance explains it.

    Student's t of the slope of least squares.
    """
    n = len(logs)
    if n < TREND_LEAST:
        return 0.0
    middle, mean = (n - 1) / 2, statistics.fmean(logs)
    spread = sum((index - middle) ** 2 for index in range(n))
    slope = sum((index - middle) * (log - mean) for index, log in enumerate(logs)) / spread
    rest = sum((log - mean - slope * (index - middle)) ** 2 for index, log in enumerate(logs))
    error = math.sqrt(rest / (n - 2) / spread)
    return abs(slope) * (n - 1) if abs(slope) > student_t_quantile((1 + SURE) / 2, n - 2) * error else 0.0


def _is_outlying(logs: Sequence[float], log: float) -> bool:
    middle = statistics.median(logs)
    spread = MAD_TO_SD * statistics.median(abs(each - middle) for each in logs)
    return abs(log - middle) > max(OUTLYING * spread, LEAST_OUTLYING)


def mode_gap(sides: Sequence[Sequence[float]]) -> float:
    """How far apart two groups of launches lie, where no launch lies between them; 0 where all are one group."""
    middles = sorted(statistics.median(side) for side in sides)
    gap = max(after - before for before, after in itertools.pairwise(middles))
    error = statistics.fmean(statistics.stdev(side) / math.sqrt(len(side)) for side in sides)
    return math.expm1(gap) if gap > max(math.log1p(LEAST_MODE_GAP), MODE_GAP_TIMES * error) else 0.0


def supported(
    changes: Sequence[Sequence[float]], most_pairs: int, confidence: float, rng: np.random.Generator
) -> tuple[float | None, int | None]:
    """The smallest of TOLERANCES that this noise supports, and the pairs that the same code needs for a PASS then.

    Comparisons are played through with pairs drawn from those that were seen, launch by launch.
    """
    for tolerance in TOLERANCES:
        test = comparison(Rule(tolerance, confidence), most_pairs)
        passed = _right(changes, test, 0.0, ENOUGH, rng)
        if passed and _right(changes, test, 2 * tolerance, ENOUGH, rng):
            return tolerance, math.ceil(statistics.median(each.pairs for each in passed))
    return None, None


@dataclass(frozen=True, slots=True)
class Price:
    """What the verdicts of a test take by its own ``rule``: what unchanged code takes to a PASS, and code that is dearer by ``worse`` to a
    FAIL that fresh launches have confirmed (medians); None where fewer than half of the comparisons come to it.
    """

    rule: Rule
    worse: float
    to_pass: Prospect | None
    to_fail: Prospect | None


def price_of(launches: Sequence[JoulesInPairs], rule: Rule, *, most_pairs: int, agreeing: int, rng: np.random.Generator) -> Price:
    """What verdicts take, ``launches`` being as for ``noise_of``; ``agreeing`` launches of each must show a PASS."""
    changes, worse = _changes(launches), max(WORSE, 2 * rule.tolerance)

    def typical(by: float) -> Prospect | None:
        ends = _right(changes, comparison(rule, most_pairs, agreeing), by, 0.5, rng)
        return typical_of(ends) if ends else None

    return Price(rule, worse, typical(0.0), typical(worse))


def _changes(launches: Sequence[JoulesInPairs]) -> list[list[float]]:
    return [[math.log(b) - math.log(a) for a, b in pairs] for pairs in launches]


def _right(
    changes: Sequence[Sequence[float]], test: PairedTest, worse: float, enough: float, rng: np.random.Generator
) -> Sequence[Prospect]:
    """Those of TRIALS comparisons like ``test`` that came to the right word, head being ``worse`` by that share; none where they are less
    than ``enough`` of them. Launches are drawn from those that were seen, and pairs from those of the launch.
    """
    right: list[Prospect] = []
    for trial in range(TRIALS):
        drawn: dict[int, Sequence[float]] = {}

        def change(launch: int, drawn: dict[int, Sequence[float]] = drawn) -> float:
            seen = drawn.setdefault(launch, changes[int(rng.integers(len(changes)))])
            return seen[int(rng.integers(len(seen)))] + math.log1p(worse)

        end = played(copy.deepcopy(test), change)
        right += [end] if end.word == ("FAIL" if worse else "PASS") else []
        if trial + 1 - len(right) > (1 - enough) * TRIALS:
            return ()
    return right
