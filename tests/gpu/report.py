"""Everything worth knowing of one GPU's energy counter, and of the protocol on it, as Markdown. Run: python -m tests.gpu.report

Needs a CUDA GPU and torch, or ``--standin``: a simulated GPU behind real pynvml, whose true energy is known and printed beside.
Takes about nine minutes; ``--quick`` well under one. The file is written after each section. Exit status 1 where a section failed, 2
where there is no GPU.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from pytest_greencompute import __version__
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.measuring.window import Window
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.values.readings import Reading
from tests.gpu.bench import Bench, of_load, on_cuda
from tests.gpu.load import Simulated

DEFAULT = Path("docs/gpu-report.md")
DUTY = 0.5
LAG_WORK_S = 1.5
POLL_S = 0.0002
PHASES_OF_A_TICK = (0.0, 0.25, 0.5, 0.75)
STEADY_QUERY_S = 0.005
SETTLE_S = 2.0  # longer than any running mean of a power field
REPEATED_QUERY_S = 0.025
FACTS = ("gpu", "driver", "cuda_driver", "power_limit_w", "persistence_mode", "sm_clock_mhz", "max_sm_clock_mhz", "temperature_c")


@dataclass(frozen=True)
class Effort:
    """How long to look at what: seconds, except where the name says otherwise."""

    ticks: int = 60
    reads: int = 2000
    steady_s: float = 10.0
    query_s: tuple[float, ...] = (0.001, 0.005, 0.025, 0.05, 0.1, 0.2)
    in_step_s: float = 5.0
    reference_s: float = 15.0
    swept_s: float = 12.0
    naive_s: tuple[float, ...] = (0.5, 6.0)
    protocol_s: float = 15.0
    loop_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    repeats: int = 5


QUICK = Effort(10, 200, 1.0, (0.05,), 1.0, 2.0, 3.0, (0.5,), 3.0, (0.2, 0.4), 3)

Section = Callable[[Bench, Effort], list[str]]


def table(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> list[str]:
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True).splitlines()


def device(bench: Bench, effort: Effort) -> list[str]:
    """Device"""
    facts = bench.instruments.counters[0].facts()
    rows = [[name, str(facts[name])] for name in FACTS if facts.get(name) is not None]
    rows += [["load", bench.load.name], ["machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"]]
    rows += [["plugin", __version__], ["date", datetime.now(timezone.utc).date().isoformat()]]
    return table(rows, ["", ""])


def ticks(bench: Bench, effort: Effort) -> list[str]:
    """The counter's tick"""
    source = bench.source
    times: list[float] = []
    steps: list[float] = []
    last = bench.read()
    while len(times) <= effort.ticks:
        time.sleep(POLL_S)
        now = bench.read()
        if now.energy_j != last.energy_j:
            times.append(now.t_ns / 1e6)
            steps.append(now.energy_j - last.energy_j)
            last = now
    periods = [b - a for a, b in itertools.pairwise(times)]
    p5, p50, p95 = np.percentile(periods, [5, 50, 95])
    polled = [f"polled, {len(periods)} ticks", *(f"{each:.2f} ms" for each in (p50, p5, p95, statistics.stdev(periods)))]
    probed = ["the plugin's probe, 5 ticks", f"{source.tick_s * 1e3:.2f} ms", "", "", f"{source.jitter_s * 1e3:.2f} ms (range)"]
    heads = ["idle GPU", "period, median", "p5", "p95", "standard deviation"]
    return [*table([polled, probed], heads), "", f"Median step {statistics.median(steps[1:]):.3f} J, smallest {min(steps[1:]):.3f} J."]


