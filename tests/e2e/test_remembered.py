"""What a session learns of a device is remembered by the next one, as long as it is the same device under the same driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pytest_greencompute.cli

from .conftest import Project

CONFTEST = """
import os
import pytest
from pytest_greencompute.machine import clock
from pytest_greencompute.meters.base import Ability
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedGpu

gpu = SimulatedGpu(
    clock.RealClock(), sensor=Sensor(float(os.environ.get("TICK_S", "0.1")), 0.1, phase_s=0.0137), uuid=os.environ.get("UUID", "GPU-1")
)

class Counter:
    def __init__(self):
        self.counter = gpu.energy_counter()

    def __getattr__(self, name):
        return getattr(self.counter, name)

    def facts(self):
        return {"driver": os.environ.get("DRIVER", "580.159")}

class TickingMeter:
    name = "ticking"

    def find(self, options):
        return [Counter()]

    def abilities(self, options):
        return [Ability("gpu:0", works=True, says="made up")]

def pytest_greencompute_meters(config):
    return {"ticking": TickingMeter()}

def model(batch):
    gpu.work(0.02, 300.0)
    return batch

@pytest.fixture
def bench():
    return model
"""
TEST = """
import pytest

@pytest.mark.energy_budget(energy_per_query="9 J")
def test_it(energy_meter, bench):
    energy_meter.measure(bench, list(range(8)))
"""
LOOKED = "it is looked at anew"


@pytest.fixture
def device(project: Project) -> Project:
    project.write("conftest.py", CONFTEST)
    project.toml('meters = ["ticking"]')
    project.write("test_it.py", TEST)
    return project


def measured(device: Project, **environ: str) -> dict[str, Any]:
    """The run of one session."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        device.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    (run,) = device.report()["runs"]
    return dict(run)


def files(device: Project) -> list[Path]:
    return sorted(device.path.glob("**/greencompute/devices/*"))


def test_the_next_session_begins_seconds_sooner_and_finds_the_same(device: Project) -> None:
    first = measured(device)
    assert [path.name for path in files(device)] == ["GPU-1.json"]
    second = measured(device)
    assert first["seconds"] - second["seconds"] > 1.0
    figures = [run["metrics"]["energy_per_query"]["value"] for run in (first, second)]
    assert figures == [pytest.approx(6.0, rel=0.005)] * 2
    assert not [note for note in second["notes"] if LOOKED in note]


def test_another_driver_is_said_once_and_the_device_is_looked_at_anew(device: Project) -> None:
    first = measured(device)
    device.write("test_more.py", TEST.replace("test_it", "test_more"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRIVER", "590.1")
        device.measure("--energy-json=energy.json").assert_outcomes(passed=2)
    one, more = device.report()["runs"]
    assert [note for note in one["notes"] if LOOKED in note] == [
        "what was remembered of gpu:0 is of driver 580.159, which is 590.1 now: it is looked at anew"
    ]
    assert not [note for note in more["notes"] if LOOKED in note]
    assert one["seconds"] == pytest.approx(first["seconds"], abs=0.3)
    (device.path / "test_more.py").unlink()
    assert measured(device, DRIVER="590.1")["seconds"] < first["seconds"] - 1.0


def test_another_card_at_the_same_index_is_looked_at_anew(device: Project) -> None:
    first = measured(device)
    other = measured(device, UUID="GPU-2")
    assert other["seconds"] == pytest.approx(first["seconds"], abs=0.3)
    assert [path.name for path in files(device)] == ["GPU-1.json", "GPU-2.json"]


def test_a_counter_that_ticks_otherwise_than_remembered_is_looked_at_anew_and_said(device: Project) -> None:
    measured(device)
    run = measured(device, TICK_S="0.05")
    assert any("does not tick as it did" in note for note in run["notes"])
    assert run["metrics"]["energy_per_query"]["value"] == pytest.approx(6.0, rel=0.01)
    assert json.loads(files(device)[0].read_text())["behaviour"]["tick_s"] == pytest.approx(0.05, rel=0.02)


def test_a_broken_file_is_said_and_replaced(device: Project) -> None:
    measured(device)
    (path,) = files(device)
    path.write_text("{")
    assert any("is left aside" in note and str(path) in note for note in measured(device)["notes"])
    assert json.loads(path.read_text())["driver"] == "580.159"


def test_where_the_cache_cannot_be_written_all_is_measured_as_before(device: Project) -> None:
    (device.path / "no-folder").write_text("in the way")
    first, second = (measured(device, XDG_CACHE_HOME=str(device.path / "no-folder")) for _ in range(2))
    assert second["seconds"] == pytest.approx(first["seconds"], abs=0.3)


def test_remember_devices_false_keeps_nothing_and_reads_nothing(device: Project) -> None:
    first = measured(device)
    device.toml('meters = ["ticking"]\nremember_devices = false')
    assert measured(device)["seconds"] == pytest.approx(first["seconds"], abs=0.3)
    files(device)[0].unlink()
    measured(device)
    assert files(device) == []


def test_a_window_and_a_tick_that_is_not_as_remembered(device: Project) -> None:
    measured(device)
    device.write(
        "test_it.py",
        """
        def test_it(energy_meter, bench):
            with energy_meter.window() as window:
                for _ in range(100):
                    bench([1])
            assert abs(window.energy.value / 600 - 1) < 0.05
        """,
    )
    assert any("does not tick as it did" in note for note in measured(device, TICK_S="0.05")["notes"])
    assert any(LOOKED in note for note in measured(device, DRIVER="590.1")["notes"])


def test_doctor_shows_what_is_remembered_since_when_and_how_it_is_forgotten(
    device: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(device)
    (path,) = files(device)
    (path.parent / "GPU-old.json").write_text("{")
    capsys.readouterr()
    pytest_greencompute.cli.main(["doctor"])
    said = capsys.readouterr().out
    assert "delete a file to forget it; remember_devices = false keeps none" in said
    assert f"  {path}: Simulated GPU, ticks every 100 ms, sees all of the time, a read takes " in said
    assert "; driver 580.159, since 20" in said
    assert f"  {path.parent / 'GPU-old.json'}: left aside, " in said
    pytest_greencompute.cli.main(["doctor", "--json"])
    kept, old = json.loads(capsys.readouterr().out)["remembered"]
    assert (kept["file"], kept["driver"], kept["tick_s"]) == (str(path), "580.159", pytest.approx(0.1, rel=0.01))
    assert "left_aside" in old
    monkeypatch.delenv("HOME")
    pytest_greencompute.cli.main(["doctor"])
    assert "nothing new can be remembered of devices: neither XDG_CACHE_HOME nor HOME names a folder" in capsys.readouterr().out
