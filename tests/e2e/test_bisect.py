"""``greencompute bisect``: the commit since which a test uses more, in repositories with a planted place."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import pytest_greencompute.commands.bisect  # imported once: it is what the launches are put into
import pytest_greencompute.pairing.looking
from pytest_greencompute import cli
from pytest_greencompute.pairing.beside_good import BesideGood, GoodNotMeasuredError
from pytest_greencompute.pairing.started import DisturbedError, NoSuchTestError, NotMeasuredError
from tests.e2e.conftest import Project
from tests.e2e.test_base_ref import SIMULATED, TEST
from tests.e2e.test_signals import HEEDING_CTRL_C

APP = """
from world import world

# {note}
model = world.model(joules={joules}, seconds=0.004, spread=0.004)
"""
NODE = "tests/test_app.py::test_it"
ANEW = True  # as users start them


def test_an_answer_that_could_not_be_written_is_refused_before_anything_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert cli.main(["bisect", "--good", "a", "--bad", "b", "--json", "file/found.json", NODE]) == 2
    assert "file/found.json cannot be written: Not a directory." in capsys.readouterr().err


class Planted:
    """The inner project under git, whose commits use what a test plants."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "tests@example.org")
        self.git("config", "user.name", "Tests")
        project.toml('max_seconds = 20\nexplain = "off"')
        conftest = (project.path / "conftest.py").read_text(encoding="utf-8")
        project.write("conftest.py", SIMULATED + conftest)
        project.write("tests/test_app.py", TEST)
        project.write(".gitignore", "__pycache__/\n*.json\ntmp/\n.greencompute/\n.venv/\nstdout\nstderr\n")

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.project.path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, joules: float, note: str = "a change") -> str:
        """A commit whose model uses so much."""
        self.project.write("app.py", APP.format(joules=joules, note=note))
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", note)
        return self.git("rev-parse", "HEAD")

    def bisect(self, good: str, *more: str, bad: str = "HEAD", test: str = NODE) -> int:
        return cli.main(["bisect", "--good", good, "--bad", bad, *more, test])

    @property
    def states(self) -> Sequence[Path]:
        return sorted((self.project.path / ".greencompute" / "bisect").glob("*.json"))


@pytest.fixture
def planted(project: Project, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(project.path)
    # The command reads no conftest: it knows meters that are installed.
    installed = project.write("tmp/meters/others-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: others\nVersion: 1.0\n").parent
    (installed / "entry_points.txt").write_text("[greencompute.meters]\nworld = world:WorldMeter\n", encoding="utf-8")
    monkeypatch.syspath_prepend(project.path)
    monkeypatch.syspath_prepend(installed.parent)
    return Planted(project)


def history(planted: Planted, *joules: float) -> list[str]:
    """Commits that use so much each; their numbers are their subjects."""
    return [planted.commit(each, f"number {number}") for number, each in enumerate(joules)]


@pytest.mark.alone
def test_the_planted_commit_is_found_under_both_names_of_the_test(planted: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    test, old = (planted.project.path / "tests" / name for name in ("test_app.py", "test_old.py"))
    test.rename(old)
    good, _ = history(planted, 0.5, 0.5)
    old.rename(test)
    guilty, _ = history(planted, 0.6, 0.6)
    options = ("--rename", f"tests/test_old.py::test_it={NODE}", "--confidence", "0.9", "--json", "found.json")
    assert planted.bisect(good, *options) == 0
    assert f"{guilty[:10]} number 0: here energy/query rose, with a probability of 9" in capsys.readouterr().out
    found = json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))
    assert [each["sha"] for each in found["suspects"]] == [guilty]
    assert found["probability"] >= 0.9
    assert abs(found["rise"]["value"] - 0.2) < 0.02
    assert len(planted.git("worktree", "list").splitlines()) == 1
    assert list((planted.project.path / "tmp").glob("greencompute-base-*")) == []


HUNGRY = """
from world import world

def infer(batch):
    return [number * number for number in range(2_000 * {times})] and metered(batch)

metered = world.model(joules={joules}, seconds=0.004, spread=0.004)

def model(batch):
    return infer(batch)
"""


