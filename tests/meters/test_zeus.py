"""The meter ``zeus``: the real package Zeus over drivers that are made up and whose true energy is known."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("zeus.device")

from zeus.device.soc import apple, jetson

from pytest_greencompute import cli
from pytest_greencompute.errors import MeterError, MeterLostError, NothingThereError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.machine.facts import Processor
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters import ticks, zeus_figures
from pytest_greencompute.meters.base import Counter, MeterOptions
from pytest_greencompute.meters.registry import open_counters
from pytest_greencompute.meters.zeus import ZeusMeter
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter, SimulatedGpu
from pytest_greencompute.testing.standin import StandIn, StandInDevice
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run
from tests.fake_drivers import (
    RESOLUTION_UJ,
    AmdCard,
    AmdSmi,
    AmdSmiLibraryException,
    amd_gpu,
    hide_all,
    hide_nvidia,
    install_amdsmi,
)

MakeStandIn = Callable[..., StandIn]
MakeAmd = Callable[..., AmdSmi]

NOTHING: Mapping[str, Any] = {"enumeration_info": None, "asic_info": None, "power_info": None, "energy_count": None}


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture(autouse=True)
def _nothing_real(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_all(monkeypatch)
    if "make_standin" not in request.fixturenames:
        hide_nvidia(monkeypatch)


@pytest.fixture
def make_amd(clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> MakeAmd:
    """Makes AMD GPUs: as many as ``count`` says, or the cards."""

    def make(*cards: AmdCard, count: int = 1) -> AmdSmi:
        made = AmdSmi(*(cards or [AmdCard(amd_gpu(clock), hip_id=index) for index in range(count)]))
        install_amdsmi(monkeypatch, made)
        return made

    return make


def find(clock: SimulatedClock, **environ: str) -> Sequence[Counter]:
    return ZeusMeter().find(MeterOptions(clock=clock, environ=environ))


def refused(clock: SimulatedClock, **environ: str) -> MeterError:
    with pytest.raises(MeterError) as caught:
        find(clock, **environ)
    assert caught.value.remedy
    return caught.value


def abilities(clock: SimulatedClock, **environ: str) -> list[tuple[str, bool]]:
    return [(each.domain, each.works) for each in ZeusMeter().abilities(MeterOptions(clock=clock, environ=environ))]


def measured(clock: SimulatedClock, tmp_path: Path, query: Callable[[Any], Any]) -> Run:
    """A run of queries under the whole protocol."""
    opened = open_instruments(["zeus"], clock=clock, environ={}, lock_folder=tmp_path)
    run, _ = run_metered(Task(lambda batch: [query(each) or each for each in batch], list(range(20))), opened, Effort(20.0))
    opened.close()
    return run


def joules_per_query(run: Run) -> float:
    energy = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(energy, Estimate), energy
    return energy.value


# An AMD counter that freezes must not read as a rise of 0 J


def test_a_counter_that_freezes_after_its_trial_is_lost_and_never_a_rise_of_nothing(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    (card,) = make_amd().cards
    (counter,) = find(clock)
    counter.read()
    card.gpu.fault("stuck")
    stuck_j = counter.read().energy_j
    card.gpu.work(1.9, 300)
    assert counter.read().energy_j == stuck_j  # a tick may be late: so far nothing is wrong
    card.gpu.work(0.2, 300)
    with pytest.raises(MeterLostError, match=r"gpu:0 \(AMD Instinct MI300X\) has stood still for 2\.1 s"):
        counter.read()
    with pytest.raises(MeterLostError):
        counter.read()
    card.gpu.clear_faults()
    assert counter.read().energy_j > stuck_j + 300


def test_it_waits_as_long_as_the_measuring_loop_does() -> None:
    assert zeus_figures.STILL_S == ticks.STILL_S


def test_a_counter_that_freezes_while_it_is_measured_leaves_no_figure(clock: SimulatedClock, make_amd: MakeAmd, tmp_path: Path) -> None:
    (card,) = make_amd().cards
    calls = 0

    def query(_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 30:
            card.gpu.fault("stuck")
        card.gpu.work(0.05, 300)

    with pytest.raises(MeterError, match=r"stands still|has stood still"):
        assert isinstance(estimate(measured(clock, tmp_path, query), METRICS["energy_per_query"], Aim()), Estimate)


def test_a_counter_that_is_frozen_from_the_start_is_not_used(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    (card,) = make_amd().cards
    card.gpu.fault("stuck")
    (counter,) = find(clock)
    assert counter.source.method == "integrated"
    assert "moved by 0 J in 0.5" in counter.source.note
    before = counter.read()
    card.gpu.work(3.0, 300)
    assert counter.read().energy_j - before.energy_j == pytest.approx(900, rel=0.02)
    counter.close()


# Figures


@pytest.mark.parametrize("resolution_uj", [RESOLUTION_UJ, 1.0, 0.5])
@pytest.mark.parametrize("key", ["energy_accumulator", "power"], ids=["since 6.2.1", "before"])
def test_an_amd_counter_gives_the_true_joules_in_the_cards_own_unit(
    clock: SimulatedClock, make_amd: MakeAmd, resolution_uj: float, key: str
) -> None:
    card = AmdCard(amd_gpu(clock), resolution_uj=resolution_uj, energy_key=key)
    make_amd(card)
    (counter,) = find(clock)
    assert (counter.source.meter, counter.source.domain, counter.source.method) == ("zeus", "gpu:0", "counter")
    a = counter.read()
    card.gpu.work(2.0, 300)
    clock.sleep(0.5)
    b = counter.read()
    assert b.energy_j - a.energy_j == pytest.approx(card.gpu.true_energy_j(a.t_ns, b.t_ns), abs=0.02 * 60 + 0.002)


def test_a_run_under_the_whole_protocol_tells_the_true_energy_of_a_query(clock: SimulatedClock, make_amd: MakeAmd, tmp_path: Path) -> None:
    (card,) = make_amd().cards
    run = measured(clock, tmp_path, lambda _: card.gpu.work(0.05, 300))
    assert joules_per_query(run) == pytest.approx(0.05 * 300, rel=0.005)
    (source,) = run.sources
    assert source.tick_s == pytest.approx(0.02, rel=0.1)
    assert run.problem == ""


def test_a_card_without_a_counter_that_can_be_believed_is_summed_from_its_power(
    clock: SimulatedClock, make_amd: MakeAmd, tmp_path: Path
) -> None:
    wild = AmdCard(amd_gpu(clock))
    wild.answers["energy_count"] = AmdSmiLibraryException(2)
    make_amd(wild)
    run = measured(clock, tmp_path, lambda _: wild.gpu.work(0.4, 300))
    assert joules_per_query(run) == pytest.approx(0.4 * 300, rel=0.02)
    assert run.sources[0].method == "integrated"
    assert "its energy counter gives no figure" in run.sources[0].note


@pytest.mark.parametrize(("factor", "counts"), [(0.05, False), (0.2, True), (1.0, True), (8.0, True), (20.0, False)])
def test_the_trial_finds_counters_that_are_far_off(clock: SimulatedClock, make_amd: MakeAmd, factor: float, counts: bool) -> None:
    card = AmdCard(amd_gpu(clock))
    make_amd(card)
    card.answers["energy_count"] = _Count(card.gpu, factor)
    (counter,) = find(clock)
    assert (counter.source.method == "counter") is counts
    counter.close()


class _Count(Mapping[str, Any]):
    """An energy count that is off by a factor."""

    def __init__(self, gpu: SimulatedGpu, factor: float) -> None:
        self._gpu = gpu
        self._factor = factor

    def __getitem__(self, name: str) -> Any:
        return {"energy_accumulator": int(self._gpu.read_energy().energy_j * 1e6 * self._factor), "counter_resolution": 1.0}[name]

    def __iter__(self) -> Any:
        return iter(("energy_accumulator", "counter_resolution"))

    def __len__(self) -> int:
        return 2


def test_the_power_that_a_card_has_is_the_one_that_is_summed(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    card = AmdCard(amd_gpu(clock))
    card.answers |= {"power_info": {"current_socket_power": 120, "average_socket_power": "N/A"}, "energy_count": None}
    make_amd(card)
    (counter,) = find(clock)
    a = counter.read()
    clock.sleep(1.0)
    b = counter.read()
    assert b.energy_j - a.energy_j == pytest.approx(120 * (b.t_ns - a.t_ns) / 1e9)
    counter.close()


# What is no figure


def count_of(accumulator: Any, resolution: Any = 1.0) -> dict[str, Any]:
    return {"energy_accumulator": accumulator, "counter_resolution": resolution}


BAD = {
    "none": None,
    "empty": {},
    "no count": count_of(None),
    "no resolution": count_of(1_000_000, None),
    "not a number": count_of(1_000_000, math.nan),
    "infinite": count_of(1_000_000, math.inf),
    "negative": count_of(-1_000_000),
    "text": count_of("N/A"),
    "not supported": AmdSmiLibraryException(2),
    "unknown error": AmdSmiLibraryException(999),
    "something else": OSError("gone"),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_an_answer_that_is_no_amount_is_lost(clock: SimulatedClock, make_amd: MakeAmd, answer: Any) -> None:
    (card,) = make_amd().cards
    (counter,) = find(clock)
    counter.read()
    card.answers["energy_count"] = answer
    with pytest.raises(MeterLostError, match="gpu:0") as caught:
        counter.read()
    assert caught.value.remedy
    del card.answers["energy_count"]
    counter.read()


def test_a_counter_that_ran_backwards_is_lost_once_and_counts_on_from_there(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    (card,) = make_amd().cards
    (counter,) = find(clock)
    counter.read()
    card.gpu.fault("reset")
    clock.sleep(0.1)
    with pytest.raises(MeterLostError, match=r"gpu:0.* ran backwards"):
        counter.read()
    clock.sleep(0.1)
    assert counter.read().energy_j > 0


@pytest.mark.parametrize("watts", ["N/A", None, -5, math.nan], ids=str)
def test_a_power_that_is_no_amount_is_never_summed(clock: SimulatedClock, make_amd: MakeAmd, watts: Any) -> None:
    (card,) = make_amd().cards
    card.answers["energy_count"] = None
    (counter,) = find(clock)
    card.answers["power_info"] = {"current_socket_power": "N/A", "average_socket_power": watts}
    clock.sleep(0.1)
    with pytest.raises(MeterLostError, match="gpu:0"):
        counter.read()
    counter.close()


# One card among several


def test_a_card_that_answers_nothing_loses_itself_alone(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    cards = [AmdCard(amd_gpu(clock), hip_id=index) for index in range(3)]
    cards[1].answers |= NOTHING
    make_amd(*cards)
    error = refused(clock)
    assert error.message.startswith("gpu:1: AMD GPU 1 of `amd-smi list` could not be asked who it is")
    assert error.remedy == "The others can be measured: HIP_VISIBLE_DEVICES=0,2"
    assert abilities(clock) == [("gpu:0", True), ("gpu:1", False), ("gpu:2", True)]

    counters = find(clock, HIP_VISIBLE_DEVICES="0,2")
    assert [counter.source.domain for counter in counters] == ["gpu:0", "gpu:2"]
    before = [counter.read().energy_j for counter in counters]
    cards[2].gpu.work(1.0, 300)
    clock.sleep(0.1)
    spent = [counter.read().energy_j - j for counter, j in zip(counters, before, strict=True)]
    assert spent == [pytest.approx(66, abs=2), pytest.approx(306, abs=2)]


@pytest.mark.parametrize("name", ["power_info", "energy_count and power_info"])
def test_a_card_whose_counter_cannot_be_checked_is_refused_by_name(clock: SimulatedClock, make_amd: MakeAmd, name: str) -> None:
    cards = [AmdCard(amd_gpu(clock), hip_id=index) for index in range(2)]
    cards[0].answers |= dict.fromkeys(name.split(" and "))
    make_amd(*cards)
    error = refused(clock)
    assert "gpu:0 (AMD Instinct MI300X)" in error.message
    assert error.remedy.endswith("HIP_VISIBLE_DEVICES=1")
    assert "ROCR_VISIBLE_DEVICES=1" in refused(clock, ROCR_VISIBLE_DEVICES="0,1").remedy


@pytest.mark.parametrize("hip_id", [0, 2, -1, "N/A", None], ids=str)
def test_a_card_whose_hip_number_cannot_be_is_not_taken_for_another(clock: SimulatedClock, make_amd: MakeAmd, hip_id: Any) -> None:
    odd = AmdCard(amd_gpu(clock), hip_id=1)
    odd.answers["enumeration_info"] = {"hip_id": hip_id, "hip_uuid": ""}
    make_amd(AmdCard(amd_gpu(clock), hip_id=0), odd)
    error = refused(clock)
    assert error.message.startswith("gpu:1: AMD GPU 1 of `amd-smi list`")
    assert error.remedy.endswith("HIP_VISIBLE_DEVICES=0")
    assert [counter.source.domain for counter in find(clock, HIP_VISIBLE_DEVICES="0")] == ["gpu:0"]


def test_a_card_without_a_name_is_measured_all_the_same(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    make_amd(AmdCard(amd_gpu(clock), answers={"asic_info": None}))
    (counter,) = find(clock)
    assert counter.source.device == ""


def test_the_only_card_answers_nothing(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    make_amd(AmdCard(amd_gpu(clock), answers=dict(NOTHING)))
    assert "list another meter" in refused(clock).remedy


def test_the_dies_of_an_mi250_are_counted_once(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    even, odd = (AmdCard(amd_gpu(clock), hip_id=index, name="AMD Instinct MI250X") for index in range(2))
    odd.answers |= {"power_info": {"current_socket_power": "N/A", "average_socket_power": 0}, "energy_count": count_of(0)}
    make_amd(even, odd)
    (counter,) = find(clock)
    assert counter.source.domain == "gpu:0"
    (alone,) = find(clock, HIP_VISIBLE_DEVICES="0")
    assert "of both dies (gpu:1 is the other)" in alone.source.note
    error = refused(clock, HIP_VISIBLE_DEVICES="1")
    assert "gpu:1" in error.message
    assert error.remedy == "Make gpu:0 visible to the test, too."


# Which GPUs, and their numbers


@pytest.mark.parametrize(
    ("environ", "domains"),
    [
        ({}, ["gpu:0", "gpu:1", "gpu:2"]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, ["gpu:0", "gpu:2"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["gpu:1"]),
        ({"HIP_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "1"}, ["gpu:2"]),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "1"}, ["gpu:1"]),
        ({"ROCR_VISIBLE_DEVICES": "2,1"}, ["gpu:1", "gpu:2"]),
        ({"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "0"}, ["gpu:2"]),
        ({"ROCR_VISIBLE_DEVICES": "0,GPU-20c0ffee"}, ["gpu:0", "gpu:2"]),
        ({"HIP_VISIBLE_DEVICES": " 1 , 2 "}, ["gpu:1", "gpu:2"]),
    ],
    ids=str,
)
def test_the_number_is_that_of_the_machine_and_hidden_gpus_are_left_out(
    clock: SimulatedClock, make_amd: MakeAmd, environ: dict[str, str], domains: list[str]
) -> None:
    make_amd(count=3)
    assert [counter.source.domain for counter in find(clock, **environ)] == domains
    assert abilities(clock, **environ) == [(domain, True) for domain in domains]


def test_cards_are_told_apart_by_their_hip_number_not_by_amdsmis_order(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    cards = [AmdCard(amd_gpu(clock), hip_id=hip_id, name=f"AMD {hip_id}") for hip_id in (2, 0, 1)]
    make_amd(*cards)
    (counter,) = find(clock, HIP_VISIBLE_DEVICES="2")
    before = counter.read().energy_j
    cards[0].gpu.work(1.0, 300)
    assert counter.read().energy_j - before == pytest.approx(300, rel=0.03)
    assert (counter.source.domain, counter.source.device, counter.source.uuid) == ("gpu:2", "AMD 2", "GPU-20c0ffee15dead")


@pytest.mark.parametrize("value", ["", " ", "3", "0,3", "0,0", "x", "0,-1", "GPU-", "GPU-ff", "1,GPU-10c0ffee"])
@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_a_list_that_is_not_clear_leaves_out_no_gpu_in_silence(clock: SimulatedClock, make_amd: MakeAmd, name: str, value: str) -> None:
    make_amd(count=3)
    error = refused(clock, **{name: value})
    assert name in error.message
    assert not isinstance(error, NothingThereError)


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_all_may_be_hidden(clock: SimulatedClock, make_amd: MakeAmd, name: str) -> None:
    make_amd(count=2)
    assert isinstance(refused(clock, **{name: "-1"}), NothingThereError)


# amdsmi's life


def test_amdsmi_stays_up_for_others_and_starts_again_where_they_ended_it(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    amdsmi = make_amd()
    (counter,) = find(clock)
    amdsmi.amdsmi_shut_down()  # as a ZeusMonitor of the test's own does when it is dropped
    with pytest.raises(MeterLostError, match="gpu:0"):
        counter.read()
    (again,) = find(clock)
    again.read()
    with pytest.raises(MeterLostError):
        counter.read()  # its handle is one of those that died
    for each in (counter, again):
        each.close()
        each.close()
    assert (amdsmi.up, amdsmi.ended) == (True, 1)
    with pytest.raises(MeterError, match="closed"):
        again.read()


def test_facts_are_plain_values_and_only_those_that_answer(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    (card,) = make_amd().cards
    (counter,) = find(clock)
    assert isinstance(counter, Counter)
    facts = counter.facts()
    assert facts["zeus"]
    assert (facts["gpu"], facts["power_limit_w"]) == ("AMD Instinct MI300X", 750.0)
    card.answers["power_cap_info"] = None
    assert counter.facts()["power_limit_w"] is None
    assert counter.condition().marks == ()


# Where there is nothing


def test_not_installed_is_a_meter_error_with_the_command(clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    error = refused(clock)
    assert (error.message, error.remedy) == ("Zeus is not installed.", 'pip install "pytest-greencompute[zeus]"')
    assert isinstance(error, NothingThereError)
    assert abilities(clock) == [("gpu", False)]
    monkeypatch.setattr("pytest_greencompute.meters.zeus_amd.KFD", tmp_path)  # an AMD GPU is here all the same
    assert not isinstance(refused(clock), NothingThereError)


def test_another_package_of_that_name_is_a_meter_error(clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("pytest_greencompute.meters.zeus.importlib.import_module", fail)
    assert "Zeus could not be loaded (ModuleNotFoundError" in refused(clock).message


def test_no_hardware_is_a_meter_error_with_a_remedy(clock: SimulatedClock, make_amd: MakeAmd) -> None:
    error = refused(clock)
    assert error.message == "AMD's library amdsmi is not installed, or does not find ROCm's libamd_smi.so."
    assert isinstance(error, NothingThereError)
    amdsmi = make_amd()
    amdsmi.cards = ()
    assert "sees no GPU" in refused(clock).message
    amdsmi.init_error = AmdSmiLibraryException(34)
    error = refused(clock)
    assert "amdsmi could not be started" in error.message
    assert isinstance(error, NothingThereError)
    assert abilities(clock) == [("gpu", False)]


def test_a_driver_that_is_here_and_refuses_is_not_nothing(
    clock: SimulatedClock, make_amd: MakeAmd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_amd().init_error = AmdSmiLibraryException(10)
    monkeypatch.setattr("pytest_greencompute.meters.zeus_amd.KFD", tmp_path)
    assert not isinstance(refused(clock), NothingThereError)


def test_nvidia_gpus_are_refused_by_name_for_their_own_meter(clock: SimulatedClock, make_standin: MakeStandIn) -> None:
    standin = make_standin(StandInDevice(PROFILES["V100"]))
    error = refused(clock)
    assert f"NVIDIA H100 80GB HBM3 {standin.uuid(0)}" in error.message
    assert error.remedy == "--energy-meter nvml"
    assert isinstance(error, NothingThereError)
    (ability,) = ZeusMeter().abilities(MeterOptions(clock=clock, environ={}))
    assert (ability.says, ability.remedy) == (error.message, error.remedy)


def test_an_nvidia_gpu_that_nvml_cannot_read_either_is_not_sent_there(clock: SimulatedClock, make_standin: MakeStandIn) -> None:
    make_standin(StandInDevice(PROFILES["V100"])).fault("mig")  # a Jetson in a container looks like this, too: it refuses
    assert "nvml" not in str(refused(clock))


def test_gpus_of_both_makers_are_refused_since_both_count_from_zero(
    clock: SimulatedClock, make_amd: MakeAmd, make_standin: MakeStandIn
) -> None:
    make_standin(StandInDevice(PROFILES["V100"]))
    make_amd()
    error = refused(clock)
    assert "NVIDIA H100" in error.message
    assert not isinstance(error, NothingThereError)
    (counter,) = find(clock, HIP_VISIBLE_DEVICES="0", CUDA_VISIBLE_DEVICES="-1")
    assert counter.source.device == "AMD Instinct MI300X"
    assert isinstance(refused(clock, HIP_VISIBLE_DEVICES="-1"), NothingThereError)


# Apple silicon


class Mac:
    """zeus_apple_silicon 1.1 over simulated CPU and GPU; ``fields`` are told in place of the truth."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.cpu, self.gpu = SimulatedCounter(clock, idle_w=2), SimulatedCounter(clock, idle_w=0)
        self.fields: dict[str, Any] = {}
        self.error: Exception | None = None

    def AppleEnergyMonitor(self) -> Mac:
        return self

    def get_cumulative_energy(self) -> Any:
        if self.error is not None:
            raise self.error
        others = ("efficiency_cores", "performance_cores", "efficiency_cluster", "performance_cluster", "efficiency_core_manager")
        told: dict[str, Any] = {f"{name}_mj": None for name in (*others, "performance_core_manager", "gpu_sram")}
        told |= {"cpu_total_mj": int(self.cpu.read().energy_j * 1000), "gpu_mj": int(self.gpu.read().energy_j * 1000)}
        return SimpleNamespace(**told | {"dram_mj": 500, "ane_mj": 0} | self.fields)


