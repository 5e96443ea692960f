"""What comes before the first block: how the meter's tick and lag, a steady model, and latencies that are only shown are found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from pytest_greencompute.errors import MeterLostError
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.layout import WARMUP_CHUNKS
from pytest_greencompute.protocol.messages import Probed, Tell
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.readings import Reading, sets_of
from pytest_greencompute.values.run import Run

FULL, PART, FAST = Sensor(0.1, 0.1), Sensor(0.1, 0.025), Sensor(0.02, 0.01)
LAGGING = Sensor(0.1, 1.0)
WORK_W, IDLE_W = 300.0, 60.0


@dataclass
class Bench:
    """A simulated GPU and a model; ``query_s`` gives a batch's seconds from its number in the list, the call's number, and the seconds of
    work since the device last rested.

    ``delay_s``: the sensor shows power so much later.
    """

    sensor: Sensor | Sensors = FULL
    query_s: Callable[[int, int, float], float] = lambda *_: 0.01
    queries: int = 64
    delay_s: float = 0.0
    work_w: float = WORK_W
    said: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=self.sensor, idle_w=IDLE_W)
        self.calls, self.worked_s, self.ended_ns, self.works = 0, 0.0, 0, False
        self.instruments = Instruments([self.gpu.energy_counter()], self.clock)

    def model(self, batch: list[int]) -> list[int]:
        if self.clock.now_ns() - self.ended_ns > 0.02e9:
            self.worked_s = 0.0
        seconds = self.query_s(batch[0], self.calls, self.worked_s)
        self.calls += 1
        self.works = True
        self._draw(self.work_w)
        self.clock.sleep(seconds)
        self._draw(self.gpu.idle_w)
        self.works = False
        self.worked_s, self.ended_ns = self.worked_s + seconds, self.clock.now_ns()
        return batch

    def _draw(self, watts: float) -> None:
        if not self.delay_s:
            self.gpu.set_power(watts)
            return
        cancels: list[Callable[[], None]] = []

        def once() -> None:
            self.gpu.set_power(watts)
            cancels[0]()

        cancels.append(self.clock.every(self.delay_s, once))

    def tell(self, step: Tell) -> None:
        self.said.append((step.what, self.clock.now_ns() / 1e9))

    def run(self, seconds: float = 20.0, **effort: object) -> Run:
        task = Task(self.model, list(range(self.queries)))
        return run_metered(task, self.instruments, Effort(seconds, **{"timing": "none", "tell": self.tell, **effort}))[0]  # type: ignore[arg-type]

    def joules(self, run: Run) -> float:
        """Net joules per query."""
        net = [block.spans["gpu:0"].energy_j - IDLE_W * (block.spans["gpu:0"].seconds - block.busy_s) for block in run.blocks]
        return math.fsum(net) / sum(block.queries for block in run.blocks)

    def prepared_s(self, run: Run) -> float:
        """From the end of the first pass to the first set."""
        first_s = next(at for what, at in self.said if not what.startswith("first pass"))
        return next(at for what, at in self.said if what.startswith("set 1")) - first_s


# The tick and the lag, while the device comes to rest


@pytest.mark.parametrize(("query_s", "queries"), [(0.001, 64), (0.01, 20), (0.01, 64), (0.05, 64)])
@pytest.mark.parametrize(
    ("sensor", "delay_s", "lag_s"),
    [
        (FULL, 0.0, 0.0),
        (PART, 0.0, 0.0),
        (FAST, 0.0, 0.0),
        (PROFILES["H100"], 0.0, 0.0),
        (LAGGING, 0.0, 1.0),
        (Sensor(0.02, 1.0), 0.0, 1.0),
        (Sensor(0.1, 0.6), 0.0, 0.6),
        (FULL, 0.5, 0.5),
    ],
    ids=str,
)
def test_tick_lag_and_idle_power_are_found_in_one_look(
    sensor: Sensor | Sensors, delay_s: float, lag_s: float, query_s: float, queries: int
) -> None:
    bench = Bench(sensor, lambda *_: query_s, queries, delay_s)
    run = bench.run()
    (source,) = run.sources
    counter = sensor if isinstance(sensor, Sensor) else sensor.counter
    assert counter is not None
    assert source.tick_s == pytest.approx(counter.update_s, rel=0.01)
    assert source.lag_s == pytest.approx(lag_s, abs=0.13)
    assert bench.joules(run) == pytest.approx(WORK_W * query_s, rel=0.005)
    assert [what for what, _ in bench.said if "lag" in what] == []
    assert bench.prepared_s(run) < 4.6  # one look of a second, and no wait before it: these took 6.4 to 10.7 s
    assert bench.instruments.lag_unknown is False


@pytest.mark.parametrize(("query_s", "queries"), [(0.001, 64), (0.01, 20), (0.01, 64), (0.05, 64)])
def test_a_delay_that_is_longer_than_the_first_pass_is_looked_for_after_a_longer_warm_up(query_s: float, queries: int) -> None:
    bench = Bench(FULL, lambda *_: query_s, queries, 1.0)
    run = bench.run()
    assert run.sources[0].lag_s == pytest.approx(1.0, abs=0.13)
    assert bench.joules(run) == pytest.approx(WORK_W * query_s, rel=0.005)


def test_a_gpu_that_idles_higher_while_it_is_hot_has_no_lag() -> None:
    bench = Bench(replace(FULL, phase_s=0.037))

    def cool() -> None:
        bench.gpu.idle_w = IDLE_W + 20 + 20 * math.exp(-(bench.clock.now_ns() - bench.ended_ns) / 1e9 / 0.5)
        if not bench.works:
            bench.gpu.set_power(bench.gpu.idle_w)

    bench.clock.every(0.01, cool)
    run = bench.run()
    assert run.sources[0].lag_s == 0.0
    assert [what for what, _ in bench.said if "lag" in what] == []


@pytest.mark.parametrize("watts", [61.0, 68.0])
def test_work_that_hardly_draws_power_is_looked_at_once_more_while_the_device_idles(watts: float) -> None:
    bench = Bench(FULL)
    bench.work_w = watts
    run = bench.run()
    assert run.sources[0].tick_s == pytest.approx(0.1, rel=0.01)
    assert run.sources[0].lag_s == 0.0
    assert "looking for a lag of the meter" in {what for what, _ in bench.said}
    told = [what for what, _ in bench.said]
    assert told.count("finding the meter's tick") == 2


def test_what_has_come_down_before_it_was_looked_at_is_not_taken_for_no_lag() -> None:
    bench = Bench(LAGGING)
    probe = bench.instruments.probe

    def late(*, again: bool = False) -> Probed:
        bench.clock.sleep(0.0 if again else 1.05)  # as if a process was held up
        return probe(again=again)

    bench.instruments.probe = late  # type: ignore[method-assign]
    run = bench.run()
    assert run.sources[0].lag_s == pytest.approx(1.0, abs=0.13)


def test_a_counter_that_cannot_be_read_before_the_first_pass_is_probed_after_it() -> None:
    bench = Bench(FULL)
    counter, read = bench.instruments.counters[0], bench.instruments.counters[0].read

    def refuse() -> Reading:
        raise MeterLostError("not yet.", remedy="Wait.")

    counter.read = refuse  # type: ignore[method-assign]
    at_call = bench.query_s

    def mend(*of: float) -> float:
        counter.read = read  # type: ignore[method-assign]
        return at_call(*of)  # type: ignore[arg-type]

    bench.query_s = mend  # type: ignore[assignment]
    run = bench.run()
    assert run.sources[0].tick_s == pytest.approx(0.1, rel=0.01)
    assert bench.joules(run) == pytest.approx(3.0, rel=0.005)


def test_two_gpus_are_probed_one_by_one_while_they_idle_and_their_lags_looked_for_together() -> None:
    bench = Bench(LAGGING)
    other = SimulatedGpu(bench.clock, sensor=LAGGING, idle_w=IDLE_W, domain="gpu:1", uuid="GPU-other")
    bench.instruments = Instruments([bench.gpu.energy_counter(), other.energy_counter()], bench.clock)
    lags = {source.domain: source.lag_s for source in bench.run().sources}
    assert lags == {"gpu:0": pytest.approx(1.0, abs=0.13), "gpu:1": 0.0}


# The warm-up

SLOWED = 1.5


def uneven(batch: int, _call: int, _worked_s: float) -> float:
    return 0.004 + 0.03 * (batch * 7919 % 13) / 13


def sorted_list(batch: int, _call: int, _worked_s: float) -> float:
    return 0.002 + 0.0004 * batch


@pytest.mark.parametrize("query_s", [lambda *_: 0.01, lambda *_: 0.05, uneven, sorted_list], ids=["even", "long", "uneven", "sorted"])
def test_batches_that_take_what_they_took_in_the_first_pass_need_two_chunks(query_s: Callable[[int, int, float], float]) -> None:
    run = Bench(FULL, query_s).run()
    assert len(run.warmup) == 2
    assert not run.notes


def test_shares_of_a_list_that_take_their_turns_are_not_taken_for_a_phase_that_shows() -> None:
    """Every second block has the longer queries, and every second phase lies in the other half of the tick."""
    run = Bench(FULL, uneven).run()
    assert {len(group) for group in sets_of(run.blocks)} == {1}
    assert not run.notes


def test_a_short_first_pass_proves_little_and_one_batch_alone_nothing() -> None:
    assert len(Bench(FULL, lambda *_: 0.001).run().warmup) == 5
    assert len(Bench(FULL, queries=1).run().warmup) == WARMUP_CHUNKS


@pytest.mark.parametrize("query_s", [0.01, 0.05])
@pytest.mark.parametrize("slowed", [SLOWED, 1 / SLOWED])
def test_clocks_that_ramp_for_ten_seconds_are_seen_to(query_s: float, slowed: float) -> None:
    bench = Bench(FULL, lambda _b, _c, worked_s: query_s * (slowed + (1 - slowed) * min(worked_s / 10, 1.0)))
    run = bench.run()
    assert sum(chunk.busy_s for chunk in run.warmup) > 5.0


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_time_that_settles_exponentially_is_waited_for_until_it_changes_by_two_per_cent(share: float) -> None:
    bench = Bench(FULL, lambda _b, _c, worked_s: 0.01 * (1 + share * math.exp(-worked_s / 2)))
    warm = bench.run().warmup
    last, before = (sum(each.busy_s for each in part) / sum(each.queries for each in part) for part in (warm[-3:], warm[-6:-3]))
    assert before / last - 1 < 0.025
    assert len(warm) >= WARMUP_CHUNKS


@pytest.mark.parametrize(("calls", "times"), [(20, 2.0), (64, 1.5), (70, 2.0), (80, 2.0)])
def test_a_model_that_compiles_or_tunes_itself_in_its_first_calls_is_measured_as_it_is_afterwards(calls: int, times: float) -> None:
    bench = Bench(FULL, lambda _b, call, _w: 0.01 * (times if call < calls else 1.0))
    run = bench.run()
    assert len(run.warmup) >= WARMUP_CHUNKS
    assert bench.joules(run) == pytest.approx(3.0, rel=0.005)


def test_a_first_call_that_compiles_for_seconds_does_not_hold_up_the_others() -> None:
    run = Bench(FULL, lambda _b, call, _w: 3.0 if call == 0 else 0.01).run()
    assert 2 <= len(run.warmup) <= 4


def test_noise_is_waited_out_as_before() -> None:
    luck = random.Random(4)
    run = Bench(FULL, lambda *_: 0.01 * (1 + luck.gauss(0, 0.2))).run()
    assert 2 <= len(run.warmup) <= 12


# Latencies that are only shown


def test_latencies_that_are_only_shown_come_from_the_warm_up() -> None:
    bench = Bench(FULL)
    run = bench.run(timing="short")
    assert "timing batches" not in {what for what, _ in bench.said}
    assert len(run.latencies) == sum(chunk.queries for chunk in run.warmup) >= 32
    assert [each.seconds for each in run.latencies] == pytest.approx([0.01] * len(run.latencies))
    assert bench.calls == run.queries + sum(block.queries for block in (*run.warmup, *run.blocks)) + 25  # bursts of coverage


def test_latencies_shown_are_those_after_it_had_levelled() -> None:
    run = Bench(FULL, lambda _b, call, _w: 0.02 if call < 80 else 0.01).run(timing="short")
    assert [each.seconds for each in run.latencies] == pytest.approx([0.01] * len(run.latencies))
    assert len(run.latencies) >= 32


@pytest.mark.parametrize("in_pairs", [False, True])
def test_a_latency_with_a_limit_has_a_pass_of_its_own(in_pairs: bool) -> None:
    bench = Bench(FULL)
    assert len(bench.run(timing="whole", in_pairs=in_pairs).latencies) == 128
    assert "timing batches" in {what for what, _ in bench.said}


# What is told to come


@pytest.mark.parametrize("query_s", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("sensor", [FULL, PART], ids=["all", "quarter"])
def test_the_seconds_told_to_the_first_look_are_within_a_factor_of_two_from_the_warm_up_on(sensor: Sensor, query_s: float) -> None:
    told: list[tuple[float, float]] = []
    bench = Bench(sensor, lambda *_: query_s)
    looked: list[float] = []

    def tell(step: Tell) -> None:
        if not looked and step.what != "first pass" and not step.what.startswith(("first pass", "looking at how much")):
            told.append((bench.clock.now_ns() / 1e9, step.least_s))

    def enough(_run: Run) -> bool:
        looked.append(bench.clock.now_ns() / 1e9)
        return True

    bench.run(40.0, timing="short", tell=tell, enough=enough)
    assert told
    for at, least_s in told:
        assert 0.5 <= least_s / (looked[0] - at) <= 2.0
