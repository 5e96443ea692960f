"""Ways in which a gate once failed open, or fell over, and does no longer."""

from __future__ import annotations

import pytest

from .conftest import Project


def test_a_file_budget_of_a_test_that_does_not_use_the_fixture_is_unmeasured_not_green(project: Project) -> None:
    project.toml('budgets."test_it.py::test_plain".energy_per_query = "1 nJ"')
    project.write("test_it.py", "def test_plain():\n    pass\n")
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_plain has no energy_per_query to judge: the test measured nothing.*"])


def test_a_wild_budget_that_matches_only_plain_tests_is_an_error(project: Project) -> None:
    project.toml('budgets."test_it.py::*".energy_per_query = "1 nJ"')
    project.write("test_it.py", "def test_plain():\n    pass\n")
    result = project.measure()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*matches only tests that do not use energy_meter, such as test_it.py::test_plain*"])


def test_a_stale_budget_is_found_although_no_metered_test_is_left(project: Project) -> None:
    project.toml('budget = true\nbudgets."test_it.py::test_gone".energy_per_query = "1 J"')
    project.write("test_it.py", "def test_plain():\n    pass\n")
    result = project.pytester.runpytest_inprocess()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*test_it.py::test_gone*matches no collected test*"])


def test_a_test_whose_only_limits_are_for_other_hardware_and_that_measures_nothing_is_unmeasured(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(on=[{"gpu": "Other GPU", "energy_per_query": "1 J"}])
        def test_it(energy_meter):
            pass
        """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no limit for this hardware*"])


def test_a_skip_does_not_hide_a_failed_budget_of_a_unittest_case(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import unittest
        import pytest

        class TestIt(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _meter(self, energy_meter):
                self.meter = energy_meter

            @pytest.mark.energy_budget(accuracy=0.9)
            def test_it(self):
                self.meter.measure(lambda batch: batch, ["a"], references=["b"])
                self.skipTest("not today")
        """,
    )
    result = project.pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*scored 0*under its floor of 0.9*"])


@pytest.mark.parametrize("what", ["measure", "explain"])
def test_measuring_inside_an_open_window_is_refused(project: Project, what: str) -> None:
    project.write(
        "test_it.py",
        f"""
        def test_it(energy_meter, world):
            with energy_meter.window("outer"):
                energy_meter.{what}(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*SettingsError: A window is open*"])


def test_of_two_windows_one_in_the_other_neither_is_read(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            outer, inner = energy_meter.window("outer"), energy_meter.window("inner")
            with outer, inner:
                world.model(0.5)("abcd")
        """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*SettingsError: A window is open*"])
    assert not [run for run in project.report()["runs"] if run["blocks"]]


def test_after_a_window_whose_body_raised_a_test_goes_on_measuring(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        def test_it(energy_meter, world):
            with pytest.raises(ValueError), energy_meter.window("broken"):
                raise ValueError
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    project.measure().assert_outcomes(passed=1)


def test_what_is_measured_at_the_same_time_would_pay_for_each_other_and_is_refused(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import asyncio

        def waiting(model):
            async def ask(batch):
                await asyncio.sleep(0)
                return model(batch)
            return ask

        def test_together(energy_meter, world):
            async def both():
                dear, cheap = (waiting(world.model(joules)) for joules in (0.5, 0.1))
                await asyncio.gather(
                    energy_meter.ameasure(dear, list("abcd"), name="dear"), energy_meter.ameasure(cheap, list("abcd"), name="cheap")
                )
            asyncio.run(both())

        def test_inside(energy_meter, world):
            def model(batch):
                with energy_meter.window("inner"):
                    return world.model(0.5)(batch)
            energy_meter.measure(model, list("abcd"))

        def test_in_a_candidate(energy_meter, world):
            model = world.model(0.5)

            def measures(batch):
                energy_meter.measure(model, list("ab"), name="inner")
                return model(batch)

            energy_meter.compare({"plain": model, "measures": measures}, list("abcd"))

        def test_one_after_the_other(energy_meter, world):
            async def both():
                for name, joules in {"dear": 0.5, "cheap": 0.1}.items():
                    await energy_meter.ameasure(waiting(world.model(joules)), list("abcd"), name=name)
            asyncio.run(both())
        """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        ["*SettingsError: This test is measuring something else*"] * 2
        + ["*SettingsError: measures: This test is measuring something else*"]
    )
    found = {run["name"]: run["metrics"]["energy_per_query"]["value"] for run in project.report()["runs"] if run["test"].endswith("other")}
    assert found == pytest.approx({"dear": 0.5, "cheap": 0.1})


@pytest.mark.parametrize("option", ["--energy-budget", "-q"])
def test_what_is_measured_when_the_test_has_been_judged_is_an_error(project: Project, option: str) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        KEPT = []

        @pytest.fixture
        def measured_at_the_end(energy_meter, world):
            yield
            energy_meter.measure(world.model(0.5), list("abcd"), name="end")

        def test_fixture(measured_at_the_end):
            pass

        def test_keeps_its_meter(energy_meter):
            KEPT.append(energy_meter)

        def test_takes_the_meter_of_another(world):
            KEPT[0].measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.run(option)
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*SettingsError: test_fixture has ended and was judged*", "*SettingsError: test_keeps_its_meter has ended*"]
    )


def test_a_test_that_is_run_twice_is_measured_afresh_and_reported_once(project: Project) -> None:
    project.pytester.syspathinsert()
    project.write(
        "twice.py",
        """
        import pytest
        from _pytest.runner import runtestprotocol

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(item, nextitem):
            for attempt in range(2):
                item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
                item._initrequest()
                reports = runtestprotocol(item, nextitem=nextitem, log=attempt == 1)
            return True
        """,
    )
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    project.measure("--energy-json=energy.json", "-p", "twice").assert_outcomes(passed=1)
    assert len(project.report()["runs"]) == 1


def test_a_modelled_total_is_red_under_strict(project: Project) -> None:
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure("--energy-total=1 MJ", "--energy-strict")
    assert result.ret == 1


def test_without_measuring_an_accuracy_that_cannot_be_judged_is_still_said(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(accuracy=0.9)
        def test_it(energy_meter):
            energy_meter.measure(lambda batch: batch, ["a"])
        """,
    )
    result = project.pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(["warning: test_it has no accuracy to judge: no references were given*"])