@pytest.mark.alone
def test_what_was_found_is_explained_beside_the_commit_before(
    planted: Planted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the function in which the guilty commit works more."""
    monkeypatch.setattr(pytest_greencompute.pairing.looking, "EXPLAINING_S", 6.0)
    planted.project.toml('max_seconds = 20\nexplain = "on"')
    commits = []
    for times, joules in ((1, 0.5), (30, 1.0)):
        planted.project.write("app.py", HUNGRY.format(times=times, joules=joules))
        planted.git("add", "-A")
        planted.git("commit", "-q", "-m", f"{times} times")
        commits.append(planted.git("rev-parse", "HEAD"))
    assert planted.bisect(commits[0], "--confidence", "0.9", "--json", "found.json") == 0
    said = capsys.readouterr().out
    assert f"{commits[1][:10]} 30 times: here" in said
    assert "app.py:infer: +" in said
    found = json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))
    assert "app.py:infer: +" in found["explanation"]["where"]


@pytest.mark.alone
def test_a_bisect_that_ctrl_c_ends_in_the_midst_of_a_launch_leaves_nothing_behind_and_goes_on(planted: Planted) -> None:
    """A process of its own, with real launches."""
    shas = history(planted, 0.5, 0.5, 0.7, 0.7)
    meters = planted.project.path / "tmp" / "meters"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(meters), os.environ["PYTHONPATH"]])}
    command = [sys.executable, "-m", "pytest_greencompute.cli", "bisect", "--good", shas[0], "--bad", "HEAD", "--confidence", "0.9", NODE]

    def kept() -> list[Any]:
        return [each for state in planted.states for each in json.loads(state.read_text(encoding="utf-8"))["launches"]]

    with (planted.project.path / "stderr").open("wb") as err:
        process = subprocess.Popen([sys.executable, "-c", HEEDING_CTRL_C, *command[1:]], env=environ, stderr=err)
        try:
            wait_until(lambda: bool(kept()) or process.poll() is not None, 60)
            while not (sides := sides_of(process.pid)) and process.poll() is None:  # those of a launch may end at any time
                time.sleep(0.02)
            assert sides, (planted.project.path / "stderr").read_text(encoding="utf-8")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130, (planted.project.path / "stderr").read_text(encoding="utf-8")
        finally:
            process.kill()
            process.wait()
    assert "Stopped. The same command goes on from here." in (planted.project.path / "stderr").read_text(encoding="utf-8")
    wait_until(lambda: not any(map(is_running, sides)), 10)
    before = kept()
    assert before
    assert len(planted.git("worktree", "list").splitlines()) == 1
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{shas[2][:10]} number 2: here energy/query rose" in done.stdout
    assert f"going on after {len(before)} launch" in done.stdout + done.stderr
    assert kept()[: len(before)] == before


def sides_of(pid: int) -> list[int]:
    """The processes that measure a side for that one."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(number) for number, parent, args in rows if int(parent) == pid and "python" in args]


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


TIRED = """
import itertools
from world import world

simulated, calls = world.model(joules=0.5, seconds=0.004), itertools.count()

def model(queries):
    if next(calls) > 300:
        raise RuntimeError("tired")
    return simulated(queries)
"""


def test_a_good_side_that_fails_in_the_midst_of_its_sets_is_no_fault_of_the_other(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.project.write("app.py", TIRED)
    planted.git("add", "-A")
    planted.git("commit", "-q", "-m", "tired")
    planted.commit(0.6)
    assert planted.bisect("HEAD~1") == 2
    assert "The good commit HEAD~1" in (said := capsys.readouterr().err)
    assert "its test failed (RuntimeError: tired)" in said


@pytest.mark.parametrize(
    "several", ["@pytest.mark.parametrize('k', ['a b', 'c'])\ndef test_it(k, {})", "class test_it:\n  def test_a(self, {})"]
)
def test_a_name_of_several_tests_is_not_taken_for_the_first(planted: Planted, capsys: pytest.CaptureFixture[str], several: str) -> None:
    body = f"{several.format('energy_meter')}:\n    energy_meter.measure(model, ['a', 'b'])\n"
    planted.project.write("tests/test_app.py", f"import pytest\nfrom app import model\n{body}")
    planted.project.write("pytest.ini", "[pytest]\npython_classes = test_*\n")
    history(planted, 0.5, 0.6)
    assert planted.bisect("HEAD~1") == 2
    assert f"{NODE} is no single test there: its first is {NODE}" in (said := capsys.readouterr().err)
    assert said.endswith("Name one test, with its parameters.\n")


@pytest.mark.parametrize(("python", "lacks"), [("env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {}", "pytest-greencompute"), ("{} -S", "pytest")])
def test_a_python_without_what_measures_is_named_with_the_remedy(
    planted: Planted, capsys: pytest.CaptureFixture[str], python: str, lacks: str
) -> None:
    (planted.project.path / "conftest.py").unlink()
    history(planted, 0.5, 0.6)
    script = planted.project.write("tmp/python", f'#!/bin/sh\nexec {python.format(sys.executable)} "$@"\n')
    script.chmod(0o755)
    assert planted.bisect("HEAD~1", "--setup", f"mkdir -p .venv/bin && cp {script} .venv/bin/python") == 2
    assert f".venv/bin/python) has no {lacks}. Install it there." in capsys.readouterr().err


def test_a_machine_without_a_meter_is_told_why_there_is_none(planted: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    history(planted, 0.5, 0.6)
    assert planted.bisect("HEAD~1", "--meter", "nvml") == 2
    assert "no energy meter works there. nvml: " in (said := capsys.readouterr().err)
    assert "Name another commit" not in said


def test_a_folder_without_git_has_a_remedy_that_bisect_can_follow(
    planted: Planted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert planted.bisect("HEAD~1") == 2
    said = capsys.readouterr().err
    assert "is in no git repository, so there is no commit to compare with. Go to the folder of a project" in said
    assert "--energy" not in said


# What follows has launches whose pairs are made up from what each commit's model uses


class Launches:
    """Stands in for the processes of a launch: ``broken`` are commits that have no figure, ``faults`` what single launches of a commit
    end with, the first ones first; the launch number ``stop_at`` is stopped.
    """

    def __init__(self, planted: Planted) -> None:
        self.planted = planted
        self.count, self.stop_at, self.device = 0, 0, "gpu:0 made up"
        self.broken: dict[str, NotMeasuredError] = {}
        self.faults: dict[str, list[NotMeasuredError | None]] = {}
        self.pythons: set[str] = set()
        self.most_worktrees = 0

    def __call__(self, good: Any, other: Any, *_: object, pairs: int, **__: object) -> BesideGood:
        self.count += 1
        if self.count == self.stop_at:
            raise KeyboardInterrupt
        for start, kind in ((good, GoodNotMeasuredError), (other, NotMeasuredError)):
            sha = start.args[0].sha
            problem: NotMeasuredError | None = self.faults[sha].pop(0) if self.faults.get(sha) else self.broken.get(sha)
            if problem is not None:
                raise GoodNotMeasuredError(problem) if kind is GoodNotMeasuredError else problem
        a, b = (self._joules(start.args[0].sha) for start in (good, other))
        (base,) = other.func.__self__._checked_out(other.args[0]).of_test(NODE)
        self.pythons.add(base.side.python)
        self.most_worktrees = max(self.most_worktrees, len(self.planted.git("worktree", "list").splitlines()) - 1)
        luck = random.Random(self.count)
        found = tuple((a * luck.gauss(1, 0.01), b * luck.gauss(1, 0.01)) for _ in range(pairs))
        return BesideGood(found, 5.0, float(pairs), (self.device,), ())

    def _joules(self, sha: str) -> float:
        return float(self.planted.git("show", f"{sha}:app.py").partition("joules=")[2].partition(",")[0])


@pytest.fixture
def launches(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> Launches:
    launches = Launches(planted)
    monkeypatch.setattr("pytest_greencompute.commands.bisect.launch_beside", launches)
    return launches


def test_a_stopped_bisect_goes_on_and_repeats_no_launch(planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    shas = history(planted, *[0.5] * 6, *[0.6] * 6)
    launches.stop_at = 5
    assert planted.bisect(shas[0]) == 130
    assert "Stopped. The same command goes on from here." in capsys.readouterr().err
    assert len(json.loads(planted.states[0].read_text(encoding="utf-8"))["launches"]) == 4
    assert len(planted.git("worktree", "list").splitlines()) == 1
    assert planted.bisect(shas[0], "--json", "found.json") == 0
    assert "going on after 4 launches that were measured before" in capsys.readouterr().err
    found = json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))
    assert found["suspects"][0]["sha"] == shas[6]
    assert len(found["launches"]) == launches.count - 1
    count = launches.count
    assert planted.bisect(shas[0]) == 0
    assert launches.count == count


def test_evidence_of_another_device_is_not_added(planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    shas = history(planted, *[0.5] * 3, 0.6)
    launches.stop_at = 3
    assert planted.bisect(shas[0]) == 130
    launches.device = "gpu:0 another"
    assert planted.bisect(shas[0]) == 2
    assert "What was measured before was on gpu:0 made up, and this is gpu:0 another." in capsys.readouterr().err


SYNTAX = (
    'gone: / E     File "/tmp/base/tree/tests/test_app.py", line 6 / E       def (: / E           ^ / E   SyntaxError: invalid syntax / end'
)


@pytest.mark.parametrize(
    ("said", "told"),
    [("gone: / E   ImportError: no x / end", "ImportError: no x"), (SYNTAX, "SyntaxError: invalid syntax (test_app.py, line 6)")],
    ids=["import", "syntax"],
)
def test_guilty_commits_that_cannot_be_measured_are_a_range(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str], said: str, told: str
) -> None:
    shas = history(planted, *[0.5] * 4, *[0.6] * 4)
    launches.broken = {shas[4]: NoSuchTestError("it has no such test"), shas[3]: NotMeasuredError(said)}
    assert planted.bisect(shas[0]) == 0
    printed = capsys.readouterr().out
    assert "Energy/query rose in one of these 3 commits, with a probability of 99" in printed
    assert f"Skipped {shas[4][:10]} number 4: it has no such test\n" in printed
    assert f"Skipped {shas[3][:10]} number 3: {told}\n" in printed
    assert f"git log -p {shas[2][:10]}..{shas[5][:10]}" in printed


def test_a_commit_that_failed_once_is_tried_again_where_it_would_narrow_the_answer(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    shas = history(planted, *[0.5] * 4, *[0.6] * 4)
    launches.faults = {shas[4]: [NotMeasuredError("its test failed (a timeout)")]}
    launches.broken = {shas[3]: NotMeasuredError("its test failed (for good)")}
    assert planted.bisect(shas[0], "--json", "found.json") == 0
    said = capsys.readouterr()
    assert f"skipped {shas[4][:10]} number 4: its test failed (a timeout)" in said.err
    assert f"once more: {shas[4][:10]} number 4" in said.err
    found = json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))
    assert [each["sha"] for each in found["suspects"]] == [shas[3], shas[4]]
    assert [each["commit"] for each in found["skipped"]] == [shas[3]]


OTHERS = DisturbedError("another process used the GPU while it was measured")
FAILED = NotMeasuredError("its test failed (a timeout)")


@pytest.mark.parametrize(("number", "fault"), [(0, OTHERS), (0, FAILED), (1, OTHERS), (2, OTHERS), (2, FAILED)])
def test_what_may_pass_is_tried_again_at_once_and_skips_nothing(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str], number: int, fault: NotMeasuredError
) -> None:
    shas = history(planted, *[0.5] * 2, 0.6)
    before: list[NotMeasuredError | None] = [None] * (fault is FAILED)  # what could never be measured is no passing fault
    launches.faults = {shas[number]: [*before, fault]}
    assert planted.bisect(shas[0], "--confidence", "0.9999") == 0
    said = capsys.readouterr()
    assert f"once more, since {shas[number][:10]} number {number} was not measured: {fault.message}" in said.err
    assert "kipped" not in said.err + said.out


@pytest.mark.parametrize(
    ("number", "called", "fault", "remedy"),
    [
        (0, "good", OTHERS, "End it. Run the same command again: it goes on from here."),
        (0, "good", FAILED, "Run the same command again: it goes on from here."),
        (1, "searched", OTHERS, "End it. Run the same command again: it goes on from here."),
    ],
)
def test_what_does_not_pass_stops_the_search_and_the_same_command_goes_on(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str], number: int, called: str, fault: NotMeasuredError, remedy: str
) -> None:
    shas = history(planted, *[0.5] * 2, 0.6)
    launches.faults = {shas[number]: [*[None] * (number == 0), fault, fault]}
    assert planted.bisect(shas[0]) == 2
    assert f"The {called} commit {shas[number][:10]}" in (said := capsys.readouterr().err)
    assert f"was not measured: {fault.message}. {remedy}" in said
    assert planted.bisect(shas[0]) == 0
    second = capsys.readouterr()
    assert "going on after" in second.err
    assert "kipped" not in second.err + second.out


@pytest.mark.parametrize(
    ("which", "joules", "says"),
    [
        ("a good commit that is worse", (0.6, 0.6, 0.5), "The good commit is the worse one: energy/query is 0.5"),
        ("no difference", (0.5, 0.6, 0.5), "There is nothing to be found: energy/query is 0.5"),
    ],
)
def test_a_bad_commit_that_is_not_worse_is_told_with_both_figures(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str], which: str, joules: Sequence[float], says: str
) -> None:
    shas = history(planted, *joules)
    assert planted.bisect(shas[0], "--json", "found.json") == 1, which
    assert says in capsys.readouterr().out
    assert json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))["suspects"] == []


