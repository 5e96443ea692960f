"""Error of energy per query against the simulated truth, on a grid of sensors, query times and duties. Run: python benchmarks/truth/grid.py

Each query draws 350 W for the duty share of its time and 90 W for the rest; idle is 60 W. Everything runs on the simulated clock.
``naive`` is the counter (or the integrated power field) read at both ends of a loop of 0.5 s, and of 6 s, idle not removed.

In the second table counters are taken for ones that see all of the time, so that single blocks are measured, whether or not it is so. *In
step from half-way on*: power is even, as if nothing were to be seen, and varies within each query after 30 s. *Head in step alone*: the
ratio of such a load to one of 10 ms, each measured by itself. At most 60 s of measuring a case.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.messages import Learn
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

BUSY_W, LOW_W, IDLE_W = 350.0, 90.0, 60.0
SENSORS = {
    "100/25 ms": Sensors.alike(Sensor(0.1, 0.025)),
    "100/100 ms": Sensors.alike(Sensor(0.1, 0.1)),
    "20/10 ms": Sensors.alike(Sensor(0.02, 0.01)),
    "15/15 ms": Sensors.alike(Sensor(0.015, 0.015)),
    "73/30 ms": Sensors.alike(Sensor(0.073, 0.03)),
    "power only 100/1000 ms": Sensors(None, Sensor(0.1, 1.0)),
    "H100, slow reads": PROFILES["H100"],
}
QUERY_S = (0.0001, 0.0007, 0.005, 0.025, 0.0365, 0.05, 0.1, 0.2, 0.7, 2.3)
DUTIES = (0.1, 0.5, 0.9)
MAX_SECONDS = 15.0
LONG_QUERY_S = 0.7
LONG_QUERIES = 20
SINGLES_S = (0.005, 0.0365, 0.05, 0.1)  # the last two are in step with a tick of 100 ms
IN_STEP_S, BASE_S = 0.05, 0.01
SINGLES_MAX_S, HALF_WAY_S = 60.0, 30.0


@dataclass(frozen=True)
class Case:
    """One GPU's sensors and one load; ``seed`` moves their phase and the protocol's draws.

    ``whole``: the counter is taken for one that sees all of the time. ``even_s``: for how long power is even. ``naive``: it is read at both
    ends of a loop, too, which takes a quarter of the time.
    """

    sensor: Sensors
    query_s: float
    duty: float
    seed: int
    whole: bool = False
    even_s: float = 0.0
    naive: bool = True

    @property
    def truth_j(self) -> float:
        return self.query_s * (self.duty * BUSY_W + (1 - self.duty) * LOW_W)


@dataclass(frozen=True)
class Outcome:
    """Relative errors, whether the 99 % interval held the truth, its half-width, and the seconds and queries of measuring."""

    error: float
    covered: bool
    half_width: float
    seconds: float
    queries: int
    naive_short: float
    naive_long: float


class Bench:
    """A simulated GPU under one case's load."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.clock = SimulatedClock()
        channel = case.sensor.counter or case.sensor.draw
        phase = (case.seed * 0.0137) % channel.update_s
        self.gpu = SimulatedGpu(self.clock, sensor=case.sensor.each(phase_s=phase), idle_w=IDLE_W)
        self.counter = self.gpu.energy_counter() if case.sensor.counter else self.gpu.power_counter()
        self.even_until_ns = self.clock.now_ns() + case.even_s * 1e9
        self.meters = Instruments([self.counter], self.clock)
        if case.whole:
            self.meters.learn(Learn(self.meters.sources, frozenset({self.gpu.domain}), whole=True))

    def query(self, batch: list[int]) -> list[int]:
        if self.clock.now_ns() < self.even_until_ns:
            self.gpu.set_power(self.case.truth_j / self.case.query_s)
            self.clock.sleep(self.case.query_s)
            self.gpu.set_power(IDLE_W)
            return batch
        self.gpu.set_power(BUSY_W)
        self.clock.sleep(self.case.query_s * self.case.duty)
        self.gpu.set_power(LOW_W)
        self.clock.sleep(self.case.query_s * (1 - self.case.duty))
        self.gpu.set_power(IDLE_W)
        return batch

    def naive(self, seconds: float) -> float:
        """The error of joules per query from two readings around a loop; NaN where nobody asks for it."""
        if not self.case.naive:
            return math.nan
        self.clock.sleep(2.0 + 0.00731 * self.case.seed)
        before, queries = self.counter.read(), 0
        until = self.clock.now_ns() + seconds * 1e9
        while self.clock.now_ns() < until:
            self.query([0])
            queries += 1
        return (self.counter.read().energy_j - before.energy_j) / queries / self.case.truth_j - 1


