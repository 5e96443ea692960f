"""By how much the figure that is explained rose: the verdict's own joules, before anything is said of where they went."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.stats.ratios import Ratio, pairs_ratio

UNKNOWN = 0.05  # of a figure without an interval: what it may be off by (standard deviation)


@dataclass(frozen=True, slots=True)
class Risen:
    """Joules per query of both sides, and their difference between ``low`` and ``high`` at ``confidence``; ``base_sd`` is the standard
    error of the base's own figure. Raises SettingsError for what no verdict says.
    """

    base_j: float
    head_j: float
    low: float
    high: float
    confidence: float = 0.99
    base_sd: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.base_j, self.head_j, self.low, self.high, self.base_sd)
        if not all(map(math.isfinite, numbers)) or min(self.base_j, self.head_j) <= 0 or not self.low <= self.difference_j <= self.high:
            raise SettingsError(f"From {self.base_j!r} J to {self.head_j!r} J between {self.low!r} and {self.high!r} is no difference.")
        if not 0 < self.confidence < 1:
            raise SettingsError(f"The confidence {self.confidence!r} is none.", remedy="It must be between 0 and 1.")

    @property
    def difference_j(self) -> float:
        """How many joules more a query takes now."""
        return self.head_j - self.base_j

    @property
    def difference_sd(self) -> float:
        """The standard error of the difference."""
        return (self.high - self.low) / (2 * _z(self.confidence))

    @property
    def certain(self) -> bool:
        """Whether there is a difference at all."""
        return self.low > 0 or self.high < 0

    @classmethod
    def of(cls, base: Estimate, head: Estimate, ratio: Ratio | None = None) -> Risen:
        """What two figures say, or where base and head were measured in pairs, their ``ratio``, whose interval is narrower.

        An open side of the ratio is taken to be as far as the closed one.
        """
        if ratio is None or not ratio.value > 0:
            half = _z(head.confidence) * math.hypot(_sd(base), _sd(head))
            rise = head.value - base.value
            return cls(base.value, head.value, rise - half, rise + half, head.confidence, _sd(base))
        base_j = head.value / ratio.value
        up = ratio.high / ratio.value if math.isfinite(ratio.high) else ratio.margin
        down = ratio.margin if math.isfinite(ratio.margin) else up
        if not math.isfinite(up):
            return cls.of(base, head)
        rise = head.value - base_j
        low, high = (base_j * (ratio.value * times - 1) for times in (1 / down, up))
        return cls(base_j, head.value, min(low, rise), max(high, rise), head.confidence, _sd(base))

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[float, float]], confidence: float) -> Risen:
        """What pairs (base, head) of joules per query say, one at least. Raises SettingsError for figures that are not positive."""
        if not pairs or min(map(min, pairs)) <= 0:
            raise SettingsError("There are no pairs of joules to be explained.")
        error = (1 - confidence) / 2
        ratio = pairs_ratio([math.log(head / base) for base, head in pairs], low_error=error, high_error=error)
        base_j = statistics.median(base for base, _ in pairs)
        base_sd = statistics.stdev(base for base, _ in pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else UNKNOWN * base_j
        low, high = (end if 0 < end < math.inf else ratio.value for end in (ratio.low, ratio.high))
        return cls(base_j, base_j * ratio.value, base_j * (low - 1), base_j * (high - 1), confidence, base_sd)


def _sd(figure: Estimate) -> float:
    half = figure.half_width
    return UNKNOWN * abs(figure.value) if half is None else half / _z(figure.confidence)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
