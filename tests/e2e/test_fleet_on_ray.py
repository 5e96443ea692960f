"""greencompute fleet on a real Ray cluster of logical nodes, all on 127.0.0.1: one verdict, whatever becomes of nodes and parts.

The parts are real sessions of pytest in processes of their own; each has a simulated clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute import cli
from pytest_greencompute.commands import fleet as command
from tests.repositories import AUTHOR

from . import clusters
from .clusters import NAMES, Shared, shared_cluster
from .conftest import CONFTEST, Project
from .test_base_ref import SIMULATED

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'pytest-greencompute[ray]')"),
    pytest.mark.skipif(os.name != "posix", reason="POSIX signals"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
alone = pytest.mark.alone  # of several workers each would start a cluster

TESTS = """
    import os
    import pytest
    from model import DOES, JOULES

    @pytest.mark.energy_budget(energy_per_query="1 J", accuracy=0.9)
    def test_chat(energy_meter, world):
        joules = JOULES * float(os.environ["WORLD_JOULES"])
        energy_meter.measure(world.model(joules, spread=0.01), list("abcd"), references=list("ABCD"))

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_other(energy_meter, world):
        DOES()
        energy_meter.measure(world.model(0.5, spread=0.01), list("abcd"))

    def test_plain():
        raise AssertionError("not a metered test")
"""
MODEL = """
    import os, pathlib, time

    JOULES = 1.0
    SEEN = pathlib.Path({seen!r})

    def DOES():
        uuid = os.environ.get("WORLD_UUID", "GPU-none")
        {does}
"""
OWN_TIME = "\nimport os\nsimulated.sleep(os.getpid())\n"  # else two parts would be the same samples
BOTH = ("H100", "L4")
WAITS = "(SEEN / uuid).write_text(str(os.getpid())); time.sleep(60)"


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """Not for longer: its processes descend from this one, and CPU time of those is on the bill of what measures here later."""
    with shared_cluster() as shared:
        shared.add("H100", "big-1")
        shared.add("L4", "small-1", joules=0.8)
        yield shared


class Repository:
    """A project in a repository; ``run`` measures it on the cluster, and keeps what was printed."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str], seen: Path) -> None:
        self.project, self.capsys, self.said = project, capsys, ""
        self.seen = seen
        project.write("conftest.py", SIMULATED + OWN_TIME + CONFTEST)
        project.write("test_it.py", TESTS)
        project.write(".gitignore", "__pycache__/\n.greencompute/\n*.json\n")
        self.git("init", "-q")
        self.commit()

    def git(self, *words: str) -> None:
        subprocess.run(["git", *AUTHOR, *words], cwd=self.project.path, check=True)

    def commit(self, does: str = "pass", joules: float = 1.0) -> None:
        model = MODEL.format(seen=str(self.seen), does=does).replace("JOULES = 1.0", f"JOULES = {joules}")
        self.project.write("model.py", model)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")

    def run(self, *args: str, hardware: str = "H100,L4", pytest_args: tuple[str, ...] = ()) -> int:
        self.capsys.readouterr()
        status = cli.main(["fleet", "--ray", "local", "--hardware", hardware, "-o", "whole.json", *args, "--", *pytest_args])
        self.said = "".join(self.capsys.readouterr())
        return status


