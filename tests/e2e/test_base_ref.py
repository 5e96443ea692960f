"""--energy-base-ref: the same test at another commit, in its own process, by turns with this one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.conftest import Project

APP = """
from world import world

model = world.model(joules={joules}, seconds=0.004, spread=0.004, answer={answer})
"""

TEST = """
from app import model

def test_it(energy_meter):
    energy_meter.measure(model, ["a", "b", "c", "d"], references=["A", "B", "C", "D"])
"""


# Each process has a simulated clock of its own: sides wait for each other, so no time of theirs is compared.
SIMULATED = """
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.testing.simulated import SimulatedClock

simulated = SimulatedClock()
RealClock.__new__ = lambda cls: simulated
"""

HUNGRY = """
import os, tempfile
from pathlib import Path
import pytest
from app import model

MEMORY = Path(tempfile.gettempdir()) / "memory"

@pytest.fixture
def taken():
    MEMORY.mkdir(exist_ok=True)
    mine = MEMORY / str(os.getpid())
    mine.touch()
    if len(list(MEMORY.iterdir())) > {room}:
        mine.unlink()
        raise MemoryError("no room for the model")
    yield
    mine.unlink()

def test_it(taken, energy_meter):
    energy_meter.measure(model, ["a", "b", "c", "d"], references=["A", "B", "C", "D"])
"""


class Repository:
    """The inner project under git. ``app`` writes the program, ``commit`` keeps what is there."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "tests@example.org")
        self.git("config", "user.name", "Tests")
        project.toml("max_seconds = 60")
        self.conftest = (project.path / "conftest.py").read_text(encoding="utf-8")
        project.write("conftest.py", SIMULATED + self.conftest)
        project.write("tests/test_app.py", TEST)
        project.write(".gitignore", "__pycache__/\n*.json\ntmp/\nweights/\nrunpytest-*\nstdout\nstderr\n")
        self.app()

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.project.path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def app(self, joules: float = 0.5, answer: str = "str.upper") -> None:
        self.project.write("app.py", APP.format(joules=joules, answer=answer))

    def commit(self, message: str = "a change") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def write_hungry(self, *, room: int, joules: float = 0.5) -> None:
        """A test whose model takes memory, of which ``room`` processes have enough."""
        self.app(joules=joules)
        self.project.toml("max_seconds = 20")  # launches one after the other measure all of it
        self.project.write("tests/test_app.py", HUNGRY.format(room=room))

    def measure(self, ref: str = "main", *args: str, apart: bool = False) -> pytest.RunResult:
        """``apart``: this side, too, is a process of its own, not this one: where what its conftest changes must not outlive it."""
        asked = ("--energy-budget", f"--energy-base-ref={ref}", "--energy-json=energy.json", *args)
        return self.project.run_apart(*asked, timeout=150) if apart else self.project.run(*asked)


@pytest.fixture
def repository(project: Project, monkeypatch: pytest.MonkeyPatch) -> Repository:
    # Inner processes must find the world's module as their own: it is committed with the rest.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.path), os.environ.get("PYTHONPATH", "")]))
    return Repository(project)


def words(project: Project, kind: str = "base_ref") -> dict[str, str]:
    (run,) = project.report()["runs"]
    return {verdict["metric"]: verdict["verdict"] for verdict in run["verdicts"] if verdict["kind"] == kind}


def no_worktree_is_left(repository: Repository) -> bool:
    return len(repository.git("worktree", "list").splitlines()) == 1 and not list(Path(os.environ["TMPDIR"]).glob("greencompute-base-*"))


# Verdicts


def test_unchanged_code_passes_and_leaves_no_worktree(repository: Repository) -> None:
    repository.project.write("conftest.py", repository.conftest)  # in real time
    repository.commit()
    result = repository.measure(apart=True)
    result.assert_outcomes(passed=1)
    assert words(repository.project) == {"energy_per_query": "PASS", "accuracy": "PASS"}
    result.stdout.fnmatch_lines(["*main is the commit that is checked out here*"])
    assert no_worktree_is_left(repository)


def test_a_regression_fails_after_fresh_launches_of_both_have_seen_it_too(repository: Repository) -> None:
    repository.commit()
    repository.app(joules=0.6)
    result = repository.measure()
    result.assert_outcomes(failed=1)
    assert words(repository.project) == {"energy_per_query": "FAIL", "accuracy": "PASS"}
    sentence = "test_it used 0.* J per query * on gpu:0 against main (*): +20* % [[]*]*worse than the tolerance of 5.0 %"
    result.stdout.fnmatch_lines([f"{sentence}, and the same in 3 fresh launches of both*"])
    result.stdout.fnmatch_lines(["*1 changed file in this tree, measured as they are*"])


def test_a_side_that_is_hundreds_of_times_slower_is_measured_within_its_time(repository: Repository) -> None:
    repository.commit()
    repository.project.write("app.py", APP.format(joules=150.0, answer="str.upper").replace("seconds=0.004", "seconds=1.2"))
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    assert words(repository.project)["energy_per_query"] == "FAIL"
    (run,) = repository.project.report()["runs"]
    assert run["seconds"] < 150


def test_an_improvement_passes_and_says_how_much(repository: Repository) -> None:
    repository.commit()
    repository.app(joules=0.4)
    repository.measure().assert_outcomes(passed=1)
    (run,) = repository.project.report()["runs"]
    (reason,) = [verdict["reason"] for verdict in run["verdicts"] if verdict["metric"] == "energy_per_query"]
    assert re.search(r"-(19|20)(\.\d)? %", reason)


