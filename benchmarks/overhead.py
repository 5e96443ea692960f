"""What the plugin costs where it is not used, and what a window costs, beside its peers. Run: python benchmarks/overhead.py

Starts are whole pytest processes on one trivial test, taken in turn (A B C A B C …), so that the machine's drift is shared; the ratio is
taken round by round and its median printed. Peers that are not installed are left out; those in the folder that PEERS names
(`make bench` sets it) are put on the path of their own runs alone, since some of them load into every pytest.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.measuring.window import Window
from pytest_greencompute.meters.base import Condition
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.values.readings import Reading, Source

ROUNDS = 15
TESTS = 5000
WINDOWS = 2000
PLUGINS = {  # package -> the module that pytest loads
    "pytest-greencompute": "pytest_greencompute.plugin",
    "pytest-benchmark": "pytest_benchmark.plugin",
    "pytest-codecarbon": "pytest_codecarbon",
}
PEERS = os.environ.get("PEERS", "")


def pytest_seconds(folder: Path, *options: str) -> float:
    """CPU seconds of one pytest process (less noisy than wall time) without any plugin but those that ``options`` name."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    environ = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    environ |= {"PYTHONPATH": PEERS} if PEERS and "pytest_codecarbon" in options else {}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout.decode() + done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def installed(module: str) -> bool:
    """Whether a module can be imported here or lies among the peers."""
    return bool(importlib.util.find_spec(module) or (PEERS and Path(PEERS, f"{module}.py").exists()))


def in_turn(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each run once a round, after one round that is thrown away."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = run()
            if number:
                seen[name].append(seconds)
    return seen


def ratios(seen: dict[str, list[float]], base: str) -> list[list[str]]:
    """Median seconds, and the median over rounds of each run's ratio to ``base``."""
    rows = []
    for name, seconds in seen.items():
        ratio = statistics.median(each / other for each, other in zip(seconds, seen[base], strict=True))
        rows.append([name, f"{statistics.median(seconds) * 1e3:.0f} ms", f"{(ratio - 1) * 100:+.1f} %"])
    return rows


def start_up(folder: Path) -> list[list[str]]:
    (folder / "test_one.py").write_text("def test_one():\n    pass\n")
    runs: dict[str, Callable[[], float]] = {"no plugin": lambda: pytest_seconds(folder)}
    for name, plugin in PLUGINS.items():
        if installed(plugin.partition(".")[0]):
            runs[name] = lambda plugin=plugin: pytest_seconds(folder, "-p", plugin)
    return ratios(in_turn(runs, ROUNDS), "no plugin")


def per_test(folder: Path) -> list[list[str]]:
    body = f"import pytest\n\n\n@pytest.mark.parametrize('number', range({TESTS}))\ndef test_many(number):\n    pass\n"
    (folder / "test_many.py").write_text(body)
    runs = {
        "no plugin": lambda: pytest_seconds(folder),
        "pytest-greencompute": lambda: pytest_seconds(folder, "-p", PLUGINS["pytest-greencompute"]),
        "pytest-greencompute --energy-budget": lambda: pytest_seconds(folder, "-p", PLUGINS["pytest-greencompute"], "--energy-budget"),
    }
    seen = in_turn(runs, 7)
    # The least of the rounds: what is added is smaller than the noise of the median on a shared machine.
    least = min(seen["no plugin"])
    return [[name, f"{min(seconds):.2f} s", f"{(min(seconds) - least) / TESTS * 1e6:+.1f} µs"] for name, seconds in seen.items()]


class FreeCounter:
    """A continuous counter whose read costs next to nothing, so that what is left is the window's own cost."""

    source = Source("free", "cpu", "counter")
    reads = 0

    def read(self) -> Reading:
        self.reads += 1
        return Reading(float(self.reads), time.perf_counter_ns())

    def condition(self) -> Condition:
        return Condition()

    def facts(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        pass


class _Clock:
    now_ns = staticmethod(time.perf_counter_ns)


def never(metric: str) -> None:
    raise AssertionError(metric)


def window_cost() -> list[list[str]]:
    counter = FreeCounter()
    instruments = Instruments([counter], _Clock())  # type: ignore[arg-type, list-item]

    def read_only() -> None:
        counter.read()
        counter.read()

    def window() -> None:
        with Window(None, instruments, Aim(), never):  # type: ignore[arg-type]
            pass

    runs = {"two reads of the meter": read_only, "window, its two reads included": window}
    if importlib.util.find_spec("codecarbon"):
        runs["codecarbon start_task, stop_task"] = codecarbon_task()
    times = {name: 20 if "codecarbon" in name else WINDOWS for name in runs}
    seen = in_turn({name: lambda name=name: _each(runs[name], times[name]) for name in runs}, 7)
    return [[name, f"{statistics.median(seconds) * 1e6:.1f} µs"] for name, seconds in seen.items()]


def _each(run: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def codecarbon_task() -> Callable[[], None]:
    import logging

    logging.disable(logging.CRITICAL)
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(country_iso_code="FRA", save_to_file=False, log_level="critical", allow_multiple_runs=True)

    def task() -> None:
        tracker.start_task()
        tracker.stop_task()

    return task


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        print("Start of pytest, one trivial test:\n")
        print(tabulate(start_up(Path(name)), headers=["plugin loaded", "median", "against none"], tablefmt="github"))
    with tempfile.TemporaryDirectory() as name:
        print(f"\n{TESTS} tests without a marker:\n")
        print(tabulate(per_test(Path(name)), headers=["", "least CPU time", "added a test"], tablefmt="github"))
    print("\nOpening and closing a window:\n")
    print(tabulate(window_cost(), headers=["", "each"], tablefmt="github"))


if __name__ == "__main__":
    main()
