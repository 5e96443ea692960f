"""What reading a dear counter costs: CPU time of reads over wall time. Run: python benchmarks/verdicts/reads.py

A counter that ticks every 100 ms and takes 2.4 ms of CPU a read, as an H100's does. Queries of 10 ms, half of them at 350 W and half at
90 W; limit 15 s. On a simulated GPU and clock reads are counted, and nothing else costs: the figures are the same on any machine. *sets*:
from the first block's start to the last one's end; *test*: with preparation, but for the probe, whose reads stand beside it.

``--real``: the same in real time, real pynvml reading the stand-in for NVIDIA's driver library, and the CPU time of this process in
whatever the loop asks of the instruments: waiting for ticks and phases, reads, marks, conditions, the probe, samples of power. Needs a
quiet machine.

``--sessions`` prints instead what a device that is remembered saves: seconds of the first metered test of a session of pytest that knows
nothing of the device, and of the one after it.

``--against FOLDER`` runs the same by the build in another checkout, by turns with this one, each in a process of its own, and prints the
ratio: ``git worktree add ../before c0a9932 && python benchmarks/verdicts/reads.py --against ../before``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from _builds import named

HERE = Path(__file__).resolve().parents[2]
BUSY_W, LOW_W, IDLE_W = 350.0, 90.0, 60.0
TICK_S = 0.1
QUERY_S = 0.01
QUERIES = 64
LIMIT_S = 15.0
READ_S = 0.0024


@dataclass(frozen=True)
class Case:
    """A sensor by its profile and window, whether another side takes turns, and whether another test of the session came before, or an
    earlier session remembers the device.
    """

    name: str
    profile: str
    window_s: float
    in_pairs: bool = False
    later: bool = False
    remembered: bool = False


CASES = (
    Case("sees all, alone", "H100", TICK_S),
    Case("sees all, alone, a later test", "H100", TICK_S, later=True),
    Case("sees all, alone, a device that is remembered", "H100", TICK_S, remembered=True),
    Case("sees all, in pairs", "H100", TICK_S, in_pairs=True),
    Case("sees a quarter, alone", "A100", TICK_S / 4),
    Case("sees a quarter, in pairs", "A100", TICK_S / 4, in_pairs=True),
)


@dataclass(frozen=True)
class Cost:
    """CPU time over wall time, of the sets and of the whole test without its probe; CPU seconds of the probe, and of all the rest; and
    seconds until the first block begins.
    """

    sets: float
    test: float
    probe_s: float
    rest_s: float
    ready_s: float


class Spent:
    """CPU seconds of calls, each with when it ended. ``now_ns`` and ``cpu_s`` are the clocks."""

    def __init__(self, now_ns: Callable[[], int], cpu_s: Callable[[], float]) -> None:
        self.calls: list[tuple[str, int, float]] = []
        self._now_ns, self._cpu_s = now_ns, cpu_s

    def watch(self, owner: Any, *names: str) -> None:
        """Time these methods of an object from now on."""
        for name in names:
            if hasattr(owner, name):
                setattr(owner, name, self._timed(name, getattr(owner, name)))

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*args: Any, **named: Any) -> Any:
            start_s = self._cpu_s()
            try:
                return call(*args, **named)
            finally:
                self.calls.append((name, self._now_ns(), self._cpu_s() - start_s))

        return timing

    def cost(self, run: Any, a_ns: int, b_ns: int) -> Cost:
        """What these calls cost a run that took from ``a_ns`` to ``b_ns``."""
        first_ns, last_ns = run.blocks[0].start_ns, run.blocks[-1].end_ns
        sets_s = sum(seconds for _, t_ns, seconds in self.calls if first_ns <= t_ns <= last_ns)
        probe_s = sum(seconds for name, _, seconds in self.calls if name == "probe")
        rest_s = sum(seconds for name, _, seconds in self.calls if name != "probe")
        return Cost(sets_s * 1e9 / (last_ns - first_ns), rest_s * 1e9 / (b_ns - a_ns), probe_s, rest_s, (first_ns - a_ns) / 1e9)


ASKED = ("probe", "ticks", "wait_for_phase", "marks", "read_continuous", "conditions", "facts", "rest", "expect", "learn")


def simulated(case: Case) -> Cost:
    """What one test costs by the build of this process, on a simulated clock."""
    clock = named("SimulatedClock")()
    gpu = named("SimulatedGpu")(clock, sensor=named("Sensor")(TICK_S, case.window_s, phase_s=0.037, read_s=READ_S), idle_w=IDLE_W)
    counter, luck, reads_s = gpu.energy_counter(), random.Random(1), [0.0]
    read = counter.read

    def counted() -> Any:
        reads_s[0] += READ_S
        return read()

    def model(batch: list[int]) -> list[int]:
        factor = luck.gauss(1, 0.01)
        for watts in (BUSY_W, LOW_W):
            gpu.set_power(watts * factor)
            clock.sleep(QUERY_S / 2)
        gpu.set_power(IDLE_W)
        return batch

    counter.read = counted
    return _cost(case, model, named("Instruments")([counter], clock), Spent(clock.now_ns, lambda: reads_s[0]), clock.now_ns)


def real(case: Case) -> Cost:
    """What one test costs by the build of this process, in real time."""
    device = named("PROFILES")[case.profile]
    device = replace(device, counter=replace(device.counter, read_s=READ_S, read_busy=True))
    with tempfile.TemporaryDirectory() as folder:
        standin = named("StandIn").create(Path(folder), [named("StandInDevice")(device)])
        os.environ.update(standin.env)
        ctypes.CDLL(str(standin.library), mode=ctypes.RTLD_GLOBAL)

        def model(batch: list[int]) -> list[int]:
            standin.work(0, QUERY_S / 2, BUSY_W)
            standin.work(0, QUERY_S / 2, LOW_W)
            return batch

        instruments = named("open_instruments")(["nvml"])
        found = _cost(case, model, instruments, Spent(time.perf_counter_ns, time.thread_time), time.perf_counter_ns)
        instruments.close()
    return found


def _cost(case: Case, model: Callable[[list[int]], list[int]], instruments: Any, spent: Spent, now_ns: Callable[[], int]) -> Cost:
    task = named("Task")(model, list(range(QUERIES)))
    effort = named("Effort")(LIMIT_S, in_pairs=case.in_pairs, timing="short")
    if case.later or case.remembered:
        named("run_metered")(task, instruments, effort)
    if case.remembered:
        before, instruments = instruments, named("Instruments")(instruments.counters, instruments.clock)
        if hasattr(before, "whole_before"):  # a build that remembers
            instruments.expect(before.behaviours, remembered=True)
    spent.watch(instruments, *ASKED)
    if hasattr(instruments, "_sampler"):  # a build that holds counters against power, which a thread of its own samples
        spent.watch(instruments._sampler, "_sample")
    a_ns = now_ns()
    run, _ = named("run_metered")(task, instruments, effort)
    return spent.cost(run, a_ns, now_ns())


TEST = """
import time
import pytest
from pytest_greencompute.testing.standin import StandIn

