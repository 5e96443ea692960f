"""Idle workers that go on spinning after a call: who does it, how to wait for its end, and what stops it.

Thread pools of numeric libraries keep their workers awake for a while after each call, in case another one follows. That is CPU time, and
energy, of the call that has ended; what begins meanwhile must not pay for it. Seen by trying (two cores, 2.4 GHz): ONNX Runtime 1.32 20 to
60 ms, numpy 2.4's OpenBLAS 100 ms, torch 2.13 3 to 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.machine.processes import PROC, workers
from pytest_greencompute.protocol.parts import Worked

LIMIT_S = 0.3  # nothing spins for so long; what is still at work then works
STEP_S = 0.002
SHOWS_S = 0.003  # of CPU time: less is no more than a thread that goes to sleep
RUNNING = 0.2  # of the time: what uses less of a core does not spin
WAITS = 0.2  # of the time: a thread that calls a model and waits for less of it is at work
# What spins where it is loaded: the module that brings it, and what stops it: each was tried. Where the variable is set, the user knows.
SETTINGS = (
    ("onnxruntime", "", "ONNX Runtime: the session option session.intra_op.allow_spinning = '0'"),
    ("numpy", "OPENBLAS_THREAD_TIMEOUT", "numpy's OpenBLAS: OPENBLAS_THREAD_TIMEOUT=4"),
    ("torch", "OMP_WAIT_POLICY", "torch's OpenMP: OMP_WAIT_POLICY=passive"),
)


@dataclass(frozen=True, slots=True)
class Spin:
    """What other threads of this process, and its children, did after a call: for how long, how much CPU time, and whether it ended."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    ended: bool = True

    @property
    def shows(self) -> bool:
        return self.ended and self.cpu_s >= SHOWS_S

    @property
    def waited(self) -> bool:
        """Whether anyone was at work at the first look."""
        return self.seconds >= STEP_S


def others_cpu_s() -> float:
    """CPU seconds of this process's other threads so far."""
    return time.process_time() - time.thread_time()


def anyone_at_work(proc: Path = PROC) -> bool | None:
    """Whether another thread of this process, or one of a descendant, runs right now; None where the system does not tell."""
    try:
        if any(_runs(task) for task in _tasks(proc / "self") if task.name != str(threading.get_native_id())):
            return True
    except OSError:
        return None
    with contextlib.suppress(OSError):
        return any(_runs(task) for pid in workers(proc) for task in _tasks(proc / pid))
    return False


def _tasks(process: Path) -> Iterator[Path]:
    return (process / "task").iterdir()


def _runs(task: Path) -> bool:
    try:
        stat = (task / "stat").read_bytes()
    except OSError:  # it has ended
        return False
    return stat[stat.rfind(b")") + 2 :][:1] == b"R"


def wait_until_quiet(
    limit_s: float = LIMIT_S, at_work: Callable[[], bool | None] = anyone_at_work, sleep: Callable[[float], None] = time.sleep
) -> Spin:
    """Wait until no other thread runs any more, for ``limit_s`` at most. Where none does, that is one look."""
    start_s, cpu_s = time.perf_counter(), others_cpu_s()
    while (busy := at_work()) is not False:
        before_s, before_cpu_s = time.perf_counter(), others_cpu_s()
        sleep(STEP_S)
        now_s = time.perf_counter()
        if busy is None and others_cpu_s() - before_cpu_s < RUNNING * (now_s - before_s):
            break
        if now_s - start_s > limit_s:
            return Spin(now_s - start_s, others_cpu_s() - cpu_s, ended=False)
    return Spin(time.perf_counter() - start_s, others_cpu_s() - cpu_s)


def what_stops_it() -> str:
    """What stops the workers of the loaded libraries that may spin; empty where none is loaded."""
    found = [setting for module, variable, setting in SETTINGS if module in sys.modules and variable not in os.environ]
    return f"; what stops them is, of {', of '.join(found)}" if found else ""


def spun_on(tail: Spin, bill: str) -> tuple[str, ...]:
    """A note of what went on after a call, and whose ``bill`` it is on; none where nothing did."""
    if not tail.shows:
        return ()
    return (f"idle workers went on spinning for {tail.seconds * 1e3:.0f} ms after the last call, {bill}{what_stops_it()}",)


class Spinning:
    """What the workers of a measured model did beside the thread that calls it: what is to be noted of it.

    A model that waits (for a service, a file, a timer) pays for workers that spin meanwhile: that is on its bill, as it is in use. Where
    time is made up (not ``real``) nobody is looked for: the machine's threads have nothing to do with it.
    """

    __slots__ = ("_alive_s", "_began", "_ended_ns", "_others_s", "_real", "_seen", "_tail", "_waited_s", "_worked_s")

    def __init__(self, *, real: bool = True) -> None:
        self._real = real
        self._tail = Spin()
        self._worked_s = self._waited_s = self._others_s = 0.0
        self._began = (0.0, 0.0)
        self._ended_ns, self._alive_s, self._seen = 0, 0.0, False

    def begins(self) -> None:
        """A block is about to run."""
        self._began = time.thread_time(), others_cpu_s()

    def ends(self, worked: Worked) -> None:
        """A block has run."""
        self._ended_ns, self._alive_s = worked.end_ns, others_cpu_s()
        waited_s = max(worked.seconds - (time.thread_time() - self._began[0]), 0.0)
        self._worked_s += worked.seconds
        self._waited_s += waited_s
        self._others_s += self._alive_s - self._began[1]
        self._seen = self._seen or (self._real and waited_s > WAITS * worked.seconds and anyone_at_work() is True)

    def since_work(self, now_ns: int) -> bool:
        """Whether others have been at work since the last block ended."""
        return others_cpu_s() - self._alive_s > RUNNING * (now_ns - self._ended_ns) / 1e9

    def after(self, tail: Spin) -> None:
        """What went on when the turn was another's."""
        self._tail = max(self._tail, tail, key=lambda each: each.cpu_s if each.ended else 0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about it for people."""
        found = spun_on(self._tail, "each time that it was another's turn: on nobody's bill")
        if self._seen and self._waited_s > WAITS * self._worked_s and self._others_s > WAITS * self._waited_s:
            share = self._waited_s / self._worked_s
            found += (f"the queries wait for {share:.0%} of their time, in which idle workers spin, which is on the bill{what_stops_it()}",)
        return found
