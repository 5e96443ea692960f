"""By how much the figure that is explained rose: the verdict's own joules, before anything is said of where they went."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.stats.distributions import normal_reach
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
    def certain(self) -> bool:
        """Whether there is a difference at all."""
        return self.low > 0 or self.high < 0

    @classmethod
    def of(cls, base: Estimate, head: Estimate, ratio: Ratio | None = None) -> Risen:
        """What two figures say, or where base and head were measured in pairs, their ``ratio``, whose interval is narrower.

        An open side of the ratio is taken to be as far as the closed one.
        """
        if ratio is None or not ratio.value > 0 or not math.isfinite(_reach(ratio)[1]):
            return cls._apart((base.value, _sd(base)), (head.value, _sd(head)), head.confidence)
        return cls._by_ratio(head.value / ratio.value, head.value, _sd(base), ratio, head.confidence)

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[float, float]], confidence: float) -> Risen:
        """What pairs (base, head) of joules per query say, one at least. Raises SettingsError for figures that are not positive."""
        if not pairs or min(map(min, pairs)) <= 0:
            raise SettingsError("There are no pairs of joules to be explained.")
        error = (1 - confidence) / 2
        ratio = pairs_ratio([math.log(head / base) for base, head in pairs], low_error=error, high_error=error)
        base_j = statistics.median(base for base, _ in pairs)
        base_sd = statistics.stdev(base for base, _ in pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else UNKNOWN * base_j
        if not math.isfinite(_reach(ratio)[1]):  # of a lone pair nobody knows the noise
            return cls._apart((base_j, UNKNOWN * base_j), (base_j * ratio.value, UNKNOWN * base_j * ratio.value), confidence)
        return cls._by_ratio(base_j, base_j * ratio.value, base_sd, ratio, confidence)

    @classmethod
    def _apart(cls, base: tuple[float, float], head: tuple[float, float], confidence: float) -> Risen:
        """Of two figures that have nothing to do with each other, each with its standard error."""
        half, rise = normal_reach(confidence) * math.hypot(base[1], head[1]), head[0] - base[0]
        return cls(base[0], head[0], rise - half, rise + half, confidence, base[1])

    @classmethod
    def _by_ratio(cls, base_j: float, head_j: float, base_sd: float, ratio: Ratio, confidence: float) -> Risen:
        down, up = _reach(ratio)
        low, high = (base_j * (ratio.value * times - 1) for times in (1 / down, up))
        rise = head_j - base_j
        return cls(base_j, head_j, min(low, rise), max(high, rise), confidence, base_sd)


def _reach(ratio: Ratio) -> tuple[float, float]:
    """How many times less, and more, the ratio may be; an open side reaches as far as the closed one. Infinite where both are open."""
    down, up = ratio.margin, ratio.high / ratio.value
    return (down if math.isfinite(down) else up), (up if math.isfinite(up) else down)


def _sd(figure: Estimate) -> float:
    half = figure.half_width
    return UNKNOWN * abs(figure.value) if half is None else half / normal_reach(figure.confidence)
