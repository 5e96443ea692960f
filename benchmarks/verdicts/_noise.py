"""Streams of noise with a known truth: what base and head would measure if both cost the same.

An array of factors about 1 has four axes: trial, launch, side (0 base, 1 head), moment. What a launch's moments share (drift, a ramp)
both sides share; modes belong to one side of one launch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.layout import single_phase
from pytest_greencompute.protocol.messages import Learn
from pytest_greencompute.testing.sensor import PROFILES, Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import sets_of

Factors = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int, int, int]], Factors]

MODES = 0.12
RAMP_MOMENTS = 20.0
BUSY_W, LOW_W, IDLE_W = 350.0, 90.0, 60.0
TICK_S = 0.1
POOL_RUNS, POOL_SECONDS = 12, 400.0
HALF_WAY = 6
NEAR = 4  # blocks of the pool: so near in phase, any of them is taken


@dataclass(frozen=True)
class Load:
    """What share of a tick the counter sees, and what a query takes: 50 ms are in step with the tick."""

    window_s: float
    query_s: float


@dataclass(frozen=True)
class Cell:
    """One kind of noise. ``singles``: it is of single blocks, whose phases are looked at, too."""

    name: str
    draw: Draw
    launches_differ: bool = False
    singles: Singles | None = None


def normal(spread: float) -> Draw:
    return lambda rng, shape: 1 + spread * rng.standard_normal(shape)


def shared_drift(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """AR(1) in time, shared by both sides: phi 0.9, standard deviation 2 %; 0.5 % of each side's own."""
    trials, launches, _, moments = shape
    drift = np.empty((trials, launches, 1, moments))
    steps = math.sqrt(1 - 0.9**2) * rng.standard_normal(drift.shape)
    drift[..., 0] = rng.standard_normal(drift.shape[:-1])
    for moment in range(1, moments):
        drift[..., moment] = 0.9 * drift[..., moment - 1] + steps[..., moment]
    return (1 + 0.02 * drift) * normal(0.005)(rng, shape)


