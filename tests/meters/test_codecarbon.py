"""CodeCarbon as a meter: its figures in joules, in silence, without a trace on disk or network."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

codecarbon = pytest.importorskip("codecarbon")

from pytest_greencompute.errors import MeterError, MeterLostError  # noqa: E402
from pytest_greencompute.machine.clock import RealClock  # noqa: E402
from pytest_greencompute.meters.base import Counter, MeterOptions  # noqa: E402
from pytest_greencompute.meters.codecarbon import CodeCarbonMeter, _cpu_mode, _settings, _Sink  # noqa: E402

pytestmark = pytest.mark.alone(waits=True)

OPTIONS = MeterOptions(clock=RealClock(), environ={})


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an empty home and temporary folder, and none of the user's settings."""
    for name in [name for name in os.environ if name.upper().startswith("CODECARBON_")]:
        monkeypatch.delenv(name)
    for name in ("home", "work", "temp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def counters(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Counter]]:
    # This process's load instead of the whole machine's: what else runs there must not decide a test.
    monkeypatch.setenv("CODECARBON_TRACKING_MODE", "process")
    found = CodeCarbonMeter().find(OPTIONS)
    yield {counter.source.domain: counter for counter in found}
    for counter in found:
        counter.close()


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def joules(counter: Counter, work: Any, seconds: float) -> float:
    before = counter.read()
    work(seconds)
    return counter.read().energy_j - before.energy_j


def test_cpu_and_memory_are_domains_that_say_how_they_come_about(counters: dict[str, Counter]) -> None:
    assert list(counters)[:2] == ["cpu", "dram"]
    for counter in counters.values():
        assert isinstance(counter, Counter)
        assert counter.source.meter == "codecarbon"
        assert counter.source.note
        assert counter.facts()["codecarbon"]
    assert counters["dram"].source.method == "modelled"


def test_busy_costs_more_than_idle(counters: dict[str, Counter]) -> None:
    if "constant" in counters["cpu"].source.note:
        pytest.skip("this CodeCarbon models the CPU as a constant, and its note says so")
    idle, busy = joules(counters["cpu"], time.sleep, 0.5), joules(counters["cpu"], spin, 0.5)
    assert busy > 3 * idle
    assert busy > 0


def test_memory_is_time_times_a_constant_as_its_note_says(counters: dict[str, Counter]) -> None:
    dram = counters["dram"]
    first = dram.read()
    time.sleep(0.2)
    second = dram.read()
    spin(0.4)
    third = dram.read()
    watts = [(b.energy_j - a.energy_j) / (b.t_ns - a.t_ns) * 1e9 for a, b in ((first, second), (second, third))]
    assert watts[0] > 0
    assert watts[0] == pytest.approx(watts[1], rel=0.1)
    assert "constant" in dram.source.note


def test_readings_in_quick_succession_are_fresh_and_never_run_backwards(counters: dict[str, Counter]) -> None:
    readings = []
    for _ in range(4):
        asked = time.perf_counter_ns()
        readings.append(counters["dram"].read())
        if len(readings) > 1:
            assert readings[-1].t_ns >= asked
    energies = [reading.energy_j for reading in readings]
    assert energies == sorted(set(energies))


def test_domains_read_in_one_breath_share_one_measurement(counters: dict[str, Counter]) -> None:
    time.sleep(0.1)
    assert counters["cpu"].read().t_ns == counters["dram"].read().t_ns


def test_nothing_is_printed_logged_or_written(alone: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        found = CodeCarbonMeter().find(OPTIONS)
        time.sleep(1.1)  # its background thread looks at the load once a second
        for counter in found:
            counter.read()
            counter.close()
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert list((alone / "home").iterdir()) == list((alone / "work").iterdir()) == list((alone / "temp").iterdir()) == []


def test_the_users_settings_cannot_make_it_write_or_send(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (alone / "home" / ".codecarbon.config").write_text(
        "[codecarbon]\nsave_to_file = true\noutput_methods = csv\nlog_level = debug\nemissions_endpoint = http://localhost:9\n"
        "co2_signal_api_token = token\nelectricitymaps_api_token = token\nallow_multiple_runs = false\npue = 2\nmeasure_power_secs = 0.1\n"
    )
    tried: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: tried.append(args) or [])
    found = CodeCarbonMeter().find(OPTIONS)
    time.sleep(0.3)
    for counter in found:
        counter.read()
        counter.close()
    assert not tried
    assert capfd.readouterr() == ("", "")
    assert files_under(alone) == ["home/.codecarbon.config"]


def test_a_fresh_process_without_network_leaves_no_trace(alone: Path) -> None:
    script = """
        import os, socket, warnings
        warnings.simplefilter("error")
        def refuse(*args, **more):
            raise SystemExit("network!")
        socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
        import sys
        from pytest_greencompute.machine.clock import RealClock
        from pytest_greencompute.meters.base import MeterOptions
        from pytest_greencompute.meters.codecarbon import CodeCarbonMeter
        assert "codecarbon" not in sys.modules and "numpy" not in sys.modules
        counters = CodeCarbonMeter().find(MeterOptions(clock=RealClock(), environ=os.environ))
        for counter in counters:
            counter.read()
        for counter in counters:
            counter.close()
    """
    home, work, temp = alone / "home", alone / "work", alone / "temp"
    environ = {**os.environ, "TMPDIR": str(temp), "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environ, cwd=work, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == list(work.iterdir()) == list(temp.iterdir()) == []


def test_closing_gives_back_the_logger_and_stops_the_threads(alone: Path) -> None:
    logger = logging.getLogger("codecarbon")
    before = (logger.level, list(logger.handlers))
    threads = set(threading.enumerate())
    found = CodeCarbonMeter().find(OPTIONS)
    for counter in found[:-1]:
        counter.close()
        counter.close()
    found[-1].read()
    found[-1].close()
    assert (logger.level, logger.handlers) == before
    until = time.monotonic() + 5
    while set(threading.enumerate()) - threads and time.monotonic() < until:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - threads
    with pytest.raises(MeterLostError, match="closed"):
        found[-1].read()


# ── what fails inside CodeCarbon ────────────────────────────────────────────────────────────────────────────────────


def test_not_installed_is_a_meter_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MeterError, match="not installed") as caught:
        CodeCarbonMeter().find(OPTIONS)
    assert caught.value.remedy == 'pip install "pytest-greencompute[codecarbon]"'
    (ability,) = CodeCarbonMeter().abilities(OPTIONS)
    assert not ability.works


def broken(*args: object, **more: object) -> None:
    raise ValueError("no such sensor")


@pytest.mark.parametrize("step", ["start", "flush", "_ensure_hardware_ready", "_do_measurements"])
def test_a_failure_that_codecarbon_swallows_at_the_start_is_a_meter_error(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], step: str
) -> None:
    if not hasattr(codecarbon.OfflineEmissionsTracker, step):
        pytest.skip(f"this CodeCarbon has no {step}")
    monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, step, broken)
    with pytest.raises(MeterError, match="CodeCarbon"):
        CodeCarbonMeter().find(OPTIONS)
    assert capfd.readouterr() == ("", "")
    assert files_under(alone) == []