def lag(bench: Bench, effort: Effort) -> list[str]:
    """Lag"""

    def refuse(reason: str) -> Any:
        raise RuntimeError(reason)

    with Window("lag", bench.instruments, Aim(), refuse):  # the plugin looks for a lag at the end of a session's first window
        bench.query(LAG_WORK_S, 1.0)
    found = f"Found by the plugin after {LAG_WORK_S:g} s of work: **{bench.source.lag_s * 1e3:.0f} ms** (0: none beyond two ticks)."
    bench.query(LAG_WORK_S / 3, 1.0)
    end_ns, seen = time.perf_counter_ns(), [bench.tick() for _ in range(8)]
    rows = [
        [f"{(b.t_ns - end_ns) / 1e6:.0f} ms", f"{(b.energy_j - a.energy_j) / ((b.t_ns - a.t_ns) / 1e9):.1f} W"]
        for a, b in itertools.pairwise(seen)
    ]
    return [found, "", *table(rows, ["after the work's end", "power since the tick before"])]


def reads(bench: Bench, effort: Effort) -> list[str]:
    """Cost of a read"""
    counter = bench.instruments.counters[0]
    power = power_reader(bench)
    calls: dict[str, Callable[[], object]] = {"energy counter": counter.read, "power field": power, "condition()": counter.condition}
    rows = []
    for name, call in calls.items():
        took = [timed_us(call) for _ in range(effort.reads)]
        rows.append([name, f"{statistics.median(took):.0f} us", f"{np.percentile(took, 99):.0f} us"])
    return table(rows, ["read", "median", "p99"])


def timed_us(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e3


def power_reader(bench: Bench) -> Callable[[], float]:
    """A function that reads the power field (nvmlDeviceGetPowerUsage) in watts."""
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(int(bench.source.domain.partition(":")[2]))
    return lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000


def against_power(bench: Bench, effort: Effort) -> list[str]:
    """Counter against integrated power"""
    power = power_reader(bench)
    seen: list[tuple[Reading, float]] = []
    settled = time.perf_counter() + SETTLE_S
    while time.perf_counter() < settled + effort.steady_s:
        bench.query(STEADY_QUERY_S, 1.0)
        if time.perf_counter() >= settled:
            seen.append((bench.read(), power()))
    changes = [index for index in range(1, len(seen)) if seen[index][0].energy_j != seen[index - 1][0].energy_j]
    inside = seen[changes[0] : changes[-1] + 1]
    (first, _), (last, _) = inside[0], inside[-1]
    counted = last.energy_j - first.energy_j
    summed = sum(watts * (b.t_ns - a.t_ns) / 1e9 for (a, watts), (b, _) in itertools.pairwise(inside))
    seconds = (last.t_ns - first.t_ns) / 1e9
    ratio = f"{counted / summed:.4f}"
    rows = [[f"{seconds:.2f} s", f"{counted / seconds:.2f} W", f"{summed / seconds:.2f} W", ratio]]
    return table(rows, ["steady load", "counter", "power field, summed", "ratio"])


def seen(bench: Bench, effort: Effort) -> list[str]:
    """What each field sees of a load in step with the tick"""
    rows = []
    for phase in PHASES_OF_A_TICK:
        watts = in_step(bench, phase, effort.in_step_s)
        rows.append([f"{phase:.2f}", *("" if each is None else f"{each:.1f} W" for each in watts)])
    return [
        f"Mean power while a load of one tick's period, busy {DUTY:.0%} of it, begins at this share of a tick. A field that sees all",
        "of the time reads the same at each; one that sees a part of it reads what that part holds.",
        "",
        *table(rows, ["begins at", "energy counter", "power.draw", "power.draw.average", "power.draw.instant"]),
    ]


def in_step(bench: Bench, phase: float, seconds: float) -> list[float | None]:
    """Mean watts of the counter, and of three power fields read after each query, under a load in step with the tick."""
    tick_s, power = bench.source.tick_s, power_reader(bench)
    bench.tick()
    start = time.perf_counter() + phase * tick_s
    fields: list[list[float | None]] = []
    first = last = bench.read()
    for number in itertools.count():
        due = start + number * tick_s
        if due > start + SETTLE_S + seconds:
            break
        time.sleep(max(0.0, due - time.perf_counter()))
        bench.load.busy(DUTY * tick_s)
        if due > start + SETTLE_S:
            fields.append([power(), *power_fields(bench)])
            time.sleep(max(0.0, due + clear_of_ticks(phase) * tick_s - time.perf_counter()))
            last = bench.read()
            first = last if len(fields) == 1 else first
    means = [
        None if None in column else statistics.fmean(watts for watts in column if watts is not None) for column in zip(*fields, strict=True)
    ]
    return [(last.energy_j - first.energy_j) / ((last.t_ns - first.t_ns) / 1e9), *means]


def clear_of_ticks(phase: float) -> float:
    """When, as a share of a period, the load is over and the counter's next tick is far: read on a tick, it may be one tick off."""
    return max((DUTY + 0.1, DUTY + 0.35), key=lambda share: abs(phase + share - round(phase + share)))


def power_fields(bench: Bench) -> list[float | None]:
    """Watts of power.draw.average and power.draw.instant; None for one that this GPU or driver does not have."""
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(int(bench.source.domain.partition(":")[2]))
    try:
        values = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT])
    except pynvml.NVMLError:
        return [None, None]
    return [value.value.uiVal / 1000 if value.nvmlReturn == 0 else None for value in values]


