"""The open counters of a session: ticks probed and waited for, marks, and the lock that keeps two runs off one device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters import locks, ticks
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.messages import Learn
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter, SimulatedGpu


def made(*sensors: Sensor, cpu: bool = False, **fields: Any) -> tuple[Instruments, list[SimulatedGpu]]:
    clock = SimulatedClock()
    gpus = [SimulatedGpu(clock, sensor=sensor, domain=f"gpu:{index}", uuid=f"GPU-{index}") for index, sensor in enumerate(sensors)]
    counters: list[Any] = [gpu.energy_counter() for gpu in gpus]
    return Instruments(counters + ([SimulatedCounter(clock)] if cpu else []), clock, **fields), gpus


SLOW = Sensor(update_s=0.1, window_s=0.1)
FAST = Sensor(update_s=0.02, window_s=0.02, phase_s=0.007, jitter_s=0.002)


def test_the_tick_is_found_as_it_is_not_as_the_counter_guessed() -> None:
    instruments, _ = made(SLOW, FAST, cpu=True)
    found = {source.domain: source for source in instruments.probe().sources}
    assert found["gpu:0"].tick_s == pytest.approx(0.1, abs=0.001)
    assert found["gpu:1"].tick_s == pytest.approx(0.02, abs=0.002)
    assert 0 < found["gpu:1"].jitter_s < 0.009
    assert found["cpu"].tick_s == 0
    assert instruments.sources == tuple(found.values())


def test_ticks_are_probed_once_a_session() -> None:
    instruments, _ = made(SLOW)
    instruments.probe()
    now = instruments.clock.now_ns()
    instruments.probe()
    assert instruments.clock.now_ns() == now


def test_waiting_for_ticks_reads_each_counter_just_after_its_own_change() -> None:
    instruments, gpus = made(SLOW, FAST)
    instruments.probe()
    for _ in range(5):
        start = instruments.clock.now_ns()
        ticks = instruments.ticks()
        for gpu in gpus:
            after = ticks[gpu.domain].t_ns - start
            assert 0 < after / 1e9 <= gpu.sensor.update_s + 0.01
        # The reading is at most a polling step and a few reads after the change.
        since_change = (ticks["gpu:0"].t_ns - 1_000_000_000) / 1e9 % 0.1
        assert since_change < 0.002


def test_a_counter_that_stops_while_it_is_waited_for_is_lost() -> None:
    instruments, gpus = made(SLOW)
    instruments.probe()
    gpus[0].fault("stuck")
    with pytest.raises(MeterLostError, match="gpu:0 stands still"):
        instruments.ticks()


def test_a_counter_that_runs_backwards_while_it_is_probed_is_an_error() -> None:
    instruments, gpus = made(SLOW)
    instruments.clock.sleep(5)
    instruments.clock.every(0.35, lambda: gpus[0].fault("reset"))
    with pytest.raises(MeterError, match="ran backwards while it was probed"):
        instruments.probe()


# Counters that do not work, where the figure can do without them


@pytest.mark.parametrize("fault", ["stuck", "lost"])
@pytest.mark.parametrize(
    ("domains", "dead", "left"),
    [
        (("auto",), 1, True),  # an idle second GPU
        (("gpu",), 1, True),
        (("gpu:0",), 1, True),
        (("cpu",), 1, True),
        (("gpu:1",), 1, False),
        (("all",), 1, False),
        (("gpu:0",), 0, False),
        (("cpu", "gpu:1"), 1, False),
    ],
)
def test_a_dead_counter_is_left_out_unless_it_is_judged(domains: tuple[str, ...], dead: int, left: bool, fault: str) -> None:
    instruments, gpus = made(SLOW, FAST, cpu=True, domains=domains)
    gpus[dead].fault(fault)
    if not left:
        with pytest.raises(MeterError) as caught:
            instruments.probe()
        assert caught.value.message
        return
    found = [source.domain for source in instruments.probe().sources]
    assert found == [source.domain for source in instruments.sources] == [f"gpu:{1 - dead}", "cpu"]
    (said,) = instruments.left_out
    assert said.startswith(f"gpu:{dead} is left out, its counter does not work: ")
    assert set(instruments.read()) == {f"gpu:{1 - dead}", "cpu"}
    assert set(instruments.ticks()) == {f"gpu:{1 - dead}"}
    assert set(instruments.facts()) == {f"gpu:{1 - dead}", "cpu"}
    assert instruments.marks() == ()


def test_the_only_gpu_or_all_of_them_dead_is_an_error() -> None:
    for sensors in ((SLOW,), (SLOW, FAST)):
        instruments, gpus = made(*sensors, cpu=True)
        for gpu in gpus:
            gpu.fault("stuck")
        with pytest.raises(MeterError, match="gpu:0 did not change"):
            instruments.probe()
        assert instruments.left_out == ()


def memory(**fields: Any) -> tuple[Instruments, SimulatedGpu, SimulatedGpu]:
    """A processor and its memory whose counters tick, as RAPL's do."""
    clock = SimulatedClock()
    cpu, dram = (SimulatedGpu(clock, sensor=FAST, domain=domain, idle_w=20.0) for domain in ("cpu", "dram"))
    return Instruments([cpu.energy_counter(), dram.energy_counter()], clock, **fields), cpu, dram


