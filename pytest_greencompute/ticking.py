"""When a counter ticks: a clock that follows its ticks from what was seen of them, so that most need not be watched. Pure.

Watching for a tick takes several reads, and on some GPUs one read costs 3 ms of CPU (H100, driver 580: the GPU's own processor is
asked each time). A counter whose ticks are regular can be read once, shortly after a tick that is known to have come.
"""

from __future__ import annotations

import math
import statistics
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


class TickClock:
    """Follows ticks ``period_s`` apart, each up to ``jitter_s`` early or late, from those seen: a straight line through them.

    The more and the further apart they are, the better the line is known (the standard error of a prediction by least squares), and the
    longer the clock may run unseen.
    """

    def __init__(self, period_s: float, jitter_s: float = 0.0) -> None:
        self._period_ns = period_s * 1e9  # as given, and later as it was when the clock began anew
        self._jitter_ns = jitter_s * 1e9
        self._seen: list[tuple[int, Seen]] = []  # each with its number

    @property
    def period_ns(self) -> float:
        """As the ticks seen so far show it."""
        return self._line()[1] if len(self._seen) > 1 else self._period_ns

    def saw(self, seen: Seen) -> bool:
        """A tick was seen. False where none was due then: what was foretold since the last one is worthless.

        The clock begins anew with such a tick, and with one that comes after so long that ticks can no longer be counted.
        """
        number, due = self._next(seen.middle_ns - self.period_ns / 2)
        fits = not self._seen or abs(due.t_ns - seen.middle_ns) <= due.doubt_ns + seen.doubt_ns + self._jitter_ns + ROUNDING_NS
        if not fits or (len(self._seen) > 1 and due.doubt_ns > self.period_ns / 4):
            self._period_ns, self._seen = self.period_ns, []
        self._seen = [*self._seen[-(KEPT - 1) :], (number, seen)]
        return fits

    def unseen_ns(self, t_ns: float) -> float:
        """How long no tick had been seen at ``t_ns``."""
        return t_ns - self._seen[-1][1].middle_ns if self._seen else math.inf

    def next_after(self, t_ns: float) -> Due:
        """The first tick after ``t_ns``, and how far off it can be; infinitely far before any tick was seen."""
        return self._next(t_ns)[1]

    def _next(self, t_ns: float) -> tuple[int, Due]:
        if not self._seen:
            return 0, Due(t_ns + self._period_ns, math.inf)
        start_ns, period_ns = self._line()
        number = math.floor((t_ns - start_ns) / period_ns) + 1
        return number, Due(start_ns + number * period_ns, self._doubt_ns(number))

    def _line(self) -> tuple[float, float]:
        """When number 0 came and the period: least squares through the middles of what was seen."""
        number, first = self._seen[0]
        if len(self._seen) == 1:
            return first.middle_ns - number * self._period_ns, self._period_ns
        mean, spread = self._numbers()
        mean_ns = statistics.fmean(seen.middle_ns - first.middle_ns for _, seen in self._seen)
        period_ns = sum((n - mean) * (seen.middle_ns - first.middle_ns - mean_ns) for n, seen in self._seen) / spread
        return first.middle_ns + mean_ns - mean * period_ns, period_ns

    def _numbers(self) -> tuple[float, float]:
        mean = statistics.fmean(number for number, _ in self._seen)
        return mean, sum((number - mean) ** 2 for number, _ in self._seen)

    def _doubt_ns(self, number: int) -> float:
        if len(self._seen) == 1:
            return math.inf
        mean, spread = self._numbers()
        # A tick lies anywhere between its two times, and may jitter: together at most as uncertain as an even spread as wide as both.
        variance = statistics.fmean((seen.doubt_ns + self._jitter_ns) ** 2 / 3 for _, seen in self._seen)
        return SURE * math.sqrt(variance * (1 / len(self._seen) + (number - mean) ** 2 / spread)) + self._jitter_ns
