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
from pytest_greencompute.values.names import listed

PREFIX = "greencompute-base-"
OWNER = "owner.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
POINTERS_NAMED = 5
DEAD = ("Z", "X")  # states of a process that has ended and that nobody has waited for


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
            tree = _room() / "tree"
            try:
                self._repository.ask("worktree", "add", "--detach", "--force", str(tree), commit.sha)
                self._fill(tree, commit)
            except BaseException:
                _remove(self._repository, tree)  # a second ref of this commit must not be given half a worktree
                raise
            self._made[commit.sha] = tree
        return self._made[commit.sha]

    def _fill(self, tree: Path, commit: Commit) -> None:
        try:
            self._submodules(tree, self._repository.top, self._repository.git_folder())
        except GitError as error:
            remedy = (
                "Fetch them first: `git submodule update --init --recursive` and `git submodule foreach --recursive git fetch`; "
                "in actions/checkout set submodules: recursive and fetch-depth: 0."
            )
            raise GitError(f"The submodules of {commit.label} could not be checked out: {error.message}", remedy=remedy) from error
        pointers = self._wanting(tree)
        if pointers:
            self._fetch_lfs(tree, pointers, commit)
        for link in self._links:
            self._link(tree, link)

    def _submodules(self, tree: Path, here: Path, git_folder: Path) -> None:
        """Check out the submodules, each from this side's copy (in ``git_folder``) where there is one: no network, no password."""
        for name, path in self._repository.submodules(tree):
            copy = git_folder / "modules" / name
            if copy.is_dir():
                # On the command line, so that nothing is written into the configuration that all worktrees share.
                config = [f"submodule.{name}.url={copy}", "protocol.file.allow=always"]
            elif (here / path).is_dir() and not (here / path / ".git").exists():
                continue  # this side does without its files, too
            else:
                config = []
            self._repository.ask("submodule", "update", "--init", "--", path, folder=tree, config=config)
            self._submodules(tree / path, here / path, copy)

    def _wanting(self, tree: Path) -> list[str]:
        """Git LFS pointers of the worktree that are content here, or not here at all; none where all of this side's are pointers too."""
        top = self._repository.top
        pointers = list(_pointers(self._repository, tree))
        here = [path for path in pointers if (top / path).exists()]
        if here and all(_is_pointer(top / path) for path in here):
            return []
        return [path for path in pointers if not _is_pointer(top / path)]

    def _fetch_lfs(self, tree: Path, pointers: Sequence[str], commit: Commit) -> None:
        with contextlib.suppress(GitError):
            self._repository.ask("lfs", "checkout", *pointers, folder=tree)
        left = [path for path in pointers if _is_pointer(tree / path)]
        if left:
            remedy = f"Run `git lfs fetch origin {commit.sha}` first; in actions/checkout set lfs: true."
            raise GitError(
                f"At {commit.label} these files are Git LFS pointers without their content: {listed(left, POINTERS_NAMED)}.", remedy=remedy
            )

    def _link(self, tree: Path, link: str) -> None:
        """Lend the worktree an ignored file or folder of the project, such as model weights."""
        top = Path(os.path.realpath(self._repository.top))
        source = Path(os.path.normpath(os.path.realpath(self._repository.folder) / Path(link)))
        if top not in source.parents:
            raise SettingsError(f"base_link {link!r} leads out of the repository.", remedy="Name a path inside it, such as 'models/'.")
        if not source.exists():
            raise SettingsError(
                f"base_link {link!r} does not exist in {self._repository.folder}.", remedy="Remove it, or put there what the tests need."
            )
        target = tree / source.relative_to(top)
        if target.exists() or target.is_symlink():
            self.notes.append(f"base_link {link!r} was left as the base commit has it")
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source, target_is_directory=source.is_dir())
        except OSError as error:
            remedy = "Name a path whose folder is none of the base's files."
            raise SettingsError(f"base_link {link!r} has no place in the base commit: {error.strerror}.", remedy=remedy) from error

    def close(self) -> None:
        """Remove what was checked out. May be called twice."""
        for tree in self._made.values():
            _remove(self._repository, tree)
        self._made.clear()


def _room() -> Path:
    """A new folder, with a note of whose it is."""
    try:
        room = Path(tempfile.mkdtemp(prefix=PREFIX))
        (room / OWNER).write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}), encoding="utf-8")
    except OSError as error:
        problem = f"There is no place for another commit's files: {error.strerror} ({error.filename or tempfile.gettempdir()})."
        raise GitError(problem, remedy="Set TMPDIR to a folder that can be written to.") from error
    return room


def _remove(repository: Repository, tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    # Git forgets a worktree whose folder is gone. `git worktree prune` would forget the user's own too, on a drive that is not there now.
    with contextlib.suppress(GitError):
        repository.ask("worktree", "remove", "--force", "--force", str(tree))
    shutil.rmtree(tree.parent, ignore_errors=True)


def _remove_stale(repository: Repository) -> None:
    """Remove the worktrees of this repository whose process is gone."""
    for line in repository.ask("worktree", "list", "--porcelain").splitlines():
        tree = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and tree.parent.name.startswith(PREFIX) and not _owned(tree.parent):
            _remove(repository, tree)


def _owned(room: Path) -> bool:
    """Whether the process that made it still runs, or may: another user's folder cannot be read, and is left alone."""
    try:
        owner = json.loads((room / OWNER).read_text(encoding="utf-8"))
        started = _started(int(owner["pid"]))
        return started is not None and bool(started == owner["started"])
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _started(pid: int) -> str | None:
    """When a process began, in words that tell it from a later one with its number; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in DEAD else fields[19]
    except OSError:
        environ = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}  # the same words in every process that asks
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        return done.stdout.strip() or None


def _pointers(repository: Repository, tree: Path) -> Iterator[str]:
    """Files of the worktree that are Git LFS pointers instead of their content."""
    attributes = [tree / ".gitattributes", *tree.glob("*/**/.gitattributes")]
    if any(path.is_file() and "filter=lfs" in path.read_text(encoding="utf-8", errors="replace") for path in attributes):
        files = repository.ask("ls-files", "-z", "--recurse-submodules", folder=tree).split("\0")
        yield from (path for path in files if path and _is_pointer(tree / path))


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:  # not there, a link to nowhere, or no file
        return False
