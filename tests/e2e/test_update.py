"""--energy-update: measured limits, plus headroom, in the budget file."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Project
from .test_bad_input import refused

TEST = """
    import os
    import pytest

    def test_it(energy_meter, world):
        model = world.model(float(os.environ.get("JOULES", "0.5")), float(os.environ.get("SECONDS", "0.01")))
        wrong = int(os.environ.get("WRONG", "0"))
        energy_meter.measure(model, ["query"] * 100, references=["X"] * wrong + ["QUERY"] * (100 - wrong))
"""
TWO = """
    import os

    def test_small(energy_meter, world):
        energy_meter.measure(world.model(0.2), list("abcd"))

    def test_large(energy_meter, world):
        energy_meter.measure(world.model(float(os.environ.get("LARGE", "0.4"))), list("abcd"))
"""
BUDGET = """
    # what we promise
    [tool.greencompute.budgets."test_it.py::test_it"]
    energy_per_query = "800 mJ"   # measured by hand
    latency_p95 = '40 ms'
    accuracy = "90 %"

    # the linter's
    [tool.ruff]
    line-length = 100
"""


def text(project: Project, name: str = "pyproject.toml") -> str:
    return (project.path / name).read_text(encoding="utf-8")


@pytest.fixture
def budgeted(project: Project) -> Project:
    """A program that uses less than its budget."""
    project.toml(BUDGET)
    project.write("test_it.py", TEST)
    return project


def test_tightened_limits_stand_where_the_old_ones_stood_in_their_units_with_the_card_beside_them(budgeted: Project) -> None:
    before = text(budgeted)
    result = budgeted.measure("--energy-update=tighten")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    expected = before.replace('"800 mJ"   # measured by hand\n', '"525 mJ"   # measured by hand\nset_on = "GPU-3000"\n')
    assert text(budgeted) == expected.replace("'40 ms'", "'10.5 ms'").replace('"90 %"', '"100 %"')
    result.stdout.fnmatch_lines(
        [
            "updated 3 limits in pyproject.toml: test_it.py::test_it energy_per_query 800 mJ -> 525 mJ,"
            " test_it.py::test_it latency_p95 40 ms -> 10.5 ms, test_it.py::test_it accuracy 90 % -> 100 %"
        ]
    )


def test_the_same_program_passes_its_tightened_limits_and_one_that_is_worse_by_a_fifth_fails(budgeted: Project) -> None:
    budgeted.measure("--energy-update=tighten").assert_outcomes(passed=1)
    again = budgeted.measure("--energy-strict")
    again.assert_outcomes(passed=1)
    assert again.ret == 0
    budgeted.monkeypatch.setenv("JOULES", "0.6")
    worse = budgeted.measure()
    worse.assert_outcomes(failed=1)
    worse.stdout.fnmatch_lines(["test_it used 0.6000 J *over its budget of 0.525 J*"])


def test_tightening_again_changes_nothing(budgeted: Project) -> None:
    budgeted.measure("--energy-update=tighten")
    before = text(budgeted)
    result = budgeted.measure("--energy-update=tighten")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["pyproject.toml was not updated: no limit to tighten"])
    assert text(budgeted) == before


def test_a_failure_that_is_meant_is_loosened_and_passes_the_next_time(budgeted: Project) -> None:
    budgeted.monkeypatch.setenv("JOULES", "1")
    budgeted.monkeypatch.setenv("WRONG", "20")
    before = text(budgeted)
    result = budgeted.measure("--energy-update=tighten")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["left as they are: test_it.py::test_it energy_per_query (FAIL energy_per_query, accuracy), *"])
    assert text(budgeted) == before
    result = budgeted.measure("--energy-update=loosen")
    result.assert_outcomes(failed=1)
    expected = before.replace('"800 mJ"   # measured by hand\n', '"1050 mJ"   # measured by hand\nset_on = "GPU-3000"\n')
    assert text(budgeted) == expected.replace('"90 %"', '"80 %"')
    budgeted.measure("--energy-strict").assert_outcomes(passed=1)


def test_loosening_makes_no_limit_stricter(budgeted: Project) -> None:
    before = text(budgeted)
    result = budgeted.measure("--energy-update=loosen")
    result.stdout.fnmatch_lines(["pyproject.toml was not updated: no limit to loosen"])
    assert text(budgeted) == before


def test_a_test_without_any_limit_gets_a_first_one_below_the_other_budgets(project: Project) -> None:
    project.toml(BUDGET)
    project.write(
        "test_it.py", TEST + "\n    def test_new(energy_meter, world):\n        energy_meter.measure(world.model(2.0), list('abcd'))\n"
    )
    before = text(project)
    result = project.measure("--energy-update=loosen")
    assert text(project) == before
    result = project.measure("--energy-update=tighten", "-k", "test_new")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["updated 1 limit in pyproject.toml: test_it.py::test_new energy_per_query 2.1 J (new)"])
    new = '\n[tool.greencompute.budgets."test_it.py::test_new"]\nenergy_per_query = "2.1 J"\nset_on = "GPU-3000"\n'
    assert text(project) == before.replace("\n\n# the linter's", f"\n{new}\n# the linter's")
    project.measure("--energy-strict", "-k", "test_new").assert_outcomes(passed=1, deselected=1)


def test_each_named_run_gets_its_own_first_limit(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_two(energy_meter, world):
            energy_meter.measure(world.model(0.2), list("abcd"), name="prefill")
            energy_meter.measure(world.model(0.4), list("abcd"))
        """,
    )
    project.measure("--energy-update=tighten").assert_outcomes(passed=1)
    assert text(project) == (
        '[tool.greencompute]\nmeters = ["world"]\n'
        '\n[tool.greencompute.budgets."test_it.py::test_two"]\nenergy_per_query = "0.42 J"\nset_on = "GPU-3000"\n'
        '\n[tool.greencompute.budgets."test_it.py::test_two".prefill]\nenergy_per_query = "0.21 J"\nset_on = "GPU-3000"\n'
    )
    project.measure("--energy-strict").assert_outcomes(passed=1)


