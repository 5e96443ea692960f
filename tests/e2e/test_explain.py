"""--energy-explain: after a FAIL against a commit, both sides are looked at, and the failure says where the difference is."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import pytest

import pytest_greencompute.pairing.looking
from pytest_greencompute import cli
from pytest_greencompute.profiling.looked import get_ready
from tests.e2e.conftest import Project
from tests.e2e.test_base_ref import Repository, no_worktree_is_left, repository

__all__ = ["repository"]  # the fixture
looks = pytest.mark.alone  # what is looked at has seconds of real time, and shares of CPU time are sampled

LIMIT_S = 4.0
ANEW = True  # a process that has loaded more takes longer at each look

APP = """
from world import world

def tokenize(batch):
    return [number * number for number in range(20_000)] and batch

def infer(batch):
    return [number * number for number in range(2_000 * {times})] and metered(batch)

metered = world.model(joules={joules}, seconds=0.004, spread=0.004, answer=str.upper)

def model(batch):
    return infer(tokenize(batch))
"""


@pytest.fixture(scope="session")
def whole_torch() -> None:
    """Where other tests have loaded torch: what an inner run loads of it is forgotten after it, and cannot be loaded twice."""
    if "torch" in sys.modules:
        importlib.import_module("torch._dynamo")
        get_ready()


@pytest.fixture
def pipeline(whole_torch: None, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setattr(pytest_greencompute.pairing.looking, "EXPLAINING_S", LIMIT_S)
    repository.project.toml('max_seconds = 60\nexplain = "on"')
    write(repository, 1, 0.5)
    repository.commit()
    return repository


def write(repository: Repository, times: int, joules: float) -> None:
    repository.project.write("app.py", APP.format(times=times, joules=joules))


def explained(project: Project) -> dict[str, Any]:
    (run,) = project.report()["runs"]
    (found,) = run["explained"]
    return dict(found)


def fail(pipeline: Repository, *args: str) -> pytest.RunResult:
    """A FAIL against a baseline that was saved at the first commit, at the second one."""
    project = pipeline.project
    project.measure("--energy-save", "demo").assert_outcomes(passed=1)
    write(pipeline, 30, 1.0)
    pipeline.commit("hungrier")
    result = project.measure("--energy-baseline", "demo", "--energy-json=energy.json", *args)
    result.assert_outcomes(failed=1)
    return result


@looks
def test_a_failure_against_a_baseline_names_the_function_that_does_more(pipeline: Repository) -> None:
    result = fail(pipeline)
    result.stdout.fnmatch_lines(["*Where: *app.py:infer*of +0.5*"])
    found = explained(pipeline.project)
    assert found["ref"] == "demo"
    assert found["energy"]["head_j"] == pytest.approx(2 * found["energy"]["base_j"], rel=0.02)
    assert no_worktree_is_left(pipeline)


def test_the_same_code_is_not_launched_again_since_both_sides_would_do_the_same(
    pipeline: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = pipeline.project
    source = (project.path / "app.py").read_text(encoding="utf-8")
    project.write("app.py", "import os\n" + source.replace("joules=0.5", 'joules=float(os.environ.get("JOULES", 0.5))'))
    sha = pipeline.commit()
    project.measure("--energy-save", "demo").assert_outcomes(passed=1)
    monkeypatch.setenv("JOULES", "1.0")
    result = project.measure("--energy-baseline", "demo", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    (run,) = project.report()["runs"]
    assert "explained" not in run
    (note,) = (each for each in run["notes"] if each.startswith("not explained"))
    same = f"not explained against demo: The baseline is of the same code, commit {sha[:10]}. What differs is outside of it: "
    assert note == f"{same}environment variables, files that git does not hold, installed packages, the machine."
    result.stdout.fnmatch_lines([f"note: test_it: {same}*"])


def test_nothing_is_looked_at_where_that_is_switched_off(pipeline: Repository) -> None:
    fail(pipeline, "--energy-explain=off")
    (run,) = pipeline.project.report()["runs"]
    assert "explained" not in run
    assert [each["verdict"] for each in run["verdicts"]] == ["FAIL", "PASS"]


@looks
def test_what_passes_against_a_commit_is_explained_where_that_is_asked_for(pipeline: Repository) -> None:
    pipeline.measure("main", "--energy-explain=always").assert_outcomes(passed=1)
    found = explained(pipeline.project)
    assert found["ref"].startswith("main")
    assert found["where"] == ""


def test_a_commit_that_cannot_explain_is_said_and_the_verdict_stands(pipeline: Repository) -> None:
    """An older version does not say that it can."""
    silent = "import pytest_greencompute.pairing.worker as worker\n"
    silent += "send = worker.Channel.send\n"
    silent += "worker.Channel.send = lambda self, **said: send(self, **{k: v for k, v in said.items() if k != 'explains'})\n"
    conftest = pipeline.project.path / "conftest.py"
    whole = conftest.read_text(encoding="utf-8")
    conftest.write_text(silent + whole, encoding="utf-8")
    pipeline.commit("an old version")
    conftest.write_text(whole, encoding="utf-8")
    pipeline.measure("main", "--energy-explain=always").assert_outcomes(passed=1)
    (run,) = pipeline.project.report()["runs"]
    assert any("not explained against main" in note and "cannot explain" in note for note in run["notes"])


COMMANDED = """
from app import model

