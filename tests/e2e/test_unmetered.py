"""``unmetered``: how much of a metered test runs without --energy-budget."""

from __future__ import annotations

from .conftest import Project
from .test_budget import TWO_TESTS


def test_unmetered_skip_runs_no_query(project: Project) -> None:
    project.toml('unmetered = "skip"')
    project.write("test_it.py", TWO_TESTS + "\n    def test_calls(world):\n        assert world.calls == 0\n")
    result = project.run("-rs")
    result.assert_outcomes(skipped=2, passed=1)
    result.stdout.fnmatch_lines(['SKIPPED * not measured: unmetered = "skip" and no --energy-budget'])


def test_unmetered_number_runs_so_many_queries_and_judges_their_accuracy(project: Project) -> None:
    project.toml("unmetered = 3")
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(accuracy=0.9)
        def test_three(energy_meter, world):
            run = energy_meter.measure(world.model(), list("abcdef"), references=list("ABCXXX"))
            assert run.outputs == list("ABC")
            assert world.calls == 3
        """,
    )
    project.run("--energy-json=energy.json").assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    assert run["notes"] == ["unmetered: the first 3 of 6 queries"]
    assert run["metrics"]["accuracy"]["value"] == 1.0
    assert run["metered"] is False
