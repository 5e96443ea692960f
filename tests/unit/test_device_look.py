"""``greencompute doctor --deep``: one device looked at closely, and the page that is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_greencompute import cli
from pytest_greencompute.commands import deep
from pytest_greencompute.measuring.device import DeviceLoad, DeviceLook, look_closely
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.report.device import SCHEMA, as_html, as_json, as_markdown
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.powers import DISAGREE
from pytest_greencompute.values.provenance import Machine

DAY = date(2026, 12, 1)


def look(
    profile: str = "H100", *, gain: float = 1.0, loaded: bool = True, device: str = "NVIDIA <b>X</b> | 80GB"
) -> tuple[DeviceLook, list[str]]:
    """A simulated GPU, looked at; and what was said meanwhile."""
    clock, sensors = SimulatedClock(), PROFILES[profile]
    assert sensors.counter is not None
    gpu = SimulatedGpu(clock, sensor=replace(sensors, counter=replace(sensors.counter, gain=gain)), device=device)
    instruments = Instruments([gpu.energy_counter()], clock, allowed_marks=frozenset({DISAGREE}))
    said: list[str] = []
    load = DeviceLoad("a simulated load", lambda: gpu.work(0.01, 350)) if loaded else None
    return look_closely(instruments, load, said.append, run_s=30), said


def pages(found: DeviceLook) -> tuple[str, str, dict[str, object]]:
    given = found, Machine(cpu="A CPU", os="Linux", python="3.13", commit="abc"), "1.0", DAY
    return as_markdown(*given), as_html(*given), dict(as_json(*given))


def test_a_look_finds_tick_lag_coverage_cost_agreement_and_no_difference_of_the_same_from_itself() -> None:
    found, said = look()
    assert found.source.tick_s == pytest.approx(0.1, rel=0.1)
    assert found.source.lag_s == 0
    assert found.behaviour is not None
    assert found.behaviour.whole is True
    assert found.idle is not None
    assert found.idle.watts == pytest.approx(60, rel=0.01)
    reads = {cost.what: cost.median_s for cost in found.costs}
    assert reads["energy counter"] == pytest.approx(0.0024)
    assert reads["power (draw, gpu)"] == pytest.approx(2e-6)
    assert "power (instant, module)" not in reads  # which this one does not show
    assert {each.field.name for each in found.agreements} == {"draw", "instant"}
    assert found.against is not None
    assert found.against.off == 0
    assert found.itself is not None
    assert found.itself.word == "PASS"
    assert found.seconds < 120
    assert len(said) == 3
    assert not found.left_out


def test_the_page_is_safe_to_publish_in_all_three_forms() -> None:
    found, _ = look()
    as_md, html, told = pages(found)
    assert "<b>" not in as_md + html
    for text in map(unescape, (as_md, html)):
        assert "The counter agrees with the power of the GPU" in text
        assert "none beyond two ticks" in text
        assert "Its sets, each held against the next: PASS" in text
        assert "2026-12-01" in text
    assert as_md.startswith("# NVIDIA &#60;b&#62;X")
    assert html.startswith("<!doctype html>")
    assert told["schema"] == SCHEMA
    assert told["covers"] == "gpu"
    text = json.dumps(told, allow_nan=False)
    assert found.source.uuid
    for private in (found.source.uuid, "abc"):
        assert private not in text + as_md + html


def test_a_counter_that_loses_much_is_said_not_to_be_believed() -> None:
    found, _ = look(gain=0.6)
    as_md, _, told = pages(found)
    assert "The counter cannot be believed" in as_md
    assert isinstance(told["off"], float)
    assert told["off"] > 0.3
    assert "Runs here are UNMEASURED" in as_md


def test_a_look_that_was_too_unsteady_does_not_say_that_they_agree() -> None:
    found, _ = look()
    assert found.against is not None
    unsteady = replace(found, against=replace(found.against, low=0.8, high=1.2))
    assert "too unsteady to say so to within 10 %" in unescape(pages(unsteady)[0])


def test_without_a_load_what_needs_one_is_left_out_and_said() -> None:
    found, said = look(loaded=False)
    assert found.energy is found.itself is None
    assert len(found.agreements) == 2  # at idle power
    as_md, _, told = pages(found)
    assert "there was no load" in as_md
    assert "not looked for" in as_md
    assert told["against_itself"] is None
    assert said[-1] == "the counter against power, idle"


def test_without_a_gpu_it_says_what_it_would_find_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cli.main(["doctor", "--deep"]) == 1
    said = capsys.readouterr().err
    assert "Nothing was looked at" in said
    assert "whether its counter agrees with its power" in said
    assert not list(tmp_path.iterdir())


def test_what_was_found_is_shown_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = look(loaded=False)
    counter = SimulatedGpu(SimulatedClock(), sensor=PROFILES["H100"]).energy_counter()
    monkeypatch.setattr(deep, "open_counters", lambda *_: SimpleNamespace(counters=(counter,)))

    def looked(*_: object) -> object:
        (tmp_path / "file").touch()
        return found

    monkeypatch.setattr(deep, "look_closely", looked)
    assert cli.main(["doctor", "--deep", "--output", str(tmp_path / "file")]) == 2
    said = capsys.readouterr()
    assert "cannot be written" in said.err
    assert "there was no load" in said.out


def test_a_folder_that_cannot_be_written_is_refused_before_it_is_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deep, "open_counters", pytest.fail)
    (tmp_path / "file").touch()
    assert cli.main(["doctor", "--deep", "--output", str(tmp_path / "file")]) == 2
    assert "cannot be written: Not a directory." in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--load", "a:b"], ["--output", "x"], ["--meter", "nvml"]])
def test_what_is_for_a_closer_look_alone_is_refused_without_it(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", *given]) == 2
    assert f"{given[0]} is for a closer look" in capsys.readouterr().err