@pytest.mark.parametrize("domains", [("auto",), ("cpu",), ("dram",), ("all",), ("cpu", "dram")], ids="+".join)
def test_memory_that_stands_at_nought_is_left_out_beside_the_processor(domains: tuple[str, ...]) -> None:
    instruments, _, dram = memory(domains=domains)
    dram.fault("stuck")
    if domains in (("auto",), ("cpu",)):
        assert [source.domain for source in instruments.probe().sources] == ["cpu"]
    else:
        with pytest.raises(MeterError, match="dram did not change"):
            instruments.probe()


def test_a_dead_processor_is_an_error_beside_memory_that_works() -> None:
    instruments, cpu, _ = memory()
    cpu.fault("stuck")
    with pytest.raises(MeterError, match="cpu did not change"):
        instruments.probe()


@pytest.mark.parametrize("fault", ["stuck", "lost", "reset"])
def test_a_counter_that_dies_later_is_left_out_where_it_is_in_no_figure(fault: str) -> None:
    instruments, _, dram = memory(domains=("cpu",))
    instruments.clock.sleep(3)
    instruments.probe()
    assert set(instruments.ticks()) == {"cpu", "dram"}
    dram.fault(fault)
    assert set(instruments.ticks()) == {"cpu"}
    assert set(instruments.ticks()) == {"cpu"}
    assert len(instruments.left_out) == 1


def test_what_a_counter_counted_before_it_died_is_known() -> None:
    instruments, _, dram = memory(domains=("cpu",))
    instruments.clock.sleep(3)
    first = instruments.read()
    instruments.probe()
    instruments.read()
    assert instruments.stopped(first) == {}
    dram.fault("lost")
    instruments.read()
    (joules,) = instruments.stopped(first).values()
    assert joules > 0
    never, _, dead = memory()
    dead.fault("stuck")
    first = never.read()
    never.probe()
    assert never.left_out
    assert never.stopped(first) == {}


def test_whatever_a_counter_of_others_raises_is_a_meter_error() -> None:
    instruments, *_ = memory(domains=("cpu",))
    instruments.probe()
    broken = next(counter for counter in instruments.counters if counter.source.domain == "dram")
    broken.read = lambda: int("")  # type: ignore[method-assign, return-value, assignment]
    assert set(instruments.read()) == {"cpu"}
    (said,) = instruments.left_out
    assert "The energy counter of dram could not be read (ValueError: " in said


def test_memory_that_is_in_the_figure_and_dies_later_loses_the_set_as_ever() -> None:
    instruments, _, dram = memory()
    instruments.probe()
    dram.fault("stuck")
    with pytest.raises(MeterLostError, match="dram stands still"):
        instruments.ticks()


def test_an_idle_gpu_that_is_lost_later_is_left_out_and_one_that_has_worked_is_not() -> None:
    for works in (False, True):
        instruments, gpus = made(FAST, FAST)
        instruments.probe()
        if works:
            gpus[1].work(1.0, 300.0)
        instruments.clock.sleep(1.0)
        instruments.ticks()
        gpus[1].fault("lost")
        if works:
            with pytest.raises(MeterLostError):
                instruments.ticks()
        else:
            assert set(instruments.ticks()) == {"gpu:0"}


def test_a_gpu_that_was_left_out_and_is_at_work_after_all_spoils_the_block() -> None:
    class Used:
        def __init__(self, counter: Any) -> None:
            self._counter, self.busy = counter, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._counter, name)

        def in_use(self) -> bool:
            return self.busy

    plain, gpus = made(SLOW, FAST)
    used = Used(plain.counters[1])
    instruments = Instruments([plain.counters[0], used], plain.clock)
    gpus[1].fault("stuck")
    instruments.probe()
    assert instruments.marks() == ()
    used.busy = True
    assert instruments.marks() == ("gpu:1 in use, and not metered",)


