"""greencompute doctor, and what all commands have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_greencompute import cli
from pytest_greencompute.meters.base import Ability
from pytest_greencompute.meters.nvml import NvmlMeter
from pytest_greencompute.meters.rapl import RaplMeter
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.standin import StandIn, StandInDevice

from .conftest import Project


def greencompute(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_greencompute.cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_lists_every_meter_and_the_remedy_for_each_refusal(
    tmp_path: Path, standin_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin = StandIn.create(tmp_path, [StandInDevice(PROFILES["V100"]), StandInDevice(PROFILES["V100"])], library=standin_library)
    standin.fault("mig", 1)
    for name, value in standin.env.items():
        monkeypatch.setenv(name, value)
    done = greencompute("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for heading in ("nvml (used by default)", "rapl (used by default)", "codecarbon (only where listed)", "cputime (only where listed)"):
        assert heading in done.stdout
    assert f"yes  gpu:0: NVIDIA H100 80GB HBM3 {standin.uuid(0)}: energy counter" in done.stdout
    assert "no   gpu:1: gpu:1 (NVIDIA H100 80GB HBM3) is in MIG mode" in done.stdout
    assert "sudo nvidia-smi -i 1 -mig 0" in done.stdout
    done = greencompute("doctor", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    gpus = {each["domain"]: each for each in told["meters"] if each["meter"] == "nvml"}
    assert (gpus["gpu:0"]["works"], gpus["gpu:1"]["works"]) == (True, False)
    assert "sudo nvidia-smi -i 1 -mig 0" in gpus["gpu:1"]["remedy"]
    assert told["machine"]["python"]


def test_doctor_exits_with_one_where_nothing_reads_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytest_greencompute.meters.registry.ORDER_BY_DEFAULT", ("cputime-is-no-reader",))
    assert cli.main(["doctor"]) == 1
    assert "No meter reads energy here." in capsys.readouterr().out


@pytest.mark.parametrize("reads", [False, True])
def test_a_meter_that_breaks_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reads: bool
) -> None:
    def broken(_: object, __: object) -> list[Ability]:
        raise OSError("libbroken.so: version mismatch")

    def reading(_: object, __: object) -> list[Ability]:
        return [Ability("cpu", works=True, says="a counter")]

    monkeypatch.setattr(NvmlMeter, "abilities", broken)
    monkeypatch.setattr(RaplMeter, "abilities", reading if reads else lambda *_: [Ability("", works=False, says="none")])
    assert cli.main(["doctor"]) == (0 if reads else 4)
    out = capsys.readouterr().out
    assert "no   it broke while it was asked: OSError: libbroken.so: version mismatch" in out
    assert "cputime (only where listed)" in out


METERS = """
from pytest_greencompute.meters.base import Ability

class Broken:
    name = "broken"
    def find(self, options): raise RuntimeError("no µ here")
    def abilities(self, options): {abilities}
"""


@pytest.mark.parametrize(
    ("abilities", "says"),
    [
        ("return [Ability('cpu', True, 'works, it says')]", "it broke while it was asked: RuntimeError: no µ here"),
        ("return ['cpu: works']", "it broke while it was asked: TypeError: 'cpu: works' is no Ability"),
        ("return None", "it broke while it was asked: TypeError: 'NoneType' object is not iterable"),
        ("raise SystemExit(3)", "it broke while it was asked: SystemExit: 3"),
        (None, "The meter 'broken' of others does not load (ModuleNotFoundError: No module named 'others_meters')."),
    ],
)
@pytest.mark.parametrize("reads", [False, True])
def test_another_packages_meter_that_breaks_hides_no_other_and_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], abilities: str | None, says: str, reads: bool
) -> None:
    (tmp_path / "others-1.0.dist-info").mkdir()
    (tmp_path / "others-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n", encoding="utf-8")
    (tmp_path / "others-1.0.dist-info/entry_points.txt").write_text(
        "[greencompute.meters]\nbroken = others_meters:Broken\n", encoding="utf-8"
    )
    if abilities is not None:
        (tmp_path / "others_meters.py").write_text(METERS.format(abilities=abilities), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "others_meters", raising=False)
    for meter in (NvmlMeter, RaplMeter):
        told = [Ability("cpu", works=True, says="a counter")] if reads else [Ability("", works=False, says="none")]
        monkeypatch.setattr(meter, "abilities", lambda *_, told=told: told)
    assert cli.main(["doctor"]) == (0 if reads else 4)
    out = capsys.readouterr().out
    assert f"no   {says}" in out
    assert "cputime (only where listed)" in out


def test_a_command_that_breaks_has_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> dict[str, object]:
        raise RuntimeError("no such thing was foreseen")

    monkeypatch.setattr("pytest_greencompute.machine.facts.facts", broken)
    assert cli.main(["doctor"]) == 4
    err = capsys.readouterr().err
    assert "RuntimeError: no such thing was foreseen" in err
    assert "greencompute doctor broke" in err


ENCODINGS = (
    {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
)


@pytest.mark.parametrize("environment", ENCODINGS, ids=lambda each: " ".join(each.values()))
def test_every_command_prints_on_a_terminal_that_lacks_signs(project: Project, environment: dict[str, str]) -> None:
    project.write("test_it.py", "def test_ö(energy_meter, world):\n    energy_meter.measure(world.model(), list('abcd'))\n")
    for k in range(2):
        project.measure("--energy-save=main", f"--energy-json={k}.json", "--energy-max-seconds=0.5").assert_outcomes(passed=1)
    for name, value in environment.items():
        project.monkeypatch.setenv(name, value)
    project.write("ö/requirements.txt", "numpy\n")  # no library that takes seconds to load
    commands = [
        (["doctor"], {0, 1}),
        (["doctor", "--json"], {0, 1}),
        (["history"], {0}),
        (["history", "--json"], {0}),
        (["compare", "0.json", "1.json"], {0, 1, 3}),
        (["compare", "0.json", "1.json", "--json"], {0, 1, 3}),
        (["compare", "--help"], {0}),
        (["noise", "--help"], {0}),
        (["rate", "3.2", "--task", "text_classification"], {0}),
        (["badge", "3.2", "--task", "text_classification", "--output", "b.svg"], {0, 3}),
        (["report", "0.json", "-o", "r.md"], {0}),
        (["init", "ö"], {0}),
        (["compare", "±.json", "1.json"], {2}),
    ]
    for args, status in commands:
        command = [sys.executable, "-m", "pytest_greencompute.cli", *args]
        done = subprocess.run(command, cwd=project.path, capture_output=True, check=False, timeout=60)
        said = (done.stdout + done.stderr).decode("latin-1")
        assert done.returncode in status, said
        assert "Traceback" not in said
        if "--json" in args:
            json.loads(done.stdout.decode(environment.get("PYTHONIOENCODING", "ascii")))
        if args == ["history"]:
            assert ("±" if environment.get("PYTHONIOENCODING") == "cp1252" else "+/-") in said
    assert "µ" in (project.path / "r.md").read_text(encoding="utf-8") or "±" in (project.path / "r.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("args", [[], ["docter"], ["doctor", "--yaml"], ["init", "a", "b"]], ids=" ".join)
def test_bad_usage_exits_with_two(args: list[str], tmp_path: Path) -> None:
    done = greencompute(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage: greencompute" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_that_nobody_reads_to_its_end_is_no_mistake() -> None:
    command = [sys.executable, "-m", "pytest_greencompute.cli", "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.close()
        assert reader.stderr.read() == ""
        assert reader.wait() == cli.NOT_READ