def errors(bench: Bench, effort: Effort) -> list[str]:
    """Error of energy per query"""
    joules, against = [], []
    naive_names = [f"two readings, {seconds:g} s" for seconds in effort.naive_s]
    known = bench.load.truth_j(0, 1) is not None
    for query_s in effort.query_s:
        steady = bench.steady(query_s, DUTY, effort.reference_s)
        swept = bench.swept(query_s, DUTY, effort.swept_s)
        run = bench.protocol(query_s, DUTY)
        naive = [bench.naive(query_s, DUTY, seconds) for seconds in effort.naive_s]
        name = f"{steady.seconds * 1e3:.2f} ms"
        half = f"{run.energy.relative:.2%}"
        figures = [steady.joules, swept.joules, run.energy.value, *(each.joules for each in naive)]
        joules.append([name, *(f"{each:.5g} J" for each in figures), half])
        truths = [steady.truth_j, swept.truth_j, run.truth_j, *(each.truth_j for each in naive)]
        row = [off(run.energy.value, steady.joules), off(run.energy.value, swept.joules), *(off(n.joules, swept.joules) for n in naive)]
        if known:
            row += [off(figure, truth) for figure, truth in zip(figures, truths, strict=True)]
        against.append([name, *row])
    heads = ["query", "protocol against steady", "protocol against swept", *(f"{name} against swept" for name in naive_names)]
    if known:
        heads += [f"{name} against truth" for name in ("steady", "swept", "protocol", *naive_names)]
    return [
        f"Busy {DUTY:.0%} of a query. *Steady*: one loop of {effort.reference_s:g} s, tick to tick, idle power taken off at its ends.",
        f"*Swept*: {effort.swept_s:g} s in stretches that begin at all phases of a tick alike, idle power taken off between them.",
        "Where the two differ, the counter sees only part of the time, and the load was in step with it: then the steady one is wrong.",
        "Below half a per cent the drift of clocks and temperature between the loops shows, too.",
        "",
        *table(joules, ["query", "steady", "swept", "protocol", *naive_names, "protocol's 99 % half-width"]),
        "",
        *table(against, heads),
    ]


def off(value: float, right: float | None) -> str:
    return "" if right is None else f"{value / right - 1:+.2%}"


def repeatability(bench: Bench, effort: Effort) -> list[str]:
    """Repeatability of two readings"""
    rows = []
    for seconds in effort.loop_s:
        found = [bench.naive(REPEATED_QUERY_S, DUTY, seconds).joules for _ in range(effort.repeats)]
        rows.append([f"{seconds:g} s", f"{statistics.stdev(found) / statistics.fmean(found):.2%}"])
    heads = ["loop", f"relative standard deviation of {effort.repeats}"]
    return [f"Queries of {REPEATED_QUERY_S * 1e3:g} ms, busy {DUTY:.0%} of the time.", "", *table(rows, heads)]


