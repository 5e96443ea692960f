"""--energy-only and --energy-skip."""

from __future__ import annotations

import pytest

from .conftest import Project

TESTS = """
    import pytest

    def test_plain(): pass

    def test_fixture(energy_meter, world):
        energy_meter.measure(world.model(), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_marker(): pass

    @pytest.fixture
    def measured(energy_meter): return energy_meter

    def test_through_another_fixture(measured): pass
"""


@pytest.mark.parametrize("measuring", [[], ["--energy-budget"]], ids=["unmetered", "metered"])
def test_only_runs_the_metered_tests_and_skip_the_others(project: Project, measuring: list[str]) -> None:
    project.write("test_it.py", TESTS)
    result = project.run("--energy-only", "-v", *measuring)
    result.assert_outcomes(passed=3, deselected=1)
    result.stdout.fnmatch_lines(["*::test_fixture PASSED*", "*::test_marker PASSED*", "*::test_through_another_fixture PASSED*"])
    result = project.run("--energy-skip", "-v", *measuring)
    result.assert_outcomes(passed=1, deselected=3)
    result.stdout.fnmatch_lines(["*::test_plain PASSED*"])


def test_only_in_the_file_holds_too(project: Project) -> None:
    project.toml("skip = true")
    project.write("test_it.py", TESTS)
    project.run().assert_outcomes(passed=1, deselected=3)


def test_only_without_a_metered_test_ends_as_pytest_ends_without_tests(project: Project) -> None:
    project.write("test_it.py", "def test_plain(): pass")
    assert project.run("--energy-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_skip_with_budgets_measures_nothing_and_says_so(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure("--energy-skip")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["total not measured*"])


@pytest.mark.parametrize(("option", "listed", "left"), [("--energy-only", "metered", "plain"), ("--energy-skip", "plain", "metered")])
def test_what_is_only_listed_is_selected_too(project: Project, option: str, listed: str, left: str) -> None:
    project.write("test_it.py", "def test_plain():\n    pass\n\n\ndef test_metered(energy_meter):\n    pass\n")
    lines = project.run("--collect-only", "-q", option).outlines
    assert f"test_it.py::test_{listed}" in lines
    assert f"test_it.py::test_{left}" not in lines
