"""``greencompute bisect``: the commit since which a test uses more, in repositories with a planted place."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_greencompute import cli
from tests.e2e.conftest import Project
from tests.e2e.test_base_ref import SIMULATED, TEST

APP = """
from world import world

# {note}
model = world.model(joules={joules}, seconds=0.004, spread=0.004)
"""
NODE = "tests/test_app.py::test_it"


class Planted:
    """The inner project under git, whose commits use what a test plants."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "tests@example.org")
        self.git("config", "user.name", "Tests")
        project.toml("max_seconds = 20")
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
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(project.path)
    # The command reads no conftest: it knows meters that are installed.
    installed = project.write("tmp/meters/others-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: others\nVersion: 1.0\n").parent
    (installed / "entry_points.txt").write_text("[greencompute.meters]\nworld = world:WorldMeter\n", encoding="utf-8")
    monkeypatch.syspath_prepend(project.path)
    monkeypatch.syspath_prepend(installed.parent)
    return Planted(project)


def test_the_planted_commit_is_found_and_a_broken_one_beside_it_is_skipped(planted: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    good = planted.commit(0.5, "fine")
    for number in range(4):
        planted.commit(0.5, f"before {number}")
    guilty = planted.commit(0.6, "the hungry one")
    planted.project.write("tests/test_app.py", "import nothing_of_this_name\n")
    broken = planted.commit(0.6, "broken")
    planted.project.write("tests/test_app.py", TEST)
    planted.commit(0.6, "mended")
    assert planted.bisect(good, "--json", "found.json") == 0
    said = capsys.readouterr()
    assert f"{guilty[:10]} the hungry one: here energy/query rose, with a probability of 9" in said.out
    found = json.loads((planted.project.path / "found.json").read_text(encoding="utf-8"))
    assert [each["sha"] for each in found["suspects"]] == [guilty]
    assert found["probability"] >= 0.99
    assert abs(found["rise"]["value"] - 0.2) < 0.02
    assert {each["commit"] for each in found["skipped"]} <= {broken}
    assert len(planted.git("worktree", "list").splitlines()) == 1