def test_a_drop_of_accuracy_is_judged_on_the_same_queries_and_changed_answers_are_counted(repository: Repository) -> None:
    repository.project.write(
        "tests/test_app.py",
        """
        from app import model

        def test_it(energy_meter):
            energy_meter.measure(model, ["a"] * 40, references=["A"] * 40, batch_size=4)
        """,
    )
    repository.commit()
    repository.app(answer="str.lower")
    result = repository.measure()
    result.assert_outcomes(failed=1)
    assert words(repository.project)["accuracy"] == "FAIL"
    result.stdout.fnmatch_lines(["*: a drop (40 of 40 scores changed).*", "note: test_it: 40 of 40 answers changed against main (*)"])


@pytest.mark.parametrize("by", ["the environment", "an option"])
def test_a_side_loads_the_plugins_that_this_pytest_was_told_to_load(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    name = f"fixtures_by_{by.split()[1]}"
    monkeypatch.syspath_prepend(repository.project.path)
    repository.project.write(f"{name}.py", "import pytest\n\n@pytest.fixture\ndef queries():\n    return ['a', 'b']\n")
    repository.project.write(
        "tests/test_app.py", TEST.replace("(energy_meter)", "(energy_meter, queries)").replace('["a", "b", "c", "d"]', "queries * 2")
    )
    repository.commit()
    if by == "the environment":
        monkeypatch.setenv("PYTEST_PLUGINS", f"{os.environ['PYTEST_PLUGINS']},{name}")
    repository.measure("main", "--energy-unmeasured=fail", *(("-p", name) if by == "an option" else ())).assert_outcomes(passed=1)
    assert words(repository.project) == {"energy_per_query": "PASS", "accuracy": "PASS"}


def test_several_commits_get_a_verdict_each(repository: Repository) -> None:
    repository.app(joules=0.8)
    repository.commit("wasteful")
    repository.git("tag", "v1")
    repository.app(joules=0.5)
    repository.commit("as it is")
    repository.measure("main,v1").assert_outcomes(passed=1)
    (run,) = repository.project.report()["runs"]
    found = {verdict["where"].split()[0]: verdict["reason"] for verdict in run["verdicts"] if verdict["metric"] == "energy_per_query"}
    assert set(found) == {"main", "v1"}
    assert re.search(r"-3[78](\.\d)? %", found["v1"])
    assert not re.search(r"-3[78](\.\d)? %", found["main"])


def test_a_latency_in_the_budget_is_compared_set_by_set_too(repository: Repository) -> None:
    budget = TEST.replace("def test_it", '@pytest.mark.energy_budget(latency_p50="1 s")\ndef test_it')
    repository.project.write("tests/test_app.py", "import pytest\n" + budget)
    repository.commit()
    repository.project.write("app.py", APP.format(joules=0.5, answer="str.upper").replace("seconds=0.004", "seconds=0.005"))
    repository.measure().assert_outcomes(failed=1)
    assert words(repository.project) == {"energy_per_query": "PASS", "latency_p50": "FAIL", "accuracy": "PASS"}
    (run,) = repository.project.report()["runs"]
    (reason,) = [verdict["reason"] for verdict in run["verdicts"] if verdict["metric"] == "latency_p50" and verdict["kind"] == "base_ref"]
    assert re.search(r"at the median .* against main .* \+2\d(\.\d)? %.* the same in 3 fresh launches of both", reason)


def test_answers_that_changed_are_counted_and_judged_where_the_budget_says_so(repository: Repository) -> None:
    body = 'def test_it(energy_meter):\n    energy_meter.measure(model, ["a", "b", "c", "D"])\n'
    repository.project.write("tests/test_app.py", "import pytest\nfrom app import model\n" + body)
    repository.commit()
    repository.app(answer="str.lower")
    result = repository.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: test_it: 4 of 4 answers changed against main (*)"])
    marked = f"import pytest\nfrom app import model\n@pytest.mark.energy_budget(answers_changed=0)\n{body}"
    repository.project.write("tests/test_app.py", marked)
    result = repository.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_it, against main (*), changed 1.000 of its answers [[]*]*over its budget of 0 (4 of 4 answers changed).*"]
    )
    assert words(repository.project)["answers_changed"] == "FAIL"
    assert repository.project.report()["runs"][0]["metrics"]["answers_changed"]["value"] == 1


def test_launches_can_take_turns_where_two_models_do_not_fit_beside_each_other(repository: Repository) -> None:
    repository.write_hungry(room=1)
    repository.commit()
    beside = repository.measure("main", "--energy-unmeasured=fail")
    beside.assert_outcomes(failed=1)
    beside.stdout.fnmatch_lines(["*it ran out of memory (*no room*); --energy-base-turns launches measures the sides one after the other*"])
    by_turns = repository.measure("main", "--energy-unmeasured=fail", "--energy-base-turns=launches")
    by_turns.assert_outcomes(passed=1)
    assert words(repository.project) == {"energy_per_query": "PASS", "accuracy": "PASS"}
    repository.write_hungry(room=1, joules=0.6)
    failing = repository.measure("main", "--energy-base-turns=launches")
    failing.assert_outcomes(failed=1)
    failing.stdout.fnmatch_lines(["test_it used 0.* J per query * against main (*): +* over 4 and 4 launches, worse than the tolerance*"])


