"""--energy-budget-file and [tool.greencompute]: budgets in files, and which place wins."""

from __future__ import annotations

import pytest

from .conftest import Project
from .test_bad_input import refused

MARKED = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_marked(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""
BARE = """
    def test_bare(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""


def words(project: Project) -> dict[str, str]:
    """Verdict word by metric of the only run."""
    (run,) = project.report()["runs"]
    return {each["metric"]: each["verdict"] for each in run["verdicts"]}


def test_a_budget_in_pyproject_fails_the_test_and_the_table_says_which_line_it_is_from(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_bare"]\nenergy_per_query = "0.1 J"')
    project.write("test_it.py", BARE)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_bare used 0.5000 J *over its budget of 0.1 J (5.0 times). The limit is in pyproject.toml:4.",
            "*limits from",
            "*pyproject.toml:4",
        ]
    )


def test_a_marker_wins_over_the_file_metric_by_metric(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_marked"]\nenergy_per_query = "0.1 J"\nlatency_p50 = "1 ms"')
    project.write("test_it.py", MARKED)
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    assert words(project) == {"energy_per_query": "PASS", "latency_p50": "FAIL"}
    result.stdout.fnmatch_lines(["test_marked *FAIL latency *marker, pyproject.toml:5"])


def test_patterns_know_stars_and_question_marks_and_take_brackets_literally(project: Project) -> None:
    project.toml(
        """
        [tool.greencompute.budgets."test_it.py::test_size[[]a]"]
        energy_per_query = "9 J"
        """
    )
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.parametrize("size", ["a", "b"])
        def test_size(energy_meter, world, size):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    refused(project.run(), "matches no collected test")
    project.toml(
        """
        [tool.greencompute.budgets."*::test_size[?]"]
        energy_per_query = "9 J"
        [tool.greencompute.budgets."test_it.py::test_size[b]"]
        energy_per_query = "0.1 J"
        """
    )
    result = project.measure("-rA")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_size[[]b]*", "*1 passed*"])


def test_a_budget_file_of_its_own_wins_over_pyproject_and_is_named_in_the_sentence(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_bare"]\nenergy_per_query = "9 J"')
    project.write("budgets.toml", '[budgets."test_it.py::test_bare"]\nenergy_per_query = "0.1 J"')
    project.write("test_it.py", BARE)
    result = project.measure("--energy-budget-file=budgets.toml")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*over its budget of 0.1 J * The limit is in budgets.toml:2."])
    project.measure().assert_outcomes(passed=1)


def test_a_budget_file_may_also_have_the_tables_of_a_pyproject(project: Project) -> None:
    project.write("budgets.toml", '[tool.greencompute.budgets."test_it.py::test_bare"]\nenergy_per_query = "0.1 J"')
    project.write("test_it.py", BARE)
    project.measure("--energy-budget-file=budgets.toml").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("marker", "option", "toml", "n_confidence"),
    [("confidence=0.9", "0.95", "0.8", 0.9), ("", "0.95", "0.8", 0.95), ("", "", "0.8", 0.8), ("", "", "", 0.99)],
)
def test_a_term_comes_from_the_marker_else_the_command_line_else_the_file_else_the_default(
    project: Project, marker: str, option: str, toml: str, n_confidence: float
) -> None:
    project.toml(f"confidence = {toml}" if toml else "")
    project.write("test_it.py", MARKED.replace('"1 J"', f'"1 J", {marker}'))
    project.measure("--energy-json=energy.json", *([f"--energy-confidence={option}"] if option else [])).assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    assert run["metrics"]["energy_per_query"]["confidence"] == n_confidence


def test_every_option_has_its_twin_in_the_file(project: Project) -> None:
    project.toml(
        """
        budget = true
        only = true
        total = "1 MJ"
        meter = "world"
        save = "main"
        max_seconds = 5
        confidence = 0.95
        tolerance = "10%"
        enforce = "warn"
        inconclusive = "fail"
        unmeasured = "skip"
        modelled = "fail"
        strict = false
        json = "out/energy.json"
        """
    )
    project.write("test_it.py", BARE + "\n    def test_plain(): raise AssertionError\n")
    result = project.run()
    result.assert_outcomes(passed=1, deselected=1)
    assert project.report("out/energy.json")["session"]["total"]["verdict"] == "PASS"
    result.stdout.fnmatch_lines(["saved 1 run to baseline 'main'*", "total * of 1 MJ in * s*"])


def test_the_command_line_wins_over_the_file(project: Project) -> None:
    project.toml('enforce = "warn"\n[tool.greencompute.budgets."test_it.py::test_bare"]\nenergy_per_query = "0.1 J"')
    project.write("test_it.py", BARE)
    project.measure().assert_outcomes(passed=1)
    project.measure("--energy-enforce=fail").assert_outcomes(failed=1)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_most_specific_pattern_wins_wherever_it_stands_and_is_the_one_that_is_updated(project: Project, reverse: bool) -> None:
    patterns = ["*", "test_it.py::test_*", "test_it.py::*"]
    order = patterns[::-1] if reverse else patterns
    limits = {pattern: "0.1 J" if pattern == "test_it.py::test_*" else "9 J" for pattern in order}
    project.toml("".join(f'[tool.greencompute.budgets."{each}"]\nenergy_per_query = "{limit}"\n' for each, limit in limits.items()))
    project.write("test_it.py", BARE)
    result = project.measure("--energy-update=loosen")
    result.assert_outcomes(failed=1)
    line = 4 + 2 * order.index("test_it.py::test_*")
    result.stdout.fnmatch_lines([f"*over its budget of 0.1 J * The limit is in pyproject.toml:{line}."])
    written = [text for text in (project.path / "pyproject.toml").read_text(encoding="utf-8").splitlines() if "energy_per" in text]
    assert [text.partition(" = ")[2] for text in written] == ['"0.525 J"' if limits[each] == "0.1 J" else '"9 J"' for each in order]


def test_two_patterns_that_are_as_specific_must_agree_and_the_error_names_both_lines(project: Project) -> None:
    tables = '[tool.greencompute.budgets."{}"]\nenergy_per_query = "9 J"\n[tool.greencompute.budgets."{}"]\nenergy_per_query = "{}"'
    project.write("test_it.py", BARE)
    project.toml(tables.format("*::test_bar?", "test_it.py*?", "0.1 J"))
    refused(
        project.measure(),
        "pyproject.toml:4 and pyproject.toml:6 set energy_per_query by patterns that are as specific, and differ."
        " Name the test more exactly in one of them. (test_it.py::test_bare)",
    )
    project.toml(tables.format("*::test_bar?", "test_it.py*?", "9 J"))
    project.measure().assert_outcomes(passed=1)
    project.toml(tables.format("*::test_bar?", "test_it.p*?", "0.1 J"))
    project.measure().assert_outcomes(passed=1)
