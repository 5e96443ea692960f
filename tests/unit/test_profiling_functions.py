"""The profile of Python functions: where the time goes, how often each is called, and what is left behind."""

from __future__ import annotations

import cProfile
import json
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_greencompute.errors import CannotError
from pytest_greencompute.explaining.profile import Level
from pytest_greencompute.profiling.functions import profile_functions
from pytest_greencompute.profiling.sampling import Sampled, Sampler

pytestmark = pytest.mark.alone  # shares of CPU time, sampled
HERE = Path(__file__)


def spin(seconds: float) -> None:
    """Use the processor for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def short() -> None:
    spin(0.005)


def long() -> None:
    spin(0.015)


def both() -> None:
    short()
    long()


def pattern() -> None:
    for number in range(20):
        re.compile(f"({number}|a+b*){{2}}")
    re.purge()


def profile(run: Callable[[], object], limit_s: float = 0.6, queries: int = 2) -> Level:
    return profile_functions(run, queries, limit_s, root=HERE.parent)


def shares(level: Level) -> dict[str, float]:
    return {each.name: sum(each.seconds) / sum(level.seconds) for each in level.costs}


def named(function: Callable[..., object]) -> str:
    return f"{HERE.name}:{function.__name__}"


def usual(levels: Iterable[Level], name: str) -> float:
    """A function's share in the middle one: any may meet a busy moment."""
    return statistics.median(shares(level).get(name, 0.0) for level in levels)


def test_time_goes_to_the_functions_that_spend_it() -> None:
    levels = [profile(both) for _ in range(5)]
    assert usual(levels, named(spin)) > 0.9
    assert {level.clock for level in levels} == {"cpu"}


def test_the_seconds_of_a_query_are_all_that_it_uses_but_the_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """``both`` uses up 20 ms, of which looking takes the more, the more a busy machine delays it."""
    parts: list[Sampled] = []
    passes: list[float] = []
    end = Sampler.end

    def ended(sampler: Sampler) -> Sampled:
        parts.append(end(sampler))
        return parts[-1]

    def run() -> None:
        passes.append(time.monotonic())
        both()

    monkeypatch.setattr(Sampler, "end", ended)
    level = profile(run)
    seen_s, looking_s = (sum(getattr(part, what) for part in parts) / 1e9 / (len(passes) - 1) for what in ("whole_ns", "looking_ns"))
    assert seen_s + looking_s == pytest.approx(0.02, rel=0.15)  # in all passes but the one in which calls were counted
    assert looking_s > 0
    assert statistics.fmean(level.seconds) == pytest.approx(seen_s / 2, rel=0.15)


def test_calls_are_counted_per_query() -> None:
    calls = {each.name: each.calls for each in profile(both, 2.0).costs}
    assert calls[named(spin)] == 1.0  # two a pass of two queries


def test_a_librarys_time_counts_under_the_function_that_called_it() -> None:
    """In a process of its own, as a side of a comparison is: in one that has loaded all that other tests need each look takes longer."""
    name = f"re.compile from {named(pattern)}"
    code = "from tests.unit.test_profiling_functions import *; levels = [profile(pattern) for _ in range(5)]; "
    code += f"calls = [each.calls for level in levels for each in level.costs if each.name == {name!r}]; "
    code += f"print(json.dumps([usual(levels, {name!r}), calls]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parents[2], capture_output=True, text=True, check=True, timeout=60)
    share, calls = json.loads(done.stdout)
    assert share > 0.8
    assert calls == [10.0] * 5


def test_time_of_other_threads_counts_where_they_are() -> None:
    def run() -> None:
        thread = threading.Thread(target=worker)
        thread.start()
        thread.join()

    def worker() -> None:
        spin(0.04)

    assert usual((profile(run) for _ in range(5)), named(spin)) > 0.8


def test_a_function_that_waits_uses_no_processor() -> None:
    def run() -> None:
        time.sleep(0.02)
        spin(0.01)

    level = profile(run, queries=1)
    assert sum(level.seconds) / len(level.seconds) < 0.02
    assert profile_functions(run, 1, 0.3, "wall").seconds[0] > 0.02


def left() -> tuple[object, ...]:
    """What a profiler may leave behind in a process."""
    timers = (signal.getitimer(each) for each in (signal.ITIMER_REAL, signal.ITIMER_PROF)) if hasattr(signal, "setitimer") else ()
    handlers = (signal.getsignal(each) for each in signal.valid_signals())
    return (sys.getprofile(), sys.gettrace(), set(threading.enumerate()), *timers, *handlers)


def test_nothing_is_left_behind() -> None:
    before = left()
    profile(both, 0.1)

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        profile(fails, 0.1)
    assert left() == before


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no timers")
def test_a_timer_of_somebody_elses_goes_on() -> None:
    def alarm(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 600)
    try:
        levels = [profile(both, 0.3) for _ in range(5)]
        assert signal.getsignal(signal.SIGALRM) is alarm
        assert 500 < signal.getitimer(signal.ITIMER_REAL)[0] <= 600
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert usual(levels, named(spin)) > 0.7  # by the other timer, which is coarser


def test_a_model_in_another_thread_is_seen_without_a_timer() -> None:
    with ThreadPoolExecutor() as pool:
        levels = [pool.submit(profile, both).result() for _ in range(5)]
    assert usual(levels, named(spin)) > 0.7


def test_another_profiler_goes_on_and_calls_are_not_counted() -> None:
    other = cProfile.Profile()
    other.enable()
    try:
        level = profile(both, 0.2)
    finally:
        other.disable()
    assert {each.calls for each in level.costs} == {None}
    assert any("another profiler" in note for note in level.notes)
    assert any("spin" in str(each.code) for each in other.getstats())


def test_passes_that_cannot_be_seen_are_no_profile() -> None:
    with pytest.raises(CannotError, match="too short"):
        profile(lambda: None, 0.0001)