def test_fresh_launches_that_do_not_fit_together_take_turns(repository: Repository) -> None:
    repository.write_hungry(room=2)
    repository.commit()
    repository.write_hungry(room=2, joules=0.6)
    result = repository.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*and the same in 3 fresh launches of both*"])
    result.stdout.fnmatch_lines(
        ["note: test_it: fresh launches of both did not fit into memory together: one was measured after the other"]
    )


# What cannot be compared is said, and is never green in silence


def test_a_test_that_the_base_does_not_have_is_judged_by_its_budgets_alone(repository: Repository) -> None:
    (repository.project.path / "tests" / "test_app.py").unlink()
    repository.commit()
    repository.project.write("tests/test_app.py", TEST)
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=1)
    assert words(repository.project) == {}
    result.stdout.fnmatch_lines(["*main (*) does not have this test: nothing to compare with*"])


@pytest.mark.parametrize("names", [("test_it",), ("test_it", "test_too")])
def test_a_test_that_the_base_has_and_does_not_measure_yet_is_judged_by_its_budgets_alone(
    repository: Repository, names: Sequence[str]
) -> None:
    repository.project.write("tests/test_app.py", "".join(f"def {name}():\n    pass\n" for name in names))
    repository.commit()
    bodies = (TEST.partition("\n\n")[2].replace("test_it", name) for name in names)
    repository.project.write("tests/test_app.py", "from app import model\n" + "\n".join(bodies))
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=len(names))
    for name in names:
        result.stdout.fnmatch_lines([f"*{name}: main (*) does not measure this test: nothing to compare with*"])
    assert no_worktree_is_left(repository)


@pytest.mark.parametrize("leaves", ["os._exit(0)", "pytest.exit('enough', returncode=0)"])
def test_a_base_that_ends_before_its_test_as_if_all_were_well_is_unmeasured(repository: Repository, leaves: str) -> None:
    repository.project.write("tests/conftest.py", f"import os, pytest\ndef pytest_runtest_setup():\n    {leaves}\n")
    repository.project.write("tests/test_app.py", "def test_it():\n    pass\n")
    repository.commit()
    (repository.project.path / "tests" / "conftest.py").unlink()
    repository.project.write("tests/test_app.py", TEST)
    repository.measure("main", "--energy-unmeasured=fail").assert_outcomes(failed=1)
    assert words(repository.project) == {"energy_per_query": "UNMEASURED", "accuracy": "UNMEASURED"}


def test_tests_that_are_all_new_in_a_file_that_the_base_has_are_judged_by_their_budgets_alone(repository: Repository) -> None:
    repository.project.write("tests/test_app.py", "def test_other():\n    pass\n")
    repository.commit()
    repository.project.write("tests/test_app.py", TEST + TEST.partition("\n\n")[2].replace("test_it", "test_too"))
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*main (*) does not have this test: nothing to compare with*"])


@pytest.mark.parametrize(
    ("at_base", "says"),
    [
        ("import no_such_module\n" + TEST, "*No module named 'no_such_module'*"),
        ("def test_it(energy_meter):\n    raise RuntimeError('weights are missing')\n", "*its test failed (*weights are missing*"),
        ("def test_it(energy_meter):\n    assert 1 == 2, 'no weights'\n", "*its test failed (AssertionError: no weights)*"),
        ("import pytest\ndef test_it(energy_meter):\n    pytest.skip('not here')\n", "*its test was skipped (Skipped: not here)*"),
        ("def test_it(energy_meter):\n    pass\n", "*its test measures no run without a name*"),
        (TEST.replace('["a", "b", "c", "d"]', '["a", "b"]').replace('["A", "B", "C", "D"]', '["A", "B"]'), "*2 batches and this side 4*"),
        ("import os\ndef test_it(energy_meter):\n    os._exit(3)\n", "*exit status 3*"),
    ],
    ids=["cannot be imported", "raises", "fails", "skips", "measures nothing", "other queries", "dies"],
)
def test_a_base_that_cannot_be_measured_is_unmeasured_with_its_reason(repository: Repository, at_base: str, says: str) -> None:
    repository.project.toml("max_seconds = 1")
    repository.project.write("tests/test_app.py", at_base)
    repository.commit()
    repository.project.write("tests/test_app.py", TEST)
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    assert words(repository.project) == {"energy_per_query": "UNMEASURED", "accuracy": "UNMEASURED"}
    result.stdout.fnmatch_lines([says])
    assert no_worktree_is_left(repository)


def test_a_base_that_is_metered_otherwise_is_not_compared(repository: Repository) -> None:
    conftest = (repository.project.path / "conftest.py").read_text(encoding="utf-8")
    repository.project.write("conftest.py", conftest + '\nimport os\nos.environ["WORLD_GPU"] = "Test GPU 2000"\n')
    repository.commit()
    repository.project.write("conftest.py", conftest)
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*it was metered otherwise (GPU: Test GPU 3000 here, Test GPU 2000 there)*"])
    assert words(repository.project) == {"energy_per_query": "UNMEASURED", "accuracy": "UNMEASURED"}


