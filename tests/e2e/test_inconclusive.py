"""--energy-inconclusive: an interval that holds the limit."""

from __future__ import annotations

import pytest

from .conftest import Project

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.5 J")
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5, spread=0.2), list("abcd"))
"""
SENTENCE = (
    "test_it used 0.* J per query [[]0.*, 0.*] on gpu:0, not clearly on either side of its budget of 0.5 J: the interval holds the limit*"
)


@pytest.mark.parametrize("ci", ["", "true"])
def test_by_default_it_warns_also_in_ci(project: Project, ci: str) -> None:
    project.monkeypatch.setenv("CI", ci)
    project.write("test_it.py", TEST)
    result = project.measure("--energy-max-seconds=5")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_it *INCONCLUSIVE energy*", f"warning: {SENTENCE}", "*0 budgets failed"])


@pytest.mark.parametrize("option", ["--energy-inconclusive=fail", "--energy-strict"])
def test_with_fail_it_is_red_and_the_sentence_says_what_to_do(project: Project, option: str) -> None:
    project.write("test_it.py", TEST)
    result = project.measure("--energy-max-seconds=5", option)
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"{SENTENCE} --energy-max-seconds gives it more time; --energy-inconclusive warn lets it pass."])


def test_accuracy_that_is_inconclusive_asks_for_queries_and_not_for_seconds(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(accuracy=0.7)
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"), references=list("ABCX"))
        """,
    )
    project.toml("accuracy_confidence = 0.99")
    result = project.measure("--energy-max-seconds=30", "--energy-strict", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*more labelled queries narrow it. More labelled queries would tell more; --energy-inconclusive warn lets it pass."]
    )
    result.stdout.no_fnmatch_line("*max-seconds*")
    assert project.report()["runs"][0]["seconds"] < 15  # of simulated time: more of it would change nothing
