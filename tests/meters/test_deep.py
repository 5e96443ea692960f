"""``greencompute doctor --deep`` on the stand-in, under real pynvml: from the command line to the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_greencompute import cli
from pytest_greencompute.measuring import device
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.standin import StandIn, StandInDevice

pytestmark = pytest.mark.alone(waits=True)

MakeStandIn = Callable[..., StandIn]
BENCH = """
from pytest_greencompute.testing.standin import StandIn
standin = StandIn.attach()

def work():
    standin.work(0, 0.01, 350)
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_standin: MakeStandIn) -> Path:
    """A stand-in and a folder with a load for it; and less of everything, which shows that it runs, not how good it is."""
    make_standin(StandInDevice(Sensor(0.02, 0.02), name="NVIDIA L4"))
    for name, less in (("READS", 5), ("IDLE_S", 5.0)):
        monkeypatch.setattr(device, name, less)
    look = device.look_closely
    monkeypatch.setattr("pytest_greencompute.commands.deep.look_closely", lambda *given: look(*given, run_s=5))
    (tmp_path / "deep_bench.py").write_text(BENCH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_of_a_gpu_is_written_in_three_forms(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--deep", "--load", "deep_bench:work", "--output", "out"]) == 0
    said = capsys.readouterr()
    assert "Written: out/nvidia-l4.md, .html and .json" in said.out
    assert "finding the tick of the counter" in said.err
    assert {path.name for path in (short / "out").iterdir()} == {"nvidia-l4.md", "nvidia-l4.html", "nvidia-l4.json"}
    told = json.loads((short / "out" / "nvidia-l4.json").read_text())
    assert told["source"]["tick_s"] == pytest.approx(0.02, rel=0.1)
    assert told["energy_per_query_j"], (short / "out" / "nvidia-l4.md").read_text()
    assert told["energy_per_query_j"][1] == pytest.approx(3.5, rel=0.3)  # on a machine that works beside it, too
    assert told["against_itself"]["verdict"] in {"PASS", "INCONCLUSIVE", "UNMEASURED"}  # of so short a run
    assert "<h1>NVIDIA L4: its energy counter</h1>" in (short / "out" / "nvidia-l4.html").read_text()


def test_a_load_that_is_none_is_refused_with_what_was_wrong(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for load in ("nowhere:work", "deep_bench:nothing", "deep_bench"):
        assert cli.main(["doctor", "--deep", "--load", load]) == 2
        assert f"--load {load}: " in capsys.readouterr().err
    assert {path.name for path in short.glob("nvidia*")} == set()