def ramp(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """A device that warms up in each launch: up to 4 % more, two thirds of it within the first 20 samples; 1 % of noise."""
    warming: Factors = 1 + 0.04 * (1 - np.exp(-np.arange(shape[3]) / RAMP_MOMENTS))
    return warming * normal(0.01)(rng, shape)


def outliers(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """One sample in twenty is 30 % too high; 1 % of noise."""
    return normal(0.01)(rng, shape) * np.where(rng.random(shape) < 0.05, 1.3, 1.0)


def heavy_tails(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """Student's t with 3 degrees of freedom, scale 1 %; a sample below a tenth is cut off there, since energy is positive."""
    return np.maximum(0.1, 1 + 0.01 * rng.standard_t(3, shape))


def two_modes(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """Half of all launches are 12 % slower, each side's for itself; 0.3 % of noise within a launch."""
    slow = rng.random((*shape[:3], 1)) < 0.5
    return np.where(slow, 1 + MODES, 1.0) * normal(0.003)(rng, shape)


def normal_launches(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """Launches that differ by 2 % (standard deviation, each side's for itself); 0.5 % of noise within a launch."""
    return (1 + 0.02 * rng.standard_normal((*shape[:3], 1))) * normal(0.005)(rng, shape)


@lru_cache
def sensor_sets(query_s: float) -> Factors:
    """Energy per query of real sets of blocks on a simulated A100, over the truth: from many long measurements by the protocol."""
    sets: list[float] = []
    for seed in range(POOL_RUNS):
        clock = SimulatedClock()
        gpu = SimulatedGpu(clock, sensor=PROFILES["A100"].each(phase_s=0.0083 * seed), idle_w=IDLE_W)

        def query(batch: list[int], gpu: SimulatedGpu = gpu, clock: SimulatedClock = clock) -> list[int]:
            for watts in (BUSY_W, LOW_W):
                gpu.set_power(watts)
                clock.sleep(query_s / 2)
            gpu.set_power(IDLE_W)
            return batch

        meters = Instruments([gpu.energy_counter()], clock)
        raw, _ = run_metered(Task(query, list(range(32))), meters, Effort(POOL_SECONDS, seed=seed))
        for blocks in sets_of(raw.blocks):
            found = estimate(replace(raw, blocks=blocks), METRICS["energy_per_query"], Aim())
            if not isinstance(found, Estimate):
                raise SystemExit(f"A set of the simulated A100 has no figure: {found.reason}")
            sets.append(found.value / (query_s * (BUSY_W + LOW_W) / 2))
    return np.array(sets)


@lru_cache
def sets_of_pairs(load: Load, *, whole: bool) -> tuple[Factors, Factors]:
    """Energy per query of sets as pairs measure them, over the truth, and the phases at which they began; power wanders by 1 %.

    ``whole``: the counter is taken to see all of the time, whether or not it does, so that a set is a single block.
    """
    found: list[tuple[float, float]] = []
    for seed in range(POOL_RUNS):
        clock, luck = SimulatedClock(), np.random.default_rng(seed)
        gpu = SimulatedGpu(clock, sensor=Sensor(TICK_S, load.window_s, phase_s=0.0083 * seed), idle_w=IDLE_W)
        power = Wandering(clock, luck)

        def query(batch: list[int], gpu: SimulatedGpu = gpu, clock: SimulatedClock = clock, power: Wandering = power) -> list[int]:
            factor = power.now()
            for watts in (BUSY_W, LOW_W):
                gpu.set_power(watts * factor)
                clock.sleep(load.query_s / 2)
            gpu.set_power(IDLE_W)
            return batch

        meters = Instruments([gpu.energy_counter()], clock)
        meters.learn(Learn(meters.sources, frozenset({gpu.domain}), whole=whole))
        seconds = POOL_SECONDS / 8 if whole else POOL_SECONDS / 2
        raw, _ = run_metered(Task(query, list(range(32))), meters, Effort(seconds, seed=seed, timing="none", in_pairs=True))
        for blocks in sets_of(raw.blocks):
            each = estimate(replace(raw, blocks=blocks), METRICS["energy_per_query"], Aim())
            if not isinstance(each, Estimate):
                raise SystemExit(f"A set of the simulated GPU has no figure: {each.reason}")
            found.append((each.value / (load.query_s * (BUSY_W + LOW_W) / 2), blocks[0].phase))
    values, phases = np.array(sorted(found, key=itemgetter(1))).T
    return values, phases


class Wandering:
    """A factor of power that wanders by 1 % every half second."""

    def __init__(self, clock: SimulatedClock, luck: np.random.Generator) -> None:
        self._clock, self._luck = clock, luck
        self._factor, self._until_ns = 1.0, 0

    def now(self) -> float:
        if self._clock.now_ns() >= self._until_ns:
            self._factor, self._until_ns = 1 + 0.01 * float(self._luck.standard_normal()), self._clock.now_ns() + 500_000_000
        return self._factor


@dataclass(frozen=True)
class Singles:
    """Single blocks of base and head, each at a phase of its own: what pairs measure where a counter is taken to see all of the time.

    ``later``: both sides' load from moment ``HALF_WAY`` of each launch on.
    """

    base: Load
    head: Load
    later: Load | None = None

    def blocks(self, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> tuple[Factors, Factors]:
        """Their factors, and the phases at which they began: those of a pair at the same one, as the protocol draws them."""
        trials, launches, _, moments = shape
        starts, drawn = rng.random((trials, launches, 1)), rng.random((trials, launches, moments // 2))
        phase = np.vectorize(single_phase, otypes=[float])
        at = np.repeat(phase(np.arange(moments // 2), starts, drawn), 2, axis=2)
        factors, phases = (np.empty(shape) for _ in range(2))
        for side, load in enumerate((self.base, self.head)):
            for part, drawn in ((slice(HALF_WAY), load), (slice(HALF_WAY, None), self.later or load)):
                values, theirs = (each[side::2] for each in sets_of_pairs(drawn, whole=True))  # no block is in both sides
                near = np.searchsorted(theirs, at[..., part]) + rng.integers(-NEAR, NEAR + 1, at[..., part].shape)
                which = near % len(values)
                factors[:, :, side, part], phases[:, :, side, part] = values[which], theirs[which]
        return factors, phases

    def draw(self, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
        return self.blocks(rng, shape)[0]

    def in_nines(self, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
        """Sets of nine phases of the same loads, which are measured once the phase shows."""
        loads = (self.later or self.base, self.later or self.head)
        found = [rng.choice(sets_of_pairs(load, whole=False)[0], (*shape[:2], *shape[3:])) for load in loads]
        return np.stack(found, axis=2)


def from_sensor(query_s: float) -> Draw:
    return lambda rng, shape: rng.choice(sensor_sets(query_s), shape)


ALL, IN_STEP = Load(TICK_S, 0.01), Load(TICK_S, 0.05)
QUARTER, QUARTER_IN_STEP = Load(TICK_S / 4, 0.01), Load(TICK_S / 4, 0.05)
SINGLES = {
    "sees all, 10 ms": Singles(ALL, ALL),
    "sees all, in step": Singles(IN_STEP, IN_STEP),
    "sees a quarter, 10 ms": Singles(QUARTER, QUARTER),
    "sees a quarter, in step": Singles(QUARTER_IN_STEP, QUARTER_IN_STEP),
    "in step from half-way on": Singles(ALL, ALL, QUARTER_IN_STEP),
    "head in step alone": Singles(ALL, QUARTER_IN_STEP),
}
CELLS = (
    Cell("normal 0.5 %", normal(0.005)),
    Cell("normal 1 %", normal(0.01)),
    Cell("normal 2 %", normal(0.02)),
    Cell("normal 5 %", normal(0.05)),
    Cell("shared drift 2 % + 0.5 %", shared_drift),
    Cell("ramp 4 % + 1 %", ramp),
    Cell("outliers 5 % at +30 % + 1 %", outliers),
    Cell("Student t3, scale 1 %", heavy_tails),
    Cell("simulated A100, 50 ms", from_sensor(0.05)),
    Cell("simulated A100, 100 ms", from_sensor(0.1)),
    *(Cell(f"single blocks, {name}", singles.draw, singles=singles) for name, singles in SINGLES.items()),
    Cell("two modes 12 % + 0.3 %", two_modes, launches_differ=True),
    Cell("launches 2 % + 0.5 %", normal_launches, launches_differ=True),
)


def streams(cell: Cell, trials: int, launches: int, pairs: int) -> Factors:
    """The cell's factors, the same for every rule and effect."""
    return cell.draw(_luck(cell, trials, launches), (trials, launches, 2, 2 * pairs))


def _luck(cell: Cell, trials: int, launches: int) -> np.random.Generator:
    return np.random.default_rng([sum(cell.name.encode()), trials, launches])


def blocks_and_nines(cell: Cell, trials: int, launches: int, pairs: int) -> tuple[Factors, Factors]:
    """The phases of a cell's single blocks (of ``streams``), and the factors of the sets of nine that follow them once these show."""
    assert cell.singles is not None
    shape = (trials, launches, 2, 2 * pairs)
    _, phases = cell.singles.blocks(_luck(cell, trials, launches), shape)
    return phases, cell.singles.in_nines(np.random.default_rng([sum(cell.name.encode()), trials]), shape)


def interleaved(factors: Factors) -> tuple[Factors, Factors]:
    """Base and head as pairs: base first, head first, and so on (ABBA). Axes: trial, launch, pair."""
    pair = np.arange(factors.shape[3] // 2)
    odd = pair % 2
    return factors[:, :, 0, 2 * pair + odd], factors[:, :, 1, 2 * pair + 1 - odd]
