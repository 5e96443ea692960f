"""What a test says whose budget is not decided in its time: how much more it would have taken."""

from __future__ import annotations

from .conftest import Project

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="{limit}")
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5, spread=0.2), list("abcd"))
"""


def test_a_budget_near_the_figure_says_what_it_would_have_taken(project: Project) -> None:
    project.write("test_it.py", TEST.format(limit="0.52 J"))
    result = project.measure("--energy-max-seconds=10")
    result.stdout.re_match_lines([r"^warning: test_it used .* not clearly .*"])
    result.stdout.re_match_lines([r"^note: test_it: not decided within the limit: energy needs about \d+ s more$"])


def test_a_budget_that_is_decided_says_nothing_of_it(project: Project) -> None:
    project.write("test_it.py", TEST.format(limit="2 J"))
    project.measure("--energy-max-seconds=10").stdout.no_fnmatch_line("*not decided*")