def run(case: Case) -> Outcome:
    """Measure one case by the protocol and naively."""
    bench = Bench(case)
    queries = LONG_QUERIES if case.query_s >= LONG_QUERY_S else 32
    seconds = SINGLES_MAX_S if case.whole else max(MAX_SECONDS, LONG_QUERIES * case.query_s)
    raw, _ = run_metered(Task(bench.query, list(range(queries))), bench.meters, Effort(seconds, seed=case.seed))
    found = estimate(raw, METRICS["energy_per_query"], Aim())
    if not isinstance(found, Estimate) or found.low is None or found.high is None:
        raise SystemExit(f"{case}: {found}")
    return Outcome(
        found.value / case.truth_j - 1,
        found.low <= case.truth_j <= found.high,
        found.relative,
        _measuring_seconds(raw),
        sum(block.queries for block in raw.blocks),
        bench.naive(0.5),
        bench.naive(6.0),
    )


def _measuring_seconds(raw: Run) -> float:
    """From the first block's tick to the last one's, idle readings between them included."""
    spans = [span for block in raw.blocks for span in block.spans.values()]
    return (max(span.b_ns for span in spans) - min(span.a_ns for span in spans)) / 1e9


def cases(sensor: Sensors, seeds: int) -> Iterator[Case]:
    for query_s, duty, seed in itertools.product(QUERY_S, DUTIES, range(seeds)):
        if seed == 0 or query_s > 0.001:  # microsecond queries cost real time to simulate, and their phase does not matter
            yield Case(sensor, query_s, duty, seed)


def single_blocks(seeds: int, duties: Sequence[float] = DUTIES, *, naive: bool = True) -> dict[str, list[Outcome]]:
    """What is measured where counters are taken for ones that see all of the time."""
    draws = list(itertools.product(duties, range(seeds)))
    part, all_of_it = SENSORS["100/25 ms"], SENSORS["100/100 ms"]

    def taken(sensor: Sensors, query_s: float, even_s: float = 0.0) -> list[Outcome]:
        return [run(Case(sensor, query_s, duty, seed, whole=True, even_s=even_s, naive=naive)) for duty, seed in draws]

    base, head = taken(part, BASE_S), taken(part, IN_STEP_S)
    return {
        "100/100 ms": [each for query_s in SINGLES_S for each in taken(all_of_it, query_s)],
        "100/25 ms": [each for query_s in SINGLES_S for each in taken(part, query_s)],
        "100/25 ms, in step from half-way on": taken(part, IN_STEP_S, HALF_WAY_S),
        "100/25 ms, head in step alone": [ratio(*sides) for sides in zip(base, head, strict=True)],
    }


def ratio(base: Outcome, head: Outcome) -> Outcome:
    """Of two figures, as an outcome."""

    def over(name: str) -> float:
        return (1 + getattr(head, name)) / (1 + getattr(base, name)) - 1

    half = math.hypot(base.half_width, head.half_width)
    seconds, queries = base.seconds + head.seconds, base.queries + head.queries
    return Outcome(over("error"), abs(over("error")) <= half, half, seconds, queries, over("naive_short"), over("naive_long"))


def rms(values: list[float]) -> float:
    return math.sqrt(statistics.fmean(value * value for value in values))


def row(name: str, outcomes: list[Outcome]) -> list[str]:
    """One sensor's row of the table."""
    errors = [outcome.error for outcome in outcomes]
    return [
        name,
        str(len(outcomes)),
        f"{rms(errors):.2%}",
        f"{max(map(abs, errors)):.2%}",
        f"{statistics.fmean(outcome.covered for outcome in outcomes):.1%}",
        f"{statistics.median(outcome.half_width for outcome in outcomes):.2%}",
        f"{rms([outcome.naive_short for outcome in outcomes]):.1%}",
        f"{rms([outcome.naive_long for outcome in outcomes]):.1%}",
        f"{max(abs(outcome.naive_long) for outcome in outcomes):.1%}",
    ]


HEADS = ["sensor", "cases", "error rms", "worst", "99 % interval holds", "median half-width", "naive 0.5 s rms", "naive 6 s rms", "worst"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="sensor phases for each load (default: 4)")
    given = parser.parse_args()
    start = time.perf_counter()
    rows = [row(name, [run(case) for case in cases(sensor, given.seeds)]) for name, sensor in SENSORS.items()]
    print(tabulate(rows, headers=HEADS, tablefmt="github"))
    singles = [row(name, outcomes) for name, outcomes in single_blocks(given.seeds).items()]
    print(f"\n{tabulate(singles, headers=['taken to see all', *HEADS[1:]], tablefmt='github')}")
    print(f"\nAt most {MAX_SECONDS:g} s of measuring a case ({LONG_QUERIES} queries where they take {LONG_QUERY_S} s or more).")
    print(f"The grid took {time.perf_counter() - start:.0f} s on the simulated clock.")


if __name__ == "__main__":
    main()