@pytest.fixture
def mac(clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> Mac:
    made = Mac(clock)
    monkeypatch.setattr(apple, "zeus_apple_silicon", made)
    monkeypatch.setattr(apple, "apple_silicon_is_available", lambda: True)
    monkeypatch.setattr("pytest_greencompute.meters.zeus_soc.read_processor", lambda: Processor("Apple M4 Pro"))
    return made


def test_a_mac_is_one_domain_of_the_true_joules_of_its_parts(clock: SimulatedClock, mac: Mac) -> None:
    (counter,) = find(clock)
    assert isinstance(counter, Counter)
    assert (counter.source.domain, counter.source.method, counter.source.device) == ("soc", "counter", "Apple M4 Pro")
    assert counter.source.note == "CPU, GPU, Neural Engine, memory; not the rest of the machine"
    a = counter.read()
    mac.gpu.set_power(15)
    mac.cpu.work(2.0, 10)
    mac.gpu.set_power(0)
    clock.sleep(1.0)
    mac.fields = {"dram_mj": 700}
    b = counter.read()
    assert b.energy_j - a.energy_j == pytest.approx(2 * 15 + 2 * 10 + 1 * 2 + 0.2, abs=0.005)
    counter.close()
    with pytest.raises(MeterError, match="closed"):
        counter.read()


def test_a_run_on_a_mac_tells_the_true_energy_of_a_query(clock: SimulatedClock, mac: Mac, tmp_path: Path) -> None:
    run = measured(clock, tmp_path, lambda _: mac.cpu.work(0.05, 20))
    assert joules_per_query(run) == pytest.approx(0.05 * 20, rel=0.01)


@pytest.mark.parametrize("part", ["cpu_total_mj", "gpu_mj", "dram_mj", "ane_mj"])
@pytest.mark.parametrize("value", [None, -1, math.nan, "N/A"], ids=str)
def test_a_part_that_becomes_no_amount_is_lost_and_not_left_out(clock: SimulatedClock, mac: Mac, part: str, value: Any) -> None:
    (counter,) = find(clock)
    mac.fields = {part: value}
    with pytest.raises(MeterLostError, match="this Mac's"):
        counter.read()


def test_a_part_that_falls_is_lost(clock: SimulatedClock, mac: Mac) -> None:
    (counter,) = find(clock)
    counter.read()
    mac.fields = {"dram_mj": 499}
    with pytest.raises(MeterLostError, match="memory ran backwards"):
        counter.read()


def test_a_mac_whose_cpu_stands_still_is_lost_and_a_gpu_may(clock: SimulatedClock, mac: Mac) -> None:
    (counter,) = find(clock)
    counter.read()
    clock.sleep(5)
    counter.read()
    mac.cpu.fault("stuck")
    mac.gpu.set_power(10)
    counter.read()
    clock.sleep(2.1)
    with pytest.raises(MeterLostError, match="this Mac's CPU has stood still"):
        counter.read()


@pytest.mark.parametrize("missing", ["cpu_total_mj", "gpu_mj"])
def test_a_mac_that_hides_a_part_from_the_start_is_refused(clock: SimulatedClock, mac: Mac, missing: str) -> None:
    mac.fields = {missing: None}
    assert "does not tell the energy of this Mac's" in refused(clock).message
    mac.error = RuntimeError("Failed to create IOReport subscription.")
    assert "IOReport" in refused(clock).message
    assert abilities(clock) == [("soc", False)]


def test_an_ultra_is_refused_since_zeus_counts_one_of_its_dies(clock: SimulatedClock, mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_greencompute.meters.zeus_soc.read_processor", lambda: Processor("Apple M2 Ultra"))
    assert refused(clock).message == "Of the Apple M2 Ultra Zeus reads one of its two dies."


def test_a_mac_without_the_package_for_it_is_told_which(clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_greencompute.meters.zeus.sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr("pytest_greencompute.meters.zeus.platform", SimpleNamespace(machine=lambda: "arm64"))
    assert "zeus-apple-silicon" in refused(clock).message
    assert abilities(clock) == [("gpu", False)]


# Jetson


class Rails:
    """A tree of power rails as the kernel shows it, in milliwatts; ``old``: as Jetson Linux before 5 did."""

    def __init__(self, folder: Path, clock: SimulatedClock) -> None:
        self.folder = folder
        self.clock = clock
        self.count = 0

    def old(self, name: str, milliwatts: Any) -> Path:
        folder = self._folder("ina3221x", "iio:device0")
        self._write(folder / f"rail_name_{self.count}", name)
        return self._write(folder / f"in_power{self.count}_input", milliwatts)

    def new(self, name: str, milliwatts: float) -> Path:
        """As millivolts and milliamperes."""
        folder = self._folder("ina3221", "hwmon/hwmon3")
        self._write(folder / f"in{self.count}_label", name)
        self._write(folder / f"in{self.count}_input", 5000)
        return self._write(folder / f"curr{self.count}_input", milliwatts / 5)

    def _folder(self, driver: str, device: str) -> Path:
        self.count += 1
        folder = self.folder / "sys/bus/i2c/drivers" / driver / "1-0040" / device
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @staticmethod
    def _write(path: Path, value: Any) -> Path:
        path.write_text(f"{value}\n", encoding="utf-8")
        return path

    def work(self, file: Path, seconds: float, busy: float) -> None:
        idle = file.read_text(encoding="utf-8")
        self._write(file, busy)
        self.clock.sleep(seconds)
        file.write_text(idle, encoding="utf-8")


@pytest.fixture
def rails(clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rails:
    def rooted(path: Any) -> Path:
        return Path(path) if str(path).startswith(str(tmp_path)) else tmp_path / str(path).lstrip("/")

    monkeypatch.setattr(jetson, "Path", rooted)
    monkeypatch.setattr(jetson, "jetson_is_available", lambda: True)
    return Rails(tmp_path, clock)


@pytest.mark.parametrize("kernel", ["old", "new"])
def test_a_jetson_is_billed_by_the_rail_that_feeds_its_module(clock: SimulatedClock, rails: Rails, kernel: str) -> None:
    rail = getattr(rails, kernel)
    whole = rail("VDD_IN", 5000)
    rail("VDD_CPU_GPU_CV", 1000)
    rail("VDD_SOC", 1000)
    (counter,) = find(clock)
    assert (counter.source.domain, counter.source.method) == ("board", "integrated")
    assert counter.source.note == "power of VDD_IN summed over time: the whole module, CPU, GPU and memory"
    assert counter.facts()["rails"] == "VDD_IN"
    a = counter.read()
    rails.work(whole, 2.0, 15_000 if kernel == "old" else 3_000)
    clock.sleep(1.0)
    b = counter.read()
    assert b.energy_j - a.energy_j == pytest.approx(2.0 * 15 + 1.0 * 5, rel=0.01)
    assert clock.now_ns() - b.t_ns < 0.03e9  # not 0.1 s old, as Zeus's own sum may be
    counter.close()


def test_a_run_on_a_jetson_tells_the_true_energy_of_a_query(clock: SimulatedClock, rails: Rails, tmp_path: Path) -> None:
    whole = rails.old("POM_5V_IN", 2000)
    run = measured(clock, tmp_path, lambda _: rails.work(whole, 0.4, 8000))
    assert joules_per_query(run) == pytest.approx(0.4 * 8, rel=0.02)


def test_a_rail_that_is_stuck_leaves_no_figure(clock: SimulatedClock, rails: Rails, tmp_path: Path) -> None:
    rails.old("VDD_IN", 5000)
    energy = estimate(measured(clock, tmp_path, lambda _: clock.sleep(0.4)), METRICS["energy_per_query"], Aim())
    assert isinstance(energy, Missing)
    assert energy.reason.startswith("board drew no more than idle power while the queries ran: ")
    assert energy.reason.endswith("or its sensor is stuck")


def test_without_such_a_rail_cpu_and_gpu_alone_are_billed_and_it_says_so(clock: SimulatedClock, rails: Rails) -> None:
    rails.new("VDD_GPU_SOC", 3000)
    rails.new("VDD_CPU_CV", 2000)
    rails.new("VIN_SYS_5V0", 4000)
    (counter,) = find(clock)
    assert counter.source.domain == "soc"
    assert counter.source.note.endswith("CPU and GPU alone: the rest of the board is not billed")
    a = counter.read()
    clock.sleep(1.0)
    assert counter.read().energy_j - a.energy_j == pytest.approx(5.0, rel=0.001)
    counter.close()


def test_a_rail_of_a_slot_does_not_pass_for_the_whole_module(clock: SimulatedClock, rails: Rails) -> None:
    rails.old("VDD_M2_IN", 10)
    assert "found: VDD_M2_IN" in refused(clock).message
    rails.old("VDD_SYS_GPU", 3000)
    assert "VDD_SYS_GPU" in refused(clock).message  # and a GPU alone is not a model's energy
    rails.old("VDD_SYS_CPU", 1000)
    (counter,) = find(clock)
    assert counter.source.domain == "soc"
    counter.close()


def test_a_jetson_without_rails_is_refused(clock: SimulatedClock, rails: Rails, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "found: none" in refused(clock).message
    nameless = rails.old("VDD_IN", 5000)
    monkeypatch.setattr(jetson.Jetson, "_discover_available_metrics", lambda self: {"total_power_mw": jetson.DirectPower(nameless)})
    nameless.with_name("rail_name_1").unlink()
    assert "has no name" in refused(clock).message
    monkeypatch.delattr(jetson.Jetson, "_discover_available_metrics")  # as some later Zeus may have it
    assert "Zeus could not look for this Jetson's power rails (AttributeError" in refused(clock).message
    assert abilities(clock) == [("soc", False)]


@pytest.mark.parametrize("text", ["", "nan", "-5", "inf", "N/A", None], ids=str)
def test_a_rail_that_gives_no_amount_is_lost_and_never_summed(clock: SimulatedClock, rails: Rails, text: str | None) -> None:
    gpu = rails.old("GPU", 3000)
    rails.old("CPU", 2000)
    (counter,) = find(clock)
    counter.read()
    if text is None:
        gpu.unlink()
    else:
        gpu.write_text(text, encoding="utf-8")
    clock.sleep(0.1)
    with pytest.raises(MeterLostError, match="GPU"):
        counter.read()
    counter.close()


def test_a_power_file_of_the_kernels_own_kind_is_not_taken_for_milliwatts(clock: SimulatedClock, rails: Rails) -> None:
    current = rails.new("VDD_IN", 5000)
    microwatts = current.with_name("power1_input")
    microwatts.write_text("5000000\n", encoding="utf-8")
    (counter,) = find(clock)
    a = counter.read()
    clock.sleep(1.0)
    assert counter.read().energy_j - a.energy_j == pytest.approx(5.0, rel=0.001)
    counter.close()
    current.unlink()
    assert "unit" in refused(clock).message


# Beside other meters


def test_a_whole_chip_leaves_no_room_for_meters_of_its_parts(clock: SimulatedClock, mac: Mac) -> None:
    opened = open_counters(("zeus", "cputime"), MeterOptions(clock=clock, environ={}), {})
    assert [counter.source.domain for counter in opened.counters] == ["soc"]


def test_the_doctor_lists_it_with_each_card(
    clock: SimulatedClock, make_amd: MakeAmd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = [AmdCard(amd_gpu(clock), hip_id=index) for index in range(2)]
    cards[1].answers |= NOTHING
    make_amd(*cards)
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(RealClock, "__new__", lambda cls: clock)
    from pytest_greencompute.meters import registry

    monkeypatch.setattr(registry, "BUILT_IN", {"zeus": registry.BUILT_IN["zeus"]})
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "zeus (only where listed)\n  yes  gpu:0: AMD Instinct MI300X GPU-00c0ffee15dead: energy counter\n" in printed
    assert "  no   gpu:1: gpu:1: AMD GPU 1 of `amd-smi list` could not be asked who it is" in printed
    assert "       The others can be measured: HIP_VISIBLE_DEVICES=0\n" in printed
    assert printed.endswith('is used by default. List it: meters = ["zeus"] under [tool.greencompute].\n')
    cards[0].answers |= NOTHING
    assert cli.main(["doctor"]) == 1
    assert "No meter reads energy here." in capsys.readouterr().out
