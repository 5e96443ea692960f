"""A thread that looks at what all other threads of the process are doing, about a thousand times a second.

Each look shares out what has been spent since the one before: CPU time of the process goes to the threads of Python by what each has used
itself, and with it the time of threads that Python does not know (OpenMP, BLAS, ONNX Runtime), which work for those. So a place's seconds
are on the clock that a meter of the processor pays for. Profilers of the package index stamp wall time of one thread, or every
call. What the looking itself takes is left out of all figures.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType, TracebackType
from typing import Literal

from pytest_greencompute.machine.clock import thread_cpu_ns
from pytest_greencompute.profiling.places import Names, Place

PERIOD_S = 0.001  # between two looks on average; each is drawn afresh, so that no loop keeps step
SWITCH_S = 0.0001  # how long a look waits for Python's lock before it asks for it: else it comes only where that is given up by itself
DEEPEST = 400  # functions of a stack, from the innermost outwards

Paid = Literal["cpu", "wall"]


@dataclass(slots=True)
class Seen:
    """What was spent in some passes: nanoseconds in all and by place, what looking took of the processor, and how often it looked."""

    by_place: Counter[Place] = field(default_factory=Counter)
    whole_ns: int = 0
    looking_ns: int = 0
    looks: int = 0


class Sampler:
    """Looks while it is entered. Passes between ``begin`` and ``end``, which the profiled thread calls, count into one ``Seen``.

    ``inside`` is the function whose callees are looked at in the thread that entered; of other threads all is.
    """

    def __init__(self, names: Names, paid: Paid, inside: CodeType) -> None:
        self._names, self._paid, self._inside = names, paid, inside
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="greencompute-profiler", daemon=True)
        self._main = threading.get_ident()
        self._now: Callable[[], int] = time.process_time_ns if paid == "cpu" else time.perf_counter_ns
        self._last_ns = 0
        self._threads: dict[int, int] = {}
        self._switch_s = 0.0

    def __enter__(self) -> Sampler:
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_S, self._switch_s))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        sys.setswitchinterval(self._switch_s)

    def begin(self) -> None:
        """From now on it counts."""
        with self._lock:
            self._seen = Seen()
            self._threads = _threads_ns()
            self._last_ns = self._now()
            self._seen.whole_ns = -self._last_ns

    def end(self) -> Seen:
        """What was seen since ``begin``."""
        with self._lock:
            seen, self._seen = self._seen, None
            assert seen is not None, "begin comes first"
            seen.whole_ns += self._now() - (seen.looking_ns if self._paid == "cpu" else 0)
        return seen

    def _loop(self) -> None:
        drawn, before_ns = random.Random(0), time.thread_time_ns()
        while not self._ended.is_set():
            time.sleep(PERIOD_S * (0.5 + drawn.random()))
            with self._lock:
                looked_ns = time.thread_time_ns()
                if self._seen is not None:
                    self._look(self._seen, looked_ns - before_ns)
                before_ns = looked_ns

    def _look(self, seen: Seen, own_ns: int) -> None:
        frames = sys._current_frames()
        frames.pop(threading.get_ident(), None)
        now_ns, threads = self._now(), _threads_ns()
        spent_ns = now_ns - self._last_ns
        seen.looks += 1
        seen.looking_ns += own_ns
        for thread, part_ns in self._shares(frames, threads, max(spent_ns - own_ns, 0) if self._paid == "cpu" else spent_ns).items():
            place = self._names.place(self._stack(frames[thread], main=thread == self._main))
            if place is not None:
                seen.by_place[place] += part_ns
        self._last_ns, self._threads = now_ns, threads

    def _shares(self, frames: dict[int, FrameType], threads: dict[int, int], spent_ns: int) -> dict[int, int]:
        """What each thread of Python is given of it: by its own CPU time, or all to the profiled one where none has any."""
        used = {thread: threads[thread] - self._threads.get(thread, threads[thread]) for thread in frames if thread in threads}
        used = {thread: ns for thread, ns in used.items() if ns > 0} if self._paid == "cpu" else {}
        whole_ns = sum(used.values())
        return {thread: spent_ns * ns // whole_ns for thread, ns in used.items()} if whole_ns else {self._main: spent_ns}

    def _stack(self, frame: FrameType | None, *, main: bool) -> list[CodeType]:
        stack: list[CodeType] = []
        while frame is not None and len(stack) < DEEPEST and not (main and frame.f_code is self._inside):
            stack.append(frame.f_code)
            frame = frame.f_back
        return stack


def _threads_ns() -> dict[int, int]:
    """CPU time of each thread of Python, where the system tells."""
    found = {each.ident: thread_cpu_ns(each.native_id) for each in threading.enumerate() if each.ident and each.native_id}
    return {ident: ns for ident, ns in found.items() if ident is not None and ns is not None}
