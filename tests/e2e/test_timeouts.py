"""pytest-timeout: what is ended while it is measured leaves nothing behind. In processes of their own, in real time."""

from __future__ import annotations

import pytest

from .beside import Beside
from .conftest import CONFTEST, Project

# The session's last word is what the device has really used.
TOLD = (
    CONFTEST
    + """
def pytest_unconfigure(config):
    with open("used", "w") as file:
        file.write(str(the_world.energy_j))
"""
)
TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", max_seconds=60)
    def test_long(energy_meter, world):
        energy_meter.measure(world.model(1.0, seconds=0.002, spread=0.5), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="0.4 J", max_seconds=0.3)
    @pytest.mark.parametrize("joules", [0.1, 0.5])
    def test_short(energy_meter, world, joules):
        energy_meter.measure(world.model(joules, seconds=0.002), list("abcd"))
"""
QUICK = TESTS.replace("energy_meter.measure", "assert energy_meter  # ")
LINE = "energy: test_it.py::test_long may be measured for 60 s (max_seconds), and pytest-timeout ends it after {} s{}*"


@pytest.fixture
def beside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Beside:
    project.write("conftest.py", TOLD)
    project.write("test_it.py", TESTS)
    return Beside(project, monkeypatch, "pytest_timeout")


def test_a_signal_ends_the_measuring_and_later_tests_are_measured_all_the_same(beside: Beside) -> None:
    beside.project.write("test_it.py", TESTS.replace("    def test_long", "    @pytest.mark.timeout(1.5)\n    def test_long"))
    result = beside.run_apart("--energy-budget", "--energy-json=energy.json", "--energy-save=main", "--timeout=30")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            LINE.format(1.5, ". Raise the timeout, or lower max_seconds."),
            "*Failed: Timeout (>1.5s) from pytest-timeout.",
            "*over its budget of 0.4 J*",
            "saved 1 run to baseline 'main' *",
        ]
    )
    report = beside.project.report()
    assert [(run["test"], run["verdicts"][0]["verdict"]) for run in report["runs"]] == [
        ("test_it.py::test_short[0.1]", "PASS"),
        ("test_it.py::test_short[0.5]", "FAIL"),
    ]
    assert [each["reason"] for each in report["session"]["broken"]] == ["Failed: Timeout (>1.5s) from pytest-timeout."]
    used = float((beside.project.path / "used").read_text(encoding="utf-8"))
    assert report["session"]["energy_j"] == pytest.approx(used)  # what the ended test used, too


def test_where_a_timeout_ends_the_process_it_was_foretold_and_the_next_session_gets_the_device(beside: Beside) -> None:
    result = beside.run_apart("--energy-budget", "--timeout=1.5", "--timeout-method=thread")
    assert result.ret == 1
    result.stdout.fnmatch_lines([LINE.format(1.5, "")])
    result.stdout.no_fnmatch_line("*=== 1 failed*")
    result = beside.run_apart("--energy-budget", "-k", "test_short and 0.1", timeout=30)
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.no_fnmatch_line("*waiting*")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (["--timeout=61"], False),
        (["--timeout=60"], True),
        (["--timeout=0"], False),
        (["-o", "timeout=30"], True),
        ([], False),
        (["--timeout=30", "--energy-max-seconds=5"], True),  # the marker of the test wins
        (["--timeout=0.2"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_said_before_the_first_test_that_a_limit_is_too_short(beside: Beside, how: list[str], said: bool) -> None:
    beside.project.write("test_it.py", QUICK)
    result = beside.measure(*how)
    lines = [line for line in result.outlines if line.startswith("energy: ") and "max_seconds" in line]
    assert len(lines) == said
    if "--timeout=0.2" in how:
        assert "after 0.2 s, and so may 2 more." in lines[0]
    assert [line for line in beside.run(*how).outlines if "max_seconds" in line] == []  # nothing is measured


def test_the_mark_of_a_test_is_its_time_limit(beside: Beside) -> None:
    for mark, said in (("timeout(10)", True), ("timeout(timeout=10)", True), ("timeout(100)", False)):
        beside.project.write("test_it.py", QUICK.replace("    def test_long", f"    @pytest.mark.{mark}\n    def test_long"))
        result = beside.measure("--timeout=30")
        assert any(line.startswith(LINE.format(10, "")[:90]) for line in result.outlines) is said
