"""What a test asks of a run and of the one that it is held against: the same table for saved runs (``--energy-baseline``,
``greencompute compare``) and for the other commit (``--energy-base-ref``)."""

from __future__ import annotations

import json
from typing import Any

import pytest

import pytest_greencompute.judging.saved_sessions
import pytest_greencompute.results.run_json  # noqa: F401  loaded once, as in conftest.py
from pytest_greencompute import cli

from .conftest import Project
from .test_base_ref import Repository, repository

__all__ = ["repository"]

BEFORE = 'energy_meter.measure(model, ["a", "b", "c", "d"], references=["A", "B", "C", "D"], tokens=len, count=["page_faults_per_query"])'
TEST = """
from app import model

LIMIT = 1

def same(answer, reference):
    return LIMIT * (answer == reference)

def test_it(energy_meter):
    {body}
"""
SCORED = BEFORE.replace("tokens=len", "score=same")
TWO = f'{BEFORE}; energy_meter.measure(model, ["a", "b"], name="two")'

# What the test was, what it is now, and the words of the verdicts against the other run that must then be UNMEASURED (run, metric).
LADDER = [
    pytest.param(BEFORE, BEFORE, set(), id="the same"),
    pytest.param(SCORED, SCORED, set(), id="the same score"),
    pytest.param(BEFORE, BEFORE.replace(', references=["A", "B", "C", "D"]', ""), {(None, "accuracy")}, id="references= dropped"),
    pytest.param(BEFORE, BEFORE.replace(", tokens=len", ""), {(None, "tokens_per_query")}, id="tokens= dropped"),
    pytest.param(BEFORE, BEFORE.partition(", count=")[0] + ")", {(None, "page_faults_per_query")}, id="count= dropped"),
    pytest.param(SCORED, BEFORE.replace("tokens=len, ", ""), {(None, "accuracy")}, id="another score"),
    pytest.param(TWO, BEFORE, {("two", "energy_per_query")}, id="a run dropped"),
    pytest.param(BEFORE, "pass", {(None, "energy_per_query")}, id="nothing measured"),
    pytest.param(BEFORE, BEFORE.replace('"d"', '"D"'), {(None, "energy_per_query"), (None, "accuracy")}, id="another query"),
]
WINDOW = 'with energy_meter.window(queries=4): model(["a", "b", "c", "d"])'


def unmeasured(project: Project, kind: str) -> set[tuple[str | None, str]]:
    """What could not be compared, as the report has it."""
    found = [(run["name"], each) for run in project.report()["runs"] for each in run["verdicts"] if each["kind"] == kind]
    return {(name, each["metric"]) for name, each in found if each["verdict"] == "UNMEASURED"}


@pytest.mark.parametrize(("before", "now", "expected"), LADDER)
def test_against_a_baseline(project: Project, before: str, now: str, expected: set[tuple[str | None, str]]) -> None:
    project.write("app.py", "from world import world\nmodel = world.model()\n")
    project.write("test_it.py", TEST.format(body=before))
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.write("test_it.py", TEST.format(body=now))
    result = project.measure("--energy-baseline=main", "--energy-unmeasured=fail", "--energy-json=energy.json")
    assert unmeasured(project, "baseline") == expected
    result.assert_outcomes(**({"failed": 1} if expected else {"passed": 1}))


@pytest.mark.parametrize(("before", "now", "expected"), LADDER)
def test_against_another_commit(repository: Repository, before: str, now: str, expected: set[tuple[str | None, str]]) -> None:
    repository.project.write("tests/test_app.py", TEST.format(body=before))
    repository.commit()
    repository.project.write("tests/test_app.py", TEST.format(body=now))
    result = repository.measure("main", "--energy-unmeasured=fail", "--energy-inconclusive=warn")
    assert unmeasured(repository.project, "base_ref") == expected
    result.assert_outcomes(**({"failed": 1} if expected else {"passed": 1}))


def test_a_window_in_place_of_a_measured_run_is_not_compared_and_says_so(project: Project, repository: Repository) -> None:
    project.write("tests/test_app.py", TEST.format(body=BEFORE))
    repository.commit()
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.write("tests/test_app.py", TEST.format(body=WINDOW))
    project.measure("--energy-baseline=main", "--energy-json=energy.json").assert_outcomes(passed=1)
    assert (None, "energy_per_query") in unmeasured(project, "baseline")
    repository.measure().stdout.fnmatch_lines(["note: test_it: a window is judged by its budgets: it is not measured by turns *"])


# Saved runs alone


FACTORS = 'carbon_intensity = "56 g/kWh"\nelectricity_price = "0.25 EUR/kWh"\npue = 1.2'
FULL = """
import pytest
from app import model

@pytest.mark.energy_budget(carbon_per_query="1 kg", cost_per_query=1.0)
def test_it(energy_meter):
    energy_meter.measure(model, list("abcd"))
"""
MODELLED = """
import pytest

@pytest.mark.energy_budget(max_seconds=1)
def test_it(energy_meter):
    energy_meter.measure(lambda batch: [sum(range(20000)) and each for each in batch], list("abcd"))
"""


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (FACTORS, set()),
        (FACTORS.replace("56", "30"), {"carbon_per_query"}),
        (FACTORS.replace("0.25", "0.20"), {"cost_per_query"}),
    ],
)
def test_figures_made_with_other_factors_are_not_compared(project: Project, now: str, expected: set[str]) -> None:
    project.write("app.py", "from world import world\nmodel = world.model()\n")
    project.write("test_it.py", FULL)
    project.toml(FACTORS)
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.toml(now)
    project.measure("--energy-baseline=main", "--energy-json=energy.json", "--energy-enforce=warn")
    assert {metric for _, metric in unmeasured(project, "baseline")} == expected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("", "cpu_watts_per_core = 7", {"energy_per_query"}),
        ("cpu_watts_per_core = 7", "cpu_watts_per_core = 5", {"energy_per_query"}),
        ("", "cpu_watts_per_core = 10", set()),  # what the default is
    ],
)
def test_joules_modelled_with_other_watts_are_not_compared(project: Project, before: str, now: str, expected: set[str]) -> None:
    project.write("test_it.py", MODELLED)
    meters = 'meters = ["cputime"]\nmax_seconds = 1\n'
    project.toml(meters + before)
    project.run_apart("--energy-budget", "--energy-save=main", "--energy-inconclusive=warn").assert_outcomes(passed=1)
    project.toml(meters + now)
    project.run_apart("--energy-budget", "--energy-baseline=main", "--energy-json=energy.json", "--energy-enforce=warn")
    assert {metric for _, metric in unmeasured(project, "baseline")} == expected