@pytest.mark.energy_budget(energy_per_query="10 J")
def test_it(energy_meter):
    standin = StandIn.attach()

    def model(batch):
        standin.work(0, {half_s}, {busy_w})
        time.sleep({half_s})
        return batch

    energy_meter.measure(model, list(range({queries})))
"""


def sessions(trials: int) -> list[list[str]]:
    """Seconds of the first test of a session, and of the same in the next session, which remembers the device."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            device = named("StandInDevice")(named("PROFILES")["H100"])
            standin = named("StandIn").create(folder, [device])
            (folder / "test_it.py").write_text(TEST.format(half_s=QUERY_S / 2, busy_w=BUSY_W, queries=QUERIES))
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--energy-budget", "--energy-json=energy.json"]
            environ = {**os.environ, **standin.env, "HOME": name, "XDG_CACHE_HOME": "", "PYTHONPATH": str(HERE)}
            for seconds in took:
                done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stdout + done.stderr)
                (run,) = json.loads((folder / "energy.json").read_text())["runs"]
                seconds.append(run["seconds"])
    return [[f"{statistics.median(seconds):.1f} s" for seconds in took]]


def by_build(case: Case, folder: Path, how: str) -> Cost:
    """What a test costs by the build in ``folder``."""
    command = [sys.executable, __file__, "--one", str(CASES.index(case)), *([how] if how else [])]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Cost(**json.loads(done.stdout))


SHOWN = {"sets": "{:.2%}", "test": "{:.2%}", "probe_s": "{:.3f} s", "rest_s": "{:.3f} s", "ready_s": "{:.1f} s"}


def row(case: Case, builds: Sequence[Sequence[Cost]]) -> list[str]:
    """The medians of each build's trials; with two of them, the ratio, too."""
    cells = [case.name]
    for name in ("sets", "test", "probe_s", "rest_s", "ready_s"):
        values = [statistics.median(getattr(each, name) for each in costs) for costs in builds]
        cells += [SHOWN[name].format(value) for value in values]
        if len(values) > 1:
            cells.append(f"{values[-1] / values[0]:.2f}" if values[0] else "")
    return cells


def main() -> None:
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", type=Path, help="a checkout of another build, to run by turns with this one")
    parser.add_argument("--real", action="store_true", help="in real time, on the stand-in")
    parser.add_argument("--trials", type=int, default=3, help="in real time, of each case (default: 3); medians are printed")
    parser.add_argument("--sessions", action="store_true", help="what a device that is remembered saves")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(asdict((real if given.real else simulated)(CASES[given.one]))))
        return
    if given.sessions:
        print(tabulate(sessions(given.trials), headers=["first session", "next session"], tablefmt="github", disable_numparse=True))
        return
    folders = [folder for folder in (given.against, HERE) if folder is not None]
    rows = []
    for case in CASES:
        builds: dict[Path, list[Cost]] = {folder: [] for folder in folders}
        for _ in range(given.trials if given.real else 1):
            for folder, costs in builds.items():
                costs.append(by_build(case, folder, "--real" if given.real else ""))
        rows.append(row(case, list(builds.values())))
    whens = ("before", "now", "ratio") if given.against else ("",)
    heads = [f"{what} {when}".strip() for what in ("sets", "test", "probe", "all else", "ready") for when in whens]
    print(tabulate(rows, headers=["case", *heads], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
