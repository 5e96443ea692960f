"""Ctrl-C, SIGTERM and SIGKILL while a run is being measured, and two sessions on one device. In processes of their own, in real time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import WITHOUT, Project

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

# The first test takes two seconds, the second a minute if nobody ends it.
TESTS = """
    import pathlib
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", max_seconds=0.5)
    def test_short(energy_meter, world):
        energy_meter.measure(world.model(0.5, seconds=0.002), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="1 J", max_seconds=60)
    def test_long(energy_meter, world):
        inner = world.model(1.0, seconds=0.002, spread=0.5)
        def model(batch):
            if world.calls > 1500:
                pathlib.Path("measuring").touch()
            return inner(batch)
        energy_meter.measure(model, list("abcd"))
"""
HEEDING_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
OPTIONS = ("-m", "pytest", *WITHOUT, "--energy-budget", "--energy-json=energy.json", "--energy-save=main")


@contextlib.contextmanager
def session(project: Project, *args: str, log: str = "log") -> Iterator[subprocess.Popen[bytes]]:
    """A pytest process with its output in the file ``log``; killed at the end if it still runs."""
    with (project.path / log).open("wb") as out:
        # A suite that runs in the background has SIGINT ignored, and would hand that down.
        command = [sys.executable, "-c", HEEDING_CTRL_C, *OPTIONS, *args]
        process = subprocess.Popen(command, cwd=project.path, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def wait_for(path: Path, text: str = "", seconds: float = 30) -> None:
    """Until the file is there and holds the text."""
    until = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text(encoding="utf-8")):
        assert time.monotonic() < until, f"{path} did not come to hold {text!r}"
        time.sleep(0.02)


def saved(project: Project) -> list[Path]:
    folder = project.path / ".greencompute"
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def works_at_once(project: Project) -> None:
    """A second session gets the lock without waiting, measures and saves."""
    with session(project, "-k", "short", log="second") as process:
        assert process.wait(30) == 0
    text = (project.path / "second").read_text(encoding="utf-8")
    assert "waiting" not in text
    assert "1 passed" in text
    assert [run["test"] for run in project.report()["runs"]] == ["test_it.py::test_short"]
    assert saved(project)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_an_interrupted_session_ends_soon_writes_its_report_saves_nothing_and_frees_the_device(
    project: Project, sent: signal.Signals
) -> None:
    project.write("test_it.py", TESTS)
    with session(project) as process:
        wait_for(project.path / "measuring")
        process.send_signal(sent)
        assert process.wait(10) == pytest.ExitCode.INTERRUPTED
    log = (project.path / "log").read_text(encoding="utf-8")
    assert "KeyboardInterrupt" in log or "terminated (SIGTERM)" in log
    assert "1 passed" in log
    assert "baseline 'main' was not saved: the session did not end by itself" in log
    assert "INTERNALERROR" not in log
    report = project.report()
    assert report["exit_status"] == pytest.ExitCode.INTERRUPTED
    assert "test_it.py::test_short" in [run["test"] for run in report["runs"]]
    assert saved(project) == []
    works_at_once(project)


def test_a_killed_session_leaves_whole_files_and_no_lock(project: Project) -> None:
    project.write("test_it.py", TESTS)
    with session(project, "-k", "short", log="before") as process:
        assert process.wait(30) == 0
    before = project.report()
    kept = {path: path.read_bytes() for path in saved(project)}
    with session(project) as process:
        wait_for(project.path / "measuring")
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert project.report() == before
    assert {path: path.read_bytes() for path in saved(project)} == kept
    works_at_once(project)


def test_a_second_session_on_the_device_says_that_it_waits_and_goes_on_when_the_first_has_ended(project: Project) -> None:
    project.write("test_it.py", TESTS)
    with session(project, "-k", "long") as first:
        wait_for(project.path / "measuring")
        with session(project, "-k", "short", log="waiting") as second:
            wait_for(project.path / "waiting", "energy: waiting for another measured run on GPU-3000 to end")
            assert second.poll() is None
            first.send_signal(signal.SIGINT)
            assert first.wait(10) == pytest.ExitCode.INTERRUPTED
            assert second.wait(30) == 0
    assert "1 passed" in (project.path / "waiting").read_text(encoding="utf-8")
