"""A runner for each test, and repositories as actions/checkout leaves them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.ci.steps import Runner

AUTHOR = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")


def git(folder: Path, *words: str) -> str:
    """What git prints in ``folder``, with no settings but its own defaults."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    done = subprocess.run(["git", *AUTHOR, *words], cwd=folder, env=environ, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return done.stdout.strip()


class Hub:
    """A repository on a server, with a pull request: ``merge`` merges ``head`` into ``main``, which has moved on from ``old_base``."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "hub.git"
        self.work = folder / "hub-work"
        self.work.mkdir()
        git(self.work, "init", "-q")
        self.old_base = self.commit("model.py", "1\n")
        git(self.work, "checkout", "-q", "-b", "topic")
        self.head = self.commit("feature.py", "2\n")
        git(self.work, "checkout", "-q", "main")
        self.base = self.commit("other.py", "3\n")
        git(self.work, "checkout", "-q", "--detach")
        git(self.work, "merge", "-q", "--no-ff", "-m", "merge", "topic")
        self.merge = git(self.work, "rev-parse", "HEAD")
        git(self.work, "update-ref", "refs/pull/7/merge", self.merge)
        git(folder, "clone", "-q", "--mirror", str(self.work), str(self.bare))
        git(self.bare, "config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub has it

    def commit(self, name: str, text: str) -> str:
        (self.work / name).parent.mkdir(parents=True, exist_ok=True)
        (self.work / name).write_text(text, encoding="utf-8")
        git(self.work, "add", ".")
        git(self.work, "commit", "-qm", name)
        return git(self.work, "rev-parse", "HEAD")

    def merged_with(self, *names: str) -> str:
        """A pull request that changes the files ``names``: its merge into ``main``, at the server as well."""
        git(self.work, "checkout", "-q", "-B", "another", self.base)
        for name in names:
            self.commit(name, "changed\n")
        git(self.work, "checkout", "-q", "--detach", self.base)
        git(self.work, "merge", "-q", "--no-ff", "-m", "merge", "another")
        merge = git(self.work, "rev-parse", "HEAD")
        git(self.work, "push", "-q", str(self.bare), f"{merge}:refs/pull/8/merge")
        return merge

    def checkout(self, folder: Path, commit: str, *, depth: int = 1) -> None:
        """What actions/checkout does: fetch one commit by its name, with this depth (0: everything), and detach at it."""
        git(folder, "init", "-q")
        git(folder, "remote", "add", "origin", self.bare.as_uri())
        git(folder, "fetch", "-q", "--no-tags", *([f"--depth={depth}"] if depth else []), "origin", commit)
        if not depth:
            git(folder, "fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
        git(folder, "checkout", "-q", "--detach", commit)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@pytest.fixture(autouse=True)
def _as_on_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a hook or of the CI that runs this suite reaches a script or a linter."""
    for name in [each for each in os.environ if each.startswith(("GIT_", "GITHUB_"))]:
        monkeypatch.delenv(name)
