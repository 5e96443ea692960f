"""pytest-xdist: what works side by side, and what is refused. Workers are processes of their own, in real time."""

from __future__ import annotations

import pytest

from .conftest import Project
from .test_bad_input import refused, said

pytest.importorskip("xdist")

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", accuracy=0.9)
    def test_right(energy_meter, world):
        energy_meter.measure(world.model(seconds=0.001), list("abcd"), references=list("ABCD"))

    @pytest.mark.energy_budget(energy_per_query="1 J", accuracy=0.9)
    def test_wrong(energy_meter, world):
        energy_meter.measure(world.model(seconds=0.001), list("abcd"), references=list("ABXX"))

    def test_plain():
        pass
"""


@pytest.mark.parametrize("options", [["-n", "2"], ["--numprocesses=2"], ["--dist=each", "--tx=popen"]], ids=" ".join)
def test_measuring_under_workers_is_refused_with_the_remedy(project: Project, options: list[str]) -> None:
    project.write("test_it.py", TESTS)
    refused(
        project.run_apart("--energy-budget", *options),
        "--energy-budget measures one test at a time and cannot run under xdist workers: tests side by side would pay for each other.",
        "Use -n 0 (or -p no:xdist) with --energy-only, and run the others with -n and --energy-skip.",
    )


def test_measuring_that_the_file_switched_on_is_refused_under_workers_too(project: Project) -> None:
    project.toml("budget = true")
    project.write("test_it.py", TESTS)
    refused(project.run_apart("-n2"), "cannot run under xdist workers")


def test_without_measuring_workers_judge_accuracy_and_the_controller_says_and_writes(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.run_apart("-n2", "--energy-json=energy.json", "--junitxml=junit.xml", "--energy-only")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["test_wrong scored 0.5000 *under its floor of 0.9.*", "energy: 2 tests ran unmetered; pytest --energy-budget measures them"]
    )
    assert said(result).count("ran unmetered") == 1
    report = project.report()
    assert sorted(run["test"] for run in report["runs"]) == ["test_it.py::test_right", "test_it.py::test_wrong"]
    assert report["exit_status"] == 1
    assert "accuracy_verdict" in (project.path / "junit.xml").read_text(encoding="utf-8")


def test_names_and_swept_values_of_any_kind_travel_from_the_workers(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import enum
        import numpy as np

        class Model(str, enum.Enum):
            LARGE = "large"
            SMALL = "small"

        def test_names(energy_meter, world):
            models = {Model.LARGE: world.model(1.0), Model.SMALL: world.model(0.5)}
            energy_meter.compare(models, list("abcd"), references=list("ABCD"))

        def test_values(energy_meter, world):
            model = world.model(1.0)
            energy_meter.sweep(lambda batch, heat, top: model(batch), list("abcd"), heat=np.linspace(0, 1, 3), top=np.arange(1, 2))
        """,
    )
    result = project.run_apart("-n1", "--energy-json=energy.json")
    result.assert_outcomes(passed=2)
    candidates = [run["candidate"] for run in project.report()["runs"]]
    assert [each["candidate"] for each in candidates] == ["large", "small", "heat=0.0 top=1", "heat=0.5 top=1", "heat=1.0 top=1"]
    assert [each["values"] for each in candidates][2:] == [{"heat": heat, "top": 1} for heat in (0.0, 0.5, 1.0)]


def test_a_broken_file_and_a_broken_marker_are_told_without_a_crash(project: Project) -> None:
    project.toml("tolerence = 3")
    project.write("test_it.py", TESTS)
    refused(project.run_apart("-n2"), "pyproject.toml:3: 'tolerence' is not a setting.")
    project.toml("")
    project.write("test_it.py", TESTS.replace('"1 J"', '"1 JJ"'))
    result = project.run_apart("-n2")
    assert result.ret != 0
    text = said(result)
    assert "the marker at test_it.py:3: energy_per_query: '1 JJ' has an unknown unit" in text
    assert "INTERNALERROR" not in text
    assert "passed" not in text


def test_no_workers_and_no_xdist_measure_as_ever(project: Project) -> None:
    project.write("test_it.py", TESTS)
    for options in (["-n0"], ["-p", "no:xdist"]):
        project.measure("-k", "right", *options).assert_outcomes(passed=1, deselected=2)
