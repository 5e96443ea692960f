"""The simulated sensor against real GPUs: a power analyser's truth in, NVML's logged readings out. Run: python benchmarks/truth/traces.py

The traces are those of the public "GPU Power Microbenchmark" data set, each folder with truth.csv (1 ms means of an analyser) and nvml.csv
(what NVML's power fields said). The folder is named by GREENCOMPUTE_TRACES, or looked for beside the checkout.

Each trace is driven through the profile of its GPU, every power field through its own channel. Fitted are gain and offset of a card,
from its ``instant`` readings alone, as if one analogue sensor fed all channels, and a delay for each channel. The times of the updates
are those of the log (first poll that saw a new value).
Then one real load period is cut from each truth and played as a query: the protocol against two readings of the counter.
"""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.testing.sensor import PROFILES, PowerField, Sensor
from pytest_greencompute.testing.simulated import PowerCurve, SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS

Column = NDArray[np.float64]
DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gpu-power-traces"
PROFILE = {"a100-square": "A100", "rtx3090-square": "RTX 3090", "rtx3090-step": "RTX 3090"}
# trace, power field, largest rms error that is still agreement
FITS: tuple[tuple[str, PowerField, float], ...] = (
    ("rtx3090-square", "instant", 0.01),
    ("rtx3090-square", "draw", 0.02),
    ("rtx3090-square", "average", 0.02),
    ("rtx3090-step", "instant", 0.01),
    ("rtx3090-step", "draw", 0.02),
    ("rtx3090-step", "average", 0.02),
    ("a100-square", "instant", 0.12),
    ("a100-square", "draw", 0.12),
)
# trace, the counter that its load period is played to: as the GPU's profile assumes it, and a part-time one
QUERIES = (
    ("a100-square", PROFILES["A100"].counter),
    ("rtx3090-square", PROFILES["RTX 3090"].counter),
    ("rtx3090-square", Sensor(0.1, 0.025)),
)
DELAYS_S = np.arange(-0.1, 0.1005, 0.001)


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
    """How well a simulated channel reproduces a log: rms error over the mean reading."""

    rms: float
    gain: float
    offset_w: float
    delay_s: float
    updates: int


@dataclass(frozen=True)
class Updates:
    """What a power field said at its updates, and the mean true power over its window before them, both in watts."""

    said: Column
    means: Column

    def fitted(self) -> tuple[float, float]:
        """Gain and offset by least squares."""
        gain, offset = np.polyfit(self.means, self.said, 1)
        return float(gain), float(offset)

    def error(self, sensor: Sensor) -> float:
        shown = np.array([sensor.shown_w(float(mean)) for mean in self.means])
        return float(np.sqrt(np.mean((shown - self.said) ** 2)) / np.mean(self.said))


def curve_of(truth: dict[str, Column]) -> PowerCurve:
    """The analyser's truth as the power curve of the simulation."""
    times = np.round((truth["time_s"] - truth["time_s"][0]) * 1e9).astype(np.int64)
    curve = PowerCurve(int(times[0]), float(truth["power_w"][0]))
    for t_ns, watts in zip(times[1:], truth["power_w"][1:], strict=True):
        curve.set_power(int(t_ns), float(watts))
    return curve


def updates(trace: Path, channel: str, window_s: float) -> dict[float, Updates]:
    """The log of one power field beside the truth, for each delay that is tried."""
    truth, log = columns(trace / "truth.csv"), columns(trace / "nvml.csv")
    curve, field = curve_of(truth), log[f"power_{channel}_w"]
    start, end = truth["time_s"][0], truth["time_s"][-1]
    changed = np.flatnonzero(np.diff(field) != 0) + 1
    times, said = log["time_s"][changed], field[changed]
    found = {}
    for delay in DELAYS_S:
        inside = (times - delay - window_s > start) & (times - delay < end)
        ends = np.round((times[inside] - delay - start) * 1e9).astype(np.int64)
        means = np.array([curve.sensed_mean_w(int(t) - round(window_s * 1e9), int(t)) for t in ends])
        found[float(delay)] = Updates(said[inside], means)
    return found


@functools.cache
def fit(trace: Path, channel: PowerField) -> Fit:
    """Drive one channel of the GPU's profile by the truth: gain and offset from ``instant``, the delay the best one of DELAYS_S."""
    sensor: Sensor | None = getattr(PROFILES[PROFILE[trace.name]], channel)
    assert sensor is not None
    card = fit(trace, "instant") if channel != "instant" else None
    best: Fit | None = None
    for delay_s, seen in updates(trace, channel, sensor.window_s).items():
        gain, offset_w = (card.gain, card.offset_w) if card else seen.fitted()
        if gain <= 0:  # half a period off: the wave upside down
            continue
        rms = seen.error(replace(sensor, gain=gain, offset_w=offset_w))
        if best is None or rms < best.rms:
            best = Fit(rms, gain, offset_w, delay_s, len(seen.said))
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
    for name, channel, allowed in FITS:
        found = fit(traces / name, channel)
        window_s = getattr(PROFILES[PROFILE[name]], channel).window_s
        card = [f"{found.gain:.3f}", f"{found.offset_w:+.1f} W"] if channel == "instant" else ["the same", "the same"]
        delay = f"{found.delay_s * 1e3:+.0f} ms"
        errors = [f"{found.rms:.2%}", f"{allowed:.0%}"]
        rows.append([name, PROFILE[name], channel, f"{window_s * 1e3:g} ms", *errors, *card, delay, str(found.updates)])
    heads = ["trace", "profile", "channel", "window", "error rms", "at most", "gain", "offset", "delay", "updates"]
    print(tabulate(rows, headers=heads, tablefmt="github"))
    print("\nOne real load period as a query, worst of five sensor phases:\n")
    rows = []
    for name, sensor in QUERIES:
        assert sensor is not None
        watts = period_of(traces / name)
        worst = [max(map(abs, errors)) for errors in zip(*(played(watts, sensor, seed) for seed in range(5)), strict=True)]
        label = f"{sensor.update_s * 1e3:g}/{sensor.window_s * 1e3:g} ms"
        rows.append([name, f"{len(watts)} ms", label, *(f"{each:.2%}" for each in worst)])
    print(tabulate(rows, headers=["trace", "period", "sensor", "protocol", "two readings, 0.5 s", "two readings, 5 s"], tablefmt="github"))


if __name__ == "__main__":
    main()
