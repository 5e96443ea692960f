"""RAPL on a powercap tree in a folder: what is read, what is left out, and what happens when it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.meters.base import Counter, MeterOptions
from pytest_greencompute.meters.rapl import HIGHEST_W, RaplMeter, unwrap
from pytest_greencompute.meters.registry import open_counters

RANGE_UJ = 65_532_610_987
SECOND = 1_000_000_000


class HandClock:
    """A clock that a test moves; ``tick`` does what the background would do."""

    def __init__(self) -> None:
        self.ns = 5 * SECOND
        self.periods: list[float] = []
        self.calls: list[Callable[[], None]] = []

    def now_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)

    def every(self, period_s: float, call: Callable[[], None]) -> Callable[[], None]:
        self.periods.append(period_s)
        self.calls.append(call)
        return lambda: self.calls.remove(call)

    def tick(self) -> None:
        for call in self.calls:
            call()


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def options(clock: HandClock) -> MeterOptions:
    return MeterOptions(clock=clock, environ={})


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Two packages with memory, and all that must be left alone."""
    (tmp_path / "intel-rapl").mkdir()
    (tmp_path / "dtpm").mkdir()
    zone(tmp_path, "intel-rapl:0", "package-0", 10_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:0:1", "uncore", 1)
    zone(tmp_path, "intel-rapl:0:2", "dram", 30_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 20_000_000)
    zone(tmp_path, "intel-rapl:1:0", "dram", 40_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 90_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10_000_000)
    return tmp_path


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    zone(tmp_path, "intel-rapl:0", "package-0", 10_000_000)
    zone(tmp_path, "intel-rapl:1", "psys", 90_000_000)
    return tmp_path


def by_domain(counters: object) -> dict[str, Counter]:
    return {counter.source.domain: counter for counter in counters}  # type: ignore[attr-defined]


def set_energy(root: Path, folder: str, energy_uj: int) -> None:
    (root / folder / "energy_uj").write_text(f"{energy_uj}\n")


def test_packages_and_memory_are_domains_and_nothing_else_is(server: Path, options: MeterOptions) -> None:
    counters = by_domain(RaplMeter(server).find(options))
    assert list(counters) == ["cpu:0", "cpu:1", "dram:0", "dram:1"]
    for counter in counters.values():
        assert (counter.source.meter, counter.source.method) == ("rapl", "counter")
        assert counter.source.tick_s > 0
        assert isinstance(counter, Counter)


def test_one_package_needs_no_number(laptop: Path, options: MeterOptions) -> None:
    assert list(by_domain(RaplMeter(laptop).find(options))) == ["cpu"]


def test_each_domain_reads_its_own_file_in_joules(server: Path, options: MeterOptions, clock: HandClock) -> None:
    counters = by_domain(RaplMeter(server).find(options))
    before = {domain: counter.read() for domain, counter in counters.items()}
    clock.sleep(1.0)
    for folder, energy in {"0": 11_000_000, "1": 22_000_000, "0:2": 33_000_000, "1:0": 44_000_000}.items():
        set_energy(server, f"intel-rapl:{folder}", energy)
    after = {domain: counter.read() for domain, counter in counters.items()}
    used = {domain: after[domain].energy_j - before[domain].energy_j for domain in counters}
    assert used == pytest.approx({"cpu:0": 1.0, "cpu:1": 2.0, "dram:0": 3.0, "dram:1": 4.0})
    assert after["cpu:0"].t_ns - before["cpu:0"].t_ns == SECOND


def test_packages_are_in_order_of_number_not_of_spelling(tmp_path: Path, options: MeterOptions) -> None:
    for number in range(12):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 1000 * number)
    counters = RaplMeter(tmp_path).find(options)
    assert [counter.facts()["zone"] for counter in counters] == [f"package-{number}" for number in range(12)]


def test_dies_that_show_one_counter_are_counted_once(tmp_path: Path, options: MeterOptions) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0-die-0", 50_000_000)
    zone(tmp_path, "intel-rapl:1", "package-0-die-1", 50_300_000)
    zone(tmp_path, "intel-rapl:1:0", "dram", 7)
    assert list(by_domain(RaplMeter(tmp_path).find(options))) == ["cpu"]


def test_dies_and_packages_with_counters_of_their_own_are_all_counted(tmp_path: Path, options: MeterOptions) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0-die-0", 50_000_000)
    zone(tmp_path, "intel-rapl:1", "package-0-die-1", 80_000_000)
    zone(tmp_path, "intel-rapl:2", "package-1-die-0", 50_000_000)
    assert list(by_domain(RaplMeter(tmp_path).find(options))) == ["cpu:0", "cpu:1", "cpu:2"]


