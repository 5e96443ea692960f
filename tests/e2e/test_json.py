"""--energy-json: the report for machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import CONFTEST, Project
from .test_bad_input import refused

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", latency_p95="1 s", accuracy=0.9)
    def test_measured(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"), references=list("ABCD"))

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_unmeasured(energy_meter):
        pass

    def test_window(energy_meter, world):
        with energy_meter.window("prefill"):
            world.model()("a")

    def test_plain():
        pass
"""


@pytest.mark.parametrize("measuring", [[], ["--energy-budget"]], ids=["unmetered", "metered"])
def test_the_report_keeps_to_the_schema_that_ships_and_holds_no_nan(project: Project, measuring: list[str]) -> None:
    project.write("test_it.py", TESTS)
    result = project.run("--energy-json=energy.json", *measuring)
    result.assert_outcomes(passed=4)
    report = project.report()
    assert report["schema"] == "greencompute.report/1"
    assert report["exit_status"] == 0
    assert len(report["runs"]) == (3 if measuring else 2)
    assert report["session"]["energy_j"] == (pytest.approx(report["session"]["energy_j"]) if measuring else None)


def test_the_report_says_the_figures_the_verdicts_and_where_they_come_from(project: Project) -> None:
    project.write("test_it.py", TESTS)
    project.measure("--energy-json=energy.json").assert_outcomes(passed=4)
    report = project.report()
    (meter,) = report["session"]["meters"]
    assert (meter["name"], meter["domain"], meter["method"], meter["device"]) == ("world", "gpu:0", "counter", "Test GPU 3000")
    run = report["runs"][0]
    assert (run["test"], run["name"], run["queries"], run["metered"]) == ("test_it.py::test_measured", None, 4, True)
    energy = run["metrics"]["energy_per_query"]
    assert (energy["value"], energy["unit"], energy["domain"], energy["method"]) == (0.5, "J", "gpu:0", "counter")
    verdict = run["verdicts"][0]
    assert (verdict["metric"], verdict["verdict"], verdict["kind"], verdict["limit"], verdict["unit"]) == (
        "energy_per_query",
        "PASS",
        "budget",
        1.0,
        "J",
    )
    assert verdict["reason"].startswith("test_measured used 0.5000 J per query")
    assert run["provenance"]["machine"]["python"]
    assert run["raw"]["sets"]


def test_every_verdict_can_be_computed_again_from_the_raw_samples(project: Project) -> None:
    from pytest_greencompute.estimates.by_metric import estimate
    from pytest_greencompute.estimates.estimate import Aim, Estimate
    from pytest_greencompute.results.run_json import read_runs
    from pytest_greencompute.values.metrics import METRICS

    project.write("test_it.py", TESTS)
    project.measure("--energy-json=energy.json")
    told = {run["test"]: run["metrics"] for run in project.report()["runs"]}
    run = read_runs(project.path / "energy.json")[0]
    again = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(again, Estimate)
    figure = told[run.test]["energy_per_query"]
    assert (again.value, again.low, again.high) == (figure["value"], figure["low"], figure["high"])


def test_folders_on_the_way_are_made_and_the_path_is_taken_from_where_pytest_was_started(project: Project) -> None:
    project.write("tests/test_it.py", TESTS)
    project.monkeypatch.chdir(project.path / "tests")
    project.run("--energy-json=new/folder/energy.json").assert_outcomes(passed=4)
    project.report("tests/new/folder/energy.json")


@pytest.mark.parametrize("measuring", [[], ["--energy-budget"]], ids=["unmetered", "metered"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(project: Project, measuring: list[str]) -> None:
    project.write("test_it.py", TESTS)
    project.write("file", "")
    refused(
        project.run("--energy-json=file/energy.json", *measuring), f"{project.path}/file/energy.json cannot be written: Not a directory."
    )


@pytest.mark.parametrize("measuring", [[], ["--energy-budget"]], ids=["unmetered", "metered"])
def test_one_that_cannot_be_written_any_more_makes_the_session_red_and_says_why(project: Project, measuring: list[str]) -> None:
    project.write("test_it.py", TESTS)
    project.write("conftest.py", f"{CONFTEST}\ndef pytest_runtest_setup(item):\n    (item.config.rootpath / 'file').write_text('')\n")
    result = project.run("--energy-json=file/energy.json", *measuring)
    result.assert_outcomes(passed=4)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*the JSON report was not written: {project.path}/file/energy.json cannot be written: *"])


def test_a_report_onto_a_folder_cannot_be_written_either(project: Project) -> None:
    project.write("test_it.py", TESTS)
    (project.path / "folder").mkdir()
    refused(project.run("--energy-json=folder"), "folder cannot be written: Is a directory.")
    left: list[Path] = list(project.path.glob(".folder*"))
    assert left == []


def test_a_session_without_metered_tests_writes_an_empty_report(project: Project) -> None:
    project.write("test_it.py", "def test_plain(): pass")
    project.run("--energy-json=energy.json").assert_outcomes(passed=1)
    assert project.report()["runs"] == []
