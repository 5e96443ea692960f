"""``on`` lines: limits that hold on some hardware only."""

from __future__ import annotations

from .conftest import Project
from .test_budget_file import BARE, MARKED


def test_a_line_for_this_hardware_wins_over_the_marker_and_one_for_other_hardware_does_not_hold(project: Project) -> None:
    project.toml(
        """
        [[tool.greencompute.budgets."test_it.py::test_marked".on]]
        gpu = "Other*"
        energy_per_query = "9 J"

        [[tool.greencompute.budgets."test_it.py::test_marked".on]]
        gpu = "Test GPU ?000"
        energy_per_query = "0.2 J"
        """
    )
    project.write("test_it.py", MARKED)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*over its budget of 0.2 J (2.5 times). The limit is in pyproject.toml:9.", "test_marked *pyproject.toml:9"]
    )


def test_limits_for_other_hardware_only_are_unmeasured(project: Project) -> None:
    project.toml('[[tool.greencompute.budgets."test_it.py::test_bare".on]]\ngpu = "NVIDIA H100 80GB HBM3"\nenergy_per_query = "310 J"')
    project.write("test_it.py", BARE)
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_bare has no energy_per_query to judge: no limit for this hardware.*"])


def test_on_lines_of_two_keys_hold_only_where_both_match(project: Project) -> None:
    project.toml(
        """
        [[tool.greencompute.budgets."test_it.py::test_bare".on]]
        gpu = "Test GPU 3000"
        meter = "nvml"
        energy_per_query = "0.1 J"

        [[tool.greencompute.budgets."test_it.py::test_bare".on]]
        gpu = "Test GPU 3000"
        meter = "world"
        energy_per_query = "0.7 J"
        """
    )
    project.write("test_it.py", BARE)
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    assert [(each["verdict"], each["limit"]) for each in run["verdicts"]] == [("PASS", 0.7)]


def test_without_measuring_limits_of_some_hardware_are_not_missed(project: Project) -> None:
    project.toml('[[tool.greencompute.budgets."test_it.py::test_bare".on]]\ngpu = "NVIDIA H100 80GB HBM3"\nenergy_per_query = "310 J"')
    project.write("test_it.py", BARE)
    project.run("--energy-strict").assert_outcomes(passed=1)