def test_a_base_loads_its_model_when_this_side_has_loaded_and_run_its_own(repository: Repository) -> None:
    repository.project.write(
        "tests/test_app.py",
        """
        import os, pytest, tempfile
        from pathlib import Path
        from app import model

        def note(what):
            side = "base" if "GREENCOMPUTE_SIDE" in os.environ else "head"
            with (Path(tempfile.gettempdir()) / "order").open("a") as file:
                file.write(f"{side} {what}\\n")

        @pytest.fixture
        def loaded():
            note("loads")

        def first(batch, seen=[]):
            if not seen:
                seen.append(note("runs"))
            return model(batch)

        def test_it(loaded, energy_meter):
            energy_meter.measure(first, ["a", "b", "c", "d"])
        """,
    )
    repository.commit()
    repository.measure().assert_outcomes(passed=1)
    order = (Path(os.environ["TMPDIR"]) / "order").read_text(encoding="utf-8").split("\n")
    assert order[:4] == ["head loads", "head runs", "base loads", "base runs"]


# One process serves all tests at a commit, and loads beside this side


def told(what: str) -> list[str]:
    """What the processes of a session wrote down as ``what``, in order."""
    path = Path(os.environ["TMPDIR"]) / what
    return path.read_text(encoding="utf-8").split() if path.exists() else []


SHARED = """
import os, sys, tempfile
from pathlib import Path
import pytest
from app import model

BASE = "GREENCOMPUTE_SIDE" in os.environ

def note(what, said):
    with (Path(tempfile.gettempdir()) / what).open("a") as file:
        file.write(f"{said}\\n")

@pytest.fixture(scope="module")
def loaded():
    note("loads", f"{'base' if BASE else 'head'}:{os.getpid()}")
    return model
"""
EACH = """
@pytest.mark.parametrize("number", range(3))
def test_it(loaded, energy_meter, number):
    energy_meter.measure(loaded, ["a", "b", "c", "d"])
"""


def test_what_tests_share_is_loaded_once_at_the_base_too(repository: Repository) -> None:
    repository.project.write("tests/test_app.py", SHARED + EACH)
    repository.project.write("tests/test_other.py", SHARED + EACH)
    repository.commit()
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=6)
    loads = told("loads")
    assert len(loads) == 4  # once a module on either side
    assert len({each for each in loads if each.startswith("base")}) == 1  # in one process
    verdicts = [each["verdict"] for run in repository.project.report()["runs"] for each in run["verdicts"]]
    assert verdicts == ["PASS"] * 6


def test_a_test_that_is_left_out_here_is_not_run_at_the_base(repository: Repository) -> None:
    body = """
def measured(name, meter):
    note("runs", f"{'base' if BASE else 'head'}:{name}")
    meter.measure(model, ["a", "b", "c", "d"])

def test_one(loaded, energy_meter):
    measured("one", energy_meter)

@pytest.mark.skipif(not BASE, reason="not here")
def test_skipped(loaded, energy_meter):
    measured("skipped", energy_meter)

def test_deselected(loaded, energy_meter):
    measured("deselected", energy_meter)

def test_last(loaded, energy_meter):
    measured("last", energy_meter)
"""
    repository.project.write("tests/test_app.py", SHARED + body)
    repository.commit()
    result = repository.measure("main", "--energy-unmeasured=fail", "-k", "not deselected")
    result.assert_outcomes(passed=2, skipped=1, deselected=1)
    assert sorted(told("runs")) == ["base:last", "base:one", "head:last", "head:one"]


@pytest.mark.parametrize(
    ("at_base", "says"),
    [
        ("def test_first(energy_meter):\n    os._exit(3)\n", "*test_first*exit status 3*"),
        ("def test_first(energy_meter):\n    raise RuntimeError('no weights')\n", "*test_first*its test failed (*no weights*"),
    ],
    ids=["dies", "fails"],
)
def test_a_test_that_breaks_at_the_base_takes_no_later_one_with_it(repository: Repository, at_base: str, says: str) -> None:
    first = "def test_first(energy_meter):\n    energy_meter.measure(model, ['a', 'b'])\n"
    repository.project.write("tests/test_app.py", f"{SHARED}\n{at_base}\n{EACH}")
    repository.commit()
    repository.project.write("tests/test_app.py", f"{SHARED}\n{first}\n{EACH}")
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines([says])
    assert len([each for each in told("loads") if each.startswith("base")]) == 1


def test_a_file_that_cannot_be_imported_at_the_base_takes_no_other_with_it(repository: Repository) -> None:
    repository.project.write("tests/test_app.py", SHARED + EACH)
    repository.project.write("tests/test_broken.py", "import no_such_module\n" + TEST)
    repository.commit()
    repository.project.write("tests/test_broken.py", TEST)
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(["*No module named 'no_such_module'*"])
    assert len([each for each in told("loads") if each.startswith("base")]) == 1


OLDER = """
from pytest_greencompute.pairing.channel import Channel
from pytest_greencompute.pairing.worker import Worker

hear, say = Channel.receive, Channel.send
UNKNOWN = {"tests", "test", "stops"}  # keys that the version of commit c0a9932 neither reads nor says
if "GREENCOMPUTE_SIDE" in __import__("os").environ:
    Channel.receive = lambda *a: {key: value for key, value in hear(*a).items() if key not in UNKNOWN | {"settings"} or key == "settings"}
    Channel.send = lambda self, **said: say(self, **{key: value for key, value in said.items() if key not in UNKNOWN})
"""


def test_a_base_of_an_older_version_has_a_process_for_each_test(repository: Repository) -> None:
    project = repository.project
    project.write("tests/test_app.py", SHARED + EACH)
    project.write("conftest.py", OLDER + (project.path / "conftest.py").read_text(encoding="utf-8"))
    repository.commit()
    repository.measure("main", "--energy-unmeasured=fail").assert_outcomes(passed=3)
    assert len({each for each in told("loads") if each.startswith("base")}) == 3


