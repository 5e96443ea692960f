"""The meter ``nvml``: real pynvml, a stand-in for the driver library, and a truth that is known."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.machine.processes import descends
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.base import Counter, Meter, MeterOptions
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.nvml import NvmlCounter, NvmlMeter
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.testing.standin import STANDIN_FAULTS, StandIn, StandInDevice, compile_standin
from pytest_greencompute.values.powers import COVERS_MODULE, DISAGREE, MAY_COVER_MODULE
from pytest_greencompute.values.readings import Reading
from pytest_greencompute.values.run import Run

pytestmark = pytest.mark.alone(waits=True)

FAST = Sensor(update_s=0.02, window_s=0.02)
H100 = StandInDevice(FAST)
A100 = StandInDevice(FAST, name="NVIDIA A100-SXM4-80GB", idle_w=50)
MakeStandIn = Callable[..., StandIn]


def options(**environ: str) -> MeterOptions:
    return MeterOptions(clock=RealClock(), environ=environ)


def find(**environ: str) -> Sequence[Counter]:
    return NvmlMeter().find(options(**environ))


def refused(**environ: str) -> MeterError:
    with pytest.raises(MeterError) as caught:
        find(**environ)
    assert caught.value.remedy
    return caught.value


def next_tick(counter: Counter) -> Reading:
    first = counter.read()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        reading = counter.read()
        if reading.energy_j != first.energy_j:
            return reading
    raise AssertionError("the counter stands still")


# Energy


def test_the_counter_gives_the_known_energy(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100)
    (counter,) = find()
    a = next_tick(counter)
    standin.work(0, 0.8, 350)
    standin.work(0, 0.4, 200)
    time.sleep(0.03)
    b = next_tick(counter)
    truth = standin.true_energy_j(0, a.t_ns, b.t_ns)
    assert truth > 300
    assert b.energy_j - a.energy_j == pytest.approx(truth, rel=0.005)
    counter.close()


def test_its_source_says_what_is_known_before_probing(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100)
    (counter,) = find()
    assert isinstance(counter, Counter)
    source = counter.source
    assert (source.meter, source.domain, source.method) == ("nvml", "gpu:0", "counter")
    assert (source.device, source.uuid) == ("NVIDIA H100 80GB HBM3", standin.uuid(0))
    assert (source.systematic, source.step_j, source.lag_s) == (0.05, 0.001, 0)
    assert source.tick_s > 0
    counter.close()


def test_a_device_without_a_counter_is_integrated(make_standin: MakeStandIn) -> None:
    standin = make_standin(replace(H100, sensor=Sensors(None, FAST)))
    (counter,) = find()
    assert (counter.source.method, counter.source.lag_s, counter.source.domain) == ("integrated", 1.1, "gpu:0")
    a = next_tick(counter)
    standin.work(0, 1.0, 300)
    time.sleep(0.1)
    b = next_tick(counter)
    assert b.energy_j - a.energy_j == pytest.approx(standin.true_energy_j(0, a.t_ns, b.t_ns), rel=0.05)
    standin.fault("lost")
    time.sleep(0.1)
    with pytest.raises(MeterLostError, match="gpu:0") as caught:
        counter.read()
    assert "reboot" in caught.value.remedy
    counter.close()
    counter.close()


def test_each_gpu_has_its_own_counter(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100, A100)
    counters = find()
    assert [counter.source.domain for counter in counters] == ["gpu:0", "gpu:1"]
    before = [next_tick(counter) for counter in counters]
    standin.work(1, 0.5, 400)
    time.sleep(0.03)
    after = [next_tick(counter) for counter in counters]
    for device, (a, b) in enumerate(zip(before, after, strict=True)):
        assert b.energy_j - a.energy_j == pytest.approx(standin.true_energy_j(device, a.t_ns, b.t_ns), rel=0.01)
    assert after[1].energy_j - before[1].energy_j > 200 > after[0].energy_j - before[0].energy_j
    for counter in counters:
        counter.close()


ODD = Sensor(update_s=0.1, window_s=0.025, jitter_s=0.02, phase_s=0.013, gain=0.945, offset_w=-3)
COARSE = Sensor(update_s=0.1, window_s=0.1, rise_s=0.08, quantum_j=0.5, quantum_w=1)


@pytest.mark.parametrize(
    "sensors",
    [*PROFILES.values(), Sensors.alike(ODD), Sensors(COARSE, ODD, Sensor(0.07, 1.0, rise_s=0.2), FAST), Sensors(None, COARSE)],
)
def test_python_and_c_show_the_same_on_every_channel(make_standin: MakeStandIn, standin_lib: ctypes.CDLL, sensors: Sensors) -> None:
    sensors = sensors.each(read_s=0)
    standin = make_standin(StandInDevice(sensors))
    clock = SimulatedClock(start_ns=standin.start_ns)
    gpu = SimulatedGpu(clock, sensor=sensors, idle_w=60)
    assert standin_lib.nvmlInit_v2() == 0
    rng = random.Random(7)
    milli = ctypes.c_ulonglong()
    for _ in range(300):
        watts = rng.uniform(0, 700)
        gpu.set_power(watts)
        standin.set_power(0, watts, t_ns=clock.now_ns())
        clock.sleep(rng.choice([0.0007, 0.03, 0.11, 0.7]))
        for place, (name, channel) in enumerate(sensors.channels.items()):
            error = standin_lib.greencompute_standin_at(0, place, ctypes.c_int64(clock.now_ns()), ctypes.byref(milli))
            assert error == (0 if channel else pynvml.NVML_ERROR_NOT_SUPPORTED)
            if channel:
                shown = gpu.read_energy().energy_j if name == "counter" else gpu.read_power_w(name)  # type: ignore[arg-type]
                assert milli.value == pytest.approx(shown * 1000, abs=1)
    if sensors.counter:
        assert gpu.read_energy().energy_j > 1000


def fields_of(device: object, *ids: int) -> list[object]:
    """The fields' values, or NVML's error codes as negative numbers where there is none."""
    found = pynvml.nvmlDeviceGetFieldValues(device, ids)
    values = [field.value.ullVal if field.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG else field.value.uiVal for field in found]
    return [-field.nvmlReturn if field.nvmlReturn else value for field, value in zip(found, values, strict=True)]


AVERAGE, INSTANT, ENERGY = pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION


def test_an_h100_shows_its_three_windows_at_once_under_real_pynvml(make_standin: MakeStandIn) -> None:
    """A square wave in step with the update, 50 ms of 600 W and 50 ms of 100 W: each channel sees it through its own window."""
    standin = make_standin(StandInDevice(PROFILES["H100"], idle_w=100))
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    tick_ns, half_ns = 100_000_000, 50_000_000
    first_ns = standin.start_ns + tick_ns * (1 + (time.perf_counter_ns() - standin.start_ns) // tick_ns)
    # The log is written ahead of time, so that no sleep that overshoots moves the load against the ticks.
    for half in range(200):
        standin.set_power(0, 100 if half % 2 else 600, t_ns=first_ns + half * half_ns)
    time.sleep(1.25)  # from here on every tick is like the one before
    before_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
    shown = [pynvml.nvmlDeviceGetPowerUsage(device), *fields_of(device, AVERAGE, INSTANT)]
    time.sleep(0.2)
    after_mj = [pynvml.nvmlDeviceGetTotalEnergyConsumption(device), *fields_of(device, ENERGY)]
    pynvml.nvmlShutdown()
    assert shown == [pytest.approx(350_000, abs=1), shown[0], pytest.approx(100_000, abs=1)]  # the last second twice; the last 25 ms
    for mj in after_mj:
        ticks = round((mj - before_mj) / 35_000)
        assert ticks >= 2
        assert mj - before_mj == pytest.approx(ticks * 35_000, abs=ticks + 1)  # all of the time: 350 W


def test_a_field_that_the_gpu_does_not_have_is_not_supported_and_faults_are_said_per_field(make_standin: MakeStandIn) -> None:
    standin = make_standin(StandInDevice(PROFILES["A100"]))
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert fields_of(device, AVERAGE, INSTANT, 9999)[0::2] == [-pynvml.NVML_ERROR_NOT_SUPPORTED] * 2
    assert fields_of(device, INSTANT) == [60_000]
    standin.fault("no energy")
    assert fields_of(device, ENERGY, INSTANT) == [-pynvml.NVML_ERROR_NOT_SUPPORTED, 60_000]
    standin.fault("no permission")
    assert fields_of(device, ENERGY, INSTANT) == [-pynvml.NVML_ERROR_NO_PERMISSION] * 2
    standin.fault("lost")
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        fields_of(device, INSTANT)
    pynvml.nvmlShutdown()


def test_a_read_costs_what_its_channel_says_in_time_or_in_cpu(make_standin: MakeStandIn) -> None:
    busy, waiting, cheap = (
        replace(FAST, read_s=read_s, read_busy=read_busy) for read_s, read_busy in ((0.01, True), (0.01, False), (0, False))
    )
    make_standin(StandInDevice(Sensors(counter=busy, draw=waiting, instant=cheap)))
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)

    def cpu_s(read: Callable[[], object]) -> float:
        start_s = time.thread_time()
        for _ in range(10):
            read()
        return (time.thread_time() - start_s) / 10

    assert cpu_s(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) == pytest.approx(0.01, abs=0.002)
    start = time.perf_counter()
    assert cpu_s(lambda: pynvml.nvmlDeviceGetPowerUsage(device)) < 0.002
    assert time.perf_counter() - start >= 0.1
    assert cpu_s(lambda: fields_of(device, INSTANT)) < 0.002
    pynvml.nvmlShutdown()


# Faults at opening


def test_without_a_driver_library(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    code = (
        "import os; from pytest_greencompute.meters.nvml import NvmlMeter; from pytest_greencompute.meters.base import MeterOptions\n"
        "from pytest_greencompute.machine.clock import RealClock; from pytest_greencompute.errors import MeterError\n"
        "try: NvmlMeter().find(MeterOptions(clock=RealClock(), environ=os.environ))\n"
        "except MeterError as error: print(error)"
    )
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert "libnvidia-ml.so.1 was not found" in out
    assert "Install the NVIDIA driver" in out


@pytest.mark.parametrize(
    ("fault", "message", "remedy"),
    [
        ("driver mismatch", "different versions", "Reboot"),
        ("no driver", "not loaded", "modprobe"),
        ("no permission at init", "may not be read", "group"),
        ("no permission", "gpu:0 .NVIDIA H100 80GB HBM3. may not be read", "group"),
        ("not supported", "neither its energy nor its power", "CUDA_VISIBLE_DEVICES"),
        ("lost", "gpu:0 is lost", "CUDA_VISIBLE_DEVICES"),
        ("mig", "MIG mode", "nvidia-smi -i 0 -mig 0"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(make_standin: MakeStandIn, fault: str, message: str, remedy: str) -> None:
    make_standin(H100).fault(fault)
    error = refused()
    assert not isinstance(error, MeterLostError)
    with pytest.raises(MeterError, match=message):
        raise error
    assert remedy in error.remedy
    (ability,) = NvmlMeter().abilities(options())
    assert (ability.works, ability.says, ability.remedy) == (False, error.message, error.remedy)


def test_one_gpu_that_cannot_be_metered_refuses_all_until_it_is_hidden(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100, A100)
    standin.fault("no permission", device=1)
    error = refused()
    assert "gpu:1" in error.message
    assert "CUDA_VISIBLE_DEVICES" in error.remedy
    (counter,) = find(CUDA_VISIBLE_DEVICES=standin.uuid(0))
    assert counter.source.domain == "gpu:0"
    counter.close()
    assert [ability.works for ability in NvmlMeter().abilities(options())] == [True, False]


@pytest.mark.parametrize("at_work", [False, True])
def test_an_idle_gpu_that_cannot_be_metered_is_left_out_beside_one_that_can(make_standin: MakeStandIn, at_work: bool) -> None:
    """Here its process list is that of a container: it is empty, and its load tells."""
    standin = make_standin(H100, A100)
    for fault in ("no permission", "no own pid"):
        standin.fault(fault, device=1)
    if at_work:
        standin.set_power(1, 300.0)
        assert "gpu:1" in refused().message
        return
    instruments = Instruments(find(), RealClock())
    assert set(instruments.read()) == {"gpu:0"}
    assert instruments.left_out[0].startswith("gpu:1 is left out, its counter does not work: gpu:1 (NVIDIA A100")
    assert instruments.marks() == ()
    standin.set_power(1, 300.0)
    assert instruments.marks() == ("gpu:1 in use, and not metered",)
    instruments.close()


@pytest.mark.parametrize("at_work", [False, True])
def test_processes_that_the_host_of_a_container_numbers_say_nothing_of_whose_they_are(make_standin: MakeStandIn, at_work: bool) -> None:
    standin = make_standin(H100)
    for fault in ("no own pid", "foreign"):  # one process, of a number that is none here
        standin.fault(fault)
    if at_work:
        standin.set_power(0, 300.0)
    (counter,) = find()
    assert isinstance(counter, NvmlCounter)
    assert counter.in_use() is at_work
    counter.close()


def test_a_lost_gpu_that_was_named_by_its_uuid_is_the_one_that_is_said(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100, H100)
    standin.fault("lost", device=1)
    assert "gpu:1 is lost" in refused(CUDA_VISIBLE_DEVICES=f"{standin.uuid(0)},{standin.uuid(1)}").message
    (counter,) = find(CUDA_VISIBLE_DEVICES="0")
    counter.close()


def test_every_gpu_hidden(make_standin: MakeStandIn) -> None:
    make_standin(H100)
    assert "hides every GPU" in refused(CUDA_VISIBLE_DEVICES="").message


def test_a_driver_without_gpus(standin_lib: ctypes.CDLL, standin_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin = StandIn.create(tmp_path, [], library=standin_library)
    monkeypatch.setenv("NVML_STANDIN", str(standin.state))
    assert "sees no GPU" in refused().message
    standin.close()


def test_the_library_is_closed_after_a_refusal_and_after_the_last_counter(make_standin: MakeStandIn, standin_lib: ctypes.CDLL) -> None:
    count, uninitialised = ctypes.c_uint(), 1
    standin = make_standin(H100, A100)
    standin.fault("no permission", device=1)
    refused()
    assert standin_lib.nvmlDeviceGetCount_v2(ctypes.byref(count)) == uninitialised
    standin.clear_faults()
    first, second = find()
    first.close()
    first.close()
    second.read()
    second.close()
    assert standin_lib.nvmlDeviceGetCount_v2(ctypes.byref(count)) == uninitialised
    with pytest.raises(MeterError, match="closed"):
        second.read()


# Faults while measuring


def test_a_gpu_lost_while_measuring(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100)
    (counter,) = find()
    counter.read()
    standin.fault("lost")
    with pytest.raises(MeterLostError, match="lost") as caught:
        counter.read()
    assert caught.value.remedy
    assert counter.condition().marks == ()
    standin.clear_faults()
    counter.read()
    counter.close()


def test_a_reset_counter_is_seen_to_run_backwards_and_a_stuck_one_to_stand_still(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100)
    (counter,) = find()
    time.sleep(0.3)
    before = counter.read().energy_j
    standin.fault("reset")
    assert counter.read().energy_j < before
    standin.fault("stuck")
    stuck = counter.read().energy_j
    time.sleep(0.1)
    assert counter.read().energy_j == stuck
    standin.clear_faults()
    assert counter.read().energy_j > stuck
    counter.close()


def test_a_slow_read_is_stamped_when_its_answer_is_there(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100)
    (counter,) = find()
    standin.fault("slow read")
    start = time.perf_counter_ns()
    assert counter.read().t_ns - start >= 300_000_000
    counter.close()


@pytest.mark.parametrize(
    ("faults", "marks"),
    [
        ((), ()),
        (("throttled",), ("thermal slowdown",)),
        (("software thermal",), ("thermal slowdown",)),
        (("power brake",), ("power brake",)),
        (("power cap",), ()),
        (("foreign",), ("another process",)),
        (("no own pid",), ()),
        (("no own pid", "foreign"), ()),  # in a container, whose processes they are is not known
        (("throttled", "power brake", "foreign"), ("thermal slowdown", "power brake", "another process")),
    ],
)
def test_conditions(make_standin: MakeStandIn, faults: tuple[str, ...], marks: tuple[str, ...]) -> None:
    standin = make_standin(H100)
    (counter,) = find()
    for fault in faults:
        standin.fault(fault)
    condition = counter.condition()
    assert condition.marks == marks
    facts = dict(condition.facts or {})
    listed = str(facts.pop("processes")).split()
    assert (str(os.getpid()) in listed) is ("no own pid" not in faults)
    assert len(listed) == ("no own pid" not in faults) + ("foreign" in faults)
    assert facts == {
        "temperature_c": 45,
        "sm_clock_mhz": 900 if {"throttled", "software thermal", "power brake"} & set(faults) else 1500,
        "processes_known": "no own pid" not in faults,
    }
    counter.close()


class OldLibrary:
    """A driver's library that lacks some functions."""

    def __init__(self, library: ctypes.CDLL, *lacks: str) -> None:
        self._library, self._lacks = library, lacks

    def __getattr__(self, name: str) -> object:
        if name in self._lacks:
            raise AttributeError(name)
        return getattr(self._library, name)


