"""Energy per query beside Zeus and CodeCarbon, on the same simulated GPUs, in real time. Run: python benchmarks/truth/peers.py

Each tool reads a stand-in for NVIDIA's driver library through the real pynvml, in a process of its own for each case, since the sensor is
the process's NVML. Each query draws 350 W for the duty share of its time and 90 W for the rest; idle is 60 W. Zeus measures one window of
five seconds of queries, CodeCarbon one task of as long, the protocol for up to 15 s (one set of nine blocks). The truth is that of the
queries that the tool has measured. Zeus and CodeCarbon are looked for where this Python finds them, or else in the folder that PEERS names.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.standin import StandIn, StandInDevice, compile_standin
from pytest_greencompute.values.metrics import METRICS

BUSY_W, LOW_W, IDLE_W = 350.0, 90.0, 60.0
SENSORS = {"100/25 ms": Sensor(0.1, 0.025), "100/100 ms": Sensor(0.1, 0.1)}
CASES = (  # sensor, seconds of a query, duty
    ("100/25 ms", 0.005, 0.5),
    ("100/25 ms", 0.025, 0.5),
    ("100/25 ms", 0.05, 0.5),
    ("100/25 ms", 0.1, 0.5),
    ("100/25 ms", 0.1, 0.9),
    ("100/25 ms", 0.2, 0.1),
    ("100/25 ms", 0.7, 0.5),
    ("100/100 ms", 0.005, 0.5),
    ("100/100 ms", 0.05, 0.5),
    ("100/100 ms", 0.1, 0.5),
)
PEER_S, OURS_S, SETTLE_S = 5.0, 15.0, 1.0
QUERIES = 8
JOULES_PER_KWH = 3.6e6
LIMIT_S = 180


@dataclass(frozen=True)
class Found:
    """What a tool says one query used, and what it did use, in joules."""

    joules: float
    truth_j: float


class Load:
    """One case's queries on the stand-in that this process's environment names."""

    def __init__(self, query_s: float, duty: float) -> None:
        self.standin = StandIn.attach()
        self._query_s, self._duty = query_s, duty

    def query(self, batch: Sequence[int]) -> Sequence[int]:
        self.standin.set_power(0, BUSY_W)
        time.sleep(self._query_s * self._duty)
        self.standin.set_power(0, LOW_W)
        time.sleep(self._query_s * (1 - self._duty))
        self.standin.set_power(0, IDLE_W)
        return batch

    def loop(self, seconds: float) -> tuple[int, float]:
        """Queries for so long: how many, and the joules they used."""
        start_ns, queries = time.perf_counter_ns(), 0
        while time.perf_counter_ns() < start_ns + seconds * 1e9:
            self.query((0,))
            queries += 1
        return queries, self.standin.true_energy_j(0, start_ns, time.perf_counter_ns())


def protocol(load: Load) -> Found:
    """The protocol of this plugin."""
    instruments = open_instruments(["nvml"])
    raw, _ = run_metered(Task(load.query, list(range(QUERIES))), instruments, Effort(OURS_S))
    energy = estimate(raw, METRICS["energy_per_query"], Aim())
    if not isinstance(energy, Estimate):
        raise SystemExit(energy.reason)
    truth = sum(load.standin.true_energy_j(0, block.start_ns, block.end_ns) for block in raw.blocks)
    return Found(energy.value, truth / sum(block.queries for block in raw.blocks))


def zeus(load: Load) -> Found:
    """Zeus, one window."""
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(gpu_indices=[0])
    time.sleep(SETTLE_S)
    monitor.begin_window("queries", sync_execution=False)  # there is no framework to wait for: the load is synchronous
    queries, truth_j = load.loop(PEER_S)
    window = monitor.end_window("queries", sync_execution=False)
    return Found(window.gpu_energy[0] / queries, truth_j / queries)


def codecarbon(load: Load) -> Found:
    """CodeCarbon, one task."""
    from codecarbon import OfflineEmissionsTracker

    logging.disable(logging.CRITICAL)
    tracker = OfflineEmissionsTracker(country_iso_code="USA", save_to_file=False, log_level="critical", allow_multiple_runs=True)
    time.sleep(SETTLE_S)
    tracker.start_task("queries")
    queries, truth_j = load.loop(PEER_S)
    task = tracker.stop_task("queries")
    if not task.gpu_count:
        raise SystemExit("CodeCarbon saw no GPU.")
    return Found(task.gpu_energy * JOULES_PER_KWH / queries, truth_j / queries)


TOOLS: dict[str, Callable[[Load], Found]] = {"protocol": protocol, "zeus": zeus, "codecarbon": codecarbon}
NEEDS = {"zeus": "zeus.monitor", "codecarbon": "codecarbon"}


def python(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """This Python in a process of its own, which finds the peers after everything else."""
    before = os.environ | (env or {})
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, env=before, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def importable(module: str) -> bool:
    """Whether a module and all that it needs can be imported here or from the peers' folder."""
    code = f"import os, sys; sys.path.append(os.environ.get('PEERS', '')); import {module}"
    return python("-c", code).returncode == 0


def measured(tool: str, case: int, library: Path) -> Found:
    """What one tool finds in one case, in a process of its own with a fresh stand-in."""
    sensor = SENSORS[CASES[case][0]]
    with tempfile.TemporaryDirectory() as folder:
        standin = StandIn.create(Path(folder), [StandInDevice(sensor, idle_w=IDLE_W)], library=library)
        path = {"PATH": f"{library.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        done = python(__file__, "--tool", tool, "--case", str(case), env=standin.env | path)
        standin.close()
    if done.returncode:
        raise SystemExit(f"{tool}, case {case}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def pretend_smi(folder: Path) -> None:
    """A program nvidia-smi that does nothing: CodeCarbon looks for a GPU only where it can be started."""
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)


def work(tool: str, case: int) -> None:
    """One tool in one case, in this process; says what it found as JSON."""
    sys.path.append(os.environ.get("PEERS", ""))
    _, query_s, duty = CASES[case]
    found = TOOLS[tool](Load(query_s, duty))
    print(json.dumps({"joules": found.joules, "truth_j": found.truth_j}))


def compare() -> None:
    """Every tool that is here in every case, as a table."""
    absent = [tool for tool, module in NEEDS.items() if not importable(module)]
    tools = [tool for tool in TOOLS if tool not in absent]
    rows: list[list[str]] = []
    errors: dict[str, list[float]] = {tool: [] for tool in tools}
    with tempfile.TemporaryDirectory() as folder:
        library = compile_standin(Path(folder))
        pretend_smi(Path(folder))
        for case, (sensor, query_s, duty) in enumerate(CASES):
            for tool in tools:
                found = measured(tool, case, library)
                errors[tool].append(found.joules / found.truth_j - 1)
            rows.append([sensor, f"{query_s * 1e3:g} ms", f"{duty:.0%}", *(f"{errors[tool][-1]:+.2%}" for tool in tools)])
    rows.append(["rms", "", "", *(f"{math.sqrt(statistics.fmean(each * each for each in errors[tool])):.2%}" for tool in tools)])
    rows.append(["worst", "", "", *(f"{max(map(abs, errors[tool])):.2%}" for tool in tools)])
    print(tabulate(rows, headers=["sensor", "query", "duty", *tools], tablefmt="github", disable_numparse=True))
    for tool in absent:
        print(f"\n{tool} is left out: it cannot be imported here.")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tool", choices=sorted(TOOLS), help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.tool is None:
        compare()
    else:
        work(given.tool, given.case)


if __name__ == "__main__":
    main()
