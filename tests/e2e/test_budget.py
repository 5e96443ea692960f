"""--energy-budget: what a metered test does without it and with it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from .conftest import Project

TWO_TESTS = """
    import pytest

    QUERIES = list("abcdefghijkl")

    @pytest.mark.energy_budget(energy_per_query="0.8 J", latency_p95="40 ms", accuracy=0.9)
    def test_small(energy_meter, world):
        run = energy_meter.measure(world.model(0.5), QUERIES, batch_size=4, references=list("ABCDEFGHIJKL"))
        assert run.outputs == list("ABCDEFGHIJKL")

    @pytest.mark.energy_budget(energy_per_query="0.8 J", latency_p95="40 ms", accuracy=0.9)
    def test_large(energy_meter, world):
        energy_meter.measure(world.model(1.931, seconds=0.06), QUERIES, batch_size=4, references=list("ABCDEFGHIJKL"))
"""


# --- without the option -----------------------------------------------------------------------------------------------


def test_without_the_option_each_query_runs_once_and_one_quiet_line_says_so(project: Project) -> None:
    project.write(
        "test_it.py",
        TWO_TESTS
        + """
    def test_number_of_calls(world):
        assert world.calls == 6
        assert not world.opened, "no meter may be opened"
    """,
    )
    result = project.run()
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["energy: 2 tests ran unmetered; pytest --energy-budget measures them"])
    result.stdout.no_fnmatch_line("*── energy*")


def test_the_quiet_line_speaks_of_one_test_in_the_singular(project: Project) -> None:
    project.write("test_it.py", TWO_TESTS)
    result = project.run("-k", "small")
    result.stdout.fnmatch_lines(["energy: 1 test ran unmetered; pytest --energy-budget measures it"])


def test_a_session_without_metered_tests_says_nothing_of_energy(project: Project) -> None:
    project.write("test_it.py", "def test_one(): pass")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("energy: *")
    result.stdout.no_fnmatch_line("*── energy*")


def test_accuracy_is_judged_without_the_option_and_a_low_one_is_red(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="0.8 J", accuracy=0.9)
        def test_wrong(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"), references=list("ABCX"))
        """,
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_wrong scored 0.7500 [[]0.*], under its floor of 0.9. The limit is in the marker at test_it.py:*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*has no energy_per_query*")


def test_a_marked_accuracy_that_a_test_gives_no_references_for_is_unmeasured_without_the_option_too(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(accuracy=0.9)
        def test_no_references(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"))
        """,
    )
    result = project.run("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_no_references has no accuracy to judge: no references were given to measure()*"])


def test_asking_an_unmetered_run_for_its_energy_skips_the_rest_and_says_why(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_assert(energy_meter, world):
            run = energy_meter.measure(world.model(), list("abcd"))
            assert run.outputs == list("ABCD")
            assert run.energy_per_query < "1 J"
            raise AssertionError("never reached unmetered")

        def test_latency(energy_meter, world):
            assert energy_meter.measure(world.model(), list("abcd")).latency_p95 < "1 s"

        def test_window(energy_meter, world):
            with energy_meter.window("prefill") as window:
                pass
            assert window.energy < "1 J"
        """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "SKIPPED * energy_per_query was not measured: run pytest with --energy-budget",
            "SKIPPED * latency_p95 was not measured: run pytest with --energy-budget",
        ]
    )


