"""--energy-max-seconds, --energy-confidence and --energy-tolerance: effort and strictness."""

from __future__ import annotations

import pytest

from .conftest import Project

TEST = """
    import os
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.5 J"{more})
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(float(os.environ.get("JOULES", "0.5")), spread=0.2), list("abcd"))
"""


def measured_seconds(project: Project, *args: str, more: str = "") -> float:
    project.write("test_it.py", TEST.format(more=more))
    result = project.measure("--energy-json=energy.json", *args)
    result.assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    seconds: float = run["seconds"]
    return seconds


def test_an_undecided_run_takes_the_time_limit_and_no_more(project: Project) -> None:
    assert 8 <= measured_seconds(project, "--energy-max-seconds=10") <= 10
    assert 28 <= measured_seconds(project, "--energy-max-seconds=30") <= 30
    assert 6 <= measured_seconds(project, "--energy-max-seconds=30", more=", max_seconds=8") <= 8, "the marker wins"


def test_the_runs_of_a_test_share_what_it_may_cost(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            for name in ("one", "other"):
                energy_meter.measure(world.model(0.5, spread=0.2), list("abcd"), name=name)
        """,
    )

    def seconds(*args: str) -> list[float]:
        project.measure("--energy-json=energy.json", *args).assert_outcomes(passed=1)
        return [run["seconds"] for run in project.report()["runs"]]

    first, second = seconds("--energy-max-seconds=20")
    assert 18 <= first <= 20
    assert second <= 12, "the least that says something"
    first, second = seconds()
    assert 55 <= first <= 60
    assert 55 <= second <= 66, "by default each has sixty"


def test_a_decided_run_stops_long_before_the_time_limit(project: Project) -> None:
    project.monkeypatch.setenv("JOULES", "0.2")
    assert measured_seconds(project, "--energy-max-seconds=300") < 30


def test_more_confidence_widens_the_interval(project: Project) -> None:
    widths = []
    for confidence in ("0.8", "0.95", "99.9%"):
        measured_seconds(project, "--energy-max-seconds=20", f"--energy-confidence={confidence}")
        figure = project.report()["runs"][0]["metrics"]["energy_per_query"]
        widths.append(figure["high"] - figure["low"])
    assert widths == sorted(widths)
    assert widths[0] < widths[2] / 1.5


@pytest.mark.parametrize(("tolerance", "outcome"), [("5%", "failed"), ("0.9", "passed")])
def test_the_tolerance_decides_what_is_a_regression(project: Project, tolerance: str, outcome: str) -> None:
    project.write("test_it.py", TEST.format(more="").replace('"0.5 J"', '"9 J"').replace("0.2)", "0.0)"))
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.monkeypatch.setenv("JOULES", "0.75")
    project.measure("--energy-baseline=main", f"--energy-tolerance={tolerance}").assert_outcomes(**{outcome: 1})


def test_a_floor_lets_a_change_pass_that_is_large_only_relatively(project: Project) -> None:
    project.toml("floor = { energy_per_query = '1 J' }")
    project.write("test_it.py", TEST.format(more="").replace('"0.5 J"', '"9 J"').replace("0.2)", "0.0)"))
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.monkeypatch.setenv("JOULES", "1")
    project.measure("--energy-baseline=main").assert_outcomes(passed=1)