ON_CPU = """
import dataclasses
import world

of_gpu = world.WorldCounter.source.fget
world.WorldCounter.source = property(lambda self: dataclasses.replace(of_gpu(self), domain="cpu", uuid=""))
"""
BESIDE = """
import os, tempfile, time
from pathlib import Path
import pytest
from app import model

BASE = "GREENCOMPUTE_SIDE" in os.environ
FOLDER = Path(tempfile.gettempdir())

def note(said):
    with (FOLDER / "order").open("a") as file:
        file.write(f"{'base' if BASE else 'head'}-{said}\\n")

@pytest.fixture
def loaded():
    note("loads")
    if BASE:
        (FOLDER / "pid").write_text(str(os.getpid()))
        (FOLDER / "loading").touch()
        {at_base}
    else:
        end = time.monotonic() + {patience}
        while not (FOLDER / "loading").exists() and time.monotonic() < end:
            time.sleep(0.01)
    note("loaded")
    return model

def test_it(loaded, energy_meter):
    note("runs")
    energy_meter.measure(loaded, ["a", "b", "c", "d"])
"""
PATIENCE_S = 60  # of the side that waits for the other one to load; a busy machine takes its time to start a process


def write_beside(repository: Repository, at_base: str = "pass", patience: float = PATIENCE_S, head: str = "") -> None:
    """A test whose model loads on either side; ``head`` is what is added to this side's conftest alone."""
    project = repository.project
    text = (project.path / "conftest.py").read_text(encoding="utf-8")
    project.write("conftest.py", text + ON_CPU)
    project.write("tests/test_app.py", BESIDE.replace("{at_base}", at_base).replace("{patience}", str(patience)))
    repository.commit()
    project.write("conftest.py", text + ON_CPU + head)


def test_a_base_loads_while_this_side_loads_and_runs_nothing_before_it_has_its_turn(repository: Repository) -> None:
    write_beside(repository)
    repository.measure("main", "--energy-unmeasured=fail").assert_outcomes(passed=1)
    order = told("order")
    assert order.index("base-loads") < order.index("head-loaded")
    assert order.index("head-runs") < order.index("base-runs")


def test_a_base_that_takes_memory_that_this_side_needs_ends_and_loads_later(repository: Repository) -> None:
    short = """
from pytest_greencompute.session import other_commits
from pytest_greencompute.values.memory import Memory

FOLDER = __import__("pathlib").Path(__import__("tempfile").gettempdir())
other_commits.host_memory = lambda: Memory(10**9, (2 if (FOLDER / "loading").exists() else 9) * 10**9)
"""
    # The first process stays in its set-up until it is ended; the second one finds that there was one before.
    write_beside(repository, "(FOLDER / 'again').exists() or [(FOLDER / 'again').touch(), time.sleep(3600)]", head=short)
    result = repository.measure("main", "--energy-unmeasured=fail", apart=True)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["note: test_it: main (*) was loaded after this side: 2.0 GB of the machine's memory was free while both loaded"]
    )


def test_fresh_launches_load_beside_those_before_them_and_while_nothing_is_measured(repository: Repository) -> None:
    conftest = (repository.project.path / "conftest.py").read_text(encoding="utf-8")
    repository.project.write("conftest.py", conftest + ON_CPU)
    body = """
@pytest.fixture
def first(loaded):
    def run(batch, seen=[]):
        if not seen:
            seen.append(note("loads", "answers"))
        return model(batch)

    return run

def test_it(first, energy_meter):
    energy_meter.measure(first, ["a", "b", "c", "d"])
"""
    repository.project.write("tests/test_app.py", SHARED + body)
    repository.commit()
    repository.app(joules=0.6)
    repository.measure().assert_outcomes(failed=1)
    fresh = told("loads")[4:]
    # Launches 2 and 3 load, 2 answers, 4 loads, 3 and 4 answer.
    assert "".join("A" if each == "answers" else "L" for each in fresh) == "LLLLAALLAAAA"


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet has, too."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_base_that_hangs_while_it_loads_is_ended_and_unmeasured_and_the_session_goes_on(repository: Repository) -> None:
    write_beside(repository, "time.sleep(3600)", head="\nfrom pytest_greencompute.pairing import started\nstarted.LOADING_S = 8\n")
    repository.project.write("tests/test_more.py", TEST)
    result = repository.measure("main", "--energy-unmeasured=fail", apart=True)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*the other process said nothing for * s, and was ended*"])
    assert is_gone(int(told("pid")[0]))


def test_ctrl_c_while_a_base_loads_leaves_no_process(repository: Repository) -> None:
    write_beside(repository, "time.sleep(3600)")
    # A suite that was started in the background ignores Ctrl-C, and so would what it starts.
    heeding = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", heeding, "-p", "no:cacheprovider", "--energy-budget", "--energy-base-ref=main"]
    with subprocess.Popen(command, cwd=repository.project.path, stdout=subprocess.PIPE, text=True) as session:
        end = time.monotonic() + PATIENCE_S
        while "head-runs" not in told("order") and time.monotonic() < end:
            time.sleep(0.05)
        said = ""
        while not said and time.monotonic() < end + PATIENCE_S:  # libraries that are being imported may swallow one
            session.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                said, _ = session.communicate(timeout=10)
        session.kill()
    assert "KeyboardInterrupt" in said
    assert is_gone(int(told("pid")[0]))
    assert no_worktree_is_left(repository)


