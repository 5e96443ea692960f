"""Which torch modules the queries' time goes to, each without those that it calls; and how much goes to none.

Every pass with marks stands beside one without: what the marks cost is taken off in proportion to the calls, and the rows are scaled to the
pass without. A hook of the user's own is part of its module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pytest_greencompute.errors import CannotError
from pytest_greencompute.explaining.profile import OUTSIDE, Cost, Level, Ticking
from pytest_greencompute.profiling.hooked import Hooked, all_modules, holder_of, names_of
from pytest_greencompute.profiling.marks import OUT, Owned, Stamper, owned, without_marking

REPEATS = 6  # passes of each kind
ELSEWHERE = "modules are called in more than one thread: only those of the busiest are told apart"


def profile_modules(run: Callable[[], object], queries: int, limit_s: float, clock: Ticking = "cpu") -> Level:
    """Own seconds and calls of each module, per query, by its qualified name after the class of the outermost.

    ``run`` makes one pass over that many queries; it is called at least three times, and as long as ``limit_s`` seconds last. Raises
    CannotError where no module is called.
    """
    begun = time.perf_counter()
    every, notes = all_modules()
    stamper = Stamper(clock)
    _, seen = _marked(every, stamper, run)
    if not seen.calls:
        raise CannotError("No torch module is called.")
    modules = [every[number] for number in sorted(seen.calls)]
    del every
    passes: list[tuple[float, Owned]] = []
    pairing_s = time.perf_counter()
    while not passes or (len(passes) < REPEATS and time.perf_counter() - begun + (time.perf_counter() - pairing_s) / len(passes) < limit_s):
        pair = (lambda: _plain(stamper, run)), (lambda: _marked(modules, stamper, run))
        if len(passes) % 2:
            marked, plain_ns = pair[1](), pair[0]()
        else:
            plain_ns, marked = pair[0](), pair[1]()
        passes.append((plain_ns, marked[1]))
    if seen.threads > 1:
        notes += (ELSEWHERE,)
    return _level(modules, passes, queries, clock, notes)


def _plain(stamper: Stamper, run: Callable[[], object]) -> float:
    """Nanoseconds of a pass without marks."""
    start = stamper.now()
    run()
    _, first, last = stamper.resolved((), start, stamper.now())
    return last - first


def _marked(modules: Sequence[Any], stamper: Stamper, run: Callable[[], object]) -> tuple[float, Owned]:
    """Nanoseconds of a pass with marks, in whole and by module."""
    hooked = Hooked(modules, stamper.now)
    with hooked.hooks():
        start = stamper.now()
        run()
        end = stamper.now()
    marks, first, last = stamper.resolved(hooked.marks, start, end)
    return last - first, owned(marks, first, last)


def _level(modules: Sequence[Any], passes: Sequence[tuple[float, Owned]], queries: int, clock: Ticking, notes: tuple[str, ...]) -> Level:
    names = names_of(modules, passes[0][1])
    shares = [_shares(plain_ns, found) for plain_ns, found in passes]
    seconds = tuple(plain_ns / 1e9 / queries for plain_ns, _ in passes)

    def of(number: int) -> tuple[float, ...]:
        return tuple(share.get(number, 0.0) * whole for share, whole in zip(shares, seconds, strict=True))

    calls = passes[0][1].calls
    caller = {number: names.get(outer, "") for number, outer in passes[0][1].inside.items()}
    known = set(names.values())
    rows = [Cost(OUTSIDE, of(OUT), 1 / queries)]
    rows += [
        Cost(name, of(number), calls[number] / queries, inside=holder_of(name, known) or (caller[number] if caller[number] != name else ""))
        for number, name in names.items()
    ]
    return Level("modules", clock, seconds, tuple(rows), notes)


def _shares(plain_ns: float, found: Owned) -> dict[int, float]:
    """What part of the pass each module is, without what the marks cost."""
    own = without_marking(found, found.whole - plain_ns)
    whole = sum(own.values())
    return {number: value / whole for number, value in own.items()} if whole else {}
