"""An end to what takes too long: code that somebody else wrote, and that may never come back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(seconds: float | None, error: Exception) -> Iterator[None]:
    """Raise ``error`` in here when so many seconds are over.

    Only in the main thread, and where the system has timers (not on Windows): elsewhere, and with None, nothing ends it. Python code and
    waiting are ended, a single call into native code when it comes back. An alarm of somebody else's (a test's time limit) stays set, and
    where it is due first this one is not.
    """
    timer = getattr(signal, "setitimer", None)
    if seconds is None or timer is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    theirs_s, every_s = signal.getitimer(signal.ITIMER_REAL)
    if 0 < theirs_s <= seconds:
        yield
        return

    def ring(_number: int, _frame: object) -> None:
        raise error

    began, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    timer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        timer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if theirs_s:
            timer(signal.ITIMER_REAL, max(theirs_s - (time.monotonic() - began), 0.001), every_s)