# ── wrap-around ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    range_uj=st.integers(65_000_000_000, 262_143_328_850),
    start=st.floats(0, 1, exclude_max=True),
    steps=st.lists(st.tuples(st.floats(0.0001, 60.0), st.floats(0.0, HIGHEST_W)), min_size=1, max_size=30),
)
def test_any_sequence_of_energies_with_wraps_is_recovered(range_uj: int, start: float, steps: list[tuple[float, float]]) -> None:
    value = int(start * range_uj)
    true = recovered = 0
    for seconds, watts in steps:
        used = int(seconds * watts * 1e6)
        shown = (value + used) % range_uj
        recovered += unwrap(value, shown, range_uj, seconds)
        true += used
        value = shown
    assert recovered == true


def test_a_wrap_is_recovered_through_the_file(laptop: Path, options: MeterOptions, clock: HandClock) -> None:
    set_energy(laptop, "intel-rapl:0", RANGE_UJ - 2_000_000)
    (counter,) = RaplMeter(laptop).find(options)
    before = counter.read()
    clock.sleep(1.0)
    set_energy(laptop, "intel-rapl:0", 3_000_000)
    assert counter.read().energy_j - before.energy_j == pytest.approx(5.0)


def test_a_pause_in_which_it_may_have_wrapped_twice_is_a_loss_and_the_next_reading_is_sound(
    laptop: Path, options: MeterOptions, clock: HandClock
) -> None:
    (counter,) = RaplMeter(laptop).find(options)
    clock.sleep(600.0)
    with pytest.raises(MeterLostError, match="more than once"):
        counter.read()
    before = counter.read()
    set_energy(laptop, "intel-rapl:0", 10_500_000)
    assert counter.read().energy_j - before.energy_j == pytest.approx(0.5)


def test_a_counter_that_was_reset_is_a_loss_and_not_a_wrap(laptop: Path, options: MeterOptions, clock: HandClock) -> None:
    (counter,) = RaplMeter(laptop).find(options)
    clock.sleep(0.5)
    set_energy(laptop, "intel-rapl:0", 0)
    with pytest.raises(MeterLostError, match="reset"):
        counter.read()


def test_the_background_reads_often_enough_that_callers_may_pause(laptop: Path, options: MeterOptions, clock: HandClock) -> None:
    (counter,) = RaplMeter(laptop).find(options)
    before = counter.read()
    (period_s,) = clock.periods
    assert period_s * HIGHEST_W < RANGE_UJ / 1e6 / 2
    energy = 10_000_000
    for _ in range(40):
        clock.sleep(period_s)
        energy += int(period_s * 900e6)
        set_energy(laptop, "intel-rapl:0", energy % RANGE_UJ)
        clock.tick()
    assert counter.read().energy_j - before.energy_j == pytest.approx(40 * period_s * 900, rel=1e-6)


def test_what_the_background_loses_the_next_reading_says(laptop: Path, options: MeterOptions, clock: HandClock) -> None:
    (counter,) = RaplMeter(laptop).find(options)
    clock.sleep(0.5)
    set_energy(laptop, "intel-rapl:0", 0)
    clock.tick()
    with pytest.raises(MeterLostError, match="reset"):
        counter.read()
    counter.read()


def test_the_background_ends_with_the_last_counter(server: Path, options: MeterOptions, clock: HandClock) -> None:
    counters = RaplMeter(server).find(options)
    for counter in counters[:-1]:
        counter.close()
        counter.close()
    assert clock.calls
    counters[-1].close()
    assert not clock.calls


def test_it_works_with_the_real_clock(laptop: Path) -> None:
    (counter,) = RaplMeter(laptop).find(MeterOptions(clock=RealClock(), environ={}))
    assert counter.read().t_ns <= counter.read().t_ns
    counter.close()


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_powercap_is_a_meter_error_that_says_where_rapl_is(tmp_path: Path, options: MeterOptions) -> None:
    with pytest.raises(MeterError, match="virtual machine"):
        RaplMeter(tmp_path / "nothing").find(options)


def test_powercap_without_a_package_is_a_meter_error(tmp_path: Path, options: MeterOptions) -> None:
    zone(tmp_path, "intel-rapl:0", "psys", 5)
    with pytest.raises(MeterError, match="no RAPL counter of a processor"):
        RaplMeter(tmp_path).find(options)


