"""Time as an argument: the loop sleeps and stamps through a Clock, so that a simulated one can take its place."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in nanoseconds that can wait and call back."""

    def now_ns(self) -> int:
        """Monotonic time in nanoseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
        ...

    def asleep_ns(self) -> int:
        """How long the machine has been suspended so far, in nanoseconds, from any origin; the monotonic clock does not see it."""
        ...

    def every(self, period_s: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call`` every ``period_s`` seconds in the background until the returned function is called."""
        ...


def thread_cpu_ns(thread: int) -> int | None:
    """What the processors have worked for one thread, by the system's id of it (``Thread.native_id``), in nanoseconds.

    None where the thread has ended, or the system does not tell one thread's time to another: only Linux does.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        return time.clock_gettime_ns(~thread << 3 | 6)  # CPUCLOCK_SCHED of one thread, clock_getres(2); an id of no thread is refused
    except OSError:
        return None


def is_real(clock: Clock) -> bool:
    """Whether the clock is the machine's: what its processes and threads do in that time is then of interest."""
    return getattr(clock, "real", False)


class RealClock:
    """The machine's monotonic clock; ``every`` runs a daemon thread.

    Its functions are taken when this is imported: a test that freezes those of ``time``, or makes its sleep return at once, is measured in
    true time all the same, and to its end.
    """

    __slots__ = ()

    real = True
    _now_ns, _processor_ns, _sleep = staticmethod(time.perf_counter_ns), staticmethod(time.process_time_ns), staticmethod(time.sleep)

    def now_ns(self) -> int:
        return self._now_ns()

    def processor_ns(self) -> int:
        """What the processors have worked for this process, in nanoseconds. Clocks that are made up need not know it."""
        return self._processor_ns()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)

    def asleep_ns(self) -> int:
        boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux: counts on while the machine sleeps
        return 0 if boot is None else time.clock_gettime_ns(boot) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def every(self, period_s: float, call: Callable[[], None]) -> Callable[[], None]:
        stop = threading.Event()

        def loop() -> None:
            while not stop.wait(period_s):
                call()

        thread = threading.Thread(target=loop, name="greencompute-sampler", daemon=True)
        thread.start()

        def cancel() -> None:
            stop.set()
            thread.join(timeout=2 * period_s + 1)

        return cancel
