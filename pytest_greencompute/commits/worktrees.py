"""A commit's files in a folder of their own, for as long as they are needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_greencompute.commits.git import Commit, GitError, Repository
from pytest_greencompute.errors import SettingsError

PREFIX = "greencompute-base-"
OWNER = "owner.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
POINTERS_NAMED = 5


class Worktrees:
    """Checked-out commits of one repository, all removed by ``close``. A killed run's are removed by the next one that starts."""

    def __init__(self, repository: Repository, links: Sequence[str] = ()) -> None:
        self._repository = repository
        self._links = links
        self._made: dict[str, Path] = {}
        self.notes: list[str] = []
        _remove_stale(repository)

    def checked_out(self, commit: Commit) -> Path:
        """The folder with the commit's files. Raises GitError where they cannot all be there."""
        if commit.sha not in self._made:
            room = Path(tempfile.mkdtemp(prefix=PREFIX))
            (room / OWNER).write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}), encoding="utf-8")
            tree = room / "tree"
            self._made[commit.sha] = tree
            self._repository.ask("worktree", "add", "--detach", "--force", str(tree), commit.sha)
            self._fill(tree, commit)
        return self._made[commit.sha]

    def _fill(self, tree: Path, commit: Commit) -> None:
        if (tree / ".gitmodules").exists():
            self._submodules(tree, commit)
        pointers = [path for path in _pointers(self._repository, tree) if not _is_pointer(self._repository.top / path)]
        if pointers:
            self._fetch_lfs(tree, pointers, commit)
        for link in self._links:
            self._link(tree, link)

    def _submodules(self, tree: Path, commit: Commit) -> None:
        try:
            self._repository.ask("-c", "protocol.file.allow=always", "submodule", "update", "--init", "--recursive", folder=tree)
        except GitError as error:
            remedy = "Fetch them first: `git submodule update --init --recursive`, or in actions/checkout submodules: recursive."
            raise GitError(f"The submodules of {commit.label} could not be checked out: {error.message}", remedy=remedy) from error

    def _fetch_lfs(self, tree: Path, pointers: Sequence[str], commit: Commit) -> None:
        with contextlib.suppress(GitError):
            self._repository.ask("lfs", "checkout", *pointers, folder=tree)
        left = [path for path in pointers if _is_pointer(tree / path)]
        if left:
            named = ", ".join(left[:POINTERS_NAMED]) + (f" and {len(left) - POINTERS_NAMED} more" if len(left) > POINTERS_NAMED else "")
            remedy = f"Run `git lfs fetch origin {commit.sha}` first; in actions/checkout set lfs: true."
            raise GitError(f"At {commit.label} these files are Git LFS pointers without their content: {named}.", remedy=remedy)

    def _link(self, tree: Path, link: str) -> None:
        """Lend the worktree an ignored file or folder of the project, such as model weights."""
        top = self._repository.top.resolve()
        source = Path(os.path.normpath(top / link))
        if top not in source.parents:
            raise SettingsError(f"base_link {link!r} leads out of the repository.", remedy="Name a path inside it, such as 'models/'.")
        if not source.exists():
            raise SettingsError(f"base_link {link!r} does not exist in {top}.", remedy="Remove it, or put there what the tests need.")
        target = tree / source.relative_to(top)
        if target.exists() or target.is_symlink():
            self.notes.append(f"base_link {link!r} was left as the base commit has it")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source, target_is_directory=source.is_dir())

    def close(self) -> None:
        """Remove what was checked out. May be called twice."""
        for tree in self._made.values():
            _remove(self._repository, tree)
        self._made.clear()


def _remove(repository: Repository, tree: Path) -> None:
    with contextlib.suppress(GitError):
        repository.ask("worktree", "remove", "--force", "--force", str(tree))
    shutil.rmtree(tree.parent, ignore_errors=True)
    with contextlib.suppress(GitError):
        repository.ask("worktree", "prune")


def _remove_stale(repository: Repository) -> None:
    """Remove the worktrees of this repository whose process is gone."""
    for line in repository.ask("worktree", "list", "--porcelain").splitlines():
        tree = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and tree.parent.name.startswith(PREFIX) and not _owned(tree.parent):
            _remove(repository, tree)


def _owned(room: Path) -> bool:
    """Whether the process that made it still runs; one that cannot be told is left alone if its folder is there."""
    try:
        owner = json.loads((room / OWNER).read_text(encoding="utf-8"))
        started = _started(int(owner["pid"]))
        return started is not None and bool(started == owner["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _started(pid: int) -> str | None:
    """When a process began, in words that tell it from a later one with its number; None where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout.strip() or None


def _pointers(repository: Repository, tree: Path) -> Iterator[str]:
    """Files of the worktree that are Git LFS pointers instead of their content."""
    attributes = [tree / ".gitattributes", *tree.glob("*/**/.gitattributes")]
    if any(path.is_file() and "filter=lfs" in path.read_text(encoding="utf-8", errors="replace") for path in attributes):
        yield from (path for path in repository.ask("ls-files", "-z", folder=tree).split("\0") if path and _is_pointer(tree / path))


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return True
