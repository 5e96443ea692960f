"""pytest-rerunfailures: the last attempt counts, alone, and it is said how many there were. Mostly in simulated time."""

from __future__ import annotations

import re
import textwrap
import xml.etree.ElementTree as ET

import pytest

from .beside import Beside
from .conftest import Project

# How much a query uses at each attempt.
TESTS = """
    import pytest

    ATTEMPTS = {}

    def attempt(name):
        ATTEMPTS[name] = ATTEMPTS.get(name, 0) + 1
        return ATTEMPTS[name]
"""


@pytest.fixture
def beside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Beside:
    return Beside(project, monkeypatch, "pytest_rerunfailures")


def change(beside: Beside, old: str, new: str) -> None:
    path = beside.project.path / "test_it.py"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def write(beside: Beside, *lines: str, mark: str = "") -> None:
    """A test, test_it, with a budget of 0.4 J: ``lines`` are its body; ``joules`` of attempt n is 0.5 until the third, 0.1 from then on."""
    body = lines or ("energy_meter.measure(world.model(joules), list('abcd'))",)
    text = f"\n{mark}\n@pytest.mark.energy_budget(energy_per_query='0.4 J')\ndef test_it(energy_meter, world):\n"
    text += "".join(f"    {line}\n" for line in ("n = attempt('it')", "joules = 0.5 if n < 3 else 0.1", *body))
    beside.project.write("test_it.py", textwrap.dedent(TESTS) + text)


def figures(project: Project) -> list[str]:
    """The energy per query that the JUnit report holds, one for each test that has it."""
    root = ET.parse(project.path / "junit.xml").getroot()
    return [each.attrib["value"] for each in root.iter("property") if each.attrib["name"] == "energy_per_query_j"]


REPORTS = ("--energy-json=energy.json", "--junitxml=junit.xml")


@pytest.mark.parametrize("how", ["--reruns=2", "@pytest.mark.flaky(reruns=2)"])
def test_a_budget_that_is_met_at_the_third_attempt_is_green_and_says_so(beside: Beside, how: str) -> None:
    write(beside, mark=how if how.startswith("@") else "")
    result = beside.measure(*REPORTS, "--energy-save=main", "--energy-total=1 MJ", *([how] if how.startswith("-") else []))
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "test_it * 0.100 J * PASS *",
            "note: test_it: attempt 3, after: test_it used 0.5000 J per query * over its budget of 0.4 J (1.2 times)*",
            "saved 1 run to baseline 'main' (*.json)",
            "total * of 1 MJ * 0 budgets failed",
            "*1 passed, 2 rerun*",
        ]
    )
    (run,) = beside.project.report()["runs"]
    assert run["metrics"]["energy_per_query"]["value"] == pytest.approx(0.1)
    assert run["notes"][0].startswith("attempt 3, after: ")
    assert figures(beside.project) == ["0.1"]


def test_a_budget_that_stays_red_is_red_once(beside: Beside) -> None:
    write(beside)
    result = beside.measure(*REPORTS, "--reruns=1", "-rf", "--energy-save=main")
    assert result.ret == 1
    assert [line for line in result.outlines if line.startswith("FAILED")] != []
    assert sum(line.startswith("test_it used 0.5000 J") for line in result.outlines) == 1
    result.stdout.fnmatch_lines(["*baseline 'main' was not saved: no run passed", "total * 1 budget failed", "*1 failed, 1 rerun*"])
    assert len(beside.project.report()["runs"]) == 1
    assert figures(beside.project) == ["0.5"]


def test_reruns_can_be_kept_from_a_measured_test(beside: Beside) -> None:
    write(beside, mark="@pytest.mark.flaky(reruns=0)")
    result = beside.measure("--reruns=2")
    result.assert_outcomes(failed=1)
    assert "rerun" not in result.outlines[-1]


@pytest.mark.parametrize(
    ("later", "outcome", "listed"),
    [
        ("pytest.skip('no device')", "skipped", "not measured: test_it.py::test_it (no device)"),
        ("pytest.fail('no weights')", "failed", "*no weights*"),
    ],
)
def test_nothing_of_an_earlier_attempt_stays_where_the_last_one_measured_nothing(
    beside: Beside, later: str, outcome: str, listed: str
) -> None:
    write(beside, f"n == 1 or {later}", "energy_meter.measure(world.model(joules), list('abcd'))")
    result = beside.measure(*REPORTS, "--reruns=1")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([listed, "total * 0 budgets failed"])
    assert beside.project.report()["runs"] == []
    assert figures(beside.project) == []


