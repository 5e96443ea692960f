"""The model of CPU seconds × watts: what counts, what does not, and where the watts come from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.machine.facts import Processor
from pytest_greencompute.meters.base import Counter, MeterOptions
from pytest_greencompute.meters.cputime import (
    DEFAULT_WATTS_PER_CORE,
    CpuTimeCounter,
    CpuTimeMeter,
    codecarbon_table,
    look_up,
    running_descendants_ns,
    watts_per_core,
)
from pytest_greencompute.values.readings import Source

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def counter(watts: float | None = 10.0) -> Counter:
    (found,) = CpuTimeMeter().find(MeterOptions(clock=RealClock(), environ={}, cpu_watts_per_core=watts))
    return found


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def burning_child(seconds: float, then: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", BURN.format(seconds=seconds) + then], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_busy_work_costs_its_cpu_seconds_times_the_watts() -> None:
    meter = counter(watts=20.0)
    before = meter.read()
    burn(0.2)
    used = meter.read().energy_j - before.energy_j
    assert 0.2 * 20 <= used < 0.3 * 20


def test_looking_for_descendants_is_on_nobodys_bill() -> None:
    """One side of a comparison has the other as its child, and looks at it before each block."""
    meter, cpu_ns = counter(watts=1.0), time.process_time_ns
    with burning_child(0.0, "input()") as child:
        began_ns = cpu_ns()
        spans = [-meter.read().energy_j + meter.read().energy_j for _ in range(100)]
        spent_s = (cpu_ns() - began_ns) / 1e9
        child.kill()
    assert 0 <= sum(spans) < 0.2 * spent_s


def test_sleeping_costs_next_to_nothing() -> None:
    meter = counter()
    before = meter.read()
    time.sleep(0.3)
    assert meter.read().energy_j - before.energy_j < 0.05 * 10


def test_a_child_that_was_waited_for_is_counted() -> None:
    meter = counter()
    before = meter.read()
    child = burning_child(0.3)
    child.communicate()
    assert 0.29 * 10 <= meter.read().energy_j - before.energy_j < 0.6 * 10


@pytest.mark.skipif(not list(Path("/proc/self/task").glob("*/children")), reason="this system does not list running children")
def test_a_running_child_and_its_child_are_counted_while_they_run_and_once_in_all() -> None:
    meter = counter()
    before = meter.read()
    grandchild = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-S', '-c', "
        f"{BURN.format(seconds=0.3) + 'print(1, flush=True); input()'!r}], stdout=subprocess.PIPE)\n"
        "c.stdout.readline(); print(1, flush=True); c.wait()\n"
    )
    child = burning_child(0.2, then=grandchild)
    assert child.stdout is not None
    child.stdout.readline()
    running = meter.read().energy_j - before.energy_j
    assert 0.47 * 10 <= running < 0.9 * 10
    child.communicate(b"\n\n")
    ended = meter.read().energy_j - before.energy_j
    assert running <= ended < running + 0.2 * 10


def test_readings_never_run_backwards_while_children_come_and_go() -> None:
    meter = counter()
    readings = [meter.read()]
    for _ in range(4):
        child = burning_child(0.05)
        while child.poll() is None:
            readings.append(meter.read())
            time.sleep(0.002)
        child.communicate()
        readings.append(meter.read())
    energies = [reading.energy_j for reading in readings]
    assert energies == sorted(energies)
    assert energies[-1] - energies[0] >= 4 * 0.04 * 10


def scripted(*seconds: float) -> CpuTimeCounter:
    left = [int(value * 1e9) for value in seconds]
    source = Source(meter="cputime", domain="cpu", method="modelled")
    return CpuTimeCounter(source, 1.0, lambda: 0, lambda: left.pop(0))


def test_a_child_missed_for_a_moment_is_found_at_the_second_look() -> None:
    meter = scripted(10.0, 4.0, 10.5)
    assert [meter.read().energy_j for _ in range(2)] == [10.0, 10.5]


def test_after_a_child_is_lost_for_good_later_work_still_counts() -> None:
    meter = scripted(10.0, 4.0, 4.0, 6.0)
    assert [meter.read().energy_j for _ in range(3)] == [10.0, 10.0, 12.0]


def test_a_system_without_proc_counts_running_children_where_psutil_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = running_descendants_ns(tmp_path / "none")  # other tests may have left children that wait
    child = burning_child(0.2, "print(flush=True); input()")
    assert child.stdout is not None
    child.stdout.readline()
    seen = running_descendants_ns(tmp_path / "none") - before
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert running_descendants_ns(tmp_path / "none") == 0
    child.communicate(b"\n")
    assert 0.15e9 < seen < 2e9


def test_descendants_are_read_from_files_as_the_kernel_writes_them(tmp_path: Path) -> None:
    def process(pid: str, children: str, ticks: str) -> None:
        (tmp_path / pid / "task" / pid).mkdir(parents=True)
        (tmp_path / pid / "task" / pid / "children").write_text(children)
        (tmp_path / pid / "stat").write_text(f"{pid} (an (odd) name) S 1 1 1 0 -1 4194560 1 2 3 4 {ticks} 20 0 1 0 100")

    process("self", "11 12 ", "900 900 900 900")
    process("11", "13 ", "1 2 3 4")
    process("12", "", "10 0 0 0")
    process("13", "", "100 0 0 0")
    assert running_descendants_ns(tmp_path) == 120 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


# ── watts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "cpu_power.csv"
    path.write_text(
        "Name,TDP\nIntel Xeon Gold 6248,150.0\nIntel Xeon Gold 6248R,205.0\nAMD EPYC 7763,280.0\nTwice,10\nTwice,20\nBad,many\n"
    )
    return path


@pytest.mark.parametrize(
    ("model", "tdp"),
    [
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", 150.0),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", 205.0),
        ("AMD EPYC 7763 64-Core Processor", 280.0),
        ("AMD EPYC", None),
        ("", None),
        ("Twice", None),
        ("Bad", None),
    ],
)
def test_a_processor_is_looked_up_by_its_whole_name(table: Path, model: str, tdp: float | None) -> None:
    assert look_up(model, table) == tdp


def test_a_table_that_cannot_be_read_has_nothing(tmp_path: Path) -> None:
    assert look_up("AMD EPYC 7763", tmp_path / "missing.csv") is None
    (tmp_path / "other.csv").write_bytes(b"\xff\xfe\x00")
    assert look_up("AMD EPYC 7763", tmp_path / "other.csv") is None


def test_watts_per_core_is_what_the_user_set(table: Path) -> None:
    assert watts_per_core(7.5, Processor("AMD EPYC 7763", virtual=False, cores=64), table) == (7.5, "set by you")


@pytest.mark.parametrize("watts", [0.0, -1.0, float("nan"), float("inf")])
def test_watts_that_are_no_power_are_a_settings_error(watts: float) -> None:
    with pytest.raises(SettingsError, match="cpu_watts_per_core"):
        counter(watts)
    (ability,) = CpuTimeMeter().abilities(MeterOptions(clock=RealClock(), environ={}, cpu_watts_per_core=watts))
    assert not ability.works


def test_a_known_chip_gives_its_tdp_over_its_cores(table: Path) -> None:
    watts, origin = watts_per_core(None, Processor("AMD EPYC 7763 64-Core Processor", virtual=False, cores=64), table)
    assert watts == pytest.approx(280 / 64)
    assert origin == "280 W TDP in CodeCarbon's table over 64 cores"


@pytest.mark.parametrize(
    ("processor", "why"),
    [
        (Processor("AMD EPYC 7763 64-Core Processor", virtual=True), "virtual machine"),
        (Processor("AMD EPYC 7763 64-Core Processor", virtual=None, cores=64), "not known"),
        (Processor("AMD EPYC 7763 64-Core Processor", virtual=False), "not known"),
        (Processor("AMD EPYC 1", virtual=False, cores=64), "has no AMD EPYC 1"),
    ],
)
def test_anything_less_gives_the_default_and_says_why(table: Path, processor: Processor, why: str) -> None:
    watts, origin = watts_per_core(None, processor, table)
    assert watts == DEFAULT_WATTS_PER_CORE
    assert origin.startswith("default; ")
    assert why in origin


def test_without_codecarbon_the_default_says_so() -> None:
    watts, origin = watts_per_core(None, Processor("AMD EPYC 7763", virtual=False, cores=64), None)
    assert (watts, origin) == (DEFAULT_WATTS_PER_CORE, "default; CodeCarbon's table of processors is not installed")


def test_the_source_says_in_words_where_the_watts_come_from(tmp_path: Path, table: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: AMD EPYC 7763 64-Core Processor\ncpu cores\t: 64\nflags\t\t: fpu sse2\n")
    options = MeterOptions(clock=RealClock(), environ={})
    (bare,) = CpuTimeMeter(cpuinfo, table).find(options)
    assert bare.source.note == "4.38 W per core (280 W TDP in CodeCarbon's table over 64 cores)"
    assert bare.source.device == "AMD EPYC 7763 64-Core Processor"
    assert bare.facts()["watts_per_core"] == pytest.approx(4.375)
    cpuinfo.write_text(cpuinfo.read_text().replace("sse2", "sse2 hypervisor"))
    (guest,) = CpuTimeMeter(cpuinfo, table).find(options)
    assert guest.source.note == "10 W per core (default; virtual machine)"
    assert (guest.source.domain, guest.source.method, guest.source.tick_s) == ("cpu", "modelled", 0.0)


def test_the_table_is_found_without_importing_codecarbon() -> None:
    script = (
        "import sys; from pytest_greencompute.meters.cputime import codecarbon_table\n"
        "codecarbon_table(); assert 'codecarbon' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    pytest.importorskip("codecarbon")
    found = codecarbon_table()
    assert found is not None
    assert look_up("AMD EPYC 7763 64-Core Processor", found) == 280.0


def test_the_doctor_is_told_that_it_models() -> None:
    (ability,) = CpuTimeMeter().abilities(MeterOptions(clock=RealClock(), environ={}))
    assert ability.works
    assert "modelled" in ability.says