def without_new_fields(project: Project) -> None:
    """The saved file as an older version wrote it."""
    (path,) = (project.path / ".greencompute" / "baselines" / "main").glob("*.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    for run in data["runs"]:
        run["provenance"] = {
            name: value for name, value in run["provenance"].items() if name in {"machine", "devices", "batch_size", "conditions"}
        }
    path.write_text(json.dumps(data), encoding="utf-8")


def test_a_baseline_of_an_older_version_is_compared_and_what_it_does_not_say_is_told(project: Project) -> None:
    project.write("app.py", "from world import world\nmodel = world.model()\n")
    project.write("test_it.py", TEST.format(body=SCORED))
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    without_new_fields(project)
    project.measure("--energy-baseline=main", "--energy-unmeasured=fail", "--energy-json=energy.json").assert_outcomes(passed=1)
    reasons = {each["metric"]: each["reason"] for each in project.report()["runs"][0]["verdicts"] if each["kind"] == "baseline"}
    assert "unknown in the baseline" in reasons["energy_per_query"]
    assert "score: same (" in reasons["accuracy"]


def test_two_files_are_compared_by_the_same_table(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("app.py", "from world import world\nmodel = world.model()\n")
    for name, body in (("a", TWO), ("b", BEFORE.replace('"d"', '"D"').replace(", tokens=len", ""))):
        project.write("test_it.py", TEST.format(body=body))
        project.measure(f"--energy-json={name}.json").assert_outcomes(passed=1)
    capsys.readouterr()
    project.monkeypatch.chdir(project.path)
    assert cli.main(["compare", "a.json", "b.json", "--json"]) == 3
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    words = {each["name"]: {verdict["metric"]: verdict["verdict"] for verdict in each["verdicts"]} for each in found}
    assert words[None] == dict.fromkeys(("energy_per_query", "accuracy", "tokens_per_query"), "UNMEASURED")
    assert [each["name"] for each in found if each["only_in"] == "a"] == ["two"]


GONE = """
def test_it(energy_meter, world):
    energy_meter.measure(world.model(), list("abcd"))

def test_other({fixtures}):
    {body}
"""


@pytest.mark.parametrize(
    ("change", "args", "said"),
    [
        (("def test_other(energy_meter, world):", "def test_other():"), [], "does not use energy_meter any more"),
        (("def test_other", "def test_renamed"), [], "is no test any more: renamed, deleted, or its file is skipped"),
        (("def test_other", "def test_renamed"), ["-k", "not renamed and not other"], ""),
        (("def test_other", "def test_renamed"), ["test_it.py::test_it"], ""),
        (("def test_other", "def test_other"), ["-k", "not renamed and not other"], ""),
    ],
)
def test_a_test_that_measured_and_does_not_any_more_is_red_where_unmeasured_is(
    project: Project, change: tuple[str, str], args: list[str], said: str
) -> None:
    measures = "energy_meter.measure(world.model(), list('abcd'))"
    project.write("test_it.py", GONE.format(fixtures="energy_meter, world", body=measures))
    project.measure("--energy-save=main").assert_outcomes(passed=2)
    still = "energy_meter" in change[1] or "()" not in change[1]
    project.write("test_it.py", GONE.format(fixtures="energy_meter, world", body=measures if still else "pass").replace(*change))
    for how in ("warn", "fail"):
        result = project.measure("--energy-baseline=main", f"--energy-unmeasured={how}", "--energy-inconclusive=warn", *args)
        red = bool(said) and how == "fail"
        renamed = "renamed" in change[1] and not args  # the new test is not in the baseline, which makes it red itself
        assert (result.ret != 0) == (red or (renamed and how == "fail"))
        if said:
            result.stdout.fnmatch_lines([f"test_it.py::test_other was measured in baseline 'main' and {said}"])
        else:
            result.stdout.no_fnmatch_line("*was measured in baseline*")


def test_queries_that_show_nothing_of_what_they_hold_are_said_to(project: Project) -> None:
    body = "energy_meter.measure(model, [object() for _ in range(4)])"
    project.write("app.py", "from world import world\nmodel = world.model(answer=str)\n")
    project.write("test_it.py", TEST.format(body=body))
    project.measure("--energy-save=main").stdout.fnmatch_lines(
        ["note: test_it: queries are object objects, which show nothing of what is in them*"]
    )
    project.measure("--energy-baseline=main", "--energy-unmeasured=fail", "--energy-enforce=warn", "--energy-json=energy.json")
    assert unmeasured(project, "baseline") == set()