def test_a_failure_while_measuring_is_a_meter_lost_with_its_reason(counters: dict[str, Counter], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "_do_measurements"
    if not hasattr(codecarbon.OfflineEmissionsTracker, name):
        pytest.skip(f"this CodeCarbon has no {name}")
    monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, name, broken)
    time.sleep(0.1)
    with pytest.raises(MeterLostError, match=r"did not measure.*no such sensor"):
        counters["cpu"].read()
    monkeypatch.undo()
    counters["cpu"].read()


def test_totals_without_the_figure_are_a_meter_lost(counters: dict[str, Counter]) -> None:
    cpu: Any = counters["cpu"]
    cpu._tracker.latest = lambda seen: SimpleNamespace(totals=SimpleNamespace(), number=seen + 1, t_ns=0)
    with pytest.raises(MeterLostError, match="gives None for cpu_energy"):
        cpu.read()


def test_a_codecarbon_that_hides_its_hardware_counts_as_modelled() -> None:
    assert _cpu_mode(SimpleNamespace()) == ("unknown", None)
    assert _cpu_mode(SimpleNamespace(_hardware=[object()])) == ("unknown", None)


def test_the_doctor_is_told_each_domain_and_that_it_models(alone: Path) -> None:
    abilities = CodeCarbonMeter().abilities(OPTIONS)
    assert [ability.domain for ability in abilities][:2] == ["cpu", "dram"]
    assert all(ability.works for ability in abilities)
    assert abilities[1].says.startswith("modelled: ")


@pytest.mark.parametrize("coming", [True, False])
def test_its_coming_telemetry_is_switched_off_where_there_is_any(coming: bool) -> None:
    def tracker(send_telemetry: bool = True) -> None: ...

    def today(pue: float = 1.0) -> None: ...

    module = SimpleNamespace(EmissionsTracker=tracker if coming else today)
    assert _settings(module, _Sink(), "folder").get("send_telemetry", "absent") == (False if coming else "absent")