class Fleet(Repository):
    """One that is measured on the cluster that there is."""

    def __init__(self, project: Project, shared: Shared, capsys: pytest.CaptureFixture[str], seen: Path) -> None:
        super().__init__(project, capsys, seen)
        self.shared = shared

    @property
    def words(self) -> dict[tuple[str, str], str]:
        """The verdict on energy, by test and hardware."""
        runs = self.project.report("whole.json")["runs"]
        return {(run["test"].partition("::")[2], run["hardware"]): word(run) for run in runs}

    def when_seen(self, name: str, then: Callable[[], object]) -> threading.Thread:
        """Do that when a part on the card of this name has begun to wait."""

        def wait() -> None:
            until = time.monotonic() + 60
            while not self.pid(name) and time.monotonic() < until:
                time.sleep(0.05)
            then()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread

    def pid(self, name: str) -> int:
        """The process of the part that waits on the card of this name; 0: none has come to it."""
        with suppress(OSError, ValueError):
            return int((self.seen / f"GPU-{name}").read_text(encoding="utf-8"))
        return 0

    def is_gone(self, name: str) -> bool:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(OSError):
                if Path(f"/proc/{self.pid(name)}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX":
                    time.sleep(0.05)
                    continue
            return True
        return False

    def wait_until_removed(self) -> None:
        """Until nothing is left of what was laid out on the nodes."""
        until = time.monotonic() + 10
        while left := list(self.shared.rooms.glob("greencompute-fleet-*")):
            assert time.monotonic() < until, left
            time.sleep(0.05)


def word(run: dict[str, Any]) -> str:
    return str(next(each["verdict"] for each in run["verdicts"] if each["metric"] == "energy_per_query"))


@pytest.fixture
def fleet(project: Project, shared: Shared, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fleet:
    monkeypatch.setitem(command.STARTED_HERE, "local", clusters.__name__)  # type: ignore[arg-type]
    return Fleet(project, shared, capsys, tmp_path)


@alone
def test_every_test_is_measured_on_every_kind_at_the_commit_with_one_verdict(fleet: Fleet) -> None:
    assert fleet.run(pytest_args=("test_it.py",)) == 0, fleet.said
    assert fleet.words == {(test, NAMES[kind]): "PASS" for test in ("test_chat", "test_other") for kind in BOTH}
    runs = {(run["test"].partition("::")[2], run["hardware"]): run for run in fleet.project.report("whole.json")["runs"]}
    figures = {kind: runs["test_chat", NAMES[kind]]["metrics"]["energy_per_query"]["value"] for kind in BOTH}
    assert figures == {"H100": pytest.approx(0.5, rel=0.02), "L4": pytest.approx(0.8, rel=0.02)}
    assert "4/4" in fleet.said
    assert "test_plain" not in fleet.said
    assert len(list((fleet.project.path / ".greencompute" / "fleet").glob("*-test_*.json"))) == 4
    fleet.wait_until_removed()


@alone
def test_a_kind_that_no_node_has_is_said_before_anything_runs(fleet: Fleet) -> None:
    assert fleet.run(hardware="H100,A100") == 2
    assert "No node of this Ray cluster has A100, of 3 that live. Their kinds are H100, L4." in fleet.said
    assert fleet.run("--gpus", "8") == 2
    assert "No node of this Ray cluster has 8 × H100 or L4" in fleet.said
    assert not (fleet.project.path / "whole.json").exists()
    assert not (fleet.project.path / ".greencompute").exists()


@alone
def test_a_node_that_is_killed_has_its_part_run_on_another_of_its_kind_and_where_there_is_none_it_is_unmeasured(fleet: Fleet) -> None:
    fleet.commit(f"if uuid in ('GPU-doomed', 'GPU-only'): {WAITS}")
    doomed = {name: fleet.shared.add(kind, name) for name, kind in {"doomed": "H100", "only": "T4"}.items()}
    killers = [fleet.when_seen(name, partial(fleet.shared.cluster.kill, node)) for name, node in doomed.items()]
    assert fleet.run("--repeat", "2", hardware="H100,T4", pytest_args=("-k", "other")) == 1, fleet.said
    for each in killers:
        each.join()
    rows = {run["hardware"]: (word(run), run.get("hosts")) for run in fleet.project.report("whole.json")["runs"]}
    assert rows[NAMES["H100"]] == ("PASS", 2)
    assert rows["T4"][0] == "UNMEASURED"
    assert "doomed: the node died; test_it.py::test_other on H100 is tried on another" in fleet.said.replace(" (2)", "")
    assert "no part was measured on T4: only: the node died; no other host with T4 is left" in fleet.said
    assert fleet.is_gone("doomed")
    assert fleet.is_gone("only")


@alone
def test_a_part_that_hangs_and_one_that_crashes_are_unmeasured_with_the_reason_and_the_others_count(fleet: Fleet) -> None:
    fleet.commit(f"if uuid == 'GPU-big-1': os.kill(os.getpid(), 11)\n        {WAITS}")
    assert fleet.run("--timeout", "6") == 1, fleet.said
    assert fleet.words == {
        ("test_chat", NAMES["H100"]): "PASS",
        ("test_chat", NAMES["L4"]): "PASS",
        ("test_other", NAMES["H100"]): "UNMEASURED",
        ("test_other", NAMES["L4"]): "UNMEASURED",
    }
    assert "big-1: pytest was ended by SIGSEGV, without a report" in fleet.said
    assert "small-1: it had not ended after 6 s, and was ended" in fleet.said
    assert fleet.is_gone("small-1")


@alone
def test_ctrl_c_keeps_what_has_come_within_the_seconds_that_ci_gives(fleet: Fleet) -> None:
    fleet.commit(WAITS)
    moments: list[float] = []

    def interrupt() -> None:
        moments.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    stopper = fleet.when_seen("big-1", interrupt)
    assert fleet.run(hardware="H100") == 1
    stopper.join()
    assert time.monotonic() - moments[0] < 7.5
    assert fleet.words == {("test_chat", NAMES["H100"]): "PASS", ("test_other", NAMES["H100"]): "UNMEASURED"}
    assert "the fleet was stopped before it had come" in fleet.said
    assert fleet.is_gone("big-1")


@alone
def test_what_runs_on_a_node_ends_with_a_fleet_that_is_killed(fleet: Fleet) -> None:
    fleet.commit(WAITS)
    command = [sys.executable, "-m", "pytest_greencompute.cli", "fleet", "--ray", fleet.shared.cluster.address, "--hardware", "L4"]
    with subprocess.Popen([*command, "--", "-k", "other"], cwd=fleet.project.path, stdout=subprocess.DEVNULL) as process:
        fleet.when_seen("none", process.kill).join()
    assert fleet.pid("none")
    assert fleet.is_gone("none")
    fleet.wait_until_removed()


@alone
def test_the_base_commit_is_measured_on_the_same_node(fleet: Fleet) -> None:
    fleet.git("branch", "base")
    fleet.commit(joules=1.02)
    assert fleet.run(hardware="H100", pytest_args=("-k", "chat", "--energy-base-ref", "base")) == 0, fleet.said
    (run,) = fleet.project.report("whole.json")["runs"]
    against = next(each for each in run["verdicts"] if (each["kind"], each["metric"]) == ("base_ref", "energy_per_query"))
    assert against["verdict"] == "PASS"
    assert against["ratio"]["value"] == pytest.approx(1.02, abs=0.005)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--repeat", "0"), "'0' is not a number of hosts"),
        (("--gpus", "none"), "'none' is no number of GPUs"),
        (("--timeout", "soon"), "'soon' is no time that a part may take"),
        (("--ray", "127.0.0.1:1"), "No Ray cluster answers at '127.0.0.1:1': [Errno 111] Connection refused"),
        (("--ray", "somewhere"), "No Ray cluster answers at 'somewhere'"),
        (("--", "--energy-save=main"), "--energy-save is of no use in a part of a fleet. Save with pytest on one host of each kind."),
        (("--", "--energy-json=x.json"), "Write the report of all hosts instead: -o PATH"),
        (("--", "no_such_test.py"), "pytest collected no metered test with `no_such_test.py`"),
    ],
)
def test_bad_usage_is_said_before_anything_runs(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path, args: tuple[str, ...], says: str
) -> None:
    repository = Repository(project, capsys, tmp_path)
    mine, _, theirs = (" ".join(args)).partition("-- ") if "--" in args else (" ".join(args), "", "")
    assert repository.run(*mine.split(), pytest_args=tuple(theirs.split())) == 2
    assert says in repository.said


