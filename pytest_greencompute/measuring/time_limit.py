"""What a test may cost: its seconds of device time, counted while it measures, and those that are on nobody's bill."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_greencompute.machine.clock import Clock, RealClock
from pytest_greencompute.protocol.sets import LEAST_SINGLES
from pytest_greencompute.values.readings import sets_of
from pytest_greencompute.values.run import Run


@dataclass
class TimeLimit:
    """At most ``seconds`` for all that a test measures, its runs one after the other.

    ``apart_s`` is what loading models and getting another side ready took, which the limit does not hold.
    """

    clock: Clock = field(default_factory=RealClock)
    seconds: float = math.inf
    apart_s: float = 0.0
    _spent_s: float = 0.0
    _since_ns: int | None = None

    @property
    def spent_s(self) -> float:
        """What has been used of it."""
        return self._spent_s + (0.0 if self._since_ns is None else (self.clock.now_ns() - self._since_ns) / 1e9)

    @property
    def left_s(self) -> float:
        """What is left; negative where the least that says something took longer."""
        return self.seconds - self.spent_s

    @property
    def left_at_first_s(self) -> float:
        """What was left when what is counted now began."""
        return self.seconds - self._spent_s

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """The time in here is on the test's bill."""
        self._since_ns = self.clock.now_ns()
        try:
            yield
        finally:
            self._spent_s, self._since_ns = self.spent_s, None

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """The time in here is not, also where it is being counted."""
        start_ns = self.clock.now_ns()
        try:
            yield
        finally:
            took_ns = self.clock.now_ns() - start_ns
            self.apart_s += took_ns / 1e9
            if self._since_ns is not None:
                self._since_ns += took_ns

    def is_up(self, run: Run) -> bool:
        """Whether another set of ``run`` does not fit, and there are as many as say something."""
        least = LEAST_SINGLES if len(run.blocks) == len(sets_of(run.blocks)) else 1
        last_s = seconds_a_set(run) + 2 * seconds_of_idle(run)  # idle power is read once more at the end, on either side
        return len(sets_of(run.blocks)) >= least and self.left_s < last_s


def seconds_of_idle(run: Run) -> float:
    """How long idle power is read at a time."""
    return max((idle.seconds for idle in run.idles), default=0.0)


def seconds_a_set(run: Run) -> float:
    """How long a set of ``run`` took, with the turns of other sides and idle power; 0 where there is none yet.

    From the beginning of its first set to that of its last there are as many sets of each side as lie before the last. The sides take
    the first turn by turns, so an even number of sets is looked at where there are enough.
    """
    groups = sets_of(run.blocks)
    if len(groups) < 2:
        return 2 * (groups[0][-1].end_ns - groups[0][0].start_ns) / 1e9 if groups else 0.0
    count = len(groups) - 1 if len(groups) % 2 else len(groups) - 2 or 1
    return (groups[count][0].start_ns - groups[0][0].start_ns) / 1e9 / count
