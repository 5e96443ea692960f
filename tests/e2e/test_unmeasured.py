"""--energy-unmeasured: a budget without a figure."""

from __future__ import annotations

import pytest

from .conftest import Project

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_it(energy_meter):
        pass
"""
SENTENCE = "test_it has no energy_per_query to judge: the test measured nothing."


@pytest.mark.parametrize(
    ("ci", "option", "outcome"),
    [
        (None, None, "passed"),
        ("", None, "passed"),
        ("false", None, "passed"),
        ("0", None, "passed"),
        ("true", None, "failed"),
        ("1", None, "failed"),
        ("true", "warn", "passed"),
        (None, "fail", "failed"),
        (None, "skip", "skipped"),
        ("true", "skip", "skipped"),
    ],
)
def test_it_fails_in_ci_and_warns_elsewhere_unless_told_otherwise(
    project: Project, ci: str | None, option: str | None, outcome: str
) -> None:
    if ci is not None:
        project.monkeypatch.setenv("CI", ci)
    project.write("test_it.py", TEST)
    result = project.measure("-rs", *([f"--energy-unmeasured={option}"] if option else []))
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == (1 if outcome == "failed" else 0)
    told = {"passed": f"warning: {SENTENCE}", "failed": f"{SENTENCE} *", "skipped": f"SKIPPED * {SENTENCE} *"}
    result.stdout.fnmatch_lines([told[outcome]])


def test_a_failed_budget_is_red_even_where_another_is_unmeasured_and_skips(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="0.1 J", accuracy=0.9)
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure("--energy-unmeasured=skip")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it used 0.5000 J *over its budget*"])
