"""Whether an energy counter agrees with the power that its device shows, both over the same time. Pure.

A power field is a mean over its window, so it is held against what such a mean of the counter would show: the counter read at its ticks,
with a straight line between two. Nobody tells whether a field's window is short or a second long, so both are tried, and the one that fits
better holds. Both are summed over *parts*, a second or more of the measurement each, whoever works meanwhile. Whatever makes power hard to
sample, such as a field that sees a part of the time and a load in step with it, or a load that changes between two ticks, makes the parts
differ, as blocks begin at all phases of a tick. That spread is the interval, and what the ends of all leave open is added.

Of several fields the counter must disagree with each. Fields that contradict each other say nothing, and leave it open whether a counter
that disagrees with another scope is theirs.
"""

from __future__ import annotations

import itertools
import math
import statistics
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.stats.intervals import ratio_interval
from pytest_greencompute.values.powers import SCOPES, PowerField, Scope
from pytest_greencompute.values.readings import Reading

NOTED, BEYOND = 0.1, 0.3  # gains of cards differ by 5 %, and an H100's and an H200's counter by 3 and 4 % from their power
CONFIDENCE = 0.999  # an alarm costs a run, and a counter that loses some loses it again
PART_S, MOST_PARTS, LEAST_PARTS = 1.0, 20, 3
UPDATE_S = 0.1  # fields are renewed every 20 to 100 ms (arXiv 2312.02741)
SHORT_S = 0.1
GAP_S, GAP_SAMPLES = 0.5, 4  # between two samples, at most: of what was not seen nothing is known
PowerSample = tuple[int, float]  # nanoseconds of the monotonic clock, watts
# Of the power. A counter that is as near to that of a scope is its, whatever the fields of the others say, but where another scope's is as
# near as that: an interval that is wide enough holds any counter.
NEAR = 0.05


@dataclass(frozen=True, slots=True)
class Agreement:
    """A counter beside one field over ``seconds``: both in watts, and the interval of the counter's share of the field."""

    field: PowerField
    seconds: float
    counted_w: float
    shown_w: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        return self.counted_w / self.shown_w


@dataclass(frozen=True, slots=True)
class Standing:
    """A counter beside the fields of one scope, by the narrowest of them. ``low`` to ``high`` is the share on which all of them agree.

    ``sure``: the power of no other scope could be the counter's as well.
    """

    scope: Scope
    best: Agreement
    low: float
    high: float
    sure: bool = True

    @property
    def off(self) -> float:
        """By what share the counter differs from the power for certain; 0 where it need not."""
        return max(self.low - 1, 1 - self.high, 0.0)

    def __str__(self) -> str:
        """'425 W counted, 500 W shown: -15.0 % [-17.1, -12.9]'."""
        low, ratio, high = (f"{100 * (each - 1):+.1f}" for each in (self.low, self.best.ratio, self.high))
        return f"{self.best.counted_w:.4g} W counted, {self.best.shown_w:.4g} W shown: {ratio} % [{low}, {high}]"


def compared(field: PowerField, ticks: Sequence[Reading], samples: Sequence[PowerSample], lag_s: float = 0.0) -> Agreement | None:
    """The counter beside a field; None where that cannot be told. Both in order of time; ``lag_s`` is the counter's."""
    ticks = _longest_rise(ticks)
    if len(ticks) < 2 or len(samples) < 2:
        return None
    windows = {min(SHORT_S, field.window_s), field.window_s}
    found = [each for window_s in windows if (each := _at_window(field, window_s, ticks, samples, lag_s)) is not None]
    return min(found, key=lambda each: each.high - each.low, default=None)


def against(found: Iterable[Agreement], shown: Collection[Scope] = ()) -> Standing | None:
    """What the fields say of the scope that the counter is nearest to, the GPU's if it may be either; None where none can tell.

    ``shown``: the scopes whose power the device has, whether or not a field of them could be compared.
    """
    by_scope: dict[Scope, list[Agreement]] = {}
    for each in found:
        by_scope.setdefault(each.field.scope, []).append(each)
    known = [one for scope in SCOPES if (one := _together(scope, by_scope.get(scope, ()))) is not None]
    nearest = min(known, key=lambda one: one.off, default=None)
    open_ = len(known) < len({*by_scope, *shown})
    if nearest is None or (nearest.off > NEAR and open_):  # it may be the counter of a scope that nobody can tell
        return None
    sure = all(one.off > nearest.off + NEAR for one in known if one is not nearest)
    return replace(nearest, sure=sure and not (open_ and max(nearest.high - 1, 1 - nearest.low) > NEAR))


def _together(scope: Scope, each: Sequence[Agreement]) -> Standing | None:
    low, high = max((one.low for one in each), default=math.inf), min((one.high for one in each), default=0.0)
    return Standing(scope, min(each, key=lambda one: one.high - one.low), low, high) if low <= high else None


def _longest_rise(ticks: Sequence[Reading]) -> Sequence[Reading]:
    """The longest time in which the counter did not run backwards."""
    falls = [index for index in range(1, len(ticks)) if ticks[index].energy_j < ticks[index - 1].energy_j]
    runs = [ticks[a:b] for a, b in itertools.pairwise([0, *falls, len(ticks)])]
    return max(runs, key=lambda run: run[-1].t_ns - run[0].t_ns if run else 0)


