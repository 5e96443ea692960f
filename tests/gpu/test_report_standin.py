"""The report for GPU machines runs to its end without a GPU, on a simulated one, and what it says there is true."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.bench import Bench
from tests.gpu.report import SECTIONS, Effort, Report

pytestmark = pytest.mark.alone(waits=True)

ROOT = Path(__file__).resolve().parents[2]


def rows(text: str) -> list[dict[str, str]]:
    """Every row of every Markdown table, by its table's heads."""
    found, heads = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            heads = None
        elif heads is None:
            heads = cells
        elif not set("".join(cells)) <= set("-: "):
            found.append(dict(zip(heads, cells, strict=True)))
    return found


def made(folder: Path) -> str:
    """The report on the stand-in, as Markdown."""
    to = folder / "report.md"
    command = [sys.executable, "-m", "tests.gpu.report", "--standin", "--quick", "-o", str(to)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "GREENCOMPUTE_"))}
    environ["TMPDIR"] = str(folder)
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return to.read_text(encoding="utf-8")


def near_the_truth(text: str) -> bool:
    """Whether the protocol is within three per cent, and waiting for ticks and reading takes at most half a per cent of a core."""
    (errors,) = [row for row in rows(text) if "protocol against truth" in row]
    (cost,) = [row for row in rows(text) if row.get("cost", "").startswith("CPU time of waiting")]
    return abs(float(errors["protocol against truth"].rstrip("%"))) < 3 and float(cost["share or time"].rstrip("%")) <= 0.5


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="the stand-in needs a C compiler")
def test_on_the_stand_in_every_section_has_a_result_and_the_protocol_is_within_three_per_cent_of_the_truth(tmp_path: Path) -> None:
    text = made(tmp_path)
    if not near_the_truth(text):
        # A shared machine can stand still for tens of milliseconds in the middle of a run; off twice in a row is no such accident.
        text = made(tmp_path)
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert titles == [section.__doc__ for section in SECTIONS]
    assert "Failed" not in text
    (errors,) = [row for row in rows(text) if "protocol against truth" in row]
    assert near_the_truth(text), errors
    # The same column would be tens of per cent here if the sensor's blindness were not cancelled: the two readings show it.
    assert "two readings, 0.5 s against truth" in errors
    (polled,) = [row for row in rows(text) if row.get("idle GPU", "").startswith("polled")]
    assert float(polled["period, median"].removesuffix(" ms")) == pytest.approx(100, rel=0.05)


def test_a_section_that_fails_says_why_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(bench: Bench, effort: Effort) -> list[str]:
        """Broken"""
        raise ValueError("the sensor said no")

    def sound(bench: Bench, effort: Effort) -> list[str]:
        """Sound"""
        return ["all is well"]

    report = Report(tmp_path / "docs" / "report.md")
    for section in (broken, sound):
        report.section(section, None, Effort())  # type: ignore[arg-type]
    text = (tmp_path / "docs" / "report.md").read_text(encoding="utf-8")
    assert report.failed == 1
    assert "## Broken\n\n**Failed:** ValueError: the sensor said no" in text
    assert "## Sound\n\nall is well" in text
    assert text.strip() in capsys.readouterr().out


def test_without_a_gpu_the_report_says_so_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.gpu import report

    monkeypatch.setattr(report, "on_cuda", lambda: None)
    assert report.main(["-o", str(tmp_path / "report.md")]) == 2
    assert "--standin" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