def test_an_attempt_that_broke_does_not_keep_the_next_one_from_being_saved_and_tightened(beside: Beside) -> None:
    beside.project.toml('[tool.greencompute.budgets."*"]\nenergy_per_query = "9 J"')
    write(beside, "energy_meter.measure(world.model(0.1), list('abcd'))", "assert n == 2, 'network'")
    change(beside, "@pytest.mark.energy_budget(energy_per_query='0.4 J')\n", "")
    result = beside.measure("--reruns=1", "--energy-save=main", "--energy-update=tighten", "--energy-json=energy.json")
    result.stdout.fnmatch_lines(["note: test_it: attempt 2, after: AssertionError: network*", "saved 1 run to baseline 'main' *"])
    assert 'energy_per_query = "9 J"' not in (beside.project.path / "pyproject.toml").read_text(encoding="utf-8")
    assert beside.project.report()["session"]["broken"] == []


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_an_attempt_that_breaks_beside_its_body_is_superseded_too(beside: Beside, phase: str) -> None:
    write(beside, "energy_meter.measure(world.model(0.1 * n), list('abcd'))")
    breaks = "attempt('fixture') == 2 or pytest.fail('flaky fixture')"
    steps = (breaks, "yield") if phase == "setup" else ("yield", breaks)
    fixture = "\n@pytest.fixture(autouse=True)\ndef flaky():\n" + "".join(f"    {step}\n" for step in steps)
    change(beside, "import pytest\n", f"import pytest\n{fixture}")
    result = beside.measure(*REPORTS, "--reruns=1")
    assert result.ret == 0
    (run,) = beside.project.report()["runs"]
    assert run["notes"] == ["attempt 2, after: flaky fixture"]
    assert figures(beside.project) == ["0.1" if phase == "setup" else "0.2"]
    assert beside.project.report()["session"]["broken"] == []


def test_failed_subtests_of_an_earlier_attempt_are_forgotten(beside: Beside) -> None:
    write(beside, "energy_meter.measure(world.model(0.1), list('abcd'))", "with subtests.test('part'):", "    assert n == 2")
    change(beside, "def test_it(", "def test_it(subtests, ")
    result = beside.measure("--reruns=1", "--energy-save=main", "--energy-json=energy.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["saved 1 run to baseline 'main' (*.json)"])
    assert beside.project.report()["session"]["broken"] == []


CLASS = """
    import unittest
    import pytest

    @pytest.fixture(scope="class")
    def model(request):
        from world import world
        world.loads = getattr(world, "loads", 0) + 1
        return world.model(0.1)

    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    class TestNew:
        def test_a(self, energy_meter, model):
            energy_meter.measure(model, list("abcd"))

        def test_b(self, energy_meter, model, world):
            world.tries = getattr(world, "tries", 0) + 1
            energy_meter.measure(model if world.tries == 2 else world.model(0.5), list("abcd"))
            assert world.loads == 1

    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    class TestOld(unittest.TestCase):
        tries = 0

        @pytest.fixture(autouse=True)
        def _meter(self, energy_meter, world):
            self.energy_meter, self.world = energy_meter, world

        def test_c(self):
            type(self).tries += 1
            self.energy_meter.measure(self.world.model(0.5 if self.tries == 1 else 0.1), list("abcd"))

        def test_red(self):
            self.energy_meter.measure(self.world.model(0.5), list("abcd"))
"""


def test_methods_are_rerun_with_the_models_of_their_class(beside: Beside) -> None:
    beside.project.write("test_it.py", CLASS)
    result = beside.measure(*REPORTS, "--reruns=1", "-rf")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::TestOld::test_red - *over its budget of 0.4 J*"])
    assert figures(beside.project) == ["0.1", "0.1", "0.1", "0.5"]
    noted = {run["test"].rpartition("::")[2]: bool(run["notes"]) for run in beside.project.report()["runs"]}
    assert noted == {"test_a": False, "test_b": True, "test_c": True, "test_red": True}


def test_the_last_candidate_of_a_group_may_be_rerun(beside: Beside) -> None:
    beside.project.write(
        "test_it.py",
        TESTS
        + """
    @pytest.mark.energy_group("sizes", default="large", margin="50%")
    @pytest.mark.parametrize("joules", [pytest.param(0.5, id="small"), pytest.param(0.55, id="large")])
    def test_it(energy_meter, world, joules):
        n = attempt(joules)
        energy_meter.measure(world.model(joules if n == 2 else 2.0), list("abcd"), references=list("ABCD"))
        assert joules > 0.5 or n == 2
    """,
    )
    result = beside.measure("--reruns=1", "--energy-json=energy.json")
    assert result.ret == 0
    assert [verdict["verdict"] for run in beside.project.report()["runs"] for verdict in run["verdicts"]] == ["PASS"]


@pytest.mark.parametrize(("limit", "status"), [("accuracy=0.9", 0), ("accuracy=1.0", 1)])
def test_workers_rerun_what_failed_and_the_controller_tells_of_the_last_attempt(
    project: Project, monkeypatch: pytest.MonkeyPatch, limit: str, status: int
) -> None:
    beside = Beside(project, monkeypatch, "xdist", "pytest_rerunfailures")
    project.write(
        "test_it.py",
        TESTS
        + f"""
    @pytest.mark.parametrize("number", range(2))
    @pytest.mark.energy_budget({limit})
    def test_it(energy_meter, number):
        n = attempt(number)
        energy_meter.measure(lambda batch: ["A" if n == 2 and query else "?" for query in batch], range(20), references=["A"] * 20)
    """,
    )
    result = beside.run_apart("-n2", "--reruns=1", *REPORTS)
    assert result.ret == status
    report = project.report()
    assert sorted(run["test"] for run in report["runs"]) == ["test_it.py::test_it[0]", "test_it.py::test_it[1]"]
    assert {run["metrics"]["accuracy"]["value"] for run in report["runs"]} == {0.95}
    assert all(re.match(r"attempt 2, after: test_it\[\d\] scored 0", run["notes"][0]) for run in report["runs"])
    text = (project.path / "junit.xml").read_text(encoding="utf-8")
    assert text.count('name="accuracy"') == 2