def test_an_assert_before_the_skip_still_fails(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_assert(energy_meter, world):
            run = energy_meter.measure(world.model(), list("abcd"))
            assert run.outputs == []
            assert run.energy_per_query < "1 J"
        """,
    )
    project.run().assert_outcomes(failed=1)


def test_low_accuracy_is_red_even_where_the_body_then_skips_for_want_of_a_meter(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(accuracy=0.9)
        def test_wrong(energy_meter, world):
            run = energy_meter.measure(world.model(), list("abcd"), references=list("ABXX"))
            assert run.energy_per_query < "1 J"
        """,
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_wrong scored 0.5000 *under its floor of 0.9.*"])


# --- with the option --------------------------------------------------------------------------------------------------


def test_a_run_within_its_budgets_passes_and_one_over_them_fails_in_its_call_with_a_sentence(project: Project) -> None:
    project.write("test_it.py", TWO_TESTS)
    result = project.measure("--junitxml=junit.xml", "--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    used = "test_large used 1.931 J per query * on gpu:0, over its budget of 0.8 J (2.4 times). The limit is in *test_it.py:*."
    result.stdout.fnmatch_lines(["test_it.py .F*", "*= FAILURES =*", "*_ test_large _*", used])
    result.stdout.fnmatch_lines(["test_large took 60.00 ms at the 95th percentile *, over its budget of 40 ms (1.5 times). *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*ERROR*")
    result.stdout.no_fnmatch_line("*pytest_greencompute/*")

    calls = [each for each in result.reprec.getreports("pytest_runtest_logreport") if each.failed]  # type: ignore[attr-defined]
    assert [(each.when, each.nodeid) for each in calls] == [("call", "test_it.py::test_large")]

    cases = {case.get("name"): case for case in ET.parse(project.path / "junit.xml").getroot().iter("testcase")}
    failure = cases["test_large"].find("failure")
    assert failure is not None
    assert (failure.text or "").startswith("test_large used 1.931 J per query")
    assert cases["test_small"].find("failure") is None

    small, large = project.report()["runs"]
    assert [verdict["verdict"] for verdict in small["verdicts"]] == ["PASS", "PASS", "PASS"]
    assert [verdict["verdict"] for verdict in large["verdicts"]] == ["FAIL", "FAIL", "PASS"]


def test_the_bodys_own_assertion_wins_and_the_verdict_is_still_in_the_table(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="0.1 J")
        def test_both(energy_meter, world):
            run = energy_meter.measure(world.model(0.5), list("abcd"))
            assert run.outputs == ["mine"], "my own words"
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * my own words*", "test_both *0.500 J*FAIL energy*"])
    result.stdout.no_fnmatch_line("*over its budget*")


def test_an_assertion_on_a_figure_uses_the_point_estimate(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_figures(energy_meter, world):
            run = energy_meter.measure(world.model(0.5, seconds=0.02), list("abcd"), batch_size=2, references=list("ABCX"))
            assert run.energy_per_query <= "0.5 J"
            assert "499 mJ" < run.energy_per_query
            assert run.average_power == "50 W"
            assert run.latency_p50 == "20 ms"
            assert run.throughput == "100 /s"
            assert run.accuracy == 0.75
            assert run.energy_per_query < "0.4 J"
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['> *assert run.energy_per_query < "0.4 J"', "E *assert *"])


def test_xfail_over_budget_is_xfailed_and_strict_xfail_within_budget_fails(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.xfail(reason="known to be large")
        @pytest.mark.energy_budget(energy_per_query="0.1 J")
        def test_known(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))

        @pytest.mark.xfail(strict=True, reason="thought to be large")
        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_fine(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))

        @pytest.mark.xfail(run=False, reason="too slow to run")
        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_not_run(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure("-rx")
    result.assert_outcomes(xfailed=2, failed=1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*", "not measured: *test_not_run*too slow to run*"])
    result.stdout.fnmatch_lines(["XFAIL test_it.py::test_known - known to be large"])


def test_skip_does_not_hide_a_failed_budget_and_a_skipped_test_is_listed_as_not_measured(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="0.1 J")
        def test_skips_after(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
            pytest.skip("nothing to see")

        @pytest.mark.skipif(True, reason="needs two GPUs")
        @pytest.mark.energy_budget(energy_per_query="0.1 J")
        def test_left_out(energy_meter, world):
            raise AssertionError

        @pytest.mark.energy_budget(energy_per_query="0.1 J")
        def test_skips_before(energy_meter, world):
            pytest.skip("no weights here")
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1, skipped=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_skips_after used 0.5000 J per query * over its budget of 0.1 J*",
            "not measured: test_it.py::test_left_out (needs two GPUs)",
            "not measured: test_it.py::test_skips_before (no weights here)",
        ]
    )


def test_unittest_classes_and_parametrized_tests_are_judged_as_functions_are(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import unittest
        import pytest

        class TestOld(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _meter(self, energy_meter, world):
                self.meter, self.world = energy_meter, world

            @pytest.mark.energy_budget(energy_per_query="0.1 J")
            def test_over(self):
                self.meter.measure(self.world.model(0.5), list("abcd"))

            @pytest.mark.energy_budget(energy_per_query="1 J")
            def test_within(self):
                self.meter.measure(self.world.model(0.5), list("abcd"))

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        class TestNew:
            def test_over(self, energy_meter, world):
                energy_meter.measure(world.model(0.5), list("abcd"))

            @pytest.mark.energy_budget(energy_per_query="0.6 J")
            def test_own_mark_wins(self, energy_meter, world):
                energy_meter.measure(world.model(0.5), list("abcd"))

        @pytest.mark.parametrize("joules", [0.3, 0.5])
        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        def test_sizes(energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))

        @pytest.mark.parametrize(
            "joules", [pytest.param(0.3, marks=pytest.mark.energy_budget(energy_per_query="0.2 J")), pytest.param(0.5)]
        )
        def test_mark_on_a_parameter(energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))
        """,
    )
    result = project.measure("-rA")
    result.assert_outcomes(failed=4, passed=4)
    result.stdout.fnmatch_lines_random(
        [
            "FAILED test_it.py::TestOld::test_over - Failed: TestOld::test_over used 0.5000 J *",
            "FAILED test_it.py::TestNew::test_over - *over its budget of 0.4 J*",
            "FAILED test_it.py::test_sizes[[]0.5] - *over its budget of 0.4 J*",
            "FAILED test_it.py::test_mark_on_a_parameter[[]0.3] - *over its budget of 0.2 J*",
        ]
    )


def test_several_named_runs_have_budgets_of_their_own(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(prefill={"energy_per_query": "0.2 J"}, decode=dict(energy_per_query="0.4 J", latency_p95="1 s"))
        def test_chat(energy_meter, world):
            energy_meter.measure(world.model(0.1), list("abcd"), name="prefill")
            energy_meter.measure(world.model(0.5), list("abcd"), name="decode")
            energy_meter.measure(world.model(9.0), list("abcd"), name="extra")

        @pytest.mark.energy_budget(decode={"energy_per_query": "0.4 J"})
        def test_one_is_missing(energy_meter, world):
            energy_meter.measure(world.model(0.1), list("abcd"), name="prefill")

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        def test_unnamed_limit_of_named_runs(energy_meter, world):
            energy_meter.measure(world.model(0.1), list("abcd"), name="one")
            energy_meter.measure(world.model(0.1), list("abcd"), name="two")

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        def test_unnamed_limit_of_the_only_run(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"), name="one")
        """,
    )
    result = project.measure("--energy-unmeasured=fail", "--energy-json=energy.json")
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "test_chat (decode) used 0.5000 J per query * over its budget of 0.4 J*",
            "test_one_is_missing has no energy_per_query to judge: it measured no run named 'decode'.*",
            "test_unnamed_limit_of_named_runs has no energy_per_query to judge: all its runs are named, the limit is not.*",
            "test_unnamed_limit_of_the_only_run (one) used 0.5000 J *",
            "test_chat (prefill) *0.100 J*PASS*",
            "test_chat (decode) *0.500 J*FAIL energy*",
            "test_chat (extra) *9.00 J*no budget*",
        ]
    )
    named = {(run["test"], run["name"]): [each["verdict"] for each in run["verdicts"]] for run in project.report()["runs"]}
    assert named["test_it.py::test_one_is_missing", "decode"] == ["UNMEASURED"]