def test_a_limit_of_several_tests_suits_the_worst_of_them(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::*"]\nenergy_per_query = 1')
    project.write("test_it.py", TWO)
    project.measure("--energy-update=tighten").assert_outcomes(passed=2)
    assert 'energy_per_query = 0.42\nset_on = "GPU-3000"' in text(project)
    project.monkeypatch.setenv("LARGE", "2")
    result = project.measure("--energy-update=loosen")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["updated 1 limit in pyproject.toml: test_it.py::[*] energy_per_query 0.42 -> 2.1"])
    assert "energy_per_query = 2.1\n" in text(project)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["-k", "small"], "test_it.py::test_large was not measured"),
        (["test_it.py::test_small"], "it may hold for tests that were not collected"),
    ],
)
def test_a_limit_of_several_tests_is_not_tightened_by_some_of_them(project: Project, args: list[str], why: str) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::*"]\nenergy_per_query = "1 J"')
    project.write("test_it.py", TWO)
    before = text(project)
    result = project.measure("--energy-update=tighten", *args)
    result.stdout.fnmatch_lines([f"left as it is: test_it.py::[*] energy_per_query ({why})"])
    assert text(project) == before


def test_a_limit_on_named_hardware_is_rewritten_where_it_stands(project: Project) -> None:
    project.toml(
        """
        [[tool.greencompute.budgets."test_it.py::test_it".on]]
        gpu = "Other*"
        energy_per_query = "9 J"

        [[tool.greencompute.budgets."test_it.py::test_it".on]]
        gpu = "Test GPU ?000"
        energy_per_query = "8 J"
        """
    )
    project.write("test_it.py", TEST)
    before = text(project)
    result = project.measure("--energy-update=tighten")
    assert text(project) == before.replace('"8 J"', '"0.525 J"\nset_on = "GPU-3000"')
    result.stdout.fnmatch_lines(["updated 1 limit *: test_it.py::test_it on Test GPU [?]000 energy_per_query 8 J -> 0.525 J"])


def test_a_limit_in_python_code_is_not_rewritten_and_its_new_value_is_said(project: Project) -> None:
    project.write("test_it.py", TEST.replace("    def test_it", '    @pytest.mark.energy_budget(energy_per_query="2 J")\n    def test_it'))
    before = text(project)
    result = project.measure("--energy-update=tighten")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["limits in Python code are yours to change: the marker at test_it.py:4 energy_per_query 2 J -> 0.525 J"])
    result.stdout.no_fnmatch_line("*was not updated: no limit to*")
    assert text(project) == before


