"""--energy-github: the job summary, the annotations and the outputs of a step of GitHub Actions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Project
from .test_bad_input import said

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_within(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_over(energy_meter, world):
        energy_meter.measure(world.model(2.0), list("abcd"))
"""


@pytest.fixture
def step(project: Project) -> Path:
    """A step of a job: the folder that holds the files which GitHub reads when it ends."""
    folder = project.path / "runner"
    folder.mkdir()
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        project.monkeypatch.setenv(name, str(folder / name))
    project.monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    return folder


def read(step: Path, name: str) -> str:
    return (step / name).read_text(encoding="utf-8")


def test_in_a_job_the_summary_the_annotations_and_the_outputs_come_by_themselves(project: Project, step: Path) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure()
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    assert read(step, "GITHUB_STEP_SUMMARY").startswith("## ❌ Energy budgets: FAIL\n")
    outputs = dict(line.split("=", 1) for line in read(step, "GITHUB_OUTPUT").splitlines())
    assert outputs["verdict"] == "FAIL"
    assert float(outputs["energy_j"]) > 0
    assert outputs["worst_regression"] == ""
    result.stdout.fnmatch_lines(
        [
            "::stop-commands::*",
            "*energy: world gpu:0*",
            "::error title=Energy budgets%3A FAIL::1 of 2 verdicts failed the build.",
            "::error file=test_it.py,line=7,title=FAIL energy%3A test_over::test_over used 2.000 J per query *",
        ]
    )


def test_our_section_cannot_command_the_runner(project: Project, step: Path) -> None:
    project.write("test_it.py", TESTS)
    lines = said(project.measure()).splitlines()
    (start,) = [place for place, line in enumerate(lines) if line.startswith("::stop-commands::")]
    token = lines[start].removeprefix("::stop-commands::")
    assert re.fullmatch("[0-9a-f]{32}", token)
    end = lines.index(f"::{token}::")
    assert any("energy: world" in line for line in lines[start:end])
    assert all(line.startswith("::error ") for line in lines[end + 1 :] if line.startswith("::"))
    assert f"::stop-commands::{token}" not in said(project.measure()), "a new one each time"


@pytest.mark.parametrize("how", ["option", "file"])
def test_it_can_be_switched_off(project: Project, step: Path, how: str) -> None:
    project.write("test_it.py", TESTS)
    project.toml('github = "off"' if how == "file" else "")
    result = project.measure(*(["--energy-github=off"] if how == "option" else []))
    result.assert_outcomes(passed=1, failed=1)
    assert list(step.iterdir()) == []
    assert "::error" not in said(result)


def test_outside_of_a_job_nothing_is_told_and_asked_by_name_it_is_missed(project: Project) -> None:
    project.write("test_it.py", TESTS)
    assert "::error" not in said(project.measure())
    result = project.measure("--energy-github=on", "-k", "within")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["the job summary was not written: GITHUB_STEP_SUMMARY is not set, as it is in a step *"])


def test_where_only_the_job_is_named_the_missing_files_are_said_and_red_is_nothing(project: Project) -> None:
    """As in a container that was handed GITHUB_ACTIONS and nothing else."""
    project.write("test_it.py", TESTS)
    project.monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = project.measure("-k", "within")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["the step's outputs were not written: GITHUB_OUTPUT is not set, *--energy-github off asks for none."])


def test_without_measuring_nothing_is_told(project: Project, step: Path) -> None:
    project.write("test_it.py", TESTS)
    project.run().assert_outcomes(passed=2)
    assert list(step.iterdir()) == []


BROKEN = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_within(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_breaks(energy_meter):
        raise RuntimeError("CUDA out of memory")

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_has_no_fixture(energy_meter, nowhere):
        pass

    def test_plain():
        assert 1 == 2
"""


def test_a_metered_test_that_breaks_is_red_in_every_report(project: Project, step: Path) -> None:
    project.write("test_it.py", BROKEN)
    result = project.measure("--energy-json=energy.json", "--energy-markdown=energy.md")
    result.assert_outcomes(passed=1, failed=2, errors=1)
    assert read(step, "GITHUB_STEP_SUMMARY").startswith("## ❌ Energy budgets: ")
    assert read(step, "GITHUB_OUTPUT").splitlines()[1] == "red=true"
    broken = {each["test"]: each["reason"] for each in project.report()["session"]["broken"]}
    assert broken["test_it.py::test_breaks"] == "RuntimeError: CUDA out of memory"
    assert set(broken) == {"test_it.py::test_breaks", "test_it.py::test_has_no_fixture"}
    assert "test&#95;breaks failed&#58; RuntimeError&#58; CUDA out of memory" in (project.path / "energy.md").read_text(encoding="utf-8")


def test_a_summary_that_cannot_be_written_is_named_and_the_verdicts_stand(project: Project, step: Path) -> None:
    project.write("test_it.py", TESTS)
    (step / "GITHUB_STEP_SUMMARY").mkdir()
    result = project.measure("-k", "within")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_within * PASS *", "the job summary was not written: * cannot be written: Is a directory.*"])
    assert read(step, "GITHUB_OUTPUT").startswith("verdict=FAIL\nred=true\n"), "no step after it may take it for well"


def test_in_a_project_below_the_checkout_places_are_told_from_the_top(project: Project, step: Path) -> None:
    project.monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
    project.write("test_it.py", TESTS)
    assert f"::error file={project.path.name}/test_it.py,line=7," in said(project.measure())
