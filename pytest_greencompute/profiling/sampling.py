"""Looks at what all threads of the process are doing, about a thousand times a second.

Each look shares out what has been spent since the one before: CPU time of the process goes to the threads of Python by what each has used
itself, and with it the time of threads that Python does not know (OpenMP, BLAS, ONNX Runtime), which work for those. So a place's seconds
are on the clock that a meter of the processor pays for; profilers of the package index stamp wall time of one thread, or every call. What
the looking itself takes is left out of all figures.

A timer of the system interrupts the main thread where it is. A thread that looks would have to wait for Python's lock, which comes when the
model gives it up, in its long operations: it hardly ever sees what is short (a tenth of the time of a function that takes 4 %). So one
looks only while the main thread does not hear the timer, and where no timer is free.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Literal

from pytest_greencompute.machine.clock import thread_cpu_ns
from pytest_greencompute.profiling.places import CodeNames, CodePlace

PERIOD_S = 0.001  # between two looks on average; each is drawn afresh, so that no loop keeps step
LATE_S = 0.003  # after so long without a look the main thread waits, or is in a long operation, and does not hear of signals
INTERRUPTED = "interrupted"  # the function that hears the timer
DEEPEST = 400  # functions of a stack, from the innermost outwards
# Timers, and the signals that they send: the first runs on while the process waits, the second is coarser.
_TIMERS = {"cpu": ("REAL", "PROF"), "wall": ("REAL",)}
_SIGNALS = {"REAL": "SIGALRM", "PROF": "SIGPROF"}

Paid = Literal["cpu", "wall"]


@dataclass(slots=True)
class Sampled:
    """What was spent in some passes: nanoseconds in all and by place, those of looking, which are in neither, and how often it looked."""

    by_place: Counter[CodePlace] = field(default_factory=Counter)
    whole_ns: int = 0
    looking_ns: int = 0
    looks: int = 0


class Sampler:
    """Looks while it is ``looking``. Passes between ``begin`` and ``end``, which the profiled thread calls, count into one ``Sampled``.

    ``inside`` is the function whose callees are looked at in that thread; of other threads all is.
    """

    def __init__(self, names: CodeNames, paid: Paid, inside: CodeType) -> None:
        self._names, self._paid, self._inside = names, paid, inside
        self._lock = threading.RLock()  # a signal may come while its own thread has it
        self._seen: Sampled | None = None
        self._main = threading.get_ident()
        self._now: Callable[[], int] = time.process_time_ns if paid == "cpu" else time.perf_counter_ns
        self._last_ns = 0
        self._looked_s = 0.0
        self._helper = 0
        self._own_ns = 0
        self._threads: dict[tuple[int, int], int] = {}
        self._drawn = random.Random(0)

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """In here it looks. Nothing of it is left in the process."""
        timer = _free_timer(self._paid)
        with self._by_thread(0.0 if timer is None else LATE_S), contextlib.nullcontext() if timer is None else self._by_timer(*timer):
            yield

    @contextlib.contextmanager
    def _by_timer(self, timer: int, number: signal.Signals) -> Iterator[None]:
        ended = False

        def interrupted(_: int, frame: FrameType | None) -> None:
            self._look(frame)
            if not ended:  # a signal may wait while the timer is stopped; one that came later would end the process
                signal.setitimer(timer, self._period_s())

        before = signal.signal(number, interrupted)
        signal.siginterrupt(number, False)
        signal.setitimer(timer, self._period_s())
        try:
            yield
        finally:
            ended = True
            signal.setitimer(timer, 0)
            signal.signal(number, before)

    @contextlib.contextmanager
    def _by_thread(self, late_s: float) -> Iterator[None]:
        """Looks where nobody has for that long."""
        ended = threading.Event()

        def loop() -> None:
            while not ended.is_set():
                time.sleep(max(late_s, self._period_s()))
                if time.perf_counter() - self._looked_s >= late_s:
                    self._look(sys._current_frames().get(self._main), here=False)

        thread = threading.Thread(target=loop, name="greencompute-profiler", daemon=True)
        thread.start()
        self._helper = thread.ident or 0
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _period_s(self) -> float:
        return PERIOD_S * (0.5 + self._drawn.random())

    def begin(self) -> None:
        """From now on it counts."""
        with self._lock:
            self._last_ns, self._threads, self._own_ns = self._now(), _threads_ns(), 0
            self._seen = Sampled(whole_ns=-self._last_ns)

    def end(self) -> Sampled:
        """What was seen since ``begin``."""
        with self._lock:
            seen, self._seen = self._seen, None
            assert seen is not None, "begin comes first"
            seen.looking_ns += self._looking_ns(_threads_ns())
            seen.whole_ns = max(seen.whole_ns + self._now() - seen.looking_ns, sum(seen.by_place.values()))
        return seen

    def _look(self, frame: FrameType | None, *, here: bool = True) -> None:
        """Share out what was spent since the last look; ``here``: the profiled thread looks itself."""
        mine = time.thread_time_ns if self._paid == "cpu" else time.perf_counter_ns
        start_ns = mine()
        with self._lock:
            seen, now_ns, threads = self._seen, self._now(), _threads_ns()
            if seen is None:
                return
            looking_ns = self._looking_ns(threads)
            frames = {**sys._current_frames(), self._main: frame}
            frames.pop(self._helper, None)
            for thread, part_ns in self._shares(frames, threads, max(now_ns - self._last_ns - looking_ns, 0)).items():
                place = self._names.place(self._stack(frames[thread], main=thread == self._main))
                if place is not None:
                    seen.by_place[place] += part_ns
            seen.looks += 1
            seen.looking_ns += looking_ns
            self._looked_s, self._last_ns, self._threads = time.perf_counter(), now_ns, threads
            self._own_ns = mine() - start_ns if here else 0

    def _looking_ns(self, threads: dict[tuple[int, int], int]) -> int:
        """What looking has taken since the last look began: of the profiled thread, and of the one that helps it."""
        return self._own_ns + (self._used(threads).get(self._helper, 0) if self._paid == "cpu" else 0)

    def _shares(self, frames: dict[int, FrameType | None], threads: dict[tuple[int, int], int], spent_ns: int) -> dict[int, int]:
        """What each thread of Python is given of it: by its own CPU time, or all to the profiled one where none has any."""
        used = {ident: ns for ident, ns in self._used(threads).items() if ident in frames and ns > 0} if self._paid == "cpu" else {}
        whole_ns = sum(used.values())
        return {thread: spent_ns * ns // whole_ns for thread, ns in used.items()} if whole_ns else {self._main: spent_ns}

    def _used(self, threads: dict[tuple[int, int], int]) -> dict[int, int]:
        """What each thread of Python has used since the last look; one that is new, since it began."""
        return {ident: ns - self._threads.get((ident, thread), 0) for (ident, thread), ns in threads.items()}

    def _stack(self, frame: FrameType | None, *, main: bool) -> list[CodeType]:
        stack: list[CodeType] = []
        while frame is not None and len(stack) < DEEPEST and not (main and frame.f_code is self._inside):
            stack.append(frame.f_code)
            if frame.f_code.co_name == INTERRUPTED and frame.f_code.co_filename == __file__:
                stack.clear()  # it is about to look itself
            frame = frame.f_back
        return stack


def _free_timer(paid: Paid) -> tuple[int, signal.Signals] | None:
    """A timer that nobody else uses, with the signal that it sends; None where there is none, or this is not the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    for name in _TIMERS[paid]:
        timer, number = getattr(signal, f"ITIMER_{name}", None), getattr(signal, _SIGNALS[name], None)
        if timer is not None and number is not None and signal.getsignal(number) is signal.SIG_DFL and not any(signal.getitimer(timer)):
            return timer, number
    return None


def _threads_ns() -> dict[tuple[int, int], int]:
    """CPU time of each thread of Python by its ids, Python's (which another may have after it) and the system's, where that tells."""
    ids = [(each.ident, each.native_id) for each in threading.enumerate() if each.ident is not None and each.native_id is not None]
    return {(ident, thread): ns for ident, thread in ids if (ns := thread_cpu_ns(thread)) is not None}