def test_the_body_of_a_test_that_has_only_windows_is_not_run_at_the_base(repository: Repository) -> None:
    write_beside(repository)
    path = repository.project.path / "tests" / "test_app.py"
    text = path.read_text(encoding="utf-8")
    text = text.replace('energy_meter.measure(loaded, ["a", "b", "c", "d"])', 'with energy_meter.window("w"):\n        loaded(["a"])')
    repository.project.write("tests/test_app.py", text)
    repository.project.write("tests/test_more.py", TEST)
    repository.commit()
    repository.measure().assert_outcomes(passed=2)
    assert "base-loaded" in told("order")
    assert "base-runs" not in told("order")


def test_changed_requirements_are_not_compared_in_this_environment(repository: Repository) -> None:
    repository.project.write("requirements.txt", "torch==2.1\n")
    repository.commit()
    repository.project.write("requirements.txt", "torch==2.2\n")
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*environment changes are not compared: requirements.txt differ; --energy-base-python *"])


LOST = """
import os
import world
from pytest_greencompute.errors import MeterLostError

read = world.WorldCounter.read

def lost(self):
    if world.world.calls > 400:
        raise MeterLostError("Unable to reach the GPU: it is lost.")
    return read(self)

if "GREENCOMPUTE_SIDE" in os.environ:
    world.WorldCounter.read = lost
"""


def test_a_device_that_is_lost_between_sides_leaves_no_ratio(repository: Repository) -> None:
    conftest = (repository.project.path / "conftest.py").read_text(encoding="utf-8")
    repository.project.write("conftest.py", conftest + LOST)
    repository.commit()
    repository.project.write("conftest.py", conftest)
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*3 sets were lost: Unable to reach the GPU: it is lost*"])
    assert words(repository.project)["energy_per_query"] == "UNMEASURED"


def test_a_base_that_imports_this_sides_code_is_unmeasured(repository: Repository) -> None:
    # An import hook that no rewriting of paths can find: it loads the program from a path of its own.
    repository.project.write(
        "conftest.py",
        (repository.project.path / "conftest.py").read_text(encoding="utf-8")
        + f"""
import importlib.util, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, {str(repository.project.path / "app.py")!r}) if name == "app" else None

sys.meta_path.insert(0, Hook())
""",
    )
    repository.commit()
    result = repository.measure("main", "--energy-unmeasured=fail", apart=True)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*imported this side's code instead of its own: app (*app.py)*"])


def test_ignored_files_that_the_test_needs_are_lent_to_the_base(repository: Repository) -> None:
    reading = 'from pathlib import Path\nPath(__file__).parents[1].joinpath("weights", "w.bin").read_bytes()\n'
    repository.project.write("tests/test_app.py", reading + TEST)
    repository.project.write("weights/w.bin", "1")
    repository.commit()
    without = repository.measure("main", "--energy-unmeasured=fail")
    without.assert_outcomes(failed=1)
    without.stdout.fnmatch_lines(["*No such file or directory*"])
    repository.project.toml('max_seconds = 60\nbase_link = ["weights/"]')
    repository.measure("main", "--energy-unmeasured=fail").assert_outcomes(passed=1)


# Bad input


@pytest.mark.parametrize(
    ("ref", "says"),
    [("no-such-branch", "*there is no commit 'no-such-branch' here*"), ("mian", "*near: main*"), ("--all", "*names no commit*")],
)
def test_a_ref_that_names_no_commit_is_an_error_before_anything_runs(repository: Repository, ref: str, says: str) -> None:
    repository.commit()
    result = repository.measure(ref)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])


def test_outside_a_repository_it_is_an_error(project: Project) -> None:
    project.write("test_it.py", "def test_it(energy_meter):\n    pass\n")
    result = project.run_apart("--energy-budget", "--energy-base-ref=main")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is in no git repository*--energy-baseline*"])


def test_named_runs_are_compared_each_with_its_own(repository: Repository) -> None:
    repository.project.write(
        "tests/test_app.py",
        """
        from app import model
        from world import world

        def test_it(energy_meter):
            energy_meter.measure(model, ["a", "b"], name="one")
            energy_meter.measure(world.model(joules=0.2, seconds=0.004), ["a", "b"], name="two")
        """,
    )
    repository.commit()
    repository.measure("main", "--energy-unmeasured=fail").assert_outcomes(passed=1)
    found = {run["name"]: [v["verdict"] for v in run["verdicts"] if v["kind"] == "base_ref"] for run in repository.project.report()["runs"]}
    assert found == {"one": ["PASS"], "two": ["PASS"]}


def test_candidates_of_a_comparison_are_compared_with_each_other_and_that_is_said(repository: Repository, project: Project) -> None:
    project.write(
        "tests/test_app.py",
        """
        from app import model
        from world import world

        def test_it(energy_meter):
            found = energy_meter.compare({"a": model, "b": world.model(1.0)}, ["a", "b", "c", "d"])
            found.assert_right_sized("b")
        """,
    )
    repository.commit()
    result = repository.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_it: b uses 2.* times *", "note: test_it: candidates are compared with each other, not with other commits"]
    )
    assert {run["name"] for run in project.report()["runs"]} == {"a", "b"}


# What the reports say of it


