"""Tests in another order, or only some of them: pytest-randomly, pytest-random-order, --lf, --ff, --nf, --sw, -k, --deselect."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from .beside import Beside
from .conftest import Project
from .test_base_ref import Repository

TESTS = """
    import random
    import pytest

    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    @pytest.mark.parametrize("number", range(6))
    def test_it(energy_meter, world, number):
        run = energy_meter.measure(world.model(0.5 if number == 3 else 0.1, spread=0.02), list("abcd"))
        world.calls_of = {**getattr(world, "calls_of", {}), number: run.queries}

    @pytest.mark.energy_group("sizes", default="large", margin="20%")
    @pytest.mark.parametrize("joules", [pytest.param(2.0, id="large"), pytest.param(0.5, id="small"), pytest.param(1.9, id="other")])
    def test_sizes(energy_meter, world, joules):
        energy_meter.measure(world.model(joules), list("abcd"), references=list("ABCD"))
"""


@pytest.fixture(autouse=True)
def _own_luck() -> Iterator[None]:
    """pytest-randomly seeds the one generator of this process; whoever draws from it later gets what it would have got."""
    kept = random.getstate()
    yield
    random.setstate(kept)


@pytest.mark.parametrize(("plugin", "option"), [("pytest_randomly", "--randomly-seed"), ("random_order.plugin", "--random-order-seed")])
def test_a_random_order_changes_no_verdict_and_a_group_is_judged_in_its_last_test(
    project: Project, monkeypatch: pytest.MonkeyPatch, plugin: str, option: str
) -> None:
    beside = Beside(project, monkeypatch, plugin)
    project.write("test_it.py", TESTS)
    orders, last = set(), set()
    for seed in range(1, 5):
        extra = () if plugin == "pytest_randomly" else ("--random-order-bucket=global",)
        result = beside.measure(f"{option}={seed}", "-v", "--energy-json=energy.json", *extra)
        result.assert_outcomes(passed=7, failed=2)
        ran = [line.split()[0].partition("::")[2] for line in result.outlines if line.startswith("test_it.py::")]
        members = [name for name in ran if name.startswith("test_sizes")]
        orders.add(tuple(ran))
        last.add(members[-1])
        words = {
            (verdict["kind"], run["test"].partition("::")[2]): verdict["verdict"]
            for run in project.report()["runs"]
            for verdict in run["verdicts"]
        }
        assert words.pop(("comparison", members[-1])) == "FAIL"
        assert words == {("budget", f"test_it[{number}]"): "FAIL" if number == 3 else "PASS" for number in range(6)}
    assert len(orders) > 1
    assert len(last) > 1


def test_the_seed_of_a_plugin_changes_no_measured_figure(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block sizes, phases and their number come from a generator of our own: only the order of the tests could tell the runs apart."""
    beside = Beside(project, monkeypatch, "pytest_randomly")
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    raw = []
    for options in (["-p", "no:randomly"], ["--randomly-seed=1"], ["--randomly-seed=2"]):
        beside.measure(*options, "--energy-json=energy.json")
        (run,) = project.report()["runs"]
        raw.append([block[:3] for each in run["raw"]["sets"] for block in each])  # its place, its phase, its queries
    assert raw[0] == raw[1] == raw[2] != []


