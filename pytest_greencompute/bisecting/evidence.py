"""What launches of a commit beside the good one showed, and how far a launch's figure may lie from the commit's own.

Two launches of the same code differ by more than their pairs do (``judging.pairs``): often they fall into two modes, each side for itself,
so that the difference of two sides is none half of the time, and the distance of the modes, either way, in a quarter each. How far apart
modes are and how much launches differ besides is not known beforehand, so all likely answers are kept, each with its weight.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_greencompute.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PAIR_NOISE, ITS_PAIRS = 0.02, 2  # what is assumed of a pair's noise before any was seen, and how many pairs that is worth
APART = (0.02, 0.2, 0.0075)  # distances of the modes that are kept: from, to, step
SPREADS = (0.003, 0.01, 0.03)  # how much launches differ besides (standard deviation)
SPREADS_WEIGHT = (0.5, 0.35, 0.15)
FAR = 3.0  # standard deviations of a pair from the others of its launch: something else disturbed it
MEDIAN_SQUARE = 0.455  # of a normal distribution of variance one
MODES_WEIGHT = 0.4  # that there are two modes at all
ODD_WEIGHT, ODD_SPREAD = 0.01, 0.25  # a launch that something else disturbed


@dataclass(frozen=True, slots=True)
class Evidence:
    """One launch of commit number ``commit`` beside the good one: the change that each of its pairs showed. Raises SettingsError."""

    commit: int
    changes: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.commit < 1 or not self.changes or not all(map(math.isfinite, self.changes)):
            raise SettingsError(f"A launch of commit {self.commit} with the changes {self.changes} is no evidence.")

    @property
    def change(self) -> float:
        """The change of the launch, whatever disturbed some of its pairs."""
        return statistics.median(self.changes)

    def weighed(self, pair_sd: float) -> tuple[float, float]:
        """The change of the launch where pairs have that noise, and how many pairs it is worth: those that are far off count less."""
        weights = [1.0 if (off := abs(each - self.change)) <= FAR * pair_sd else (pair_sd / off) ** 2 for each in self.changes]
        return sum(a * b for a, b in zip(self.changes, weights, strict=True)) / sum(weights), sum(weights)


def pair_noise(launches: Sequence[Evidence]) -> float:
    """The standard deviation of a pair's change within a launch, from all of them together; a pair that is far off does not widen it."""
    assumed, kept = [PAIR_NOISE**2] * ITS_PAIRS, [each for each in launches if len(each.changes) > 1]
    steps = [(after - before) ** 2 / 2 for each in kept for before, after in itertools.pairwise(each.changes)]
    usual = statistics.median([*assumed, *steps]) / MEDIAN_SQUARE
    squares = [(one - each.change) ** 2 * len(each.changes) / (len(each.changes) - 1) for each in kept for one in each.changes]
    return math.sqrt(statistics.fmean([*assumed, *(min(each, FAR**2 * usual) for each in squares)]))


@dataclass(frozen=True, slots=True)
class Spread:
    """All likely ways in which launches differ: ``apart`` and ``besides`` of each, and the logarithm of its ``weight``."""

    apart: Floats
    besides: Floats
    weight: Floats

    def log_density(self, off: Floats, pair_sd: float, pairs: float) -> Floats:
        """How likely a launch of so many pairs is ``off`` by so much from its commit's own change; a last axis has the ways."""
        import numpy as np

        off, variance = off[..., None], pair_sd**2 / pairs + self.besides**2
        # Where the modes are not apart all three parts are the same.
        parts = [
            share * np.exp(-((off - where) ** 2) / (2 * variance)) for share, where in ((0.5, 0.0), (0.25, self.apart), (0.25, -self.apart))
        ]
        odd = ODD_WEIGHT / ODD_SPREAD * np.exp(-(off**2) / (2 * ODD_SPREAD**2))
        found: Floats = np.log(((1 - ODD_WEIGHT) * sum(parts) / np.sqrt(variance) + odd) / math.sqrt(2 * math.pi))
        return found


def likely_spreads() -> Spread:
    """Those that are kept, with what is thought of each before anything was measured."""
    import numpy as np

    apart = np.concatenate([[0.0], np.arange(*APART)])
    modes = np.concatenate([[1 - MODES_WEIGHT], np.full(len(apart) - 1, MODES_WEIGHT / (len(apart) - 1))])
    weight = np.log(np.outer(modes, SPREADS_WEIGHT)).ravel()
    return Spread(np.repeat(apart, len(SPREADS)), np.tile(SPREADS, len(apart)), weight)
