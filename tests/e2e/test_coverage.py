"""pytest-cov, and whatever else watches each line: the gate works, and says what its figures are worth."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .conftest import Project
from .test_bad_input import refused

pytest.importorskip("pytest_cov")
from coverage import Coverage

PLUGINS = ("pytest_cov.plugin",)

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    @pytest.mark.parametrize("joules", [0.1, 0.5])
    def test_it(energy_meter, world, joules):
        energy_meter.measure(world.model(joules), list("abcd"))

    def test_window(energy_meter, world):
        with energy_meter.window():
            world.model(1.0)("a")
"""
NOTE = "note: measured while coverage watched every line: pure Python takes several times its energy then"


@pytest.fixture(autouse=True)
def _no_other_coverage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None from outside, and none that an inner run which was refused has left behind: it would watch the tests that follow."""
    for name in list(os.environ):
        if name.startswith(("COV_", "COVERAGE_")):
            monkeypatch.delenv(name)
    outer = Coverage.current()
    yield
    while (left := Coverage.current()) not in {None, outer}:
        left.stop()  # type: ignore[union-attr]


@pytest.fixture
def covered(project: Project) -> Project:
    project.write("test_it.py", TESTS)
    return project


def test_budgets_are_judged_under_coverage_and_it_is_said_once_that_it_watched(covered: Project) -> None:
    result = covered.measure("--cov=.", "--energy-json=energy.json")
    result.assert_outcomes(passed=2, failed=1)
    assert result.outlines.count(NOTE) == 1
    result.stdout.fnmatch_lines(["*over its budget of 0.4 J*", "test_it.py * 100%"])
    assert [run["provenance"]["traced"] for run in covered.report()["runs"]] == ["coverage"] * 3


def test_without_coverage_nothing_is_said_of_it(covered: Project) -> None:
    for options in ([], ["--cov=.", "--no-cov"]):
        result = covered.measure(*options, "--energy-json=energy.json")
        assert NOTE not in result.outlines
        assert [run["provenance"].get("traced") for run in covered.report()["runs"]] == [None] * 3
    assert NOTE not in covered.run("--cov=.").outlines  # nothing is measured


def test_a_run_under_coverage_is_not_compared_with_one_without(covered: Project) -> None:
    covered.measure("--energy-save=plain", "-k", "0.1").assert_outcomes(passed=1, deselected=2)
    covered.measure("--energy-baseline=plain", "-k", "0.1", "--energy-unmeasured=fail").assert_outcomes(passed=1, deselected=2)
    result = covered.measure("--cov=.", "--energy-baseline=plain", "-k", "0.1", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*baseline 'plain' was measured otherwise (tracer: coverage here, none in the baseline)*"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--energy-base-ref=HEAD", "--energy-base-ref compares with a process that coverage does not watch"),
        ("--energy-update=tighten", "--energy-update would write limits that hold what coverage costs."),
    ],
)
def test_what_would_be_wrong_under_coverage_is_refused_with_the_remedy(covered: Project, option: str, says: str) -> None:
    refused(covered.measure("--cov=.", option), says, "Run it without (--no-cov switches pytest-cov off).")


def test_coverage_of_other_processes_leaves_those_of_a_comparison_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_greencompute.pairing.commits import Bases

    told = {"COVERAGE_PROCESS_START": "x", "COVERAGE_PROCESS_CONFIG": "x", "COV_CORE_SOURCE": "x", "HOME": "/home"}
    assert Bases(os.path, told, ()).head("test_it.py::test_it").environ == {"HOME": "/home"}  # type: ignore[arg-type]