def test_what_is_wrong_with_a_gpu_that_is_in_no_figure_spoils_nothing() -> None:
    instruments, gpus = made(SLOW, SLOW, domains=("gpu:0",))
    gpus[1].fault("throttled")
    assert instruments.marks() == ()
    gpus[0].fault("foreign")
    assert instruments.marks() == ("another process",)


def test_only_the_counters_of_their_kind_are_read() -> None:
    instruments, _ = made(SLOW, cpu=True)
    assert set(instruments.read()) == {"gpu:0", "cpu"}
    assert set(instruments.read_continuous()) == {"cpu"}
    assert set(instruments.ticks()) == {"gpu:0"}
    assert instruments.ticking
    alone, _ = made(cpu=True)
    assert not alone.ticking
    assert alone.ticks() == {}


def test_marks_are_those_of_all_counters_but_the_allowed_ones() -> None:
    instruments, gpus = made(SLOW, SLOW, allowed_marks=frozenset({"thermal slowdown"}))
    assert instruments.marks() == ()
    gpus[0].fault("throttled")
    gpus[1].fault("foreign")
    assert instruments.marks() == ("another process",)


def test_facts_and_conditions_come_by_domain() -> None:
    instruments, _ = made(SLOW, cpu=True)
    facts = instruments.facts()
    assert facts["gpu:0"].device == "Simulated GPU"
    assert (facts["cpu"].meter, facts["cpu"].method) == ("simulated", "counter")
    assert instruments.conditions()["gpu:0"]["sm_clock_mhz"] == 1500


# Locks


def test_a_device_is_locked_while_it_is_measured_and_free_after(tmp_path: Path) -> None:
    instruments, _ = made(SLOW, lock_folder=tmp_path / "locks")
    waited: list[str] = []
    with instruments.locked(waited.append):
        other = filelock.FileLock(str(tmp_path / "locks" / "GPU-0.lock"))
        with pytest.raises(filelock.Timeout):
            other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()
    assert waited == []


def test_who_waits_for_a_device_is_told_and_gives_up_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCK_WAIT_S", 0.05)
    instruments, _ = made(SLOW, lock_folder=tmp_path)
    waited: list[str] = []
    held = filelock.FileLock(str(tmp_path / "GPU-0.lock"))
    with held, pytest.raises(MeterError, match="Another measured run held GPU-0") as caught, instruments.locked(waited.append):
        pytest.fail("the device was not free")
    assert waited == ["GPU-0"]
    assert caught.value.remedy


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    instruments, _ = made(SLOW, lock_folder=tmp_path)
    with pytest.raises(ZeroDivisionError), instruments.locked(lambda _: None):
        raise ZeroDivisionError
    with instruments.locked(lambda _: None):
        pass


def test_a_lock_folder_that_another_worker_makes_at_the_same_moment_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(type(tmp_path)):  # type: ignore[misc]
        def exists(self, **_: Any) -> bool:
            return False

    (tmp_path / "locks").mkdir()
    instruments, _ = made(SLOW, lock_folder=Late(tmp_path / "locks"))
    with instruments.locked(lambda _: None):
        pass


def test_a_lock_folder_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    instruments, _ = made(SLOW, lock_folder=tmp_path / "file" / "locks")
    with pytest.raises(SettingsError, match="Set lock_folder to another"), instruments.locked(lambda _: None):
        pytest.fail("no folder, no lock")


# Counters whose reads are slow, as an H100's are: 3 ms each


COSTLY = Sensor(update_s=0.1, window_s=0.1, read_s=0.003)


class Counting:
    """A counter that counts its reads, and can be moved out of step."""

    def __init__(self, counter: Any) -> None:
        self._counter = counter
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._counter, name)

    def read(self) -> Any:
        self.reads += 1
        return self._counter.read()


def costly(**fields: Any) -> tuple[Instruments, Counting, SimulatedGpu]:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=COSTLY, domain="gpu:0", uuid="GPU-0")
    counter = Counting(gpu.energy_counter())
    instruments = Instruments([counter], clock, **fields)
    instruments.probe()
    return instruments, counter, gpu


def wait_for_ticks(instruments: Instruments, times: int) -> None:
    for _ in range(times):
        instruments.ticks()


def test_where_reads_are_slow_most_ticks_cost_one_read_and_their_times_are_those_of_the_ticks() -> None:
    instruments, counter, _ = costly()
    wait_for_ticks(instruments, 20)  # by then the period is known
    start, before = instruments.clock.now_ns(), counter.reads
    for _ in range(60):
        tick = instruments.ticks()["gpu:0"]
        assert (tick.t_ns / 1e9 + 0.05) % 0.1 == pytest.approx(0.05, abs=0.006)
        instruments.clock.sleep(0.93)
    assert (counter.reads - before) / 60 < 2  # 4 or 5 where a tick is watched for
    assert (instruments.clock.now_ns() - start) / 1e9 < 60 * 1.15


