"""Git, asked from outside: no prompt, no hook, none of the variables that a hook's environment carries; and what REF means."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pytest_greencompute.errors import SettingsError

TIMEOUT_S = 600.0
MERGE_BASE = "merge-base:"


class GitError(SettingsError):
    """Git refused, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Commit:
    """``ref`` as the user wrote it, the full ``sha``, and the first line of its message."""

    ref: str
    sha: str
    subject: str

    @property
    def label(self) -> str:
        return f"{self.ref} ({self.sha[:10]})"


class Repository:
    """The repository that holds ``folder``. Raises GitError where there is none or git refuses to read it."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._environ = {name: value for name, value in environ.items() if not name.startswith("GIT_")} | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
        }
        self._folder = folder
        self.top = Path(self.ask("rev-parse", "--show-toplevel").strip())

    def ask(self, *words: str, folder: Path | None = None) -> str:
        """What git prints. Raises GitError with git's own words and a remedy."""
        command = ["git", "-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false", *words]
        try:
            done = subprocess.run(
                command, cwd=folder or self._folder, env=self._environ, capture_output=True, timeout=TIMEOUT_S, check=False, text=True,
                encoding="utf-8", errors="surrogateescape",
            )  # fmt: skip
        except FileNotFoundError as error:
            raise GitError("git is not installed, and --energy-base-ref needs it.", remedy="Install git.") from error
        except subprocess.TimeoutExpired as error:
            raise GitError(f"`git {' '.join(words[:2])}` took longer than {TIMEOUT_S / 60:.0f} minutes.") from error
        if done.returncode != 0:
            raise self._refused(words, done.stderr.strip())
        return done.stdout

    def _refused(self, words: tuple[str, ...], said: str) -> GitError:
        if "dubious ownership" in said:
            remedy = f"Run `git config --global --add safe.directory {self._folder}`, or check out as the user that runs the tests."
            return GitError(f"git does not trust {self._folder}, which belongs to another user.", remedy=remedy)
        if "not a git repository" in said:
            return GitError(
                f"{self._folder} is in no git repository, so there is no commit to compare with.", remedy="Use --energy-baseline."
            )
        last = said.splitlines()[-1] if said else "no reason given"
        return GitError(f"`git {' '.join(words[:2])}` failed: {last}")

    def resolve(self, ref: str) -> Commit:
        """The commit that ``ref`` (a branch, tag or commit, or ``merge-base:BRANCH``) names. Raises GitError with the near names."""
        if not ref or ref.startswith("-") or any(character.isspace() for character in ref):
            raise GitError(f"--energy-base-ref: {ref!r} names no commit.", remedy="Write a branch, a tag, a commit or merge-base:BRANCH.")
        if ref.startswith(MERGE_BASE):
            branch = self._named(ref.removeprefix(MERGE_BASE))
            try:
                sha = self.ask("merge-base", "HEAD", branch).strip()
            except GitError as error:
                raise self._missing(ref, f"HEAD and {ref.removeprefix(MERGE_BASE)} have no common commit here") from error
        else:
            sha = self._named(ref)
        return Commit(ref, sha, self.ask("log", "-1", "--format=%s", sha).strip())

    def _named(self, name: str) -> str:
        for written in (name, f"origin/{name}"):
            try:
                return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{written}^{{commit}}").strip()
            except GitError:
                continue
        names = self.ask("for-each-ref", "--format=%(refname:short)").split()
        near = get_close_matches(name, names, n=3)
        raise self._missing(name, f"there is no commit {name!r} here{', near: ' + ', '.join(near) if near else ''}")

    def _missing(self, ref: str, problem: str) -> GitError:
        remedy = "Fetch it, for example with `git fetch origin`."
        if self.ask("rev-parse", "--is-shallow-repository").strip() == "true":
            remedy = "The clone is shallow: set fetch-depth: 0 in actions/checkout, or run `git fetch --unshallow`."
        return GitError(f"--energy-base-ref {ref}: {problem}.", remedy=remedy)

    def changed_files(self) -> tuple[str, ...]:
        """Files with local changes, untracked ones included."""
        return tuple(entry[3:] for entry in self.ask("status", "--porcelain", "-z").split("\0") if len(entry) > 3)

    def head(self) -> str:
        """The sha of HEAD."""
        return self.ask("rev-parse", "HEAD").strip()
