"""--energy-strict: inconclusive, unmeasured and modelled all fail."""

from __future__ import annotations

from .conftest import Project

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.5 J")
    def test_inconclusive(energy_meter, world):
        energy_meter.measure(world.model(0.5, spread=0.2), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="0.5 J")
    def test_unmeasured(energy_meter):
        pass

    @pytest.mark.energy_budget(energy_per_query="0.5 J")
    def test_fine(energy_meter, world):
        energy_meter.measure(world.model(0.2), list("abcd"))
"""


def test_strict_fails_what_would_warn(project: Project) -> None:
    project.write("test_it.py", TESTS)
    project.measure("--energy-max-seconds=5").assert_outcomes(passed=3)
    project.measure("--energy-max-seconds=5", "--energy-strict").assert_outcomes(passed=1, failed=2)


def test_strict_fails_modelled_figures_and_wins_over_the_single_options(project: Project) -> None:
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    project.write("test_it.py", TESTS)
    options = ("--energy-max-seconds=5", "--energy-modelled=warn", "--energy-unmeasured=skip", "--energy-inconclusive=warn")
    project.measure("--energy-strict", *options).assert_outcomes(failed=3)


def test_strict_in_the_file_holds_too(project: Project) -> None:
    project.toml("strict = true\nmax_seconds = 5")
    project.write("test_it.py", TESTS)
    project.measure().assert_outcomes(passed=1, failed=2)