def costs(bench: Bench, effort: Effort) -> list[str]:
    """What measuring costs"""
    query_s = min(effort.query_s)
    run = bench.protocol(query_s, DUTY)
    measured_s = sum(block.busy_s for block in run.raw.blocks) / sum(block.queries for block in run.raw.blocks)
    rows = [
        ["CPU time of waiting for ticks and reading meters, over wall time", f"{run.cpu_share:.2%}"],
        [f"a query of {query_s * 1e3:g} ms alone, before and after", f"{run.plain_s * 1e3:.4f} ms"],
        ["the same query in the protocol's blocks", f"{measured_s * 1e3:.4f} ms"],
        ["slow-down by being measured", f"{measured_s / run.plain_s - 1:+.2%}"],
    ]
    return table(rows, ["cost", "share or time"])


SECTIONS: tuple[Section, ...] = (device, ticks, lag, reads, against_power, seen, errors, repeatability, costs)


class Report:
    """The report so far: said on standard output, and kept in a file if one is given. ``failed`` counts sections without a result."""

    def __init__(self, to: Path | None) -> None:
        self._to = to
        self._lines: list[str] = []
        self.failed = 0

    def add(self, lines: Sequence[str]) -> None:
        """More lines of Markdown, and the file as it then is."""
        self._lines += [*lines, ""]
        sys.stdout.write("\n".join([*lines, "", ""]))
        sys.stdout.flush()
        if self._to is not None:
            self._to.parent.mkdir(parents=True, exist_ok=True)
            self._to.write_text("\n".join(self._lines), encoding="utf-8")

    def section(self, section: Section, bench: Bench, effort: Effort) -> None:
        """One section, or what went wrong in it."""
        start = time.perf_counter()
        try:
            lines = section(bench, effort)
        except Exception as error:  # noqa: BLE001 - whatever one section meets, the others are still worth having
            traceback.print_exc()
            self.failed += 1
            lines = [f"**Failed:** {type(error).__name__}: {error}"]
        title = (section.__doc__ or section.__name__).strip()
        self.add([f"## {title}", "", *lines, "", f"({time.perf_counter() - start:.0f} s)"])


def opened(given: argparse.Namespace, effort: Effort, stack: ExitStack) -> Bench | None:
    """The bench that the options ask for, or None where there is no GPU."""
    if given.standin:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standin")))
        bench: Bench | None = of_load(Simulated(folder, given.profile))
    else:
        bench = on_cuda()
    if bench is not None:
        bench.max_seconds = effort.protocol_s
        stack.callback(bench.instruments.close)
    return bench


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, help=f"the file to write (default: {DEFAULT}; with --standin none)")
    parser.add_argument("--standin", action="store_true", help="measure a simulated GPU instead of a real one")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="A100", help="its sensor (default: A100, which sees 25 ms of 100)")
    parser.add_argument("--quick", action="store_true", help="less of everything: shows that it runs, not how good it is")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; 0, or 1 where a section failed, or 2 where there is no GPU."""
    given = arguments(argv)
    effort = QUICK if given.quick else Effort()
    with ExitStack() as stack:
        bench = opened(given, effort, stack)
        if bench is None:
            sys.stderr.write("No CUDA GPU is here, or torch is not installed (pip install torch); --standin measures a simulated one.\n")
            return 2
        report = Report(given.output or (None if given.standin else DEFAULT))
        options = "".join(f" --{name}" for name in ("standin", "quick") if getattr(given, name))
        command = f"python -m tests.gpu.report{options}" + (f" --profile {given.profile!r}" if given.standin else "")
        report.add(["# An energy counter and the protocol on it", "", f"Made by `{command}`."])
        bench.ready()
        for section in SECTIONS:
            report.section(section, bench, effort)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
