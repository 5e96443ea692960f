"""--energy-modelled: figures that a model gives."""

from __future__ import annotations

import pytest

from .conftest import Project

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", latency_p95="1 s")
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""


@pytest.fixture
def modelled(project: Project) -> Project:
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    project.write("test_it.py", TEST)
    return project


@pytest.mark.parametrize("ci", ["", "true"])
def test_by_default_a_modelled_figure_passes_and_every_line_with_one_says_so(modelled: Project, ci: str) -> None:
    modelled.monkeypatch.setenv("CI", ci)
    result = modelled.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*energy: world gpu:0 Test GPU 3000, modelled*",
            "test_it *0.500 J * modelled *PASS*",
            "gpu:0 energy is modelled, not measured: made up for tests",
            "total * modelled in *",
        ]
    )
    (run,) = modelled.report()["runs"]
    assert [each["modelled"] for each in run["verdicts"]] == [True, False]


def test_a_modelled_failure_says_modelled(modelled: Project) -> None:
    modelled.write("test_it.py", TEST.replace("1 J", "0.1 J"))
    result = modelled.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it used 0.5000 J per query * on gpu:0 (modelled), over its budget of 0.1 J*"])


@pytest.mark.parametrize("option", ["--energy-modelled=fail", "--energy-strict"])
def test_with_fail_a_modelled_figure_is_red_though_it_is_within_its_budget(modelled: Project, option: str) -> None:
    result = modelled.measure(option)
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_it used 0.5000 J *(modelled), within its budget of 1 J."
            " The figure is modelled, and --energy-modelled fail asks for a measured one."
        ]
    )