def test_two_runs_of_one_name_are_an_error_that_says_what_to_do(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_unnamed(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"))
            energy_meter.measure(world.model(), list("abcd"))

        def test_named(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"), name="large")
            with energy_meter.window("large"):
                pass
        """,
    )
    for result in (project.run(), project.measure()):
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines_random(
            [
                "*This test has measured a run without a name already. Tell its runs apart: measure(..., name='large').",
                "*This test has measured a run named 'large' already.*",
            ]
        )


def test_a_marked_test_that_measures_nothing_is_unmeasured(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_without_the_fixture():
            pass

        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_without_measuring(energy_meter):
            pass
        """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_without_the_fixture has no energy_per_query to judge: the test measured nothing.*",
            "test_without_measuring has no energy_per_query to judge: the test measured nothing.*",
        ]
    )
    project.run("--energy-unmeasured=fail").assert_outcomes(passed=2)


def test_a_window_is_measured_and_judged_under_its_name(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(prefill={"energy_per_query": "3 J"}, decode={"energy_per_query": "0.5 J"})
        def test_chat(energy_meter, world):
            model = world.model(1.0, seconds=1.0)
            with energy_meter.window("prefill") as prefill:
                model(["a", "b"])
            assert prefill.seconds == 1.0
            with energy_meter.window("decode"):
                model(["c"])

        def test_energy(energy_meter, world):
            with energy_meter.window() as window:
                world.model(1.0)(["a", "b"])
            assert window.energy == "2 J"

        def test_not_ended(energy_meter):
            with energy_meter.window() as window:
                window.energy
        """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "test_chat (decode) used 1.000 J per query * over its budget of 0.5 J*",
            "*The window has not ended yet. Ask for its energy after the with block.",
            "test_chat (prefill) *2.00 J*PASS*",
        ]
    )


def test_latency_and_accuracy_are_judged_beside_energy_and_one_failure_names_them_all(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 mJ", latency_p50="1 ms", throughput="1000 /s", average_power="1 W", accuracy=0.9)
        def test_all(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"), references=list("XXXX"))
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_all used 0.5000 J per query *",
            "test_all took 10.00 ms at the median *",
            "test_all answered 100.0 queries/s *, under its floor of 1000 queries/s*",
            "test_all drew 50.00 W while busy *",
            "test_all scored 0 *",
            "*FAIL energy, latency, throughput, power, accuracy*",
            "*5 budgets failed",
        ]
    )


def test_a_window_whose_energy_was_asked_for_keeps_its_test(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            with energy_meter.window() as window:
                world.model(1.0)(["a", "b"])
            assert window.energy == "2 J"
        """,
    )
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    assert run["test"] == "test_it.py::test_it"
    assert "machine" in run["provenance"]


def test_the_limit_is_said_to_be_where_its_marker_is(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        pytestmark = pytest.mark.energy_budget(accuracy=0.1)


        @pytest.mark.energy_budget(energy_per_query="9 mJ")
        class TestIt:
            @pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.energy_budget(latency_p50="9 s"))])
            @getattr(pytest.mark, "energy_" + "budget")(throughput="1 /s")
            @pytest.mark.energy_budget(
                average_power="9 kW",
            )
            def test_it(self, energy_meter, world, x):
                energy_meter.measure(world.model(), list("abcd"), references=list("ABCD"))
        """,
    )
    project.measure("--energy-json=energy.json", "--energy-max-seconds=0.3")
    runs = project.report()["runs"]
    places = {each["metric"]: each["where"] for run in runs for each in run["verdicts"]}
    assert places == {
        "accuracy": "the marker at test_it.py:3",
        "energy_per_query": "the marker at test_it.py:6",
        "latency_p50": "the marker at test_it.py:8",
        "average_power": "the marker at test_it.py:10",
        "throughput": "the marker of the test at test_it.py:8",
    }
