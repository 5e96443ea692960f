"""Marks at the beginning and the end of calls, and whose time it was between them. Pure, but for the device's clock."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_greencompute.explaining.profile import Ticking

OUT = -1  # the number of what is outside of all calls


class Mark(NamedTuple):
    """Call number ``number`` begins or ends in a thread, at ``stamp``: a reading of some clock."""

    number: int
    begins: bool
    thread: int
    stamp: Any


@dataclass(frozen=True, slots=True)
class Owned:
    """What a pass read between marks, by the number of the call that it belongs to (``OUT``: none): readings, and how often each began.

    ``roots``: how often each was the outermost call; ``inside``: the call that each number was first made in; ``threads``: how many
    threads made calls, of which only the busiest counts.
    """

    own: dict[int, float] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)
    roots: Counter[int] = field(default_factory=Counter)
    inside: dict[int, int] = field(default_factory=dict)
    threads: int = 1

    @property
    def whole(self) -> float:
        return math.fsum(self.own.values())


def owned(marks: Sequence[Mark], start: float, end: float) -> Owned:
    """Share the readings from ``start`` to ``end`` out among calls: each has what was read while it was the innermost. A call that ended
    without a mark, by an error, ends with the one around it. Stamps are numbers.
    """
    threads = Counter(mark.thread for mark in marks)
    busiest = threads.most_common(1)[0][0] if threads else None
    found, stack, last = Owned(threads=max(len(threads), 1)), [OUT], start
    for number, begins, thread, stamp in marks:
        if thread != busiest or (not begins and number not in stack):
            continue
        found.own[stack[-1]] = found.own.get(stack[-1], 0.0) + stamp - last
        last = stamp
        if begins:
            found.calls[number] += 1
            if stack[-1] == OUT:
                found.roots[number] += 1
            found.inside.setdefault(number, stack[-1])
            stack.append(number)
        else:
            while stack.pop() != number:
                continue
    found.own[stack[-1]] = found.own.get(stack[-1], 0.0) + end - last
    return found


def without_marking(found: Owned, extra: float) -> dict[int, float]:
    """What belongs to each call without the ``extra`` that marking the calls has cost: for each call the same, half of it in the call
    itself and half in the one around it, since a mark stands between.
    """
    count = found.calls.total()
    each = max(extra, 0.0) / count if count else 0.0
    costs = defaultdict[int, float](float)
    for number, calls in found.calls.items():
        costs[number] += calls * each / 2
        costs[found.inside[number]] += calls * each / 2
    return {number: max(value - costs[number], 0.0) for number, value in found.own.items()}


class Stamper:
    """Reads a clock, in nanoseconds once ``resolved``: the processor's time of all threads, wall time, or the time line of the CUDA device
    that is current, on which a reading is an event that is put into the queue and read at the end.
    """

    def __init__(self, clock: Ticking) -> None:
        self._cuda: Any = sys.modules["torch"].cuda if clock == "device" else None
        self.now: Callable[[], Any] = {"cpu": time.process_time_ns, "wall": time.perf_counter_ns}.get(clock, self._event)

    def _event(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def resolved(self, marks: Sequence[Mark], start: Any, end: Any) -> tuple[list[Mark], float, float]:
        """The marks of a pass, and its ends, with numbers of nanoseconds for stamps."""
        if self._cuda is None:
            return list(marks), float(start), float(end)
        self._cuda.synchronize()
        return [mark._replace(stamp=start.elapsed_time(mark.stamp) * 1e6) for mark in marks], 0.0, start.elapsed_time(end) * 1e6


def marking(number: int, marks: list[Mark], now: Callable[[], Any]) -> tuple[Callable[..., None], Callable[..., None]]:
    """What notes that call ``number`` begins, and that it ends: hooks that change nothing. Each reads the clock on the side of the call."""
    append, thread = marks.append, threading.get_ident

    def begins(*_: Any) -> None:
        append(Mark(number, begins=True, thread=thread(), stamp=now()))

    def ends(*_: Any) -> None:
        stamp = now()
        append(Mark(number, begins=False, thread=thread(), stamp=stamp))

    return begins, ends