def test_a_budget_file_of_its_own_is_the_one_that_is_written(project: Project) -> None:
    project.write("test_it.py", TEST)
    project.write("budgets.toml", '[budgets."test_it.py::test_it"]\nenergy_per_query = "2 J"\n')
    before = text(project)
    result = project.measure("--energy-update=tighten", "--energy-budget-file=budgets.toml")
    result.stdout.fnmatch_lines(["updated 1 limit in budgets.toml: *"])
    assert text(project, "budgets.toml") == '[budgets."test_it.py::test_it"]\nenergy_per_query = "0.525 J"\nset_on = "GPU-3000"\n'
    assert text(project) == before


@pytest.mark.parametrize(
    ("way", "breaks"),
    [
        *(("tighten", each) for each in ("assert False", "pytest.fail('so')", "pytest.skip('so')", "pytest.xfail('so')")),
        *(("loosen", each) for each in ("assert False", "pytest.fail('so', pytrace=False)", "pytest.xfail('so')")),
    ],
)
def test_nothing_is_written_from_a_test_that_ended_for_another_reason(budgeted: Project, way: str, breaks: str) -> None:
    budgeted.write("test_it.py", TEST + f"        {breaks}\n")
    budgeted.monkeypatch.setenv("JOULES", "0.5" if way == "tighten" else "5")
    before = text(budgeted)
    result = budgeted.measure(f"--energy-update={way}")
    assert text(budgeted) == before
    result.stdout.fnmatch_lines(["*the test failed or was skipped for another reason*"])


def test_nothing_is_written_where_the_teardown_fails(budgeted: Project) -> None:
    budgeted.write(
        "test_it.py",
        TEST.replace("(energy_meter, world)", "(energy_meter, world, torn)")
        + "\n    @pytest.fixture\n    def torn():\n        yield\n        raise OSError\n",
    )
    before = text(budgeted)
    budgeted.measure("--energy-update=tighten").assert_outcomes(passed=1, errors=1)
    assert text(budgeted) == before


def test_nothing_is_written_from_a_figure_that_is_not_certain(budgeted: Project) -> None:
    budgeted.toml(BUDGET.replace("800 mJ", "500 mJ"))
    before = text(budgeted)
    result = budgeted.measure("--energy-update=loosen")
    result.stdout.fnmatch_lines(["left as it is: test_it.py::test_it energy_per_query (INCONCLUSIVE)"])
    assert text(budgeted) == before


def test_nothing_is_written_from_a_session_that_was_interrupted(budgeted: Project) -> None:
    budgeted.write("test_it.py", TEST + "\n    def test_end():\n        pytest.exit('so')\n")
    before = text(budgeted)
    result = budgeted.measure("--energy-update=tighten")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["no limit was updated: the session did not end by itself"])
    assert text(budgeted) == before


def test_a_modelled_figure_is_written_only_where_the_settings_name_its_meter_alone(budgeted: Project) -> None:
    budgeted.monkeypatch.setenv("WORLD_METHOD", "modelled")
    budgeted.toml('meters = ["nvml", "world"]\n' + BUDGET.replace("    ", ""))
    result = budgeted.measure("--energy-update=tighten")
    result.stdout.fnmatch_lines(["updated 2 limits *", "left as it is: test_it.py::test_it energy_per_query (modelled)"])
    assert '"800 mJ"' in text(budgeted)
    budgeted.measure("--energy-update=tighten", "--energy-meter=world")
    assert '"525 mJ"' in text(budgeted)


def test_a_modelled_figure_may_become_the_limit_of_a_marker_that_names_its_meter(project: Project) -> None:
    marker = '@pytest.mark.energy_budget(on=[{"meter": "world", "energy_per_query": "2 J"}])'
    project.write("test_it.py", TEST.replace("    def test_it", f"    {marker}\n    def test_it"))
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    project.toml('meters = ["nvml", "world"]')
    result = project.measure("--energy-update=tighten")
    result.stdout.fnmatch_lines(["limits in Python code are yours to change: the marker at test_it.py:4 energy_per_query 2 J -> 0.525 J"])
    project.write("test_it.py", TEST.replace("    def test_it", '    @pytest.mark.energy_budget(energy_per_query="2 J")\n    def test_it'))
    result = project.measure("--energy-update=tighten")
    result.stdout.fnmatch_lines(["left as it is: the marker *test_it.py:4 energy_per_query (modelled)"])


