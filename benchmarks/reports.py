"""What the reports of many runs cost: seconds to write each, and how large it is.

Run: python benchmarks/reports.py        (a minute)

Runs of 50 blocks and 110 timed batches each; every tenth is over its budget.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.report.forms import FORMS
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Device, Machine, Provenance
from pytest_greencompute.values.readings import Block, Source, Span
from pytest_greencompute.values.run import Latency, Run

GPU = Source("nvml", "gpu:0", "counter", "NVIDIA H100 80GB HBM3", "GPU-1", 0.1)
ENERGY = METRICS["energy_per_query"]
BLOCKS, REPEATS = 50, 3
SECOND = 1_000_000_000


def a_run(seed: int) -> Run:
    """50 blocks of a second, 10 queries each, of about 0.6 J."""
    luck = random.Random(seed)
    blocks = []
    for k in range(BLOCKS):
        start = int(1.3 * k * SECOND)
        span = Span(6.12 * (1 + luck.gauss(0, 0.02)), start - SECOND // 10, start + SECOND + SECOND // 10)
        blocks.append(Block(k // 9, (k % 9) / 9, 10, start, start + SECOND, {"gpu:0": span}))
    latencies = tuple(Latency(1, 0.03 * (1 + luck.gauss(0, 0.05))) for _ in range(110))
    return Run(
        test=f"tests/test_models.py::test_model[{seed}]",
        name=None,
        queries=100,
        batch_size=1,
        metered=True,
        seconds=70.0,
        sources=(GPU,),
        blocks=tuple(blocks),
        latencies=latencies,
        provenance=Provenance(
            machine=Machine(cpu="EPYC", os="Linux"), devices={"gpu:0": Device(GPU.device, facts={"driver": "550.54.15"})}
        ),
    )


def a_session(count: int) -> Summary:
    """A session of so many runs, each judged by an energy budget."""
    rows: list[Result] = []
    for number in range(count):
        run = a_run(number)
        limit = Limit(ENERGY, 0.5 if number % 10 == 0 else 0.8, "pyproject.toml:7")
        verdict = judge_budget(ENERGY, estimate(run, ENERGY, Aim()), limit, run.test)
        rows.append(Result.of(run, Figures(run, Aim()).every(), [ShownVerdict.of(verdict, "fail" if verdict.word == "FAIL" else "green")]))
    facts = Facts(Machine(cpu="EPYC", commit="0123abcd"), (GPU,), seconds=70.0 * count, total_j=4e4 * count)
    return replace(Summary(True, facts, rows, metered=count), created="2026-11-26T18:00:00Z")


def main() -> None:
    rows = []
    for count in (200, 1_000):
        session = a_session(count)
        with tempfile.TemporaryDirectory() as folder:
            for form in FORMS:
                if not form.setting.endswith("_path"):  # MLflow and OpenTelemetry write no file
                    continue
                path = Path(folder) / form.module
                seconds = []
                for _ in range(1 + REPEATS):
                    path.unlink(missing_ok=True)
                    start = time.perf_counter()
                    form.make(path, Path("/nonexistent"), session)
                    seconds.append(time.perf_counter() - start)
                # The first imports what it needs.
                rows.append([count, form.name, f"{min(seconds[1:]):.2f} s", f"{path.stat().st_size / 1e6:.2f} MB"])
    print(tabulate(rows, ["runs", "report", "written in", "size"], tablefmt="github"))


if __name__ == "__main__":
    main()
