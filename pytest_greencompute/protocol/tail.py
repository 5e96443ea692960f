"""How the power between ticks comes down after work has ended: the lag of a counter, and when the device is at rest. No I/O."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.protocol.layout import LAG_FLAT_TICKS, lag_ticks
from pytest_greencompute.protocol.messages import Learn, Probed, Ticks
from pytest_greencompute.protocol.sets import Readings
from pytest_greencompute.values.readings import Idle, Reading, Source

LAG_SHARE = 0.05
LAG_RISE = 0.2  # of idle power: work that draws less above it shows no lag
LAG_FROM_TICK = 2
LAG_RESTS = 0.15  # of the work's rise: a hot GPU idles higher than a cold one
LAG_SHORTEST_TICK_S = 0.005
REST_S = 0.8  # of flat power
SHOWS_REST_S = 0.3  # of work: a running mean of a second that has not seen more of it yet is flat for 0.7 s, and not at rest
REST_WITHIN_S = 2.2  # after the work: by then a running mean of a second has come down, and been flat
REST_FROM_TICKS = 2  # what had come down before it was first looked at would be missed


def come_to_rest(probed: Probed, before: Reading, domain: str, end_ns: int) -> Generator[Ticks | Learn, Any, Probed | None]:
    """The sources with the lag of ``domain``, and its idle power, from tick after tick since work ended at ``end_ns``.

    ``before`` is a reading before the work, ``probed.seen`` are those at the ticks right after it. None where that look shows no rest: the
    work drew too little, or the device does not come to rest.
    """
    after = [*probed.seen.get(domain, ())]
    (source,) = (each for each in probed.sources if each.domain == domain)
    if source.tick_s < LAG_SHORTEST_TICK_S or after[0].t_ns - end_ns > REST_FROM_TICKS * source.tick_s * 1e9:
        return None
    flat_ticks = max(LAG_FLAT_TICKS, math.ceil(REST_S / source.tick_s))
    while not _is_flat(before, after, flat_ticks):
        if (after[-1].t_ns - end_ns) / 1e9 > REST_WITHIN_S:
            return None
        after.append((yield Ticks())[domain])
    quiet = idle_over(domain, after[-flat_ticks - 1 :])
    lagging = replace(source, lag_s=max(source.lag_s, Tail.of(before, after).lag_s(end_ns)))
    sources = tuple(lagging if each is source else each for each in probed.sources)
    yield Learn(sources, frozenset({domain}), quiet=(quiet,))
    return Probed(sources, (quiet, *(idle for idle in probed.quiet if idle.domain != domain)))


def idle_over(domain: str, readings: Sequence[Reading]) -> Idle:
    """Idle power from the first to the last of these readings."""
    return Idle(domain, readings[-1].energy_j - readings[0].energy_j, (readings[-1].t_ns - readings[0].t_ns) / 1e9)


def _is_flat(before: Reading, after: Sequence[Reading], ticks: int) -> bool:
    """Whether power has been flat over the last ``ticks``, and is well below that of the work since ``before``.

    A running mean that has not seen all of the work yet, and a delayed counter, are flat and high: the work's own mean lies below that.
    """
    if len(after) <= ticks:
        return False
    last = [_watts(a, b) for a, b in itertools.pairwise(after[-ticks - 1 :])]
    level_w = statistics.fmean(last)
    rise_w = _watts(before, after[0]) - level_w
    return rise_w > LAG_RISE * level_w and max(last) - min(last) <= LAG_SHARE * rise_w


def watch_tail(
    sources: tuple[Source, ...],
    before: Readings,
    end_ns: int,
    *,
    always: bool = False,
    idle_w: Mapping[str, float] | None = None,
) -> Generator[Ticks | Learn, Any, tuple[tuple[Source, ...], list[Readings]]]:
    """Read tick after tick since work ended at ``end_ns``; the sources with the lag that shows, and the readings.

    ``before``: readings at a tick before the work. The session learns the lags (``always``, or where some device
    worked hard enough to show one). The look ends early where every domain has come to rest, or has not worked, ``idle_w`` being what each
    drew before.
    """
    seen: list[Readings] = []
    for _ in range(lag_ticks(max(source.tick_s for source in sources))):
        seen.append((yield Ticks()))
        if len(seen) > 1 and all(_is_seen(before[domain], seen, domain, (idle_w or {}).get(domain)) for domain in seen[-1]):
            break
    tails = {domain: Tail.of(before[domain], [readings[domain] for readings in seen]) for domain in seen[-1]}
    sources = tuple(
        replace(each, lag_s=max(each.lag_s, tails[each.domain].lag_s(end_ns))) if each.domain in tails else each for each in sources
    )
    shown = frozenset(domain for domain, tail in tails.items() if tail.shows and len(tail.powers_w) >= LAG_FLAT_TICKS)
    if always or shown:
        yield Learn(sources, shown)
    return sources, seen


def draws(before: Reading, after: Reading, idle_w: float) -> bool:
    """Whether the work between two readings drew enough above idle power to show a lag."""
    return _watts(before, after) - idle_w > LAG_RISE * idle_w


def _is_seen(before: Reading, seen: Sequence[Readings], domain: str, idle_w: float | None) -> bool:
    """Whether there is no more to be seen of a domain: it has come to rest, or has not worked. Not known without its idle power."""
    if idle_w is None:
        return False
    first = next(readings[domain] for readings in seen if domain in readings)
    return not draws(before, first, idle_w) or _rests(before, seen, domain, idle_w)


def _rests(before: Reading, seen: Sequence[Readings], domain: str, idle_w: float) -> bool:
    """Whether a domain's power has been flat for many ticks, and low: a running mean would still be falling, a delayed one high."""
    after = [readings[domain] for readings in seen if domain in readings]
    if len(after) <= LAG_FLAT_TICKS:
        return False
    rise_w = _watts(before, after[0]) - idle_w
    last = [_watts(a, b) for a, b in itertools.pairwise(after[-LAG_FLAT_TICKS - 1 :])]
    return max(last) - min(last) <= LAG_SHARE * rise_w and max(last) - idle_w <= LAG_RESTS * rise_w


