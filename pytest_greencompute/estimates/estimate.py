"""A figure with its interval, or the reason why there is none; and what is asked of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.readings import Method
from pytest_greencompute.values.units import SHARES, Dimension, Quantity, show, show_interval, show_share

ONE_WINDOW = "one window, read once: a sensor that looks part of the time may have missed some of it"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Estimate(Quantity):
    """A figure with its interval, in SI units.

    ``low`` and ``high`` bound it at ``confidence``; None on a side that the data cannot bound. ``n`` independent samples.
    ``systematic`` is the sensor's relative error that no repetition removes, kept apart from the interval. ``note`` says
    what a reader should know of it. ``extremes``: the smallest and the largest sample of a positive quantity that has an open side.
    """

    value: float
    low: float | None
    high: float | None
    dimension: Dimension
    n: int
    confidence: float
    domain: str = ""
    method: Method | None = None
    systematic: float = 0.0
    note: str = ""
    extremes: tuple[float, float] | None = None

    def __repr__(self) -> str:
        where = f" on {self.domain}" if self.domain else ""
        return f"<{show_interval(self.value, self.low, self.high, self.dimension)}{where}>"

    def __str__(self) -> str:
        half = self.half_width
        if half is not None and self.dimension in SHARES:  # the interval of a share is lopsided: 1 of 20 is no 0.05 ±324 %
            return show_interval(self.value, self.low, self.high, self.dimension, 3)
        sure = f" ±{show_share(half / abs(self.value))}" if half is not None and self.value else ""
        return f"{show(self.value, self.dimension)}{sure}{' modelled' if self.method == 'modelled' else ''}"

    @property
    def half_width(self) -> float | None:
        """The larger distance from the figure to an end of its interval; None where a side is open."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.value, self.value - self.low)

    @property
    def relative(self) -> float:
        """Half-width over value: how precise the figure is (0.01: 1 %). Infinite where a side is open."""
        half = self.half_width
        return math.inf if half is None or self.value == 0 else half / abs(self.value)


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no figure. ``unclear`` is True where there is one that is too coarse to judge (a short window).

    ``coarse`` is that figure, where it is good enough to be told from a limit a thousand times below.
    """

    reason: str
    unclear: bool = False
    coarse: Estimate | None = None


Outcome = Estimate | Missing
NOT_MEASURED = Missing("not measured: run pytest with --energy-budget")


def with_systematic(estimate: Estimate) -> Estimate:
    """The estimate with the sensor's systematic share joined to its interval, as an error independent of it."""
    share_of_it = estimate.systematic * abs(estimate.value)

    def side(end: float | None, sign: int) -> float | None:
        if end is None:
            return None
        joined = estimate.value + sign * math.hypot(abs(end - estimate.value), share_of_it)
        return max(joined, end * (1 - estimate.systematic)) if sign < 0 < end else joined  # a share of it leaves a positive end positive

    return replace(estimate, low=side(estimate.low, -1), high=side(estimate.high, +1))


def scaled(estimate: Estimate, factor: float, dimension: Dimension | None = None) -> Estimate:
    """The estimate times a number that is known exactly and is greater than zero."""
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    seen = None if estimate.extremes is None else (estimate.extremes[0] * factor, estimate.extremes[1] * factor)
    return replace(estimate, value=estimate.value * factor, low=low, high=high, extremes=seen, dimension=dimension or estimate.dimension)


@dataclass(frozen=True, slots=True)
class Aim:
    """What is asked of a run: how sure, and which domains energy counts ("auto", "gpu", "cpu", "dram", "all", or several).

    ``footprint`` says what a joule emits and costs.
    """

    confidence: float = 0.99
    domains: tuple[str, ...] = ("auto",)
    footprint: Footprint = field(default_factory=Footprint)

    def at(self, confidence: float) -> Aim:
        """The same, as sure as that."""
        return replace(self, confidence=confidence)


def is_bound(estimate: Estimate) -> bool:
    """Whether an exact figure is only known to be so much at least, or at most (one side of it alone is open)."""
    return (estimate.low is None) != (estimate.high is None)


def figure(metric: Metric, estimate: Estimate) -> str:
    """The subject-less sentence part: 'used 1.931 J per query [1.920, 1.942] on gpu:0'; a modelled figure says so behind its domain."""
    digits = 1 if metric.whole else 4
    number = show(estimate.value, estimate.dimension, digits)
    bounded = metric.exact and is_bound(estimate)
    text = metric.says.format(f"{number} or {'more' if estimate.high is None else 'less'}" if bounded else number)
    interval = show_interval(estimate.value, estimate.low, estimate.high, estimate.dimension, digits)
    if not metric.exact or (estimate.low is not None and estimate.high is not None):
        text += f" {interval.removeprefix(number).strip()}"
    if estimate.domain:
        text += f" on {estimate.domain}{f' ({estimate.method})' if estimate.method == 'modelled' else ''}"
    return text
