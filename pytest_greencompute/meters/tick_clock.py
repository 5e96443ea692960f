"""When a counter ticks: a clock that follows its ticks from what was seen of them, so that most need not be watched. Pure.

Watching for a tick takes several reads, and on some GPUs one read costs 3 ms of CPU (H100, driver 580: the GPU's own processor is
asked each time). A counter whose ticks are regular can be read once, shortly after a tick that is known to have come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUNDING_NS = 1000
KEPT = 64  # ticks
SURE = 3.0  # standard errors


@dataclass(frozen=True, slots=True)
class Seen:
    """A tick that came between two times, in nanoseconds of the monotonic clock: after ``from_ns``, by ``to_ns``."""

    from_ns: int
    to_ns: int

    @property
    def middle_ns(self) -> float:
        return (self.from_ns + self.to_ns) / 2

    @property
    def doubt_ns(self) -> float:
        """At most so far from the middle."""
        return (self.to_ns - self.from_ns) / 2


@dataclass(frozen=True, slots=True)
class Due:
    """A tick to come: at ``t_ns``, hardly ever off by more than ``doubt_ns``."""

    t_ns: float
    doubt_ns: float


@dataclass(frozen=True, slots=True)
class _Line:
    """When tick number ``mean`` came, the period, and the variance of both; all in nanoseconds."""

    mean: float
    at_ns: float
    period_ns: float
    at_variance: float
    period_variance: float

    def t_ns(self, number: float) -> float:
        return self.at_ns + (number - self.mean) * self.period_ns

    def variance(self, number: float) -> float:
        return self.at_variance + (number - self.mean) ** 2 * self.period_variance


class TickClock:
    """Follows ticks ``period_s`` apart, each up to ``jitter_s`` early or late, from those seen: a straight line through them.

    The more and the further apart they are, the better the line is known (weighted least squares and the standard error of its
    prediction), and the longer the clock may run unseen. Ticks that cannot be counted any more still leave the period that they showed.
    ``doubt_s``: the standard error of ``period_s``, where other ticks have shown it before.
    """

    def __init__(self, period_s: float, jitter_s: float = 0.0, doubt_s: float = math.inf) -> None:
        self._period_ns = period_s * 1e9
        self._period_variance = (doubt_s * 1e9) ** 2
        self.jitter_ns = jitter_s * 1e9
        self._seen: list[tuple[int, Seen]] = []  # each with its number
        self._line: _Line | None = None

    @property
    def period_ns(self) -> float:
        """As the ticks seen so far show it."""
        return self._period_ns if self._line is None else self._line.period_ns

    @property
    def period_doubt_s(self) -> float:
        """The standard error of the period; infinite where nothing has shown it yet."""
        return math.sqrt(self._period_variance if self._line is None else self._line.period_variance) / 1e9

    def saw(self, seen: Seen) -> bool:
        """A tick was seen. False where none was due then: what was foretold since the last one is worthless, and the clock begins anew."""
        number, due = self._next(seen.middle_ns - self.period_ns / 2)
        fits = abs(due.t_ns - seen.middle_ns) <= due.doubt_ns + seen.doubt_ns + self.jitter_ns + ROUNDING_NS
        if not fits:
            self._seen, self._line, self._period_variance = [], None, math.inf
        elif self._line is not None and len(self._seen) > 1 and due.doubt_ns > self.period_ns / 2:
            # Half a period off, it might be the tick before or after: it cannot be counted from, and only the period is kept.
            self._period_ns, self._period_variance, self._seen = self._line.period_ns, self._line.period_variance, []
        self._seen = [*self._seen[-(KEPT - 1) :], (number, seen)]
        self._line = self._fitted()
        return fits

    def unseen_ns(self, t_ns: float) -> float:
        """How long no tick had been seen at ``t_ns``."""
        return t_ns - self._seen[-1][1].middle_ns if self._seen else math.inf

    def next_after(self, t_ns: float) -> Due:
        """The first tick after ``t_ns``, and how far off it can be; infinitely far before any tick was seen."""
        return self._next(t_ns)[1]

    def _next(self, t_ns: float) -> tuple[int, Due]:
        line = self._line
        if line is None:
            return 0, Due(t_ns + self._period_ns, math.inf)
        number = math.floor((t_ns - line.t_ns(0)) / line.period_ns) + 1
        return number, Due(line.t_ns(number), SURE * math.sqrt(line.variance(number)) + self.jitter_ns)

    def _fitted(self) -> _Line:
        # A tick lies anywhere between its two times, and may jitter: together at most as uncertain as an even spread as wide as both.
        weights = [3 / (seen.doubt_ns + self.jitter_ns + ROUNDING_NS) ** 2 for _, seen in self._seen]
        total = sum(weights)
        first_ns = self._seen[0][1].middle_ns
        mean = sum(w * number for w, (number, _) in zip(weights, self._seen, strict=True)) / total
        mean_ns = sum(w * (seen.middle_ns - first_ns) for w, (_, seen) in zip(weights, self._seen, strict=True)) / total
        spread = sum(w * (number - mean) ** 2 for w, (number, _) in zip(weights, self._seen, strict=True))
        period_ns, variance = self._period_ns, self._period_variance
        if spread * variance > 1:  # the ticks at hand tell the period better than those before the pause did
            moment = sum(w * (n - mean) * (seen.middle_ns - first_ns - mean_ns) for w, (n, seen) in zip(weights, self._seen, strict=True))
            period_ns, variance = moment / spread, 1 / spread
        return _Line(mean, first_ns + mean_ns, period_ns, 1 / total, variance)
