"""The simulated devices: they show what the described sensor would show, and the truth beside it is exact."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.meters.base import Counter
from pytest_greencompute.meters.integrate import PowerIntegrator
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.simulated import FAULTS, PowerCurve, SimulatedClock, SimulatedCounter, SimulatedGpu

FULL = Sensor(update_s=0.1, window_s=0.1, read_s=0.0)
PART = Sensor(update_s=0.1, window_s=0.025, read_s=0.0)
MEAN = Sensor(update_s=0.1, window_s=1.0, read_s=0.0)


def counted_j(gpu: SimulatedGpu, act: Callable[[], None]) -> float:
    counter = gpu.energy_counter()
    before = counter.read().energy_j
    act()
    return counter.read().energy_j - before


# The clock


def test_the_clock_moves_only_when_told() -> None:
    clock = SimulatedClock()
    start = clock.now_ns()
    assert clock.now_ns() == start
    clock.sleep(1.5)
    assert clock.now_ns() == start + 1_500_000_000
    clock.sleep(-1)
    clock.advance_to(start)
    assert clock.now_ns() == start + 1_500_000_000


def test_callbacks_fire_in_order_of_time_at_their_own_moments() -> None:
    clock = SimulatedClock(start_ns=0)
    seen: list[tuple[str, int]] = []
    clock.every(0.3, lambda: seen.append(("slow", clock.now_ns())))
    cancel = clock.every(0.2, lambda: seen.append(("fast", clock.now_ns())))
    clock.sleep(0.65)
    cancel()
    clock.sleep(0.4)
    ms = 1_000_000
    assert seen == [
        ("fast", 200 * ms),
        ("slow", 300 * ms),
        ("fast", 400 * ms),
        ("slow", 600 * ms),
        ("fast", 600 * ms),
        ("slow", 900 * ms),
    ]


def test_a_sleep_in_the_background_takes_no_time_from_the_foreground() -> None:
    clock = SimulatedClock(start_ns=0)
    clock.every(0.1, lambda: clock.sleep(10))
    clock.sleep(0.35)
    assert clock.now_ns() == 350_000_000


# The sensor


@pytest.mark.parametrize(
    "wrong", [{"update_s": 0}, {"window_s": -1}, {"gain": float("nan")}, {"jitter_s": 0.05}, {"read_s": -1e-9}, {"offset_w": float("inf")}]
)
def test_a_sensor_is_validated_once(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong)).split("_")[0]):
        Sensor(**{"update_s": 0.1, "window_s": 0.1, **wrong})


def test_jitter_moves_ticks_but_keeps_their_order() -> None:
    sensor = Sensor(update_s=0.1, window_s=0.1, jitter_s=0.04)
    ticks = [sensor.tick_ns(k) for k in range(-1, 2000)]
    assert ticks == sorted(ticks)
    late_s = [(tick - 100_000_000 * k) / 1e9 for k, tick in enumerate(ticks, start=-1)]
    assert max(late_s) <= 0.04
    assert min(late_s) >= -0.04
    assert max(late_s) - min(late_s) > 0.07
    assert abs(sum(late_s) / len(late_s)) < 0.002


@pytest.mark.parametrize("name", PROFILES)
def test_under_constant_power_every_profile_counts_the_truth(name: str) -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=PROFILES[name], idle_w=60)
    clock.sleep(3)
    assert counted_j(gpu, lambda: clock.sleep(10)) == pytest.approx(600, abs=60 * gpu.sensor.update_s + 0.01)


# The GPU


def test_it_keeps_the_contract_of_a_counter() -> None:
    gpu = SimulatedGpu(SimulatedClock())
    assert isinstance(gpu.energy_counter(), Counter)
    assert isinstance(gpu.power_counter(), Counter)
    assert isinstance(SimulatedCounter(SimulatedClock()), Counter)


def test_the_counter_stands_still_between_ticks() -> None:
    clock = SimulatedClock(start_ns=0)
    gpu = SimulatedGpu(clock, sensor=Sensor(update_s=0.1, window_s=0.1, read_s=0.0, phase_s=0.03), idle_w=100)
    counter = gpu.energy_counter()
    seen: dict[float, int] = {}
    for t_ms in range(400):
        clock.advance_to(t_ms * 1_000_000)
        seen.setdefault(counter.read().energy_j, t_ms)
    assert list(seen.values()) == [0, 30, 130, 230, 330]
    assert list(seen) == pytest.approx([0, 10, 20, 30, 40])


def test_a_sensor_that_sees_all_the_time_counts_exactly() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=FULL)
    start = clock.now_ns()

    def act() -> None:
        for watts in (100, 350, 90, 300):
            gpu.work(0.037, watts)
            clock.sleep(0.013)
        clock.advance_to(start + 1_000_000_000)

    assert counted_j(gpu, act) == pytest.approx(gpu.true_energy_j(start, clock.now_ns()), abs=0.002)


def test_part_time_sampling_misses_work_between_its_windows() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=PART, idle_w=50)
    # 70 ms of work right after each tick: the window of 25 ms before the next tick sees only idling.

    def act() -> None:
        for _ in range(10):
            gpu.work(0.07, 400)
            clock.sleep(0.03)

    assert counted_j(gpu, act) == pytest.approx(50 * 1.0, abs=0.002)


def test_a_running_mean_lags_and_delivers_everything_in_the_end() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=MEAN, idle_w=0)
    counter = gpu.energy_counter()
    before = counter.read().energy_j
    gpu.work(0.5, 200)
    right_after = counter.read().energy_j - before
    clock.sleep(1.1)
    assert right_after < 40
    assert counter.read().energy_j - before == pytest.approx(100, abs=0.01)


def test_gain_and_offset_and_quantum_are_applied() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(
        clock, sensor=Sensor(update_s=0.1, window_s=0.1, gain=0.945, offset_w=3, quantum_j=0.5, quantum_w=1.0, read_s=0), idle_w=100
    )
    energy = counted_j(gpu, lambda: clock.sleep(10))
    assert energy == pytest.approx(975, abs=0.5)
    assert energy % 0.5 == 0
    assert gpu.read_power_w() == 97


def test_the_rise_time_delays_energy_without_losing_it() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=Sensor(update_s=0.1, window_s=0.1, rise_s=0.1, read_s=0), idle_w=0)
    counter = gpu.energy_counter()
    before = counter.read().energy_j
    gpu.work(0.1, 100)
    # The integral of 100 (1 - exp(-t / 0.1)) from 0 to 0.1 is 10 / e.
    assert counter.read().energy_j - before == pytest.approx(10 / 2.718281828, abs=0.002)
    clock.sleep(3)
    assert counter.read().energy_j - before == pytest.approx(10, abs=0.005)


def test_a_read_costs_time() -> None:
    clock = SimulatedClock()
    counter = SimulatedGpu(clock, sensor=Sensor(update_s=0.1, window_s=0.1, read_s=0.002)).energy_counter()
    start = clock.now_ns()
    assert counter.read().t_ns == start + 2_000_000


def test_a_sensor_without_a_counter_says_so() -> None:
    gpu = SimulatedGpu(SimulatedClock(), sensor=Sensors(None, MEAN))
    with pytest.raises(MeterError, match="no energy counter"):
        gpu.energy_counter()
    assert gpu.sensor is MEAN
    for name in FAULTS:
        gpu.fault(name)


# Its channels: one truth, seen in several ways


def square(gpu: SimulatedGpu, periods: int) -> None:
    """Half of every 100 ms at 400 W, from the tick on, and then idle: in step with an update of 100 ms."""
    for _ in range(periods):
        gpu.work(0.05, 400)
        gpu.clock.sleep(0.05)


def quiet(name: str) -> Sensors:
    """A profile whose reads cost nothing, so that they move no load."""
    return PROFILES[name].each(read_s=0.0)


def test_an_h100_shows_three_windows_of_one_truth() -> None:
    gpu = SimulatedGpu(SimulatedClock(), sensor=quiet("H100"), idle_w=100)
    square(gpu, 20)
    before = gpu.read_energy().energy_j
    square(gpu, 20)
    assert gpu.read_energy().energy_j - before == pytest.approx(250 * 2, abs=0.01)  # the counter sees all the time
    assert gpu.read_power_w("instant") == pytest.approx(100)  # the last 25 ms before the tick, where there is no work
    assert gpu.read_power_w("draw") == gpu.read_power_w("average") == pytest.approx(250)
    gpu.work(0.1, 400)
    assert gpu.read_power_w("instant") == pytest.approx(400)
    assert gpu.read_power_w() == pytest.approx(265)  # a tenth of the second at 400 W, the rest at 250 W
    gpu.clock.sleep(0.1)
    assert gpu.read_power_w("instant") == pytest.approx(100)
    assert gpu.read_power_w("draw") == pytest.approx(250)  # 400 W and 100 W, a tenth each


def test_the_counter_of_an_a100_is_assumed_to_inherit_what_its_power_field_does_not_see() -> None:
    gpu = SimulatedGpu(SimulatedClock(), sensor=quiet("A100"), idle_w=100)
    assert counted_j(gpu, lambda: square(gpu, 20)) == pytest.approx(100 * 2, abs=0.01)
    assert gpu.true_energy_j(1_000_000_000, gpu.clock.now_ns()) == pytest.approx(250 * 2)


@pytest.mark.parametrize("name", ["V100", "T4", "A100"])
def test_a_gpu_before_ampere_or_with_ga100_has_no_average(name: str) -> None:
    gpu = SimulatedGpu(SimulatedClock(), sensor=PROFILES[name])
    assert gpu.read_power_w("draw") == gpu.read_power_w("instant") == pytest.approx(60)
    with pytest.raises(MeterError, match="'average'"):
        gpu.read_power_w("average")


def test_the_same_change_on_every_channel_leaves_the_missing_ones_missing() -> None:
    changed = PROFILES["A100"].each(gain=0.9)
    assert [channel and channel.gain for channel in changed.channels.values()] == [0.9, 0.9, None, 0.9, None]
    assert [channel and channel.window_s for channel in PROFILES["H100"].channels.values()] == [0.1, 1.0, 1.0, 0.025, None]


def test_each_channel_has_its_own_rise_time_phase_and_price() -> None:
    clock = SimulatedClock(start_ns=0)
    slow, late = Sensor(0.1, 0.1, rise_s=0.1, read_s=0.003), Sensor(0.1, 0.1, phase_s=0.05, read_s=0.0)
    gpu = SimulatedGpu(clock, sensor=Sensors(counter=slow, draw=late, instant=Sensor(0.1, 0.1, read_s=0.001)), idle_w=0)
    gpu.set_power(100)
    clock.advance_to(100_000_000)
    assert gpu.read_power_w("draw") == pytest.approx(50)  # its tick was at 50 ms, and half of its window saw 100 W
    assert gpu.read_power_w("instant") == pytest.approx(100)
    assert clock.now_ns() == 101_000_000
    assert gpu.read_energy().energy_j == pytest.approx(10 / 2.718281828, abs=0.002)
    assert clock.now_ns() == 104_000_000


def test_power_is_summed_from_draw_and_no_other_field() -> None:
    gpu = SimulatedGpu(SimulatedClock(), sensor=quiet("H100"), idle_w=100)
    counter = gpu.power_counter()
    gpu.clock.sleep(2)
    a = counter.read()
    square(gpu, 30)
    gpu.clock.sleep(counter.source.lag_s + 0.2)
    b = counter.read()
    counter.close()
    assert b.energy_j - a.energy_j == pytest.approx(gpu.true_energy_j(a.t_ns, b.t_ns), rel=0.005)  # instant would see nothing


@given(
    steps=st.lists(st.tuples(st.integers(1, 3_000_000_000), st.integers(0, 700)), min_size=1, max_size=30),
    cuts=st.tuples(st.integers(-1_000_000_000, 40_000_000_000), st.integers(0, 40_000_000_000)),
)
def test_the_true_energy_is_the_integral_of_the_power(steps: list[tuple[int, int]], cuts: tuple[int, int]) -> None:
    curve = PowerCurve(0, 60)
    t_ns, pieces = 0, [(-10_000_000_000, 60)]
    for wait_ns, watts in steps:
        t_ns += wait_ns
        curve.set_power(t_ns, watts)
        pieces.append((t_ns, watts))
    a, b = cuts[0], cuts[0] + cuts[1]
    expected = 0.0
    for (start, watts), end in zip(pieces, [t for t, _ in pieces[1:]] + [10**12], strict=True):
        expected += watts * max(0, min(end, b) - max(start, a)) / 1e9
    assert curve.energy_j(a, b) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), jitter_s=st.sampled_from([0.0, 0.03]))
def test_reading_often_or_seldom_gives_the_same_count(seed: int, jitter_s: float) -> None:
    rng = random.Random(seed)
    sensor = Sensor(update_s=0.1, window_s=0.025, jitter_s=jitter_s, read_s=0.0)
    clock = SimulatedClock()
    gpus = [SimulatedGpu(clock, sensor=sensor), SimulatedGpu(clock, sensor=sensor)]
    often, seldom = (gpu.energy_counter() for gpu in gpus)
    for _ in range(50):
        watts = rng.uniform(50, 400)
        for gpu in gpus:
            gpu.set_power(watts)
        clock.sleep(rng.uniform(0, 0.3))
        often.read()
    assert often.read() == seldom.read()


def test_work_at_the_very_start_does_not_rewrite_the_past() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=MEAN, idle_w=10)
    gpu.set_power(500)
    assert gpu.read_power_w() == 10
    assert gpu.true_energy_j(0, clock.now_ns()) == pytest.approx(10)


# Faults


def test_lost_raises_and_clearing_brings_it_back() -> None:
    gpu = SimulatedGpu(SimulatedClock())
    counter = gpu.energy_counter()
    counter.read()
    gpu.fault("lost")
    with pytest.raises(MeterLostError):
        counter.read()
    gpu.clear_faults()
    counter.read()


@pytest.mark.parametrize("make", [SimulatedGpu, SimulatedCounter])
def test_reset_and_stuck(make: Callable[[SimulatedClock], SimulatedGpu | SimulatedCounter]) -> None:
    clock = SimulatedClock()
    device = make(clock)
    counter = device.energy_counter() if isinstance(device, SimulatedGpu) else device
    clock.sleep(5)
    assert counter.read().energy_j > 90
    device.fault("reset")
    assert counter.read().energy_j < 1
    clock.sleep(1)
    device.fault("stuck")
    stuck = counter.read().energy_j
    assert stuck > 15
    clock.sleep(2)
    assert counter.read().energy_j == stuck
    device.clear_faults()
    assert counter.read().energy_j > stuck + 30


def test_a_slow_read_takes_300_ms() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock)
    gpu.fault("slow read")
    start = clock.now_ns()
    gpu.energy_counter().read()
    assert clock.now_ns() - start == 300_000_000


def test_conditions_are_marked() -> None:
    gpu = SimulatedGpu(SimulatedClock())
    assert gpu.energy_counter().condition().marks == ()
    gpu.fault("throttled")
    gpu.fault("foreign")
    assert gpu.energy_counter().condition().marks == ("thermal slowdown", "another process")


def test_an_unknown_fault_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=FAULTS[0]):
        SimulatedGpu(SimulatedClock()).fault("gremlins")


# The continuous counter


def test_a_continuous_counter_is_the_integral() -> None:
    clock = SimulatedClock()
    cpu = SimulatedCounter(clock, idle_w=20)
    assert cpu.source.tick_s == 0
    a = cpu.read()
    cpu.work(0.0123, 80)
    b = cpu.read()
    assert b.energy_j - a.energy_j == pytest.approx(cpu.true_energy_j(a.t_ns, b.t_ns))


# The integrated counter


def test_integrated_power_comes_to_the_true_energy() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=MEAN, idle_w=40)
    counter = gpu.power_counter()
    clock.sleep(2)
    a = counter.read()
    gpu.work(1.5, 300)
    clock.sleep(counter.source.lag_s + 0.2)
    b = counter.read()
    assert counter.source.method == "integrated"
    assert b.energy_j - a.energy_j == pytest.approx(gpu.true_energy_j(a.t_ns, b.t_ns), rel=0.01)
    counter.close()
    counter.close()
    with pytest.raises(MeterError, match="closed"):
        counter.read()


def test_the_ticks_of_an_integrated_counter_are_its_samples() -> None:
    clock = SimulatedClock(start_ns=0)
    counter = SimulatedGpu(clock, sensor=FULL).power_counter(period_s=0.02)
    clock.sleep(0.115)
    assert counter.read().t_ns == 100_000_000
    assert counter.read().energy_j == pytest.approx(6.0)


def test_a_failed_sample_is_said_once_and_never_filled_in() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=FULL, idle_w=50)
    counter = gpu.power_counter()
    clock.sleep(1)
    before = counter.read().energy_j
    gpu.fault("lost")
    clock.sleep(0.5)
    gpu.clear_faults()
    clock.sleep(0.5)  # it works again, but half a second went unseen
    with pytest.raises(MeterLostError, match="gpu:0"):
        counter.read()
    clock.sleep(0.1)
    after = counter.read().energy_j
    clock.sleep(1)
    assert counter.read().energy_j - after == pytest.approx(50)
    assert after - before < 50 * 0.5


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_a_power_that_is_no_power_is_refused_at_once(value: float) -> None:
    with pytest.raises(MeterError, match="W"):
        PowerIntegrator(lambda: value, clock=SimulatedClock(), meter="x", domain="gpu:0")


def test_a_sampler_that_stopped_is_noticed() -> None:
    class Forgetful(SimulatedClock):
        def every(self, period_s: float, call: Callable[[], None]) -> Callable[[], None]:
            return lambda: None

    clock = Forgetful()
    counter = PowerIntegrator(lambda: 50.0, clock=clock, meter="x", domain="gpu:0")
    clock.sleep(1.5)
    with pytest.raises(MeterLostError, match="not sampled"):
        counter.read()


def test_it_integrates_in_real_time_and_from_several_threads() -> None:
    counter = PowerIntegrator(lambda: 100.0, clock=RealClock(), meter="x", domain="gpu:0", period_s=0.005)
    errors: list[BaseException] = []

    def poll() -> None:
        last = -1.0
        for _ in range(200):
            now = counter.read().energy_j
            if now < last:
                errors.append(AssertionError("ran backwards"))
            last = now

    a = counter.read()
    threads = [threading.Thread(target=poll) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.2)
    b = counter.read()
    counter.close()
    assert errors == []
    assert b.energy_j - a.energy_j == pytest.approx(100 * (b.t_ns - a.t_ns) / 1e9)
    assert b.t_ns > a.t_ns


# Cost


def test_the_last_of_a_million_power_changes_cost_what_the_first_did() -> None:
    clock = SimulatedClock(start_ns=0)
    gpu = SimulatedGpu(clock)
    counter = gpu.energy_counter()

    def cost_s(times: int) -> float:
        started = time.process_time()
        for i in range(times):
            gpu.work(0.004, 300 + i % 2)
            clock.sleep(0.004)
            if i % 100 == 0:
                counter.read()
        return time.process_time() - started

    costs = [cost_s(50_000) for _ in range(10)]
    assert clock.now_ns() > 3600e9
    assert gpu.true_energy_j(0, clock.now_ns()) == pytest.approx(180.25 * 4000, rel=0.001)
    assert min(costs[5:]) < 2 * min(costs[:5])  # were all changes gone through at each, it would be more than three times


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, pytest_greencompute.testing; print([m for m in ('numpy', 'torch', 'pynvml', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