def _at_window(
    field: PowerField, window_s: float, ticks: Sequence[Reading], samples: Sequence[PowerSample], lag_s: float
) -> Agreement | None:
    """``compared`` where the field is a mean over so long."""
    held, counted = _Held(samples), _Smoothed(ticks, window_s)
    first_ns, last_ns = max(counted.first_ns, samples[0][0]), min(ticks[-1].t_ns, samples[-1][0])
    count = min(MOST_PARTS, int((last_ns - first_ns) / 1e9 / PART_S))
    ends = [first_ns + (last_ns - first_ns) * each // max(count, 1) for each in range(count + 1)]
    parts = [(a, b, held.joules(a, b)) for a, b in itertools.pairwise(ends)]
    seen = [(counted.joules(a, b), joules, (b - a) / 1e9) for a, b, joules in parts if joules is not None]
    if len(seen) < LEAST_PARTS or not any(shown_j for _, shown_j, _ in seen):
        return None
    counted_j, shown_j, seconds = (math.fsum(each) for each in zip(*seen, strict=True))
    ratio, low, _, _ = ratio_interval([each for each, _, _ in seen], [each for _, each, _ in seen], CONFIDENCE)
    assert low is not None  # of more than one part
    open_ends = 1 + len(parts) - len(seen)
    half = ratio - low + open_ends * (UPDATE_S + lag_s) * held.range_w(first_ns, last_ns) / shown_j
    return Agreement(field, seconds, counted_j / seconds, shown_j / seconds, ratio - half, ratio + half)


class _Smoothed:
    """The energy of a counter as a field shows it that is a mean over ``window_s``, renewed every ``UPDATE_S``."""

    def __init__(self, ticks: Sequence[Reading], window_s: float) -> None:
        self._ticks = ticks = [replace(tick, energy_j=tick.energy_j - ticks[0].energy_j) for tick in ticks]
        self._t_ns = [tick.t_ns for tick in ticks]
        self._window_s = window_s
        self._late_ns = round(UPDATE_S / 2 * 1e9)
        self.first_ns = ticks[0].t_ns + self._late_ns + round(window_s * 1e9)
        steps = [(a.energy_j + b.energy_j) / 2 * (b.t_ns - a.t_ns) / 1e9 for a, b in itertools.pairwise(ticks)]
        self._sums = [0.0, *itertools.accumulate(steps)]

    def joules(self, a_ns: int, b_ns: int) -> float:
        """Between two times, of which the first is ``first_ns`` at least."""
        a_ns, b_ns = a_ns - self._late_ns, b_ns - self._late_ns
        before_ns = round(self._window_s * 1e9)
        return (self._until(b_ns) - self._until(a_ns) - self._until(b_ns - before_ns) + self._until(a_ns - before_ns)) / self._window_s

    def _until(self, t_ns: int) -> float:
        """The integral of the counter's energy from its first tick."""
        at = min(max(bisect_right(self._t_ns, t_ns) - 1, 0), len(self._ticks) - 2)
        a, b = self._ticks[at], self._ticks[at + 1]
        seconds = (t_ns - a.t_ns) / 1e9
        watts = (b.energy_j - a.energy_j) / ((b.t_ns - a.t_ns) / 1e9)
        return self._sums[at] + (a.energy_j + watts * seconds / 2) * seconds


class _Held:
    """Samples of a field, each held until the next."""

    def __init__(self, samples: Sequence[PowerSample]) -> None:
        self._t_ns = [t_ns for t_ns, _ in samples]
        self._watts = [watts for _, watts in samples]
        pairs = itertools.pairwise(samples)
        self._sums = [0.0, *itertools.accumulate(watts * (to_ns - at_ns) / 1e9 for (at_ns, watts), (to_ns, _) in pairs)]
        gaps = [b - a for a, b in itertools.pairwise(self._t_ns)]
        self._longest_ns = max(GAP_S * 1e9, GAP_SAMPLES * statistics.median(gaps))

    def joules(self, a_ns: int, b_ns: int) -> float | None:
        """The energy from ``a_ns``, not before the first sample, to ``b_ns``; None where some of that was not sampled."""
        first, last = bisect_right(self._t_ns, a_ns) - 1, bisect_right(self._t_ns, b_ns) - 1
        seen = [*self._t_ns[first : last + 1], b_ns]
        if any(b - a > self._longest_ns for a, b in itertools.pairwise(seen)):
            return None
        return self._until(b_ns, last) - self._until(a_ns, first)

    def _until(self, t_ns: int, at: int) -> float:
        return self._sums[at] + self._watts[at] * (t_ns - self._t_ns[at]) / 1e9

    def range_w(self, a_ns: int, b_ns: int) -> float:
        """How far apart the highest and the lowest sample of that time are."""
        watts = self._watts[bisect_right(self._t_ns, a_ns) - 1 : bisect_right(self._t_ns, b_ns)]
        return max(watts) - min(watts)