@pytest.mark.parametrize(("which", "number"), [("good", 0), ("bad", 2)])
def test_an_end_that_cannot_be_measured_is_refused(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str], which: str, number: int
) -> None:
    shas = history(planted, *[0.5] * 2, 0.6)
    launches.broken = {shas[number]: NotMeasuredError("its test failed")}
    assert planted.bisect(shas[0]) == 2
    assert f"The {which} commit" in (said := capsys.readouterr().err)
    assert f"was not measured: its test failed. Name another commit with --{which}." in said


def test_a_good_commit_without_the_test_has_the_remedy_of_its_earlier_name(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    shas = history(planted, *[0.5] * 2, 0.6)
    launches.broken = {shas[0]: NoSuchTestError("it has no such test")}
    assert planted.bisect(shas[0]) == 2
    assert "Name another commit with --good, or the test's earlier name with --rename OLD=NEW." in capsys.readouterr().err


def test_no_more_checkouts_are_kept_than_space_is_meant_for(planted: Planted, launches: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_greencompute.commands.bisect.CHECKOUTS", 3)
    shas = history(planted, *[0.5] * 11, *[0.6] * 9)
    assert planted.bisect(shas[0]) == 0
    assert launches.most_worktrees == 3


def test_changes_that_are_not_committed_are_said_not_to_be_measured(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    shas = history(planted, *[0.5] * 2, 0.6)
    planted.project.write("app.py", "broken here")
    assert planted.bisect(shas[0]) == 0
    assert "1 changed file in this tree: only what is committed is measured" in capsys.readouterr().err


def test_a_setup_that_fails_skips_the_commit_and_says_what_it_said(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    shas = history(planted, *[0.5] * 2, 0.6)
    command = "grep -q 'number 1' app.py && { echo no wheel for it; exit 3; } || true"
    assert planted.bisect(shas[0], "--setup", command) == 0
    said = capsys.readouterr().out
    assert f"Skipped {shas[1][:10]} number 1: --setup ended with exit status 3: no wheel for it" in said
    assert "Energy/query rose in one of these 2 commits" in said


def test_a_setup_that_leaves_something_in_the_background_is_not_waited_for(planted: Planted, launches: Launches) -> None:
    shas = history(planted, 0.5, 0.6)
    left = planted.project.path / "left"
    begun = time.monotonic()
    try:
        assert planted.bisect(shas[0], "--setup", f"sleep 60 & echo $! >> {left}") == 0
        assert time.monotonic() - begun < 30
    finally:
        for each in left.read_text(encoding="utf-8").split():
            os.kill(int(each), signal.SIGKILL)


def test_a_setup_ends_with_the_bisect_that_is_stopped(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    history(planted, 0.5, 0.6)
    number, wait = planted.project.path / "number", subprocess.Popen.wait

    def stopped(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if process.returncode is None and not number.exists() and "sleep" in str(process.args):
            while not number.exists():
                time.sleep(0.01)
            raise KeyboardInterrupt
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", stopped)
    assert planted.bisect("HEAD~1", "--setup", f"sleep 60 & echo $! > {number}.new; mv {number}.new {number}; wait") == 130
    until = time.monotonic() + 10
    while is_running(int(number.read_text(encoding="utf-8"))) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_running(int(number.read_text(encoding="utf-8")))


def is_running(number: int) -> bool:
    """Whether a process of that number is there and is no zombie."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def test_a_test_may_be_named_by_its_whole_path(planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    shas = history(planted, 0.5, 0.6)
    assert planted.bisect(shas[0], test=str(planted.project.path / NODE)) == 0
    assert f"pytest {NODE} --energy-budget" in capsys.readouterr().out


def test_a_python_that_the_setup_makes_in_a_checkout_is_used_there(planted: Planted, launches: Launches) -> None:
    planted.git("commit", "-q", "--allow-empty", "-m", "the first")
    planted.project.write("requirements.txt", "torch==2.1\n")
    planted.project.write(".gitignore", "__pycache__/\n*.json\ntmp/\n.greencompute/\n.venv/\n")
    shas = history(planted, 0.5)
    planted.project.write("requirements.txt", "torch==2.2\n")
    shas += history(planted, 0.6)
    assert planted.bisect(shas[0], "--setup", "mkdir -p .venv/bin && touch .venv/bin/python") == 0
    assert {Path(each).parts[-4:] for each in launches.pythons} == {("tree", ".venv", "bin", "python")}


def test_other_requirements_skip_a_commit_with_the_remedy(planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    shas = history(planted, *[0.5] * 2)
    planted.project.write(".gitignore", "__pycache__/\n*.json\ntmp/\n.greencompute/\n")
    planted.project.write("requirements.txt", "torch==2.1\n")
    planted.commit(0.6, "other requirements")
    planted.git("rm", "-q", "requirements.txt")
    shas += [planted.commit(0.6, "as they were")]
    assert planted.bisect(shas[0]) == 0
    said = capsys.readouterr().out
    assert "other requirements: environment changes are not compared: requirements.txt differ; --setup can make a .venv with" in said


def test_a_merge_is_walked_into_where_that_is_asked_for(planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    good = planted.commit(0.5, "fine")
    planted.git("switch", "-q", "-c", "side")
    planted.commit(0.5, "side one")
    guilty = planted.commit(0.6, "side two")
    planted.git("switch", "-q", "main")
    planted.git("commit", "-q", "--allow-empty", "-m", "on main")
    planted.git("merge", "-q", "--no-ff", "-m", "the merge", "side")
    merge = planted.commit(0.6, "after it")
    assert planted.bisect(good, "--json", "found.json") == 0
    assert "the merge: here energy/query rose" in (said := capsys.readouterr().out)
    assert "It is a merge: with --all," in said
    assert planted.bisect(good, "--all", "--json", "found.json") == 0
    assert f"{guilty[:10]} side two: here energy/query rose" in (said := capsys.readouterr().out)
    assert "It is a merge" not in said
    found = json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))
    assert (found["suspects"][0]["sha"], found["merge"]["subject"]) == (guilty, "the merge")
    assert merge


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--metric", "accuracy"), "--metric accuracy: this is no metric that is measured in pairs. Choose one of energy_per_query,"),
        (("--rename", "a.py::b=c.py::d"), "--rename a.py::b=c.py::d: it does not lead to tests/test_app.py::test_it."),
        (("tests/test_app.py",), "TEST 'tests/test_app.py' names no single test. Write it as pytest lists it"),
        (("/elsewhere/test_app.py::test_it",), "TEST '/elsewhere/test_app.py::test_it' is no test of this project."),
        (("--confidence", "1.5"), "1.5 is not between 0.5 and 1. Write it like 0.99."),
        (("--good", "nowhere"), "--good nowhere: there is no commit 'nowhere' here"),
        (("--good", "HEAD^{tree}"), "--good HEAD^{tree}: this is a tree, no commit. Write a branch, a tag of a commit, or a commit."),
        (("--bad", "main~9"), "--bad main~9: there is no commit"),
        (("--good", "HEAD", "--bad", "HEAD~1"), "--good HEAD came after --bad HEAD~1. Swap them."),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    planted: Planted, launches: Launches, capsys: pytest.CaptureFixture[str], words: Sequence[str], says: str
) -> None:
    history(planted, 0.5, 0.6)
    test = words[-1] if len(words) == 1 else NODE
    assert planted.bisect("HEAD~1", *words[: len(words) // 2 * 2], test=test) == 2
    assert says in capsys.readouterr().err
    assert launches.count == 0