def test_both_sides_of_a_comparison_have_the_seed_of_this_session(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each side would draw queries of its own, and be compared on them."""
    beside = Beside(project, monkeypatch, "pytest_randomly")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.path), os.environ["PYTHONPATH"]]))
    repository = Repository(project)
    project.write(
        "tests/test_app.py",
        """
        import random
        import pytest
        from app import model

        @pytest.mark.energy_budget(answers_changed="0 %", energy_per_query="9 J")
        def test_it(energy_meter):
            energy_meter.measure(model, [str(random.random()) for _ in range(8)])
        """,
    )
    repository.commit()
    result = beside.run_apart("--energy-budget", "--energy-base-ref=main", "--energy-json=energy.json", timeout=150)
    result.assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    assert {each["metric"]: each["verdict"] for each in run["verdicts"]}["answers_changed"] == "PASS"


# --- only some of the tests -------------------------------------------------------------------------------------------

BUDGETS = """
    [tool.greencompute.budgets."test_a.py::test_one"]
    energy_per_query = "0.4 J"
    [tool.greencompute.budgets."test_a.py::test_two"]
    energy_per_query = "0.4 J"
    [tool.greencompute.budgets."test_b.py::TestIt::test_three[x]"]
    energy_per_query = "0.4 J"
"""
FILES = {
    "test_a.py": """
        import pytest

        def test_one(energy_meter, world):
            energy_meter.measure(world.model(0.1), list("abcd"))

        def test_two(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    "test_b.py": """
        import pytest

        class TestIt:
            @pytest.mark.parametrize("text", ["x", "y"])
            def test_three(self, energy_meter, world, text):
                energy_meter.measure(world.model(0.2), list("abcd"))
        """,
}


def measure(project: Project, *args: str) -> pytest.RunResult:
    """With the cache of the last session's failures."""
    return project.pytester.runpytest_inprocess("-p", "no:hypothesispytest", "--energy-budget", "--energy-json=energy.json", *args)


@pytest.fixture
def two_files(project: Project) -> Project:
    project.toml(BUDGETS)
    for name, text in FILES.items():
        project.write(name, text)
    measure(project).assert_outcomes(passed=3, failed=1)
    return project


@pytest.mark.parametrize(
    ("options", "ran"),
    [
        (["--lf"], ["test_two"]),
        (["--ff"], ["test_two", "test_one", "test_three[x]", "test_three[y]"]),
        (["--nf"], ["test_one", "test_three[x]", "test_three[y]", "test_two"]),
        (["--sw"], ["test_one", "test_two"]),
        (["-k", "three"], ["test_three[x]", "test_three[y]"]),
        (["--deselect=test_a.py::test_two"], ["test_one", "test_three[x]", "test_three[y]"]),
        (["test_b.py"], ["test_three[x]", "test_three[y]"]),
        (["test_b.py::TestIt::test_three[x]"], ["test_three[x]"]),
        (["--ignore=test_a.py"], ["test_three[x]", "test_three[y]"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith(("-", "test_b")) else "",
)
def test_where_only_some_tests_run_the_budgets_of_the_others_are_not_stale(two_files: Project, options: list[str], ran: list[str]) -> None:
    result = measure(two_files, *options)
    stopped = pytest.ExitCode.INTERRUPTED if options == ["--sw"] else pytest.ExitCode.TESTS_FAILED
    assert result.ret == (stopped if "test_two" in ran else pytest.ExitCode.OK)
    runs = two_files.report()["runs"]
    found = [run["test"].rpartition("::")[2] for run in runs]
    assert (sorted(found) if options == ["--nf"] else found) == ran  # the newest file is first
    words = {run["test"].rpartition("::")[2]: [each["verdict"] for each in run["verdicts"]] for run in runs}
    expected = {"test_one": ["PASS"], "test_two": ["FAIL"], "test_three[x]": ["PASS"], "test_three[y]": []}
    assert words == {name: expected[name] for name in ran}


@pytest.mark.parametrize("options", [[], ["--ff"], ["--nf"], ["--sw"], ["-k", "one"], ["--deselect=test_a.py::test_one"]], ids=" ".join)
def test_a_budget_of_a_test_that_is_gone_is_stale_wherever_all_files_were_collected(two_files: Project, options: list[str]) -> None:
    two_files.write("test_b.py", "def test_else(): pass\n")
    result = measure(two_files, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the budget for 'test_b.py::TestIt::test_three[[]x]' matches no collected test.*"])


def test_steps_go_on_where_the_last_session_stopped(two_files: Project) -> None:
    measure(two_files, "--sw").assert_outcomes(passed=1, failed=1)
    two_files.write("test_a.py", FILES["test_a.py"].replace("0.5", "0.3"))
    measure(two_files, "--sw").assert_outcomes(passed=3, deselected=1)


GROUP = """
    import pytest

    @pytest.mark.energy_group("sizes", default="large", margin="20%")
    @pytest.mark.parametrize("joules", [pytest.param(2.0, id="large"), pytest.param(0.5, id="small")])
    def test_it(energy_meter, world, joules):
        energy_meter.measure(world.model(joules), list("abcd"), references=list("ABCD"))
"""


def test_the_verdict_of_a_group_is_not_laundered_by_running_its_last_failure_alone(project: Project) -> None:
    """The group failed in the test of its last candidate. That test alone has nothing to compare: it must not count as mended."""
    project.write("test_it.py", GROUP)
    measure(project).assert_outcomes(passed=1, failed=1)
    result = measure(project, "--lf", "--energy-unmeasured=fail")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["group 'sizes' was not judged: only one of its tests was collected"])
    measure(project, "--ff").assert_outcomes(passed=1, failed=1)
