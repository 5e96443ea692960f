"""[[accept]]: failures that the file accepts, up to a value and until a day."""

from __future__ import annotations

import pytest

from .conftest import Project
from .test_bad_input import refused

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""


def accept(test: str = "test_it.py::test_it", up_to: str = "0.6 J", expires: str = "2999-01-31") -> str:
    return f"""
        [[tool.greencompute.accept]]
        test = "{test}"
        metric = "energy_per_query"
        up_to = "{up_to}"
        reason = "the new tokenizer, see issue 12"
        expires = "{expires}"
    """


@pytest.mark.parametrize("test", ["test_it.py::test_it", "*::test_i?"])
def test_an_accepted_failure_is_green_and_always_shown_with_its_reason(project: Project, test: str) -> None:
    project.toml(accept(test))
    project.write("test_it.py", TEST)
    result = project.measure("--energy-json=energy.json", "--energy-strict")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "test_it *0.500 J *ACCEPTED energy*",
            "warning: test_it used 0.5000 J *over its budget of 0.4 J *"
            " Accepted up to 0.6 J until 2999-01-31: the new tokenizer, see issue 12 (pyproject.toml:*).",
            "*0 budgets failed",
        ]
    )
    assert project.report()["runs"][0]["verdicts"][0]["verdict"] == "ACCEPTED"


def test_an_expired_acceptance_is_red_and_says_since_when(project: Project) -> None:
    project.toml(accept(expires="2020-01-31"))
    project.write("test_it.py", TEST)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it used 0.5000 J * It was accepted until 2020-01-31 (pyproject.toml:*).*"])


def test_an_exceeded_acceptance_is_red_and_says_up_to_what(project: Project) -> None:
    project.toml(accept(up_to="0.45 J"))
    project.write("test_it.py", TEST)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it used 0.5000 J * It was accepted only up to 0.45 J (pyproject.toml:*).*"])


@pytest.mark.parametrize("reverse", [False, True])
def test_an_acceptance_for_all_tests_does_not_soften_one_for_a_test_by_name(project: Project, reverse: bool) -> None:
    entries = [accept("*", up_to="9 J"), accept(up_to="0.45 J")]
    project.toml("".join(entries[::-1] if reverse else entries))
    project.write("test_it.py", TEST)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it used 0.5000 J * It was accepted only up to 0.45 J (pyproject.toml:*).*"])
    project.toml("".join([accept("*"), accept(up_to="0.45 J", expires="2020-01-31")]))  # what has expired says nothing any more
    project.measure().assert_outcomes(passed=1)


def test_an_acceptance_for_a_test_that_does_not_exist_is_an_error(project: Project) -> None:
    project.toml(accept(test="test_it.py::test_gone"))
    project.write("test_it.py", TEST)
    refused(
        project.measure(), "pyproject.toml:", "the accepted failure for 'test_it.py::test_gone' matches no collected test.", "Did you mean"
    )


def test_an_accepted_failure_against_a_baseline_is_green(project: Project) -> None:
    project.write("test_it.py", TEST.replace("0.4 J", "9 J").replace("0.5)", "0.25)"))
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.write("test_it.py", TEST.replace("0.4 J", "9 J"))
    project.measure("--energy-baseline=main").assert_outcomes(failed=1)
    project.toml(accept())
    project.measure("--energy-baseline=main").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('test = "x"', "accept: metric, up_to, reason, expires missing."),
        (accept(expires="soon").split("]]")[1], "expires = 'soon' is not a date."),
        (accept(up_to="0.6 s").split("]]")[1], "'0.6 s' is a time, not an energy."),
        (accept().split("]]")[1].replace('"energy_per_query"', '"energy"'), "'energy' is not a metric."),
        (accept().split("]]")[1] + 'untill = "x"', "'untill' is not a key of accept."),
        (accept().split("]]")[1].replace("the new tokenizer, see issue 12", ""), "reason missing."),
    ],
)
def test_an_acceptance_that_cannot_be_read_is_a_usage_error_with_its_line(project: Project, entry: str, sentence: str) -> None:
    lines = "\n".join(line.strip() for line in entry.splitlines())
    project.toml(f"[[tool.greencompute.accept]]\n{lines}")
    project.write("test_it.py", TEST)
    refused(project.run(), "pyproject.toml:3: accept: ", sentence)