def test_a_file_that_only_root_may_read_is_a_meter_error_with_the_command(server: Path, options: MeterOptions) -> None:
    def refused(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return path.read_text()

    with pytest.raises(MeterError, match="may not be read") as caught:
        RaplMeter(server, read=refused).find(options)
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in caught.value.remedy
    assert "udev" in caught.value.remedy
    (ability,) = RaplMeter(server, read=refused).abilities(options)
    assert not ability.works
    assert ability.remedy == caught.value.remedy


@pytest.mark.parametrize("text", ["", "\n", "-5\n", "12.5\n", "nan\n", "garbage\n"])
@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
def test_a_file_without_a_number_is_a_meter_error_that_names_it(laptop: Path, options: MeterOptions, file: str, text: str) -> None:
    (laptop / "intel-rapl:0" / file).write_text(text)
    with pytest.raises(MeterError, match=file):
        RaplMeter(laptop).find(options)


def test_a_range_of_zero_is_a_meter_error(laptop: Path, options: MeterOptions) -> None:
    (laptop / "intel-rapl:0" / "max_energy_range_uj").write_text("0\n")
    with pytest.raises(MeterError, match="max_energy_range_uj says 0"):
        RaplMeter(laptop).find(options)


def test_a_folder_in_place_of_a_file_is_a_meter_error(laptop: Path, options: MeterOptions) -> None:
    file = laptop / "intel-rapl:0" / "energy_uj"
    file.unlink()
    file.mkdir()
    with pytest.raises(MeterError, match="cannot be read"):
        RaplMeter(laptop).find(options)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_text(""), lambda file: file.write_bytes(b"\xff\xfe")])
def test_a_file_that_breaks_while_measuring_is_a_meter_lost(
    laptop: Path, options: MeterOptions, clock: HandClock, harm: Callable[[Path], object]
) -> None:
    (counter,) = RaplMeter(laptop).find(options)
    counter.read()
    harm(laptop / "intel-rapl:0" / "energy_uj")
    clock.tick()
    with pytest.raises(MeterLostError, match="stopped working"):
        counter.read()


def test_the_doctor_is_told_each_domain(server: Path, options: MeterOptions, clock: HandClock) -> None:
    abilities = RaplMeter(server, moving(server / "intel-rapl:1:0")).abilities(options)
    assert [(ability.domain, ability.works) for ability in abilities] == [
        ("cpu:0", True),
        ("cpu:1", True),
        ("dram:0", True),
        ("dram:1", False),
    ]
    assert "did not change for 2 s" in abilities[-1].says
    assert abilities[-1].remedy
    assert not clock.calls


def moving(*dead: Path) -> Callable[[Path], str]:
    """Reads files, and moves every counter on by a joule a time but for those of ``dead`` zones."""

    def read(path: Path) -> str:
        text = path.read_text(encoding="ascii")
        if path.name == "energy_uj" and path.parent not in dead:
            path.write_text(f"{int(text) + 1_000_000}\n", encoding="ascii")
        return text

    return read


def may_not(*refused: Path) -> Callable[[Path], str]:
    def read(path: Path) -> str:
        if path in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return path.read_text(encoding="ascii")

    return read


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
def test_memory_that_may_not_be_read_is_left_out_beside_the_processor_and_said(server: Path, options: MeterOptions, file: str) -> None:
    meter = RaplMeter(server, may_not(server / "intel-rapl:0:2" / file))
    opened = open_counters(("dark",), options, {"dark": meter})
    assert [counter.source.domain for counter in opened.counters] == ["cpu:0", "cpu:1", "dram:1"]
    ((name, error),) = opened.refusals
    assert name == "dark"
    assert "intel-rapl:0:2" in error.message
    dark = next(ability for ability in meter.abilities(options) if ability.domain == "dram:0")
    assert not dark.works
    assert "chmod" in dark.remedy
    for domains in (("dram",), ("cpu", "dram:0"), ("all",)):
        with pytest.raises(MeterError, match="may not be read"):
            meter.find(replace(options, domains=domains))


def test_a_package_that_may_not_be_read_is_refused_unless_another_one_is_judged_by_name(server: Path, options: MeterOptions) -> None:
    meter = RaplMeter(server, may_not(server / "intel-rapl:1" / "energy_uj"))
    for domains in (("auto",), ("cpu",), ("cpu:1",)):
        with pytest.raises(MeterError, match="may not be read"):
            meter.find(replace(options, domains=domains))
    opened = open_counters(("dark",), replace(options, domains=("cpu:0",)), {"dark": meter})
    assert "cpu:1" not in {counter.source.domain for counter in opened.counters}


def test_a_zone_of_no_matter_need_not_even_tell_its_name(server: Path, options: MeterOptions) -> None:
    meter = RaplMeter(server, may_not(server / "intel-rapl:0:0" / "name", server / "intel-rapl:2" / "energy_uj"))
    assert [counter.source.domain for counter in meter.find(options)] == ["cpu:0", "cpu:1", "dram:0", "dram:1"]
