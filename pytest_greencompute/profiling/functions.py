"""Which Python functions the queries' time goes to, for whatever it is that answers them."""

from __future__ import annotations

import cProfile
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

from pytest_greencompute.errors import CannotError
from pytest_greencompute.explaining.profile import MODULES, Cost, Level, Ticking
from pytest_greencompute.profiling.places import CodeNames, CodePlace, called
from pytest_greencompute.profiling.sampling import Sampled, Sampler

REPEATS = 8  # parts that the time is divided into, each of as many passes as fit: their scatter is the figures' noise
MOST_ROWS = 100  # that are kept, the longest; the others are what is not attributed
COUNTING_SHARE = 0.4  # of the time limit: calls are counted only if a pass is shorter than that
BUSY = 0.1  # of the pass for looking at it: said from there on


def profile_functions(
    run: Callable[[], object], queries: int, limit_s: float, clock: Ticking = "cpu", *, root: Path | None = None
) -> Level:
    """Own seconds and calls of each function, per query; names are relative to ``root`` (the working directory).

    ``run`` makes one pass over that many queries and is called as often as fits into ``limit_s`` seconds. On the clock "cpu" the seconds
    are those of all threads; on any other they are wall time of this one. Raises CannotError where no pass was long enough to be seen.
    """
    names, start = CodeNames(root or Path.cwd()), time.perf_counter()
    seen = _sampled(run, names, clock, 1, 1)
    pass_s = max(time.perf_counter() - start, 1e-9)
    calls = _calls(run, names) if pass_s < COUNTING_SHARE * limit_s else None
    left_s = max(limit_s - (time.perf_counter() - start), 0.0)
    each = max(1, int(left_s / REPEATS / pass_s))
    if each > 1:  # the first was too short to be like the others
        seen = _sampled(run, names, clock, each, REPEATS)
    else:
        seen += _sampled(run, names, clock, 1, min(REPEATS, int(left_s / pass_s)))
    return _level(seen, calls, each, queries, clock)


def _sampled(run: Callable[[], object], names: CodeNames, clock: Ticking, each: int, repeats: int) -> list[Sampled]:
    found = []
    sampler = Sampler(names, "cpu" if clock == "cpu" else "wall", _sampled.__code__)
    with sampler.looking():
        for _ in range(repeats):
            sampler.begin()
            for _ in range(each):
                run()
            found.append(sampler.end())
    return found


def _level(seen: list[Sampled], calls: Counter[str] | None, each: int, queries: int, clock: Ticking) -> Level:
    if not any(part.looks for part in seen) or any(part.whole_ns <= 0 for part in seen):
        raise CannotError("The passes were too short to see any function in.", remedy="Give more queries.")
    whole: Counter[CodePlace] = Counter()
    for part in seen:
        whole += part.by_place
    twice = Counter(place.name for place in whole)
    costs = []
    for place, _ in whole.most_common(MOST_ROWS):
        both = twice[place.name] > 1  # called by a module, and elsewhere: nothing tells whose calls were counted
        costs.append(
            Cost(
                f"{place.name} (in a module)" if both and place.in_module else place.name,
                tuple(part.by_place[place] / 1e9 / each / queries for part in seen),
                None if calls is None or both or place.name not in calls else calls[place.name] / queries,
                inside=MODULES if place.in_module and place.name != MODULES else "",
            )
        )
    if any(each.inside for each in costs) and MODULES not in twice:  # what they lie in
        costs.append(Cost(MODULES, (0.0,) * len(seen)))
    notes = [] if calls is not None else ["calls of functions were not counted: another profiler is at work, or a pass takes too long"]
    looking = sum(part.looking_ns for part in seen) / sum(part.whole_ns for part in seen)
    notes += [f"looking took {looking:.0%} of the time, left out of the figures"] if looking > BUSY else []
    seconds = tuple(part.whole_ns / 1e9 / each / queries for part in seen)
    return Level("functions", "cpu" if clock == "cpu" else "wall", seconds, tuple(costs), tuple(notes))


def _calls(run: Callable[[], object], names: CodeNames) -> Counter[str] | None:
    """Calls by place in one pass, those of this thread; None where another profiler is at work, which is left alone."""
    if sys.getprofile() is not None:
        return None
    profiler = cProfile.Profile()
    try:
        profiler.enable()
    except ValueError:  # from Python 3.12 on there may be only one
        return None
    try:
        run()
    finally:
        profiler.disable()
    return _counted(profiler.getstats(), names)


def _counted(entries: list[Any], names: CodeNames) -> Counter[str]:
    """Calls of the user's functions, and from each those of libraries' and modules' functions."""
    found: Counter[str] = Counter()
    for entry in entries:
        user = names.of(entry.code) if isinstance(entry.code, CodeType) else None
        if user is None or user.kind != "user":
            continue
        if not entry.code.co_name.startswith("<"):
            found[user.name] += entry.callcount
        for callee in entry.calls or ():
            other = names.of(callee.code) if isinstance(callee.code, CodeType) else None
            if other is not None and other.kind in {"library", "module"}:
                found[called(other, user)] += callee.callcount
    return found