def test_the_report_keeps_the_pairs_the_ratio_and_the_figure_of_the_base(repository: Repository) -> None:
    repository.commit()
    repository.app(joules=0.6)
    repository.measure("main", "--energy-markdown=energy.md").assert_outcomes(failed=1)
    (run,) = repository.project.report()["runs"]
    (against,) = (each for each in run["against"] if each["metric"] == "energy_per_query")
    assert against["ref"].startswith("main (")
    assert all(abs(head / base - 1.2) < 0.05 for base, head in against["pairs"])
    (verdict,) = (each for each in run["verdicts"] if (each["kind"], each["metric"]) == ("base_ref", "energy_per_query"))
    assert abs(verdict["base"] - 0.5) < 0.02
    assert verdict["ratio"]["low"] <= verdict["ratio"]["value"] <= verdict["ratio"]["high"]
    assert abs(verdict["ratio"]["value"] - 1.2) < 0.02
    assert verdict["limit"] / verdict["base"] == pytest.approx(1.05)
    text = (repository.project.path / "energy.md").read_text(encoding="utf-8")
    assert "### What changed" in text
    assert "| test&#95;it | energy/query | 0.5" in text


MARKED = """
import pytest
from app import model

@pytest.mark.energy_budget(energy_per_query={limit!r})
def test_it(energy_meter):
    energy_meter.measure(model, ["a", "b", "c", "d"], references=["A", "B", "C", "D"])
"""
BUDGETS = """
    max_seconds = 60
    {settings}
    [tool.greencompute.budgets."tests/test_app.py::test_it"]
    accuracy = {floor}
"""


def test_limits_that_are_laxer_than_at_the_base_are_named_first(repository: Repository) -> None:
    project = repository.project
    project.write("tests/test_app.py", MARKED.format(limit="1 J"))
    project.toml(BUDGETS.format(settings="", floor=0.9))
    repository.commit()
    project.write("tests/test_app.py", MARKED.format(limit="2 J"))
    project.toml(BUDGETS.format(settings='inconclusive = "warn"\n    tolerance = "10 %"', floor=0.8))
    result = repository.measure("main", "--energy-markdown=energy.md")
    result.assert_outcomes(passed=1)
    laxer = [
        "test_it: the limit of energy (energy_per_query) was 1 J and is 2 J",
        "test_it: the limit of accuracy (accuracy) was 0.9 and is 0.8",
        "test_it: the tolerance of energy_per_query was 5.0 % and is 10 %",
    ]
    assert project.report()["session"]["loosened"] == laxer
    result.stdout.fnmatch_lines([f"loosened: {each}" for each in laxer])
    blocks = (project.path / "energy.md").read_text(encoding="utf-8").split("\n\n")
    assert blocks[1] == "**This change makes limits laxer:**"


def test_limits_that_are_the_same_or_stricter_are_not_named(repository: Repository) -> None:
    project = repository.project
    project.write("tests/test_app.py", MARKED.format(limit="1 J"))
    project.toml(BUDGETS.format(settings="", floor=0.9))
    repository.commit()
    project.write("tests/test_app.py", MARKED.format(limit="0.9 J"))
    repository.measure("main", "--energy-tolerance=20%").assert_outcomes(passed=1)
    assert project.report()["session"]["loosened"] == []


SETTINGS = """
    max_seconds = {max_seconds}
    {settings}
"""
ADDED = """
    [tool.pytest.ini_options]
    addopts = "{addopts}"
"""


def test_settings_that_let_more_pass_are_named_wherever_they_stand(repository: Repository) -> None:
    project = repository.project
    project.write("tests/test_app.py", MARKED.format(limit="1 J"))
    project.toml(SETTINGS.format(max_seconds=60, settings=""))
    repository.commit()
    settings = 'allow = ["another process"]\n    accuracy_confidence = 0.9\n    floor = { energy_per_query = "1 J" }'
    project.toml(
        SETTINGS.format(max_seconds=50, settings=settings) + ADDED.format(addopts="-q --energy-tolerance=50% --energy-enforce warn")
    )
    repository.measure().assert_outcomes(passed=1)
    assert project.report()["session"]["loosened"] == [
        "test_it: the tolerance of energy_per_query was 5.0 % and is 50 %",
        "test_it: the floor of energy_per_query was 0 J and is 1 J",
        "test_it: max_seconds was 60 and is 50",
        "the setting enforce was 'fail' and is 'warn'",
        "the setting accuracy_confidence was not set and is 0.9",
        "the setting allow was empty and is 'another process'",
    ]


def test_what_pytests_own_marks_and_options_let_pass_is_named(repository: Repository) -> None:
    project = repository.project
    repository.commit()
    project.toml("max_seconds = 60\n" + ADDED.format(addopts="--ignore=tests/gpu"))
    project.write("tests/test_app.py", "import pytest\n" + TEST.replace("def test_it", "@pytest.mark.xfail(reason='flaky')\ndef test_it"))
    repository.measure()
    assert project.report()["session"]["loosened"] == [
        "test_it: a failure is expected now (xfail)",
        "addopts leaves tests out: --ignore tests/gpu",
    ]


def test_what_the_command_line_gives_is_of_no_commit(repository: Repository) -> None:
    project = repository.project
    project.toml(SETTINGS.format(max_seconds=60, settings=""))
    repository.commit()
    project.toml(SETTINGS.format(max_seconds=60, settings="") + ADDED.format(addopts="--energy-tolerance=20%"))
    repository.measure("main", "--energy-tolerance=50%", "--energy-confidence=0.9", "--energy-enforce=warn").assert_outcomes(passed=1)
    assert project.report()["session"]["loosened"] == []