PROCESSES = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")


@pytest.mark.parametrize(("lacks", "known"), [(PROCESSES[:1], True), (PROCESSES, False)])
def test_an_older_driver_without_the_newest_list_of_processes_is_metered(
    make_standin: MakeStandIn, standin_lib: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, lacks: tuple[str, ...], known: bool
) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", OldLibrary(standin_lib, *lacks))
    make_standin(H100).fault("foreign")
    (counter,) = find()
    condition = counter.condition()  # pynvml 13 raises NVMLLibraryMismatchError, which is no NVMLError
    assert (condition.facts or {})["processes_known"] is known
    assert condition.marks == (("another process",) if known else ())
    counter.close()


@pytest.mark.parametrize(
    "error", [pynvml.NVMLLibraryMismatchError("unversioned"), AttributeError("nvmlX"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")]
)
def test_what_the_binding_raises_beside_its_own_errors_is_a_meter_error_or_an_unknown_fact(
    make_standin: MakeStandIn, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def raises(*_: object) -> None:
        raise error

    make_standin(H100)
    (counter,) = find()
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", raises)
    assert counter.facts()["temperature_c"] is None
    assert (counter.condition().facts or {})["temperature_c"] is None
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", raises)
    with pytest.raises(MeterLostError, match=type(error).__name__):
        counter.read()
    counter.close()
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", raises)
    assert "nvidia-ml-py" in refused().remedy
    (ability,) = NvmlMeter().abilities(options())
    assert (ability.works, ability.says) == (False, refused().message)


def test_a_driver_that_has_no_energy_counter_yet_is_read_by_its_power(
    make_standin: MakeStandIn, standin_lib: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_standin(H100)
    monkeypatch.setattr(pynvml, "nvmlLib", OldLibrary(standin_lib, "nvmlDeviceGetTotalEnergyConsumption"))
    (counter,) = find()
    assert counter.source.method == "integrated"
    counter.close()
    (ability,) = NvmlMeter().abilities(options())
    assert "power only" in ability.says


def test_processes_that_we_started_are_no_strangers() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert descends(child.pid, os.getpid())
    finally:
        child.communicate(b"\n")
    assert descends(os.getpid(), os.getpid())
    assert not descends(1, os.getpid())
    assert not descends(os.getppid(), os.getpid())
    assert not descends(4_000_000, os.getpid())


def test_facts_for_the_provenance(make_standin: MakeStandIn) -> None:
    standin = make_standin(replace(H100, power_limit_w=500))
    (counter,) = find()
    assert counter.facts() == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "uuid": standin.uuid(0),
        "pci_id": "00000000:01:00.0",
        "driver": "550.54.15",
        "cuda_driver": "12.4",
        "power_limit_w": 500.0,
        "persistence_mode": True,
        "sm_clock_mhz": 1500,
        "memory_clock_mhz": 2619,
        "max_sm_clock_mhz": 1980,
        "temperature_c": 45,
    }
    counter.close()


# Which GPUs


def domains(**environ: str) -> list[str]:
    counters = find(**environ)
    for counter in counters:
        counter.close()
    return [counter.source.domain for counter in counters]


def test_visible_gpus_of_one_model_are_numbered_by_pci_address(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100, H100, H100)
    assert domains() == ["gpu:0", "gpu:1", "gpu:2"]
    assert domains(CUDA_VISIBLE_DEVICES="2,0") == ["gpu:0", "gpu:2"]
    assert domains(CUDA_VISIBLE_DEVICES="1,-1,0") == ["gpu:1"]
    assert domains(CUDA_VISIBLE_DEVICES=standin.uuid(2)) == ["gpu:2"]
    assert "hides every GPU" in refused(CUDA_VISIBLE_DEVICES="7").message
    assert standin.uuid(0) in refused(CUDA_VISIBLE_DEVICES="-1").remedy


def test_a_mig_instance_has_no_energy(make_standin: MakeStandIn) -> None:
    make_standin(H100)
    error = refused(CUDA_VISIBLE_DEVICES="MIG-9e2f7c1a-0b3d-5e6f-8a91-b2c3d4e5f607")
    assert "MIG instance" in error.message
    assert "-mig 0" in error.remedy


def test_numbers_for_mixed_models_follow_the_order_that_the_driver_gives(make_standin: MakeStandIn) -> None:
    standin = make_standin(replace(A100, cuda_rank=1), replace(H100, cuda_rank=0))
    assert domains(CUDA_VISIBLE_DEVICES="0", **standin.cuda_env) == ["gpu:1"]
    assert domains(CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["gpu:0"]
    assert domains(CUDA_VISIBLE_DEVICES=standin.uuid(0)) == ["gpu:0"]
    assert domains(CUDA_VISIBLE_DEVICES="1,0") == ["gpu:0", "gpu:1"]  # the order cannot matter


def test_mixed_models_whose_order_the_driver_does_not_give(make_standin: MakeStandIn, tmp_path: Path) -> None:
    make_standin(A100, H100)
    (tmp_path / "libcuda.so.1").write_text("no library")
    error = refused(CUDA_VISIBLE_DEVICES="0", LD_LIBRARY_PATH=str(tmp_path))
    assert "several models" in error.message
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in error.remedy


def test_what_the_doctor_says(make_standin: MakeStandIn) -> None:
    meter: Meter = NvmlMeter()
    assert meter.name == "nvml"
    standin = make_standin(H100, replace(A100, sensor=Sensors(None, FAST)))
    counted, integrated = meter.abilities(options())
    assert (counted.domain, counted.works) == ("gpu:0", True)
    assert standin.uuid(0) in counted.says
    assert "energy counter" in counted.says
    assert "power only" in integrated.says


# The stand-in itself


def test_another_process_meters_it_and_steers_it(make_standin: MakeStandIn) -> None:
    standin = make_standin(H100)
    code = (
        "import pynvml; from pytest_greencompute.testing.standin import StandIn\n"
        "StandIn.attach().set_power(0, 123.0)\n"
        "pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)))"
    )
    env = {**os.environ, **standin.env}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.strip() == standin.uuid(0)
    now = time.perf_counter_ns()
    assert standin.true_energy_j(0, now + 10**9, now + 2 * 10**9) == pytest.approx(123)


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeterError, match="gcc"):
        compile_standin(tmp_path)


def test_unknown_faults_and_foreign_files_are_refused(make_standin: MakeStandIn, tmp_path: Path) -> None:
    standin = make_standin(H100)
    with pytest.raises(SettingsError, match="slow read"):
        standin.fault("gremlins")
    for name in STANDIN_FAULTS:
        standin.fault(name)
    (tmp_path / "other").write_bytes(b"x" * 4096)
    with pytest.raises(SettingsError, match="not a state file"):
        StandIn(tmp_path / "other")
    with pytest.raises(SettingsError, match="NVML_STANDIN"):
        StandIn.attach({})


def test_importing_the_meter_imports_nothing_heavy() -> None:
    code = "import sys, pytest_greencompute.meters.nvml; print([m for m in ('numpy', 'torch', 'pynvml', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# The counter against power, and what it covers


FIELD = Sensor(0.05, 0.1)


def measured(standin: StandIn, *allowed: str, seconds: float = 6.0) -> Run:
    """A run of a model that works on the stand-in for 20 ms a query."""
    instruments = open_instruments(["nvml"], allowed_marks=frozenset(allowed))

    def model(batch: list[int]) -> list[int]:
        standin.work(0, 0.02, 350)
        return batch

    try:
        return run_metered(Task(model, list(range(10))), instruments, Effort(seconds))[0]
    finally:
        instruments.close()


def gpu_whose_counter(**changes: float) -> StandInDevice:
    """A GPU with a fast counter that is ``changes`` apart from its power fields, which see all of the time."""
    return StandInDevice(Sensors(Sensor(0.02, 0.02, **changes), Sensor(0.05, 1.0), instant=FIELD))


def test_an_honest_counter_has_nothing_said_against_it(make_standin: MakeStandIn) -> None:
    run = measured(make_standin(gpu_whose_counter()))
    assert not any("disagree" in note for note in run.notes)
    assert not run.problem


@pytest.mark.parametrize(("gain", "beyond"), [(0.71, False), (0.5, True)])  # what ten seconds can tell where reads are slow, too
def test_a_counter_that_loses_energy_is_noted_and_one_that_loses_much_leaves_no_figure(
    make_standin: MakeStandIn, gain: float, beyond: bool
) -> None:
    standin = make_standin(gpu_whose_counter(gain=gain))
    run = measured(standin, seconds=10.0)
    said = run.problem if beyond else " ".join(run.notes)
    assert "the energy counter of gpu:0 and its power disagree (" in said
    assert bool(run.problem) is beyond
    if beyond:
        allowed = measured(standin, DISAGREE, seconds=10.0)
        assert not allowed.problem
        assert any(note.endswith("which is allowed") for note in allowed.notes)


def test_whether_a_counter_covers_the_module_is_found_by_the_scope_of_powers_and_not_by_a_name(make_standin: MakeStandIn) -> None:
    for beside_w, note in ((300.0, COVERS_MODULE), (0.0, "")):
        channels = Sensors(Sensor(0.02, 0.02, offset_w=beside_w), FIELD, instant=FIELD, module=replace(FIELD, offset_w=300))
        standin = make_standin(StandInDevice(channels, name="NVIDIA GB300"))
        (found,) = find()
        assert found.source.note == MAY_COVER_MODULE
        found.close()
        for _ in range(3):  # where reads are slow there are few samples, which may leave it open, but say nothing wrong
            run = measured(standin, seconds=10.0)
            assert run.sources[0].note in (MAY_COVER_MODULE, note)
            assert not run.problem
            assert not any("disagree" in said for said in run.notes)
            if run.sources[0].note == note:
                break
        assert run.sources[0].note == note
    make_standin(StandInDevice(FAST, name="NVIDIA GH200 480GB"))
    (found,) = find()
    assert found.source.note == ""
    found.close()
