"""Streams of noise with a known truth: what base and head would measure if both cost the same.

An array of factors about 1 has four axes: trial, launch, side (0 base, 1 head), moment. What a launch's moments share (drift, a ramp)
both sides share; modes belong to one side of one launch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
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


@dataclass(frozen=True)
class Cell:
    """One kind of noise. ``unnoticed``: single blocks where the phase matters, which the protocol takes care not to measure."""

    name: str
    draw: Draw
    launches_differ: bool = False
    unnoticed: bool = False


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
def single_blocks(window_s: float, query_s: float) -> Factors:
    """Energy per query of single blocks as pairs measure them, each at a phase of its own, over the truth; power wanders by 1 %."""
    found: list[float] = []
    for seed in range(POOL_RUNS):
        clock, luck = SimulatedClock(), np.random.default_rng(seed)
        gpu = SimulatedGpu(clock, sensor=Sensor(TICK_S, window_s, phase_s=0.0083 * seed), idle_w=IDLE_W)
        power = Wandering(clock, luck)

        def query(batch: list[int], gpu: SimulatedGpu = gpu, clock: SimulatedClock = clock, power: Wandering = power) -> list[int]:
            factor = power.now()
            for watts in (BUSY_W, LOW_W):
                gpu.set_power(watts * factor)
                clock.sleep(query_s / 2)
            gpu.set_power(IDLE_W)
            return batch

        meters = Instruments([gpu.energy_counter()], clock)
        meters.learn(meters.sources, whole=True)  # whether or not it is so
        raw, _ = run_metered(Task(query, list(range(32))), meters, Effort(POOL_SECONDS / 8, seed=seed, timing="none", in_pairs=True))
        for blocks in sets_of(raw.blocks):
            each = estimate(replace(raw, blocks=blocks), METRICS["energy_per_query"], Aim())
            if not isinstance(each, Estimate):
                raise SystemExit(f"A block of the simulated GPU has no figure: {each.reason}")
            found.append(each.value / (query_s * (BUSY_W + LOW_W) / 2))
    return np.array(found)


class Wandering:
    """A factor of power that wanders by 1 % every half second."""

    def __init__(self, clock: SimulatedClock, luck: np.random.Generator) -> None:
        self._clock, self._luck = clock, luck
        self._factor, self._until_ns = 1.0, 0

    def now(self) -> float:
        if self._clock.now_ns() >= self._until_ns:
            self._factor, self._until_ns = 1 + 0.01 * float(self._luck.standard_normal()), self._clock.now_ns() + 500_000_000
        return self._factor


def of_single_blocks(window_s: float, query_s: float) -> Draw:
    """Each block at a phase of its own: what pairs measure where a counter is taken to see all of the time."""
    return lambda rng, shape: rng.choice(single_blocks(window_s, query_s), shape)


def influence_from_half_way(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """The counter sees all of the time until the sixth moment of each launch, and a quarter of it from then on."""
    early, late = (rng.choice(single_blocks(window_s, 0.05), shape) for window_s in (TICK_S, TICK_S / 4))
    return np.where(np.arange(shape[3]) < 6, early, late)


def unlike_influence(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Factors:
    """The phase matters to head alone, as where its load is in step with the tick of a counter that sees a quarter."""
    base, head = (rng.choice(single_blocks(window_s, 0.05), shape) for window_s in (TICK_S, TICK_S / 4))
    return np.where(np.arange(2)[:, None] == 0, base, head)


def from_sensor(query_s: float) -> Draw:
    return lambda rng, shape: rng.choice(sensor_sets(query_s), shape)


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
    Cell("single blocks, sees all, 10 ms", of_single_blocks(TICK_S, 0.01)),
    Cell("single blocks, sees all, in step", of_single_blocks(TICK_S, 0.05)),
    Cell("single blocks, sees a quarter, 10 ms", of_single_blocks(TICK_S / 4, 0.01), unnoticed=True),
    Cell("single blocks, sees a quarter, in step", of_single_blocks(TICK_S / 4, 0.05), unnoticed=True),
    Cell("single blocks, quarter from half-way on", influence_from_half_way, unnoticed=True),
    Cell("single blocks, head in step alone", unlike_influence, unnoticed=True),
    Cell("two modes 12 % + 0.3 %", two_modes, launches_differ=True),
    Cell("launches 2 % + 0.5 %", normal_launches, launches_differ=True),
)


def streams(cell: Cell, trials: int, launches: int, pairs: int) -> Factors:
    """The cell's factors, the same for every rule and effect."""
    rng = np.random.default_rng([sum(cell.name.encode()), trials, launches])
    return cell.draw(rng, (trials, launches, 2, 2 * pairs))


def interleaved(factors: Factors) -> tuple[Factors, Factors]:
    """Base and head as pairs: base first, head first, and so on (ABBA). Axes: trial, launch, pair."""
    pair = np.arange(factors.shape[3] // 2)
    odd = pair % 2
    return factors[:, :, 0, 2 * pair + odd], factors[:, :, 1, 2 * pair + 1 - odd]