@dataclass(frozen=True, slots=True)
class Tail:
    """Power from tick to tick after work: ``powers_w``, the level at which it ends, and how far the work's own mean power was above it."""

    ticks_ns: tuple[int, ...]
    powers_w: tuple[float, ...]
    level_w: float
    rise_w: float

    @classmethod
    def of(cls, before: Reading, after: Sequence[Reading]) -> Tail:
        """From a reading before the work, and those at the ticks after it."""
        powers = tuple(_watts(a, b) for a, b in itertools.pairwise(after))
        level = statistics.median(powers[len(powers) // 2 :])
        return cls(tuple(reading.t_ns for reading in after), powers, level, _watts(before, after[0]) - level)

    @property
    def shows(self) -> bool:
        """Whether the work drew enough to tell its tail from noise."""
        return self.rise_w > LAG_RISE * self.level_w

    def lag_s(self, end_ns: int) -> float:
        """Seconds from the end of work to the tick at which power had come down to its last level; 0 where the first two ticks hold it all.

        Measured against the work's power, since a hot GPU idles some per cent higher for a second: 148 W after 560 W, then 141 (H100). The
        first whole tick may hold the end of the work, so only what comes later is a tail.
        """
        if not self.shows:
            return 0.0
        low = self.level_w + LAG_SHARE * self.rise_w
        # The first return to the level, not the last point above it: one late tick anywhere in the look must not pass for a lag.
        tail = next((index for index, power in enumerate(self.powers_w) if power <= low), len(self.powers_w) - 1)
        return (self.ticks_ns[tail] - end_ns) / 1e9 if tail > LAG_FROM_TICK else 0.0


def _watts(a: Reading, b: Reading) -> float:
    return (b.energy_j - a.energy_j) / ((b.t_ns - a.t_ns) / 1e9)
