"""Tests that need the machine for themselves: what happens where they do not have it."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tests.conftest
import tests.quiet
from tests.quiet import Others, in_steps, turn

BURN = "import time\nwhile time.process_time() < {seconds}: pass"


class Machine(Others):
    """One whose other processes are told, not looked at."""

    busy = False

    @property
    def disturb(self) -> bool:
        return self.busy


@pytest.fixture
def machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> type[Machine]:
    monkeypatch.setattr(tests.conftest, "Others", Machine)
    monkeypatch.setattr(Machine, "busy", False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest("from tests.conftest import pytest_runtest_protocol, pytest_terminal_summary")
    pytester.makeini("[pytest]\nmarkers = alone: needs the machine")
    return Machine


def ran(pytester: pytest.Pytester, fails: int, mark: str = "alone") -> tuple[dict[str, int], int, str]:
    """Outcomes of a test that fails so many times, how often it ran, and what was said; its fixture must be new each time."""
    pytester.makepyfile(
        f"""
        from pathlib import Path
        import pytest

        @pytest.fixture
        def fresh():
            return []

        @pytest.mark.{mark}
        def test_it(fresh):
            fresh.append(1)
            assert fresh == [1]
            runs = Path("runs")
            runs.write_text((runs.read_text() if runs.exists() else "") + "x")
            assert len(runs.read_text()) > {fails}
        """
    )
    result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    return result.parseoutcomes(), len((pytester.path / "runs").read_text()), result.stdout.str()


@pytest.mark.parametrize(("busy", "tries"), [(False, 2), (True, 3)])
def test_it_is_repeated_so_often_and_what_passed_then_is_named(
    pytester: pytest.Pytester, machine: type[Machine], busy: bool, tries: int
) -> None:
    machine.busy = busy
    for fails in range(tries):
        outcomes, times, said = ran(pytester, fails)
        (pytester.path / "runs").unlink()
        assert (outcomes, times) == ({"passed": 1}, fails + 1)
        assert ("1 passed when run again" in said and said.count("::test_it") == 1) is (fails > 0)


def test_on_a_quiet_machine_a_second_failure_is_a_failure(pytester: pytest.Pytester, machine: type[Machine]) -> None:
    outcomes, times, said = ran(pytester, fails=9)
    assert (outcomes, times) == ({"failed": 1}, 2)
    assert "passed when run again" not in said


def test_on_a_machine_that_stays_busy_it_is_left_out_with_the_reason(pytester: pytest.Pytester, machine: type[Machine]) -> None:
    machine.busy = True
    outcomes, times, said = ran(pytester, fails=9)
    assert (outcomes, times) == ({"skipped": 1}, 3)
    assert "failed 3 times while other processes used" in said


def test_an_error_that_no_busy_machine_explains_is_a_failure_at_once(pytester: pytest.Pytester, machine: type[Machine]) -> None:
    machine.busy = True
    pytester.makepyfile("import pytest\n\n@pytest.mark.alone\ndef test_it():\n    raise NameError('gone')")
    assert pytester.runpytest_inprocess("-p", "no:cacheprovider").parseoutcomes() == {"failed": 1}


@pytest.fixture
def workers(machine: type[Machine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a session of several workers, with locks of its own."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    for name in ("MACHINE", "DOOR"):
        (tmp_path / name).touch()
        monkeypatch.setattr(tests.quiet, name, tmp_path / name)


@pytest.mark.parametrize(("fails", "outcome", "times"), [(0, "passed", 1), (1, "passed", 2), (9, "failed", 3)])
def test_what_failed_beside_others_is_run_again_by_itself_and_that_counts(
    pytester: pytest.Pytester, workers: None, fails: int, outcome: str, times: int
) -> None:
    assert ran(pytester, fails, "alone(waits=True)")[:2] == ({outcome: 1}, times)


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("pytest_greencompute.errors.CannotError: the meter tells it to 15% only", True),
        ("pytest_greencompute.errors.MeterLostError: gone", True),
        ("assert 0.2 < 0.1", True),
        ("subprocess.TimeoutExpired: timed out", True),
        ("KeyError: 'name'", False),
        ("pytest_greencompute.errors.SettingsError: no", False),
    ],
)
def test_a_meter_that_cannot_tell_may_be_the_machines_and_an_error_of_the_code_is_not(kind: str, again: bool) -> None:
    assert (
        tests.conftest.BY_BUSY_MACHINES.match(kind if kind.startswith("assert ") else kind.partition(":")[0].rpartition(".")[2]) is not None
    ) is again


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_whoever_needs_the_machine_waits_for_those_that_share_it_and_goes_before_later_ones(workers: None) -> None:
    ran: list[str] = []

    def take(name: str, beside: bool) -> threading.Thread:
        def run() -> None:
            with turn(beside=beside):
                ran.append(name)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    with turn(beside=True):
        take("beside", True).join()
        waiting = [take("alone", False)]
        assert any(is_locked(tests.quiet.DOOR) for _ in range(100_000))
        waiting.append(take("later", True))
        assert ran == ["beside"]
    for each in waiting:
        each.join()
    assert ran == ["beside", "alone", "later"]


@pytest.mark.alone
def test_others_are_all_but_us_and_what_we_started() -> None:
    with Others() as others:
        subprocess.run([sys.executable, "-c", BURN.format(seconds=0.5)], check=True)
    assert not others.disturb
    with Others() as others:
        # Left behind by the shell that started it, it is nobody's descendant.
        subprocess.run(["sh", "-c", f"{sys.executable} -c '{BURN.format(seconds=0.5)}' &"], check=True)
        time.sleep(1.0)
    assert others.disturb


def test_a_cost_is_told_in_steps_of_this_machine() -> None:
    assert 500 < in_steps(lambda: _spent(1000)) < 2000
    assert 5_000 < in_steps(lambda: _spent(10_000)) < 20_000


def _spent(steps: int) -> float:
    start, total = time.perf_counter(), 0
    for number in range(steps):
        total += len({"a": number})
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("marks", "errors"), [("alone", 0), ("alone(waits=True)", 0), ("alone and not slow", 0), ("alone or slow", 1), ("not alone", 1)]
)
def test_modules_without_a_test_that_is_asked_for_are_not_imported(
    pytester: pytest.Pytester, machine: type[Machine], marks: str, errors: int
) -> None:
    pytester.makeconftest("from tests.conftest import pytest_ignore_collect")
    pytester.makeini("[pytest]\nmarkers =\n    alone: needs the machine\n    slow: takes long")
    pytester.makepyfile(
        test_marked="import pytest\n\n@pytest.mark.alone(waits=True)\ndef test_it(): pass", test_other="raise RuntimeError('imported')"
    )
    result = pytester.runpytest_inprocess("-m", marks, "--continue-on-collection-errors", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes.get("errors", 0) == errors
    assert outcomes.get("passed", 0) == (marks != "not alone")
