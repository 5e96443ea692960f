"""Modules that are too short to be told by time, replayed alone under the meter: how many joules a call of each takes.

What a clock shows of a call that takes microseconds are the marks around it, too. So some of its calls are kept as they were made, and
made again in a loop that is long enough to be read as a block, by the meters and the windows that read everything else.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pytest_greencompute.errors import CannotError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.explaining.profile import OUTSIDE, Cost, Joules, Level
from pytest_greencompute.explaining.tree import NUMBER
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.window import Window
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.devices import synchronizer
from pytest_greencompute.models.process import drawn_as_before
from pytest_greencompute.profiling.alone import MOST_BYTES, Alone, CallKeeper, RefusedError, check, reason
from pytest_greencompute.profiling.hooked import Hooked, all_modules, names_of
from pytest_greencompute.profiling.marks import owned
from pytest_greencompute.protocol.layout import BLOCK_LAGS, seconds_of_ticks
from pytest_greencompute.stats.distributions import normal_reach

SHORT_S = 0.5e-3  # of a call: the marks around one take 2 to 10 µs, which is no small part of less
MATTERS = 0.01  # of a pass, those alike together: what has less is to blame for no difference that fails
MOST = 24  # modules: two in each of twelve blocks
BLOCK_S = 0.03  # where nothing ticks: what reading it costs is a hundredth of that
BLOCKS = 3  # likewise: their scatter is the error; where a counter ticks, it is what the ticks leave open of one
TICKS = 12  # of a block, where they tick: a window has no figure of fewer than ten, and a replay may turn out faster
COARSE = 0.15  # of a figure, as a standard error, which is in the interval of what is told by it: of more, time tells as much
SAID = 3  # names in the note


@dataclass(frozen=True, slots=True)
class ReplayMeter:
    """The open meters, and what is asked of their figures."""

    instruments: Instruments
    aim: Aim

    @property
    def takes_s(self) -> float:
        """How long it takes to read one thing."""
        return self._blocks * self.block_s

    @property
    def _blocks(self) -> int:
        return 1 if self.instruments.ticking else BLOCKS

    @property
    def block_s(self) -> float:
        """How long a block is."""
        waits = [max(seconds_of_ticks(TICKS, each.tick_s), BLOCK_LAGS * each.lag_s) for each in self.instruments.sources]
        return max(BLOCK_S, *waits) if waits else BLOCK_S

    def joules(self, work: Callable[[int], object], each_s: float, many: int = 1) -> Joules:
        """Of one of the ``many`` things that ``work`` does at a time, in ``each_s`` seconds; it is told how many times to do them.

        Raises CannotError where the meter is too coarse, and MeterError where it fails.
        """
        times = max(1, math.ceil(self.block_s / max(each_s, 1e-9)))
        found = [self._block(work, times, many) for _ in range(self._blocks)]
        values = [each.mean for each in found]
        scatter = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        read = Joules(statistics.fmean(values), max(scatter, statistics.fmean(each.error for each in found)))
        if read.relative > COARSE:
            raise CannotError(f"the meter tells it to {read.relative:.0%} only")
        return read

    def _block(self, work: Callable[[int], object], times: int, many: int) -> Joules:
        window = Window(None, self.instruments, self.aim, _no_figure, queries=times * many)
        window.apart = True  # as for a measured run: what idle workers do after it is on nobody's bill
        with window:
            work(times)
        read = window.result().energy_per_query
        if read.half_width is None:
            raise CannotError("the meter leaves open how much it is")
        return Joules(read.value, read.half_width / normal_reach(read.confidence))


def _no_figure(metric: str) -> NoReturn:
    raise CannotError(f"there is no {metric}")


def too_short(level: Level) -> list[str]:
    """The modules that matter and are too short for a clock, innermost ones alone, the largest first, those alike together."""
    whole = statistics.fmean(level.seconds)
    groups: dict[str, list[Cost]] = {}
    for each in _innermost(level):
        groups.setdefault(NUMBER.sub("*", each.name), []).append(each)
    found: list[str] = []
    for group in sorted(groups.values(), key=lambda group: -math.fsum(each.mean_s for each in group)):
        seconds, calls = (math.fsum(each) for each in zip(*((each.mean_s, each.calls or 0.0) for each in group), strict=True))
        if MATTERS * whole <= seconds <= SHORT_S * calls and len(found) + len(group) <= MOST:
            found += [each.name for each in group]
    return found


def _innermost(level: Level) -> list[Cost]:
    around = {each.inside for each in level.costs}
    return [each for each in level.costs if each.calls and each.name not in around and each.name != OUTSIDE]


def replayed(
    run: Callable[[], object], level: Level, queries: int, limit_s: float, metering: ReplayMeter, wanted: Sequence[str] | None = None
) -> Level:
    """The level with the joules of a call of each module that is too short to be told by time; of those ``wanted`` where the other side
    has chosen them.

    ``run`` makes one pass over that many queries. No longer than ``limit_s`` seconds, one block more or less. Raises CannotError and
    MeterError where not even a pass can be read.
    """
    clock = metering.instruments.clock
    until_ns = clock.now_ns() + limit_s * 1e9
    known = {each.name: each for each in _innermost(level)}
    names = too_short(level) if wanted is None else [each for each in wanted if each in known]
    if not names:
        return level
    with drawn_as_before():
        alone, why = _kept(run, {name: round((known[name].calls or 0.0) * queries) for name in names})
        if not alone:
            return replace(level, notes=(*level.notes, *_note(why)))
        if 2 * metering.takes_s > limit_s:  # the pass, and one module
            raise CannotError(f"what is read by this meter takes {metering.takes_s:.1f} s each, and there is no time for it")
        whole = metering.joules(lambda times: [run() for _ in range(times)], _seconds(run, clock), queries)
        read = dict[str, Joules]()
        for name in alone:
            try:
                read[name] = _read(*alone[name], metering, until_ns)
            except Exception as error:  # noqa: BLE001  the module's own: it stays as it was told by time
                why[name] = reason(error)
    costs = tuple(replace(each, replayed=read.get(each.name)) for each in level.costs)
    return replace(level, costs=costs, notes=(*level.notes, *_note(why)), metered=whole)


def _read(module: Any, keeper: CallKeeper, metering: ReplayMeter, until_ns: float) -> Joules:
    clock = metering.instruments.clock
    if clock.now_ns() > until_ns:
        raise RefusedError("there was no time left")
    alone = Alone.of(module, keeper)
    return metering.joules(alone.replay, _seconds(lambda: alone.replay(1), clock), len(alone.calls))


def _seconds(call: Callable[[], object], clock: Clock) -> float:
    """What it takes on the wall, once it is warm."""
    wait, took_ns = synchronizer(), list[int]()
    for _ in range(2):
        wait()
        start_ns = clock.now_ns()
        call()
        wait()
        took_ns.append(clock.now_ns() - start_ns)
    return min(took_ns) / 1e9


def _kept(run: Callable[[], object], calls: Mapping[str, int]) -> tuple[dict[str, tuple[Any, CallKeeper]], dict[str, str]]:
    """The modules of those names that may be replayed, with what a pass has shown of them, and why others may not."""
    every, _ = all_modules()
    hooked = Hooked(every, int)  # whose time it was does not matter
    with hooked.hooks():
        run()
    seen = owned(hooked.marks, 0.0, 0.0)
    named = {name: every[number] for number, name in names_of(every, seen).items() if name in calls}
    holders = Counter(id(part) for each in every for part in each._modules.values())
    found: dict[str, Any] = {}
    why: dict[str, str] = {name: "it was not called again" for name in calls if name not in named}
    for name, module in named.items():
        try:
            check(module)
            if holders[id(module)] > 1 or seen.threads > 1:
                raise RefusedError("it is shared by several modules or threads")
        except RefusedError as error:
            why[name] = error.message
        else:
            found[name] = module
    keepers = {name: CallKeeper(calls[name], MOST_BYTES // len(found)) for name in found}
    with contextlib.ExitStack() as held:
        for name, keeper in keepers.items():
            held.enter_context(keeper.hooks(found[name]))
        run()
    return {name: (found[name], keeper) for name, keeper in keepers.items()}, why


def _note(why: Mapping[str, str]) -> Iterable[str]:
    """One sentence, whatever stood in the way of how many."""
    said = list(dict.fromkeys(f"{NUMBER.sub('*', name)} ({each})" for name, each in why.items()))
    more = f" and {len(said) - SAID} more" if len(said) > SAID else ""
    return [f"too short to be told by time, and not replayed: {', '.join(said[:SAID])}{more}"] if said else []
