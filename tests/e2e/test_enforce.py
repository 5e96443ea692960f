"""--energy-enforce: report everything, fail nothing."""

from __future__ import annotations

from .conftest import Project

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.1 J", accuracy=0.9)
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"), references=list("ABCD"))
"""


def test_warn_reports_a_failed_budget_and_stays_green(project: Project) -> None:
    project.write("test_it.py", TEST)
    result = project.measure("--energy-enforce=warn", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["test_it *FAIL energy*", "warning: test_it used 0.5000 J per query *over its budget of 0.1 J (5.0 times).", "*1 budget failed"]
    )
    energy, _ = project.report()["runs"][0]["verdicts"]
    assert (energy["verdict"], energy["effect"]) == ("FAIL", "warn")


def test_warn_holds_for_every_other_word_too(project: Project) -> None:
    project.write("test_it.py", TEST)
    project.write("test_nothing.py", "import pytest\n@pytest.mark.energy_budget(energy_per_query='1 J')\ndef test_nothing(): pass\n")
    project.measure("--energy-enforce=warn", "--energy-strict").assert_outcomes(passed=2)


def test_warn_does_not_hide_a_tests_own_failure(project: Project) -> None:
    project.write("test_it.py", TEST + "        assert False\n")
    project.measure("--energy-enforce=warn").assert_outcomes(failed=1)


def test_fail_is_the_default_and_may_be_written(project: Project) -> None:
    project.write("test_it.py", TEST)
    project.measure("--energy-enforce=fail").assert_outcomes(failed=1)
