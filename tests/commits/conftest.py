"""Real repositories of git in a temporary folder, in which no configuration of the user's or the machine's plays a part."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_greencompute.commits.git import Repository


class Made:
    """A repository that a test fills; ``write`` makes a file, ``commit`` keeps what is there, ``opened`` is what is tested."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.environ = dict(environ)
        path.mkdir(parents=True, exist_ok=True)

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.path, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def init(self) -> Made:
        self.git("init", "-q", "-b", "main")
        return self

    def write(self, name: str, text: str = "") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def commit(self, message: str = "a change") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def opened(self, inside: str = ".", **environ: str) -> Repository:
        return Repository(self.path / inside, {**self.environ, **environ})

    def worktrees(self) -> list[str]:
        """The folders of all worktrees but the first, which is the repository's own."""
        lines = self.git("worktree", "list", "--porcelain").splitlines()
        return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")][1:]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose configuration of git is a file of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\nname = Tests\nemail = tests@example.org\n[protocol]\nversion = 2\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "XDG_"))}
    return kept | {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def made(tmp_path: Path, environ: dict[str, str]) -> Made:
    """A repository with one commit."""
    made = Made(tmp_path / "repository", environ).init()
    made.write("app.py", "SIDE = 'first'\n")
    made.commit("first")
    return made


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this process and of those that it starts."""
    rooms = tmp_path / "temporary files of Zoë"
    rooms.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rooms))
    return rooms
