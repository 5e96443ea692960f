"""Whether a test has the machine for itself, and how fast the machine is: a limit in seconds would test the machine, not us."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

DISTURBING_CORES = 0.05
DISTURBING_S = 0.1  # what a machine's own housekeeping may take in a test of any length
STEPS = 100
MACHINE, DOOR = Path(__file__), Path(__file__).with_name("conftest.py")  # locked, never written: any two files that all workers see


class Others:
    """The CPU time that all other processes use in a ``with`` block: not this one, nor what it started."""

    def __init__(self) -> None:
        self.seconds = self.lasted_s = 0.0

    def __enter__(self) -> Others:
        self._start = time.monotonic(), _busy_s(), _ours_s()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        start, busy_s, ours_s = self._start
        self.lasted_s = time.monotonic() - start
        self.seconds = (_busy_s() - busy_s) - (_ours_s() - ours_s)

    @property
    def disturb(self) -> bool:
        return self.seconds > DISTURBING_S + DISTURBING_CORES * self.lasted_s

    def __str__(self) -> str:
        return f"{self.seconds / self.lasted_s:.1f} of its {psutil.cpu_count()} cores"


def shared_out() -> bool:
    """Whether other workers of this pytest session run tests beside this one."""
    return "PYTEST_XDIST_WORKER" in os.environ


@contextmanager
def turn(*, beside: bool) -> Iterator[None]:
    """The machine for a test: with all others that are here ``beside`` others, too, or when they have gone. Workers alone take turns."""
    if not shared_out():
        yield
        return
    with DOOR.open() as door, MACHINE.open() as machine:
        # Whoever waits for the machine holds the door, so that no later ones slip in before it.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_SH if beside else fcntl.LOCK_EX)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


def _busy_s() -> float:
    """CPU seconds that the machine has worked, or that were taken from it by its host."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def _ours_s() -> float:
    """CPU seconds of this process and its descendants; of those that have ended, what was waited for."""
    us = psutil.Process()
    total = sum(us.cpu_times()[:4])
    for child in us.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def in_steps(cost_s: Callable[[], float], times: int = 20) -> float:
    """What ``cost_s`` returns, in seconds, as a number of small steps of Python on this machine.

    Both are measured by turns, and the quietest of each counts: what else runs on the machine only adds.
    """
    costs, steps = [], []
    for _ in range(times):
        costs.append(cost_s())
        start = time.perf_counter()
        for _ in range(STEPS):
            _steps()
        steps.append((time.perf_counter() - start) / STEPS**2)
    return min(costs) / min(steps)


def _steps() -> int:
    total = 0
    for number in range(STEPS):
        total += len({"a": number})
    return total
