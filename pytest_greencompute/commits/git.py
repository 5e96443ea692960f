"""Git, asked from outside: no prompt, no hook, no variable that leads to another repository; and what REF means."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pytest_greencompute.errors import SettingsError

TIMEOUT_S = 600.0
MERGE_BASE = "merge-base:"
LINKED = "160000"  # the mode of a submodule in the index
# The user's configuration and credentials. All other variables of git's are a hook's, and name the repository that the hook runs in.
KEPT = ("GIT_CONFIG_", "GIT_ASKPASS", "GIT_SSH", "GIT_SSL_", "GIT_HTTP_", "GIT_PROXY_")
NOT_KEPT = ("GIT_CONFIG_PARAMETERS",)


class GitError(SettingsError):
    """Git refused, and what to do about it."""


class NoRepositoryError(GitError):
    """The folder is in none."""


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
    """The repository that holds ``folder``, checked out at ``top``. Raises GitError where there is none or git refuses to read it."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._environ = {name: value for name, value in environ.items() if _is_kept(name)} | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
        }
        self.folder = folder
        self.top = Path(self.ask("rev-parse", "--show-toplevel").rstrip("\n"))

    def ask(self, *words: str, folder: Path | None = None, config: Sequence[str] = ()) -> str:
        """What git prints. ``config``: settings (``name=value``) for this call. Raises GitError with git's own words and a remedy."""
        settings = [f"core.hooksPath={os.devnull}", "advice.detachedHead=false", "log.showSignature=false", *config]
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *words]
        try:
            done = subprocess.run(
                command, cwd=folder or self.folder, env=self._environ, capture_output=True, timeout=TIMEOUT_S, check=False, text=True,
                encoding="utf-8", errors="surrogateescape", stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise GitError("git is not installed, and other commits cannot be had without it.", remedy="Install git.") from error
        except subprocess.TimeoutExpired as error:
            raise GitError(f"`git {' '.join(words[:2])}` took longer than {TIMEOUT_S / 60:.0f} minutes.") from error
        if done.returncode != 0:
            raise self._refused(words, done.stderr.strip())
        return done.stdout

    def _refused(self, words: tuple[str, ...], said: str) -> GitError:
        if "dubious ownership" in said:
            # Git asks for the repository's top, which the project's folder need not be.
            named = re.search(r"safe\.directory (.+)$", said, re.MULTILINE)
            top = named[1] if named else str(self.folder)
            remedy = f"Run `git config --global --add safe.directory {top}`, or check out as the user that runs the tests."
            return GitError(f"git does not trust {top}, which belongs to another user.", remedy=remedy)
        if "not a git repository" in said or "must be run in a work tree" in said:
            # A report's path in the arguments, as in "--energy-json /tmp/it.json", moves the root of pytest where that file is there.
            remedy = "Use --energy-baseline; where the tests are in one, name their folder: --rootdir=DIR."
            return NoRepositoryError(f"{self.folder} is in no git repository, so there is no commit to compare with.", remedy=remedy)
        last = said.splitlines()[-1] if said else "no reason given"
        remedy = "Run `git lfs install` and fetch the files' content; in actions/checkout set lfs: true." if "filter lfs" in said else ""
        return GitError(f"`git {' '.join(words[:2])}` failed: {last.rstrip('.')}.", remedy=remedy)

    def resolve(self, ref: str, option: str = "--energy-base-ref") -> Commit:
        """The commit that ``ref`` (a branch, tag or commit, or ``merge-base:BRANCH``) names. Raises GitError with the near names, naming
        the ``option`` that it was given by.
        """
        name = ref.removeprefix(MERGE_BASE)
        # A "^" in front would name the commits that are none of its history.
        if not name or name[0] in "-^" or any(character.isspace() for character in name):
            raise GitError(f"{option}: {ref!r} names no commit.", remedy="Write a branch, a tag, a commit or merge-base:BRANCH.")
        sha = self._named(name, option)
        if ref.startswith(MERGE_BASE):
            try:
                sha = self.ask("merge-base", "HEAD", sha).strip()
            except GitError as error:
                remedy = f"Compare with {name} itself."
                raise self.missing(option, ref, f"HEAD and {name} have no common commit here", remedy) from error
        return Commit(ref, sha, self.ask("log", "-1", "--format=%s", sha).strip())

    def _named(self, name: str, option: str) -> str:
        for written in (name, f"origin/{name}"):
            try:
                return self.ask("rev-parse", "--verify", "--quiet", f"{written}^{{commit}}").strip()
            except GitError:
                continue
        if kind := self._kind(name):
            raise GitError(f"{option} {name}: this is a {kind}, no commit.", remedy="Write a branch, a tag of a commit, or a commit.")
        names = self.ask("for-each-ref", "--format=%(refname:short)").split()
        if not names and not self.head():
            raise GitError(f"{option} {name}: the repository has no commit yet.", remedy="Commit first.")
        near = get_close_matches(name, dict.fromkeys([*names, *(each.removeprefix("origin/") for each in names)]), n=3)
        raise self.missing(option, name, f"there is no commit {name!r} here{', near: ' + ', '.join(near) if near else ''}")

    def _kind(self, name: str) -> str:
        """What a name stands for that names no commit: a tree or a file, as some tags do; empty where it names nothing."""
        try:
            sha = self.ask("rev-parse", "--verify", "--quiet", name).strip()
            return self.ask("cat-file", "-t", f"{sha}^{{}}").strip().replace("blob", "file")
        except GitError:
            return ""

    def missing(self, option: str, ref: str, problem: str, remedy: str = "Fetch it, for example with `git fetch origin`.") -> GitError:
        """The error of an option whose commits are not all here: a shallow clone has a remedy of its own."""
        if self.ask("rev-parse", "--is-shallow-repository").strip() == "true":
            remedy = "The clone is shallow: set fetch-depth: 0 in actions/checkout, or run `git fetch --unshallow`."
        return GitError(f"{option} {ref}: {problem}.", remedy=remedy)

    def submodules(self, folder: Path) -> list[tuple[str, str]]:
        """The name and the path of each submodule of the commit that is checked out in ``folder``."""
        try:
            said = self.ask("config", "-z", "--file", ".gitmodules", "--get-regexp", r"\.path$", folder=folder)
        except GitError:  # no such file, or none in it
            return []
        found = []
        for key, _, path in (entry.partition("\n") for entry in said.split("\0") if entry):
            # What the file names need not be in the commit.
            if self.ask("ls-files", "-s", f":(literal){path}", folder=folder).startswith(LINKED):
                found.append((key.removeprefix("submodule.").removesuffix(".path"), path))
        return found

    def git_folder(self) -> Path:
        """Where git keeps what it knows of this checkout, its submodules' repositories among it."""
        return Path(self.ask("rev-parse", "--absolute-git-dir").rstrip("\n"))

    def changed_files(self) -> tuple[str, ...]:
        """Files with local changes, untracked ones included; of a renamed one the new name."""
        entries = iter(self.ask("status", "--porcelain", "-z", "--untracked-files=all").split("\0"))
        found = []
        for entry in entries:
            if entry:
                found.append(entry[3:])
                if set(entry[:2]) & {"R", "C"}:
                    next(entries, "")  # the old name, an entry of its own
        return tuple(found)

    def head(self) -> str:
        """The sha of HEAD; empty where its branch has no commit yet."""
        try:
            return self.ask("rev-parse", "--verify", "--quiet", "HEAD").strip()
        except GitError:
            return ""


def _is_kept(name: str) -> bool:
    return not name.startswith("GIT_") or (name.startswith(KEPT) and name not in NOT_KEPT)