def test_the_report_of_the_fleet_before_does_not_stand_in_the_way(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    repository = Repository(project, capsys, tmp_path)
    project.write("whole.html", "<p>the last one</p>")
    assert repository.run("--ray", "127.0.0.1:1", "-o", "whole.html") == 2
    assert "No Ray cluster answers at '127.0.0.1:1'" in repository.said
    assert repository.run("--ray", "127.0.0.1:1", "-o", "other.html") == 2
    assert "whole.html are in no commit" in repository.said


def test_a_report_that_cannot_be_written_is_refused_before_a_cluster_is_asked(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    repository = Repository(project, capsys, tmp_path)
    assert repository.run("--ray", "127.0.0.1:1", "-o", "test_it.py/whole.html") == 2
    assert "whole.html cannot be written: Not a directory." in repository.said


def test_an_option_in_addopts_that_no_part_can_take_is_refused_until_addopts_is_left_out(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    project.write("pytest.ini", "[pytest]\naddopts = -q --energy-save=main\n")
    repository = Repository(project, capsys, tmp_path)
    assert repository.run("--ray", "127.0.0.1:1") == 2
    assert "--energy-save (in addopts) is of no use in a part of a fleet. Save with pytest on one host of each kind." in repository.said
    assert repository.run("--ray", "127.0.0.1:1", pytest_args=("-o", "addopts=")) == 2
    assert "No Ray cluster answers at '127.0.0.1:1'" in repository.said