def test_a_named_budget_file_is_read_at_the_base_too(repository: Repository) -> None:
    project = repository.project
    budget = '[budgets."tests/test_app.py::test_it"]\nenergy_per_query = "{} J"\n'
    project.write("gates/energy.toml", budget.format(1))
    repository.commit()
    project.write("gates/energy.toml", budget.format(3))
    repository.measure("main", "--energy-budget-file=gates/energy.toml").assert_outcomes(passed=1)
    assert project.report()["session"]["loosened"] == ["test_it: the limit of energy (energy_per_query) was 1 J and is 3 J"]


@pytest.mark.parametrize("own", ['budget_file = "{}.toml"', '[tool.pytest.ini_options]\naddopts = "--energy-budget-file={}.toml"'])
def test_each_commit_reads_the_budget_file_that_it_names_itself(repository: Repository, own: str) -> None:
    project = repository.project
    for name, limit in (("strict", 1), ("lax", 3)):
        project.write(f"{name}.toml", f'meters = ["world"]\n[budgets."tests/test_app.py::test_it"]\nenergy_per_query = "{limit} J"\n')
    project.toml("max_seconds = 60\n" + own.format("strict"))
    repository.commit()
    project.toml("max_seconds = 60\n" + own.format("lax"))
    repository.measure().assert_outcomes(passed=1)
    assert project.report()["session"]["loosened"] == ["test_it: the limit of energy (energy_per_query) was 1 J and is 3 J"]


def test_limits_of_the_base_that_cannot_be_read_are_not_taken_for_as_strict(repository: Repository) -> None:
    project = repository.project
    project.toml("max_seconds = 60\ntoleranc = 1")
    base = repository.commit()
    project.toml("max_seconds = 60")
    repository.measure().assert_outcomes(passed=1)
    assert project.report()["session"]["loosened"] == [
        f"test_it: whether limits are laxer than at main ({base[:10]}) is not known: pyproject.toml:4: 'toleranc' is not a setting."
        " Did you mean 'tolerance'?"
    ]


SECOND = TEST.replace("test_it", "test_other").replace("from app import model", "")


def test_a_test_that_measures_nothing_any_more_is_red_and_one_that_is_gone_is_named(repository: Repository) -> None:
    project = repository.project
    project.write("tests/test_app.py", TEST + SECOND)
    base = repository.commit()
    project.monkeypatch.setenv("CI", "true")
    project.write("tests/test_app.py", TEST + "\ndef test_other():\n    pass\n")
    result = repository.measure()
    assert result.ret == 1
    said = f"tests/test_app.py::test_other is measured at main ({base[:10]}) and "
    result.stdout.fnmatch_lines([f"{said}does not use energy_meter any more"])
    for now in ("", SECOND.replace("test_other", "test_renamed")):
        project.write("tests/test_app.py", TEST + now)
        result = repository.measure()
        assert result.ret == 0
        result.stdout.fnmatch_lines([f"loosened: {said}is no test any more: renamed, deleted, or its file is skipped"])
        assert "loosened" not in repository.measure("main", "-k", "test_it").stdout.str()
        assert "loosened" not in repository.measure("main", "tests/test_app.py::test_it").stdout.str()


def test_the_projects_settings_hold_at_both_commits_where_pytests_root_is_another_folder(repository: Repository) -> None:
    project = repository.project
    (project.path / "conftest.py").rename(project.path / "tests" / "conftest.py")
    project.write("tests/pytest.ini", "[pytest]\n")
    project.write("requirements.txt", "torch==2.1\n")
    project.toml(BUDGETS.format(settings="", floor=0.9))
    repository.commit()
    project.toml(BUDGETS.format(settings="", floor=0.8))
    repository.measure("main", "tests", apart=True).assert_outcomes(passed=1)
    assert words(project)["energy_per_query"] == "PASS"
    assert project.report()["session"]["loosened"] == ["test_it: the limit of accuracy (accuracy) was 0.9 and is 0.8"]
    project.write("requirements.txt", "torch==2.2\n")
    result = repository.measure("main", "tests", "--energy-unmeasured=fail", apart=True)
    result.stdout.fnmatch_lines(["*environment changes are not compared: requirements.txt differ; --energy-base-python *"])


def test_the_process_of_a_side_tells_github_nothing(repository: Repository) -> None:
    project = repository.project
    repository.commit()
    project.monkeypatch.setenv("GITHUB_ACTIONS", "true")
    told_to = project.path / "tmp"
    told_to.mkdir()
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        project.monkeypatch.setenv(name, str(told_to / name))
    repository.measure("main", "--energy-unmeasured=fail").assert_outcomes(passed=1)
    told = (told_to / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8")
    assert told.count("## ") == told.count("### ") + 1
    assert (told_to / "GITHUB_OUTPUT").read_text(encoding="utf-8").count("verdict=") == 1


def test_a_report_of_the_run_before_outside_the_project_changes_no_budget(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """pytest takes its root from it."""
    report = tmp_path_factory.mktemp("reports") / "energy.json"
    project.toml('[tool.greencompute.budgets."test_it.py::test_it"]\naccuracy = 0.9')
    project.write("test_it.py", "def test_it(energy_meter):\n    energy_meter.measure(lambda batch: batch, [1, 2], references=[1, 3])\n")
    for rootdir in (project.path, report.parents[2]):
        result = project.run_apart("--energy-json", str(report))
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"rootdir: {rootdir}*"])
    result = project.run_apart("--energy-budget", "--energy-base-ref=HEAD", "--energy-json", str(report))
    result.stderr.fnmatch_lines(["*is in no git repository*--rootdir=DIR*"])