def test_where_reads_are_slow_they_keep_clear_of_the_ticks_where_they_are_slowest() -> None:
    instruments, counter, _ = costly()
    wait_for_ticks(instruments, 20)
    single = 0
    for _ in range(40):
        before = counter.reads
        instruments.ticks()
        if counter.reads == before + 1:
            single += 1
            assert 0.03 < instruments.clock.now_ns() / 1e9 % 0.1 < 0.07
    assert single > 25


def test_energy_between_slowly_read_ticks_is_that_of_the_ticks() -> None:
    instruments, _, gpu = costly()
    gpu.set_power(200)
    instruments.clock.sleep(0.3)
    a = instruments.ticks()["gpu:0"]
    instruments.clock.sleep(3.21)
    b = instruments.ticks()["gpu:0"]
    assert b.energy_j - a.energy_j == pytest.approx(200 * (b.t_ns - a.t_ns) / 1e9, rel=0.003)


def test_a_slowly_read_counter_that_stops_is_lost_too() -> None:
    instruments, _, gpu = costly()
    wait_for_ticks(instruments, 30)
    gpu.fault("stuck")
    with pytest.raises(MeterLostError, match="gpu:0 stands still"):
        wait_for_ticks(instruments, 3)


def test_a_slowly_read_counter_that_leaves_its_step_loses_the_set_and_is_followed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "UNSEEN_S", 0.0)  # watch every tick
    instruments, counter, _ = costly()
    wait_for_ticks(instruments, 30)
    late = SimulatedGpu(
        instruments.clock, sensor=Sensor(update_s=0.1, window_s=0.1, read_s=0.003, phase_s=0.05), domain="gpu:0", uuid="GPU-0"
    )
    instruments.clock.sleep(0.05)
    counter._counter = late.energy_counter()
    with pytest.raises(MeterLostError, match="when no tick was due"):
        wait_for_ticks(instruments, 5)
    wait_for_ticks(instruments, 5)


def test_a_reading_at_the_last_tick_begins_the_next_block_and_costs_nothing_while_it_is_fresh() -> None:
    instruments, counter, _ = costly()
    wait_for_ticks(instruments, 20)
    tick, before = instruments.ticks(), counter.reads
    instruments.clock.sleep(0.05)
    assert instruments.ticks(tick) is tick
    instruments.clock.sleep(0.16)  # more than two ticks after it
    later = instruments.ticks(tick)
    assert later["gpu:0"].t_ns > tick["gpu:0"].t_ns
    assert counter.reads > before
    assert instruments.ticks(tick) != tick, "another tick was waited for meanwhile, as another candidate does"
    assert instruments.ticks({}) != later


def test_energy_from_a_reading_that_is_used_twice_is_that_of_the_ticks() -> None:
    instruments, _, gpu = costly()
    gpu.set_power(200)
    instruments.clock.sleep(0.3)
    a = instruments.ticks()
    for _ in range(5):
        start = instruments.ticks(a)
        instruments.clock.sleep(0.47)
        a = instruments.ticks()
        assert a["gpu:0"].energy_j - start["gpu:0"].energy_j == pytest.approx(200 * (a["gpu:0"].t_ns - start["gpu:0"].t_ns) / 1e9, rel=0.02)


def test_a_tick_that_came_before_it_was_looked_for_is_not_polled_for_a_whole_period(monkeypatch: pytest.MonkeyPatch) -> None:
    instruments, counter, _ = costly()
    wait_for_ticks(instruments, 30)
    monkeypatch.setattr(ticks, "UNSEEN_S", 0.0)  # watch for it
    sleep, late_s = instruments.clock.sleep, [0.015]  # a busy machine wakes us so late, once
    monkeypatch.setattr(instruments.clock, "sleep", lambda seconds: sleep(seconds + (late_s.pop() if late_s else 0.0)))
    before, start_ns = counter.reads, instruments.clock.now_ns()
    tick = instruments.ticks()["gpu:0"]
    assert 0.1 < (tick.t_ns - start_ns) / 1e9 < 0.21, "the tick after it"
    assert counter.reads - before < 20  # 34 in a whole period


