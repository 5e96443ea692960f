"""--energy-total: a budget for the whole session."""

from __future__ import annotations

import pytest

from .conftest import Project

TESTS = """
    def test_one(energy_meter, world):
        with energy_meter.window("a"):
            world.model(10.0, seconds=1.0)("ab")

    def test_two(energy_meter, world):
        with energy_meter.window("b"):
            world.model(10.0, seconds=1.0)("c")
        world.energy_j += 12.0  # outside of any window, and still used
"""


def test_a_total_within_its_limit_passes_and_the_last_line_says_both(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure("--energy-total=50 J", "--energy-json=energy.json")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["total 42 J of 50 J in 2 s*0 budgets failed"])
    session = project.report()["session"]
    assert session["energy_j"] == 42.0
    assert (session["total"]["verdict"], session["total"]["limit"], session["total"]["effect"]) == ("PASS", 50.0, "green")


def test_a_total_over_its_limit_makes_the_session_red_though_every_test_passes(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure("--energy-total=40 J", "--energy-json=energy.json")
    result.assert_outcomes(passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["The session used 42.0 J, over its total of 40 J.", "total 42 J of 40 J in 2 s*1 budget failed"])
    report = project.report()
    assert report["exit_status"] == 1
    assert report["session"]["total"]["verdict"] == "FAIL"


def test_a_total_over_its_limit_only_warns_where_nothing_is_enforced(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure("--energy-total=40 J", "--energy-enforce=warn")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["warning: The session used 42.0 J, over its total of 40 J."])


def test_the_total_holds_the_energy_of_a_model_that_raised_in_the_middle(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_raises(energy_meter, world):
            model = world.model(10.0)
            def broken(batch):
                if world.calls == 6:
                    raise RuntimeError("out of memory")
                return model(batch)
            energy_meter.measure(broken, list("abcdefgh"))
        """,
    )
    result = project.measure("--energy-total=50 J", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: out of memory", "The session used 60.0 J, over its total of 50 J."])
    assert project.report()["session"]["energy_j"] == 60.0


def test_set_up_and_teardown_of_metered_tests_are_in_the_total_and_other_tests_before_them_are_not(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.fixture
        def loaded(world):
            world.energy_j += 3.0
            yield
            world.energy_j += 4.0

        def test_plain(world):
            world.energy_j += 100.0

        def test_metered(loaded, energy_meter, world):
            world.energy_j += 1.0
        """,
    )
    project.measure("--energy-total=1 kJ", "--energy-json=energy.json").assert_outcomes(passed=2)
    assert project.report()["session"]["energy_j"] == 8.0


@pytest.mark.parametrize(("policy", "status"), [("fail", 1), ("warn", 0)])
def test_a_total_without_a_figure_is_unmeasured(project: Project, policy: str, status: int) -> None:
    project.write("test_it.py", "def test_plain(): pass")
    result = project.measure("--energy-total=1 kJ", f"--energy-unmeasured={policy}")
    result.assert_outcomes(passed=1)
    assert result.ret == status
    result.stdout.fnmatch_lines(
        [f"{'warning: ' if policy == 'warn' else ''}The session has no total to judge: no metered test ran", "total not measured*"]
    )


RESET = """
    def test_one(energy_meter, world):
        with energy_meter.window("a"):
            world.model(10.0, seconds=1.0)("ab")

    def test_between(world):
        world.energy_j -= {lost}

    def test_two(energy_meter, world):
        with energy_meter.window("b"):
            world.model(101.0, seconds=1.0)("c")
"""


def test_a_total_does_not_hide_that_a_counter_was_reset_between_tests(project: Project) -> None:
    """The counter stands higher at the end than at the beginning: 101 J, where 121 J were used."""
    project.write("test_it.py", RESET.format(lost=20.0))
    result = project.measure("--energy-total=110 J", "--energy-json=energy.json", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["The session has no total to judge: the energy counter of gpu:0 was reset; at least 121 J were used*", "total not measured*"]
    )
    assert project.report()["session"]["energy_j"] is None


def test_what_a_model_forgets_is_in_the_total(project: Project) -> None:
    """CPU time of a process that nobody waited for is gone with it; it was used all the same."""
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    project.write("test_it.py", RESET.format(lost=5.0))
    project.measure("--energy-json=energy.json").assert_outcomes(passed=3)
    assert project.report()["session"]["energy_j"] == pytest.approx(121.0)