def test_a_file_that_changed_while_the_session_ran_is_not_overwritten_and_the_session_is_red(budgeted: Project) -> None:
    budgeted.write("test_it.py", TEST + "        with open('pyproject.toml', 'a') as file: file.write('# mine')\n")
    before = text(budgeted)
    result = budgeted.measure("--energy-update=tighten")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["pyproject.toml was not updated: it has changed since the session began. Run pytest again."])
    assert text(budgeted) == f"{before}# mine"


def test_a_file_that_is_read_only_is_refused_before_anything_is_measured(budgeted: Project) -> None:
    (budgeted.path / "pyproject.toml").chmod(0o444)
    refused(budgeted.measure("--energy-update=tighten"), "pyproject.toml is read-only, and --energy-update is to write limits into it.")


def test_a_file_that_became_read_only_is_not_written_and_the_session_is_red(budgeted: Project) -> None:
    budgeted.write("test_it.py", TEST + "        os.chmod('pyproject.toml', 0o444)\n")
    before = text(budgeted)
    result = budgeted.measure("--energy-update=tighten")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_it *PASS*", "pyproject.toml was not updated: it is read-only."])
    assert text(budgeted) == before


def test_a_file_that_went_away_is_said_and_the_session_is_red(budgeted: Project) -> None:
    budgeted.write("test_it.py", TEST + "        os.unlink('pyproject.toml')\n")
    result = budgeted.measure("--energy-update=tighten")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["pyproject.toml was not updated: it cannot be read any more (*No such file*"])


def test_without_a_budget_file_the_session_is_red_and_says_what_makes_one(project: Project) -> None:
    (project.path / "pyproject.toml").unlink()
    project.write("test_it.py", TEST)
    result = project.measure("--energy-meter=world", "--energy-update=tighten")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["no limit was updated: there is no budget file; `greencompute init` makes one"])


def test_windows_line_ends_and_the_file_mode_stay(budgeted: Project) -> None:
    path = budgeted.path / "pyproject.toml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    path.chmod(0o664)
    budgeted.measure("--energy-update=tighten").assert_outcomes(passed=1)
    assert b'energy_per_query = "525 mJ"   # measured by hand\r\nset_on = "GPU-3000"\r\nlatency_p95' in path.read_bytes()
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")
    assert path.stat().st_mode & 0o777 == 0o664


def test_at_most_five_limits_are_named(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.parametrize("size", range(7))
        def test_size(energy_meter, world, size):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure("--energy-update=tighten")
    result.stdout.fnmatch_lines(["updated 7 limits in pyproject.toml: *::test_size[[]4] energy_per_query 0.525 J (new) and 2 more"])


def test_it_needs_the_budget_and_has_no_place_in_a_file(budgeted: Project) -> None:
    refused(budgeted.run("--energy-update=tighten"), "--energy-update does nothing without --energy-budget")
    budgeted.toml('update = "tighten"')
    refused(budgeted.measure(), "'update' belongs on the command line, as --energy-update.")


OTHER_CARD = """
import dataclasses
import os
import pytest
from world import WorldCounter, WorldMeter, world as the_world

class Card(WorldCounter):
    @property
    def source(self):
        return dataclasses.replace(super().source, uuid=os.environ.get("CARD", "GPU-1"), systematic=0.05)

class Meter(WorldMeter):
    def find(self, options):
        super().find(options)
        return [Card()]

def pytest_greencompute_meters(config):
    return {"world": Meter()}

@pytest.fixture
def world():
    return the_world
"""


def test_on_another_card_the_interval_holds_what_cards_differ_by(budgeted: Project) -> None:
    Path(budgeted.path / "conftest.py").write_text(OTHER_CARD, encoding="utf-8")
    budgeted.measure("--energy-update=tighten").assert_outcomes(passed=1)
    assert 'set_on = "GPU-1"' in text(budgeted)
    budgeted.measure("--energy-strict").assert_outcomes(passed=1)
    budgeted.monkeypatch.setenv("CARD", "GPU-2")
    budgeted.monkeypatch.setenv("JOULES", "0.535")
    result = budgeted.measure("--energy-inconclusive=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*The limit was set on another card (GPU-1), so the interval holds the 5.0 % by which cards differ.*"])
    budgeted.monkeypatch.setenv("JOULES", "0.6")
    budgeted.measure().assert_outcomes(failed=1)
    budgeted.monkeypatch.setenv("CARD", "GPU-1")
    budgeted.monkeypatch.setenv("JOULES", "0.535")
    budgeted.measure().assert_outcomes(failed=1)