def test_a_counter_that_is_out_of_step_is_followed_again_after_one_set() -> None:
    instruments, counter, _ = costly()
    wait_for_ticks(instruments, 30)
    early = SimulatedGpu(instruments.clock, sensor=replace(COSTLY, phase_s=0.07), domain="gpu:0", uuid="GPU-0")
    counter._counter = early.energy_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticks, "UNSEEN_S", 0.0)  # watch for it
        with pytest.raises(MeterLostError, match="when no tick was due"):
            wait_for_ticks(instruments, 3)
    wait_for_ticks(instruments, 5)


def test_the_probe_of_a_dear_counter_watches_two_periods_and_looks_for_the_other_ticks_when_they_are_due() -> None:
    instruments, counter, _ = costly()
    assert counter.reads < 100  # six ticks watched throughout: 190
    (source,) = instruments.sources
    assert source.tick_s == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize("jitter_s", [0.0, 0.002, 0.012])
def test_a_dear_counter_whose_ticks_jitter_is_probed_all_the_same(jitter_s: float) -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=replace(COSTLY, jitter_s=jitter_s), domain="gpu:0", uuid="GPU-0")
    instruments = Instruments([gpu.energy_counter()], clock)
    (idle,) = instruments.probe().quiet
    (source,) = instruments.sources
    assert source.tick_s == pytest.approx(0.1, abs=0.002 + jitter_s)
    assert idle.watts == pytest.approx(60.0, rel=0.05 + 5 * jitter_s)


def told(instruments: Instruments, counter: Counting, clock: SimulatedClock) -> tuple[Instruments, Counting]:
    """Another process, which was told of the counter."""
    (source,) = instruments.sources
    instruments.learn(Learn((source,), frozenset({source.domain}), whole=True))
    other = Counting(counter._counter)
    again = Instruments([other], clock)  # type: ignore[list-item]
    again.expect(instruments.behaviours)
    return again, other


def test_a_process_that_is_told_of_a_dear_counter_looks_at_one_period_with_few_reads_and_keeps_its_step() -> None:
    instruments, counter, gpu = costly()
    for _ in range(20):
        instruments.ticks()
        instruments.clock.sleep(0.9)
    again, other = told(instruments, counter, gpu.clock)
    assert not again.probe().surprised
    assert other.reads < 30  # two periods watched throughout: 50
    again.clock.sleep(3.0)
    before = other.reads
    for _ in range(10):
        tick = again.ticks()["gpu:0"]
        assert (tick.t_ns / 1e9 + 0.05) % 0.1 == pytest.approx(0.05, abs=0.012)
        again.clock.sleep(0.9)
    assert other.reads - before < 20  # where the period is not known as well as it was told, the first takes as many alone


@pytest.mark.parametrize("jitter_s", [0.0, 0.002])
def test_reads_of_two_milliseconds_and_a_half_cost_three_thousandths_of_a_core_while_blocks_run(jitter_s: float) -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=Sensor(0.1, 0.1, read_s=0.0024, jitter_s=jitter_s, phase_s=0.037))
    counter = Counting(gpu.energy_counter())
    reads: list[int] = []

    def model(batch: list[int]) -> list[int]:
        reads.append(counter.reads)
        gpu.work(0.01, 300.0)
        return batch

    instruments = Instruments([counter], clock)  # type: ignore[list-item]
    task = Task(model, list(range(64)))
    run_metered(task, instruments, Effort(6.0, timing="none"))  # tick, lag and coverage are known by then
    learnt = Learn(instruments.sources, frozenset({each.domain for each in instruments.sources}), whole=True)
    instruments.learn(learnt)  # where ticks jitter by 2 %, they do not cover all of the time
    reads.clear()
    run, _ = run_metered(task, instruments, Effort(15.0, timing="none"))
    blocks_s = (run.blocks[-1].end_ns - run.blocks[0].start_ns) / 1e9
    queries = sum(block.queries for block in run.blocks)
    assert {len(block.spans) for block in run.blocks} == {1}
    assert 0.0024 * (reads[-1] - reads[-queries]) / blocks_s <= 0.003


def test_waiting_for_a_phase_ends_at_that_share_of_a_tick() -> None:
    for instruments, read_by in ((made(SLOW)[0], 0.02), (costly()[0], 0.45)):  # a share of a tick after it
        instruments.probe()
        for phase in (0.0, 0.3, 0.95):
            tick = instruments.ticks()["gpu:0"]
            instruments.wait_for_phase(phase)
            since = (instruments.clock.now_ns() - tick.t_ns) / 1e9 / 0.1
            assert (since - phase + 0.5) % 1 == pytest.approx(0.5, abs=0.02)
            assert since < 1 + max(phase, read_by) + 0.02
