"""What more hosts of one kind buy, and what gathering their reports costs. Run: python benchmarks/verdicts/fleet.py

Simulated hosts differ by 1 % and each has 1 % of noise in a sample; the verdicts are those of ``greencompute gather`` against a baseline
of as many hosts, tolerance 5 %, confidence 99 %. A regression moves all samples of a trial alike, so one trial tells from which size on it
is a FAIL. Then 1,000 reports are gathered in a process of its own, with the time and the memory that take.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.judging.by_other_run import worse_ratio
from pytest_greencompute.results.document import document
from pytest_greencompute.results.result import Result
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.stats.intervals import mean_interval
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Device, Digests, Machine, Provenance
from pytest_greencompute.values.readings import Block, Source, Span
from pytest_greencompute.values.run import Latency, Run

NOISE, BETWEEN = 0.01, 0.01
TOLERANCE, CONFIDENCE, POWER = 0.05, 0.99, 0.99
SAMPLES = 10  # sets of one host
HOSTS = (1, 2, 3, 5, 8)
ENERGY = METRICS["energy_per_query"]
KINDS = ("NVIDIA H100 80GB HBM3", "NVIDIA L4")
VERSION = "pytest-greencompute"


def host(level: float, rng: np.random.Generator, noise: float) -> Estimate:
    """What one host measured: the mean of its sets, with Student's t interval."""
    samples = (level * np.exp(rng.normal(0, noise, SAMPLES))).tolist()
    mean, low, high = mean_interval(samples, CONFIDENCE)
    return Estimate(mean, low, high, ENERGY.dimension, SAMPLES, CONFIDENCE)


def smallest_seen(hosts: int, trials: int, *, noise: float = NOISE, between: float = BETWEEN, seed: int = 1) -> tuple[float, float, float]:
    """The smallest regression that is FAIL with ``POWER``, and how often unchanged code is FAIL, and code right at the tolerance."""
    rng = np.random.default_rng((seed, hosts))
    seen = []
    for _ in range(trials):
        bases, heads = ([host(math.exp(level), rng, noise) for level in rng.normal(0, between, hosts)] for _ in range(2))
        low = worse_ratio(heads, bases, ENERGY.better, CONFIDENCE).low
        seen.append((1 + TOLERANCE) / low - 1 if low > 0 else math.inf)
    return float(np.quantile(seen, POWER)), float(np.mean(np.array(seen) < 0)), float(np.mean(np.array(seen) < TOLERANCE))


def report(number: int, rng: np.random.Generator, sets: int) -> Summary:
    """The session of one part: a test of its own for every ten parts, on one of two kinds of GPU."""
    uuid, kind = f"GPU-{number}", KINDS[number % len(KINDS)]
    blocks = [
        Block(index, phase / 9, 10, start, start + 10**9, {"gpu:0": Span(float(rng.normal(10, 0.05)), start, start + 10**9)})
        for index in range(sets)
        for phase in range(9)
        for start in [(index * 9 + phase) * 2 * 10**9 + number]
    ]
    machine = Machine(commit="0123abcd" * 5, versions={VERSION: _version()})
    source = Source("nvml", "gpu:0", "counter", kind, uuid, 0.1)
    devices = {"gpu:0": Device(kind, uuid, "nvml", "counter", {"power_limit_w": 700})}
    run = Run(
        test=f"tests/test_fleet.py::test_{number // 10 % 100}",
        name=None,
        queries=100,
        batch_size=1,
        metered=True,
        seconds=30.0,
        sources=(source,),
        blocks=tuple(blocks),
        latencies=tuple(Latency(1, float(each)) for each in rng.normal(0.03, 0.001, 200)),
        looks=5,
        provenance=Provenance(machine=machine, queries=Digests("ab", "ab"), batch_size=1, devices=devices),
    )
    facts = Facts(machine=machine, sources=(source,), seconds=30.0, total_j=500.0)
    return Summary(True, facts, [Result.of(run, {})], 1, created="2026-11-29T18:00:00Z")


def _version() -> str:
    from importlib.metadata import version

    return version(VERSION)


def write_parts(folder: Path, count: int, sets: int) -> None:
    """That many reports, as pytest writes them."""
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "pyproject.toml").write_text('[tool.greencompute.budgets."*"]\nenergy_per_query = "2 J"\n', encoding="utf-8")
    for number in range(count):
        (folder / f"{number:05}.json").write_text(json.dumps(document(replace(report(number, rng, sets)))), encoding="utf-8")


def gathered(count: int, sets: int) -> tuple[float, float, float, int]:
    """Seconds, seconds of CPU time, MiB at most and exit status of gathering that many reports."""
    with tempfile.TemporaryDirectory() as folder:
        write_parts(Path(folder) / "parts", count, sets)
        command = [sys.executable, "-m", "pytest_greencompute.cli", "gather", "parts", "--commit", "0123abcd", "-o", "whole.json"]
        before = time.perf_counter()
        watched = [sys.executable, "-c", _WATCH, *command]
        done = subprocess.run(watched, cwd=folder, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - before
        status, cpu_s, peak = json.loads(done.stdout.splitlines()[-1])
        return seconds, cpu_s, peak / 1024, status


_WATCH = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--parts", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--sets", type=int, default=8)  # of nine blocks: 40 s of measuring
    given = parser.parse_args()
    seen = {hosts: smallest_seen(hosts, given.trials) for hosts in HOSTS}
    rows = [(hosts, f"{least:.1%}", f"{least / seen[1][0]:.2f}", *map("{:.2%}".format, rates)) for hosts, (least, *rates) in seen.items()]
    heads = ("hosts a side", f"FAIL with {POWER:.0%} power from", "of one host's", "FAIL on unchanged code", "FAIL at the tolerance")
    print(tabulate(rows, heads, tablefmt="github"), flush=True)
    print()
    costs = []
    for count in given.parts:
        seconds, cpu_s, peak, status = gathered(count, given.sets)
        costs.append((f"{count:,}", f"{seconds:.1f} s", f"{cpu_s:.1f} s", f"{peak:.0f} MiB", status))
    print(tabulate(costs, ("reports", "gathered in", "CPU time", "memory at most", "exit status"), tablefmt="github"))


if __name__ == "__main__":
    main()
