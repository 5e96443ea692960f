"""unittest.TestCase, test classes, subtests and fixtures of wider scope: the same gate in every shape of test."""

from __future__ import annotations

import os

import pytest

from .conftest import Project
from .test_base_ref import Repository
from .test_base_ref import words as words_against

BASE = """
    import unittest
    import pytest

    class Metered(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def _meter(self, energy_meter, world):
            self.energy_meter, self.world = energy_meter, world

        def measure(self, joules, **more):
            return self.energy_meter.measure(self.world.model(joules), list("abcd"), **more)
"""
CASE = BASE + '\n    @pytest.mark.energy_budget(energy_per_query="0.4 J")\n    class TestIt(Metered):'


def words(project: Project) -> dict[str, list[str]]:
    """The words of each test's verdicts in the JSON report, by the end of its node id."""
    return {run["test"].rpartition("::")[2]: [each["verdict"] for each in run["verdicts"]] for run in project.report()["runs"]}


def broken(project: Project) -> dict[str, str]:
    return {each["test"].rpartition("::")[2]: each["reason"] for each in project.report()["session"]["broken"]}


def test_a_budget_of_a_test_case_is_judged_between_the_set_up_and_the_cleanups_of_its_class(project: Project) -> None:
    project.write(
        "test_it.py",
        CASE
        + """
        done = []

        @classmethod
        def setUpClass(cls):
            cls.done.append("class")

        @classmethod
        def tearDownClass(cls):
            print("in order:", *cls.done)

        def setUp(self):
            self.done.append("up")
            self.addCleanup(self.done.append, "cleanup")

        def test_green(self):
            self.measure(0.1)

        def test_red(self):
            self.measure(0.5)
    """,
    )
    result = project.measure("-s", "--energy-json=energy.json", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*in order: class up cleanup up cleanup", "TestIt::test_red used 0.5000 J * over its budget of 0.4 J*"])
    assert words(project) == {"test_green": ["PASS"], "test_red": ["FAIL"]}
    assert (project.path / "junit.xml").read_text(encoding="utf-8").count('name="energy_per_query_verdict"') == 2


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_skipped_test_case_is_green_and_listed_with_its_reason(project: Project, ci: str) -> None:
    project.monkeypatch.setenv("CI", ci)
    project.write(
        "test_it.py",
        CASE
        + """
        @unittest.skip("no weights")
        def test_by_decorator(self):
            self.measure(0.5)

        def test_in_its_body(self):
            self.skipTest("no device")

        def test_by_a_raise(self):
            raise unittest.SkipTest("no network")
    """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(skipped=3)
    assert result.ret == (1 if ci == "true" else 0)  # of this session, in which nothing was judged
    assert project.report()["runs"] == []
    reasons = sorted(each["reason"] for each in project.report()["session"]["not_measured"])
    assert reasons == ["no device", "no network", "no weights"]


def test_what_breaks_in_a_test_case_wins_over_its_budget_and_is_no_missing_run(project: Project) -> None:
    project.monkeypatch.setenv("CI", "true")
    project.write(
        "test_it.py",
        CASE
        + """
        def test_before(self):
            self.fail("before it")

        def test_after(self):
            self.measure(0.5)
            self.assertEqual("one", "other")

        def test_in_a_cleanup(self):
            self.addCleanup(self.fail, "in the cleanup")
            self.measure(0.1)
    """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(failed=3)
    assert words(project) == {"test_after": ["FAIL"], "test_in_a_cleanup": ["PASS"]}
    assert broken(project) == {
        "test_before": "AssertionError: before it",
        "test_after": "AssertionError: 'one' != 'other'",
        "test_in_a_cleanup": "AssertionError: in the cleanup",
    }


def test_an_expected_failure_expects_the_budget_to_fail_as_well(project: Project) -> None:
    project.write(
        "test_it.py",
        CASE
        + """
        @unittest.expectedFailure
        def test_budget(self):
            self.measure(0.5)

        @unittest.expectedFailure
        def test_body(self):
            self.measure(0.1)
            self.fail("as expected")

        @unittest.expectedFailure
        def test_nothing(self):
            self.measure(0.1)

        @pytest.mark.xfail(strict=True)
        def test_mark(self):
            self.measure(0.5)
    """,
    )
    result = project.measure("-rx", "--energy-json=energy.json")
    result.assert_outcomes(xfailed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "Unexpected success",
            "XFAIL test_it.py::TestIt::test_budget - TestIt::test_budget used 0.5000 J * over its budget of 0.4 J*",
        ]
    )
    assert words(project) == {"test_budget": ["FAIL"], "test_body": ["PASS"], "test_nothing": ["PASS"], "test_mark": ["FAIL"]}


def test_an_asynchronous_test_case_measures_as_others_do(project: Project) -> None:
    project.write(
        "test_it.py",
        CASE.replace("unittest.TestCase", "unittest.IsolatedAsyncioTestCase")
        + """
        async def test_green(self):
            self.measure(0.1)

        async def test_red(self):
            self.measure(0.5)
    """,
    )
    result = project.measure()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["TestIt::test_red used 0.5000 J * over its budget of 0.4 J*"])


def test_a_test_case_that_only_names_the_fixture_is_told_that_it_measured_nothing(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import unittest
        import pytest

        @pytest.mark.usefixtures("energy_meter")
        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        class TestIt(unittest.TestCase):
            def test_it(self):
                pass
        """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the test measured nothing*"])


SUBTESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    @pytest.mark.parametrize("joules", [0.1, 0.5])
    @pytest.mark.parametrize("right", [True, False])
    def test_it(subtests, energy_meter, world, joules, right):
        for part in range(2):
            with subtests.test(part=part):
                assert right or part == 0
        energy_meter.measure(world.model(joules), list("abcd"))
"""
SUBTESTS_OF_CASES = (
    CASE
    + """
        def parts(self, right, joules):
            for part in range(2):
                with self.subTest(part=part):
                    self.assertTrue(right or part == 0)
            self.measure(joules)

        def test_green(self):
            self.parts(True, 0.1)

        def test_over(self):
            self.parts(True, 0.5)

        def test_wrong(self):
            self.parts(False, 0.1)

        def test_both(self):
            self.parts(False, 0.5)
    """
)


@pytest.mark.parametrize("text", [SUBTESTS, SUBTESTS_OF_CASES], ids=["fixture", "subTest"])
def test_failed_subtests_and_failed_budgets_are_both_seen(project: Project, text: str) -> None:
    project.write("test_it.py", text)
    result = project.measure("-rA", "--energy-save=main")
    lines = [line for line in result.outlines if line.startswith(("FAILED", "SUBFAILED"))]
    assert sum("over its budget of 0.4 J" in line for line in lines) == 2
    assert sum(line.startswith("SUBFAILED") for line in lines) == 2
    result.stdout.fnmatch_lines(["saved 1 run to baseline 'main' *; 3 that failed or measured nothing left out"])


def test_a_skipped_subtest_is_no_skipped_test(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."*"]\nenergy_per_query = "0.4 J"')
    project.write(
        "test_it.py",
        CASE
        + """
        def test_case(self):
            with self.subTest("one"):
                self.skipTest("not this part")
            self.measure(0.1)

    def test_function(subtests, energy_meter, world):
        with subtests.test("one"):
            pytest.skip("not this part")
        energy_meter.measure(world.model(0.1), list("abcd"))
    """,
    )
    result = project.measure("--energy-json=energy.json", "--energy-update=tighten")
    assert words(project) == {"test_case": ["PASS"], "test_function": ["PASS"]}
    assert project.report()["session"]["not_measured"] == []
    result.stdout.no_fnmatch_line("*broke*")


CLASSES = """
    import pytest

    LOADED = []

    @pytest.fixture(scope="module", params=[0.1, 0.5], ids=["small", "large"])
    def joules(request):
        LOADED.append("module")
        return request.param

    @pytest.fixture(scope="class")
    def model(joules, request):
        from world import world
        LOADED.append(request.cls.__name__)
        return world.model(joules)

    class TestOne:
        @pytest.fixture(autouse=True)
        def _keep(self, energy_meter, model):
            self.energy_meter, self.model = energy_meter, model

        def measure(self):
            self.energy_meter.measure(self.model, list("abcd"))

        def test_a(self):
            self.measure()

        class TestInside:
            @pytest.mark.parametrize("text", ["a b", "x[y]", "é::z"])
            def test_b(self, energy_meter, model, text):
                energy_meter.measure(model, list(text))

    class TestTwo(TestOne):
        pass

    def test_all_were_loaded_once():
        assert LOADED.count("module") == 2 and LOADED.count("TestOne") == 2
"""


def test_models_of_class_and_module_scope_and_budgets_by_node_id(project: Project) -> None:
    project.toml(
        """
        [tool.greencompute.budgets."test_it.py::TestOne::test_a[large]"]
        energy_per_query = "0.4 J"
        [tool.greencompute.budgets."test_it.py::TestTwo::TestInside::test_b[[]small-x[[]y]]"]
        energy_per_query = "0.05 J"
        """
    )
    project.write("test_it.py", CLASSES)
    assert project.run().ret == pytest.ExitCode.USAGE_ERROR  # brackets are taken literally
    project.toml(
        """
        [tool.greencompute.budgets."test_it.py::TestOne::test_a[large]"]
        energy_per_query = "0.4 J"
        [tool.greencompute.budgets."test_it.py::TestTwo::TestInside::test_b[small-x[y]]"]
        energy_per_query = "0.05 J"
        [tool.greencompute.budgets."*::TestInside::test_b[large-*]"]
        energy_per_query = "0.6 J"
        """
    )
    result = project.measure("-rf", "--energy-json=energy.json")
    result.assert_outcomes(passed=15, failed=2)
    assert sorted(line.partition(" - ")[0] for line in result.outlines if line.startswith("FAILED")) == [
        "FAILED test_it.py::TestOne::test_a[large]",
        "FAILED test_it.py::TestTwo::TestInside::test_b[small-x[y]]",
    ]
    judged = [verdict["verdict"] for run in project.report()["runs"] for verdict in run["verdicts"]]
    assert sorted(judged) == ["FAIL", "FAIL", *6 * ["PASS"]]


def test_budgets_in_the_file_find_methods_of_a_test_case(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::TestIt::test_red"]\nenergy_per_query = "0.2 J"')
    project.write("test_it.py", BASE + "\n    class TestIt(Metered):\n        def test_red(self):\n            self.measure(0.5)\n")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["TestIt::test_red used 0.5000 J *over its budget of 0.2 J *. The limit is in pyproject.toml:4."])


@pytest.mark.parametrize(("margin", "failed"), [("20%", 1), ("500%", 0)])
def test_candidates_may_be_parametrized_methods_of_a_class(project: Project, margin: str, failed: int) -> None:
    project.write(
        "test_it.py",
        f"""
        import pytest

        @pytest.mark.energy_group("sizes", default="large", margin="{margin}")
        @pytest.mark.parametrize("joules", [pytest.param(2.0, id="large"), pytest.param(0.5, id="small")])
        class TestSizes:
            def test_it(self, energy_meter, world, joules):
                energy_meter.measure(world.model(joules), list("abcd"), references=list("ABCD"))
        """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=2 - failed, failed=failed)
    verdicts = [verdict["verdict"] for run in project.report()["runs"] for verdict in run["verdicts"]]
    assert verdicts == (["FAIL"] if failed else ["PASS"])


@pytest.mark.parametrize(
    "options",
    [["-p", "no:terminal"], ["--tb=no"], ["-q"], ["-qq"], ["-x"], ["--maxfail=1"], ["--setup-show"], ["-p", "no:junitxml"]],
    ids=" ".join,
)
def test_how_pytest_talks_changes_no_verdict(project: Project, options: list[str]) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        @pytest.mark.parametrize("joules", [0.1, 0.5, 0.2])
        def test_it(energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))
        """,
    )
    result = project.measure("--energy-json=energy.json", *options)
    assert result.ret == 1
    assert result.errlines == []
    ended = "-x" in options or "--maxfail=1" in options
    assert list(words(project).values()) == [["PASS"], ["FAIL"], ["PASS"]][: 2 if ended else 3]


def test_what_is_only_set_up_measures_nothing_and_is_green(project: Project) -> None:
    project.write("test_it.py", CASE + "\n        def test_it(self):\n            self.measure(0.5)\n")
    for option in ("--setup-only", "--setup-plan"):
        assert project.measure(option, "--energy-json=energy.json").ret == 0
        assert project.report()["runs"] == []


def test_a_subtest_does_not_end_the_test_of_the_other_side(project: Project) -> None:
    project.monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.path), os.environ.get("PYTHONPATH", "")]))
    repository = Repository(project)
    project.write(
        "tests/test_app.py",
        """
        from app import model

        def test_it(energy_meter, subtests):
            for part in range(2):
                with subtests.test(part=part):
                    assert part < 2
            energy_meter.measure(model, list("abcd"))
        """,
    )
    repository.commit()
    repository.measure().assert_outcomes(passed=1)
    assert words_against(project)["energy_per_query"] != "UNMEASURED"
