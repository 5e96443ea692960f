"""The simulated sensor against real GPUs: a power analyser's truth in, NVML's logged readings out. Run: python benchmarks/truth/traces.py

The traces are those of the public "GPU Power Microbenchmark" data set, each folder with truth.csv (1 ms means of an analyser) and nvml.csv
(what NVML's power fields said). The folder is named by GREENCOMPUTE_TRACES, or looked for beside the checkout.

Gain, offset and delay are fitted for each trace. The times of the updates are those of the log (first poll that saw a new value).
Then one real load period is cut from each truth and played as a query: the protocol against two readings of the counter.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from pytest_greencompute.estimate import Aim, Estimate, estimate
from pytest_greencompute.instruments import Instruments
from pytest_greencompute.measuring import Effort, Task, run_metered
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.testing import Sensor, SimulatedClock, SimulatedGpu
from pytest_greencompute.testing.simulated import PowerCurve

Column = NDArray[np.float64]
DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gpu-power-traces"
# trace, field, averaging window (s), largest rms error that is still agreement
FITS = (
    ("rtx3090-square", "power_instant_w", 0.1, 0.01),
    ("rtx3090-step", "power_instant_w", 0.1, 0.01),
    ("a100-square", "power_instant_w", 0.025, 0.12),
    ("rtx3090-square", "power_draw_w", 1.0, 0.02),
    ("rtx3090-step", "power_draw_w", 1.0, 0.02),
)
QUERIES = (("a100-square", Sensor(0.1, 0.025)), ("rtx3090-square", Sensor(0.1, 0.1)), ("rtx3090-square", Sensor(0.1, 0.025)))


def folder() -> Path | None:
    """Where the traces are, or None."""
    named = Path(os.environ.get("GREENCOMPUTE_TRACES", DEFAULT))
    return named if named.is_dir() else None


def columns(path: Path) -> dict[str, Column]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@dataclass(frozen=True)
class Fit:
    """How well the simulated sensor reproduces a log: rms error over the mean reading."""

    rms: float
    gain: float
    offset_w: float
    delay_s: float
    updates: int


def curve_of(truth: dict[str, Column]) -> PowerCurve:
    """The analyser's truth as the power curve of the simulation."""
    times = np.round((truth["time_s"] - truth["time_s"][0]) * 1e9).astype(np.int64)
    curve = PowerCurve(int(times[0]), float(truth["power_w"][0]))
    for t_ns, watts in zip(times[1:], truth["power_w"][1:], strict=True):
        curve.set_power(int(t_ns), float(watts))
    return curve


def fit(trace: Path, field: str, window_s: float) -> Fit:
    """Drive the sensor by the truth; gain and offset by least squares, delay by trying every millisecond to +-0.1 s."""
    truth, log = columns(trace / "truth.csv"), columns(trace / "nvml.csv")
    curve = curve_of(truth)
    start, end = truth["time_s"][0], truth["time_s"][-1]
    changed = np.flatnonzero(np.diff(log[field]) != 0) + 1
    times, said = log["time_s"][changed], log[field][changed]
    best: Fit | None = None
    for delay in np.arange(-0.1, 0.1005, 0.001):
        inside = (times - delay - window_s > start) & (times - delay < end)
        ends = np.round((times[inside] - delay - start) * 1e9).astype(np.int64)
        means = np.array([curve.sensed_mean_w(int(t) - round(window_s * 1e9), int(t)) for t in ends])
        gain, offset = np.polyfit(means, said[inside], 1)
        if gain <= 0:  # half a period off: the wave upside down
            continue
        shown = np.array([Sensor(0.1, window_s, gain=gain, offset_w=offset).shown_w(mean) for mean in means])
        error = float(np.sqrt(np.mean((shown - said[inside]) ** 2)) / np.mean(said[inside]))
        if best is None or error < best.rms:
            best = Fit(error, float(gain), float(offset), float(delay), int(inside.sum()))
    assert best is not None
    return best


def period_of(trace: Path) -> list[float]:
    """One load period of the truth, in watts per millisecond, from the middle of the trace."""
    truth = columns(trace / "truth.csv")
    switches = np.unique(columns(trace / "load_switches.csv")["time_s"])
    middle = len(switches) // 2
    begin, end = switches[middle], switches[middle + 2]
    inside = (truth["time_s"] >= begin) & (truth["time_s"] < end)
    return [float(watts) for watts in truth["power_w"][inside]]


def played(watts: Sequence[float], sensor: Sensor, seed: int) -> tuple[float, float, float]:
    """Relative errors of the protocol and of two readings around 0.5 s and 5 s, for a query whose power is ``watts``, a value a ms."""
    clock = SimulatedClock()
    idle = min(watts)
    gpu = SimulatedGpu(clock, sensor=sensor, idle_w=idle)
    counter = gpu.energy_counter()

    def query(batch: list[int]) -> list[int]:
        for power in watts:
            gpu.set_power(power)
            clock.sleep(0.001)
        gpu.set_power(idle)
        return batch

    def naive(seconds: float) -> float:
        clock.sleep(1.0 + 0.0173 * seed)
        before, queries = counter.read(), 0
        until = clock.now_ns() + seconds * 1e9
        while clock.now_ns() < until:
            query([0])
            queries += 1
        return (counter.read().energy_j - before.energy_j) / queries

    truth = sum(watts) * 0.001
    raw, _ = run_metered(Task(query, list(range(32))), Instruments([counter], clock), Effort(15.0, seed=seed))
    found = estimate(raw, METRICS["energy_per_query"], Aim())
    assert isinstance(found, Estimate)
    return found.value / truth - 1, naive(0.5) / truth - 1, naive(5.0) / truth - 1


def main() -> None:
    traces = folder()
    if traces is None:
        raise SystemExit("The traces are not here: set GREENCOMPUTE_TRACES to their folder.")
    rows = []
    for name, field, window_s, allowed in FITS:
        found = fit(traces / name, field, window_s)
        fitted = [f"{found.gain:.3f}", f"{found.offset_w:+.1f} W", f"{found.delay_s * 1e3:+.0f} ms"]
        rows.append([name, field, f"{window_s * 1e3:g} ms", f"{found.rms:.2%}", f"{allowed:.0%}", *fitted, str(found.updates)])
    heads = ["trace", "field", "window", "error rms", "at most", "gain", "offset", "delay", "updates"]
    print(tabulate(rows, headers=heads, tablefmt="github"))
    print("\nOne real load period as a query, worst of five sensor phases:\n")
    rows = []
    for name, sensor in QUERIES:
        watts = period_of(traces / name)
        worst = [max(map(abs, errors)) for errors in zip(*(played(watts, sensor, seed) for seed in range(5)), strict=True)]
        label = f"{sensor.update_s * 1e3:g}/{sensor.window_s * 1e3:g} ms"
        rows.append([name, f"{len(watts)} ms", label, *(f"{each:.2%}" for each in worst)])
    print(tabulate(rows, headers=["trace", "period", "sensor", "protocol", "two readings, 0.5 s", "two readings, 5 s"], tablefmt="github"))


if __name__ == "__main__":
    main()