def test_it(energy_meter):
    energy_meter.measure(model, ["a", "b", "c", "d"])
    found = energy_meter.explain(model, ["a", "b"], seconds=2.0)
    print(found and found.queries, "queries")
"""


@looks
def test_a_test_looks_at_its_model_itself(pipeline: Repository) -> None:
    pipeline.project.write("tests/test_app.py", COMMANDED)
    result = pipeline.project.measure("-s", "--energy-json=energy.json")
    result.stdout.fnmatch_lines(["*2 queries*", "*app.py:infer*"])
    (run,) = pipeline.project.report()["runs"]
    assert run["profile"]["queries"] == 2
    result = pipeline.project.run("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*None queries*"])


NODE = "tests/test_app.py::test_it"


@pytest.fixture
def commanded(pipeline: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Where the command is run. It reads no conftest: it knows meters that are installed."""
    project = pipeline.project
    installed = project.write("tmp/meters/others-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: others\nVersion: 1.0\n").parent
    (installed / "entry_points.txt").write_text("[greencompute.meters]\nworld = world:WorldMeter\n", encoding="utf-8")
    monkeypatch.syspath_prepend(project.path)
    monkeypatch.syspath_prepend(installed.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed.parent), str(project.path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(project.path)
    return pipeline


@looks
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_test_is_explained_beside_a_commit(commanded: Repository, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]) -> None:
    write(commanded, 30, 1.0)
    commanded.commit("hungrier")
    assert cli.main(["explain", NODE, "--base-ref", "main~1", "--seconds", "2", *form]) == 0
    said = capsys.readouterr()
    assert "measuring 6 pairs beside main~1" in said.err
    if form:
        found = json.loads(said.out)
        assert (found["test"], found["ref"].split()[0]) == (NODE, "main~1")
        assert "app.py:infer: +" in found["where"]
    else:
        assert f"{NODE}: Where: " in said.out
        assert "app.py:infer: +" in said.out
    assert no_worktree_is_left(commanded)


@looks
def test_a_test_is_looked_at_alone_and_two_reports_are_compared(commanded: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline, node = commanded, NODE
    assert cli.main(["explain", node, "--seconds", "2"]) == 0
    said = capsys.readouterr().out
    assert "app.py:infer" in said
    pipeline.project.write("tests/test_app.py", COMMANDED)
    for name, times, joules in (("a", 1, 0.5), ("b", 30, 1.0)):
        write(pipeline, times, joules)
        pipeline.project.measure(f"--energy-json={name}.json").assert_outcomes(passed=1)
    capsys.readouterr()
    assert cli.main(["explain", "a.json", "b.json"]) == 0
    assert "app.py:infer: +" in capsys.readouterr().out
    assert cli.main(["explain", "a.json", "b.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["test"], found["run"], found["ref"]) == (node, None, "a.json")
    other = pipeline.project.report("b.json")
    (device,) = other["runs"][0]["provenance"]["devices"].values()
    device["meter"] = "another"
    pipeline.project.write("d.json", json.dumps(other))
    assert cli.main(["explain", "a.json", "d.json"]) == 2
    assert "another scale than in a.json: meter another, was" in capsys.readouterr().err
    assert cli.main(["explain", "a.json", node, "c"]) == 2
    pipeline.project.write("tests/test_app.py", COMMANDED.replace("found = energy_meter", "found = 0 and energy_meter"))
    pipeline.project.measure("--energy-json=c.json")
    assert cli.main(["explain", "a.json", "c.json"]) == 2
    assert "carries what it was seen to do" in capsys.readouterr().err
