"""What a project has: read from its files, never imported or run. Bounded in files, folders and bytes, and no link is followed."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from pytest_greencompute.commits.git import GitError, Repository
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.folders import PROJECT
from pytest_greencompute.settings.toml_file import TomlFile, TomlTable
from pytest_greencompute.starting import dependencies
from pytest_greencompute.starting.code import OwnCallable, PythonFile, module_name, read

MOST_FILES, MOST_FOLDERS, MOST_BYTES = 500, 2000, 200_000
SKIPPED = {"node_modules", "site-packages", "build", "dist", "docs", "__pycache__", "venv", "env"}
TESTS = {"tests", "test", "testing", "benchmarks", "bench", "benches"}
PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")  # in which pytest may be told of more
NO_MODULES = {"setup.py", "noxfile.py", "conftest.py"}
SAFE = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")  # a path that means itself in a shell, in YAML and in a comment
Installed = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the project is hosted: ``forge`` is "GitHub" or "GitLab", ``why`` how that is known. ``top`` holds the repository, and
    ``inside`` is the project's path in it (empty: it is the top)."""

    forge: str
    why: str
    top: Path
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """A project as it was found. ``declared`` are the packages that its files name (None: it has no such files), ``imported`` what its code
    imports, ``benchmarks`` the node ids of tests that use pytest-benchmark, ``tests`` the folder of its tests from its own, and
    ``requirements`` its requirements files. ``whole``: all of it was looked at. ``code``: it has Python files beside its tests. ``hidden``
    is a module of it that its tests cannot import: it lies below src, is not installed, and pytest is not told (empty: there is none)."""

    declared: frozenset[str] | None = None
    imported: frozenset[str] = frozenset()
    suggestions: tuple[OwnCallable, ...] = ()
    benchmarks: tuple[str, ...] = ()
    tests: str = "tests"
    requirements: tuple[str, ...] = ()
    extras: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    pythons: str = ""
    installable: bool = False
    whole: bool = True
    code: bool = False
    hidden: str = ""


def look(folder: Path) -> Home:
    """The project in ``folder``."""
    data = _pyproject(folder)
    declared, requirements = _declared(folder, data)
    found, whole = _python_files(folder)
    own = [each for path, each in found if not _is_test(path)]
    benchmarks = [f"{path}::{name}" for path, each in found for name in each.benchmarks]
    return Home(
        declared,
        frozenset().union(*(each.imports for each in own)),
        _ranked(own),
        tuple(name for name in benchmarks if SAFE.fullmatch(name.replace("::", "/"))),
        _tests(folder, data),
        requirements,
        dependencies.extras_of(data),
        dependencies.groups_of(data),
        dependencies.pythons_of(data),
        dependencies.is_package(data) or (folder / "setup.py").is_file() or "[metadata]" in text_of(folder / "setup.cfg"),
        whole,
        bool(own),
        _hidden(folder, [path for path, _ in found if not _is_test(path)]),
    )


def installed(module: str) -> bool:
    """Whether a top module can be imported by this Python; it is not."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def remote_of(folder: Path, environ: Mapping[str, str]) -> Remote:
    """Which forge runs the project's pipelines: as its git remote says, else as its files do, else GitHub."""
    try:
        repository = Repository(folder, environ)
        addresses = repository.ask("remote", "-v").splitlines()
    except GitError:
        return Remote(*forge_of([], gitlab=(folder / ".gitlab-ci.yml").is_file()), folder)
    top = repository.top
    inside = Path(os.path.relpath(folder.resolve(), top.resolve())).as_posix()
    if inside == "." or not SAFE.fullmatch(inside):
        top, inside = folder, ""
    return Remote(*forge_of(addresses, gitlab=(top / ".gitlab-ci.yml").is_file()), top, inside)


def forge_of(addresses: list[str], *, gitlab: bool) -> tuple[str, str]:
    """The forge, and how it is known, from what ``git remote -v`` says. ``gitlab``: there is a pipeline of GitLab's already."""
    remotes = [line.split()[:2] for line in addresses if len(line.split()) >= 2]
    for name, address in sorted(remotes, key=lambda each: each[0] != "origin"):
        host = re.match(r"(?:[\w+]+://)?(?:[^@/]*@)?([^:/]*)", address)
        for forge in ("GitLab", "GitHub"):
            if host and forge.lower() in host.group(1).lower():
                return forge, f"git remote {name}"
    if gitlab:
        return "GitLab", "there is a .gitlab-ci.yml"
    elsewhere = "the git remote is elsewhere; on a GitLab, make .gitlab-ci.yml first"
    return "GitHub", f"assumed: {elsewhere if remotes else 'there is no git remote'}"


# --- its dependencies, its tests ---------------------------------------------------------------------------------------


def _pyproject(folder: Path) -> TomlTable:
    try:
        return TomlFile(folder / PROJECT).data
    except SettingsError:  # said where it is to be written
        return {}


def text_of(path: Path) -> str:
    """What a file holds; nothing where it is none, cannot be read, or is larger than any that people write."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() and path.stat().st_size <= MOST_BYTES else ""
    except OSError:
        return ""


def _declared(folder: Path, data: TomlTable) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    """The packages, and the requirements files, from its folder."""
    paths = sorted([*folder.glob("requirements*.txt"), *(folder / "requirements").glob("*.txt")])
    texts = {path.relative_to(folder).as_posix(): text_of(path) for path in paths}
    setup_cfg = text_of(folder / "setup.cfg")
    found = [dependencies.in_pyproject(data), dependencies.in_setup_cfg(setup_cfg), *map(dependencies.in_requirements, texts.values())]
    says = bool(texts or {"project", "dependency-groups"} & set(data)) or any(found)
    return frozenset().union(*found) if says else None, tuple(name for name in texts if SAFE.fullmatch(name))


def _tests(folder: Path, data: TomlTable) -> str:
    """The folder of its tests: the first that its pytest looks in and that is there, else tests or test."""
    for path in (*dependencies.paths_of_tests(data), "tests", "test"):
        inside = SAFE.fullmatch(path.rstrip("/")) and ".." not in PurePosixPath(path).parts and PurePosixPath(path).parts
        if inside and (folder / path).is_dir():
            return PurePosixPath(path).as_posix()
    return "tests"


# --- its code ----------------------------------------------------------------------------------------------------------


def _python_files(folder: Path) -> tuple[list[tuple[str, PythonFile]], bool]:
    """What its Python files tell, by their paths, those near the top first; and whether that is all of them."""
    found: list[tuple[str, PythonFile]] = []
    waiting, seen = deque([folder]), 0
    while waiting:
        seen += 1
        if seen > MOST_FOLDERS:
            return found, False
        for entry in _entries(waiting.popleft()):
            if entry.is_dir(follow_symlinks=False):
                if not _is_skipped(entry):
                    waiting.append(Path(entry.path))
            elif entry.name.endswith(".py") and entry.is_file(follow_symlinks=False):
                if len(found) == MOST_FILES:
                    return found, False
                path = Path(entry.path).relative_to(folder)
                found.append((path.as_posix(), read(text_of(Path(entry.path)), _module(folder, path))))
    return found, True


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:  # no permission, or gone meanwhile
        return


def _is_skipped(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(".") or entry.name in SKIPPED or (Path(entry.path) / "pyvenv.cfg").exists()


def _is_test(path: str) -> bool:
    *folders, name = PurePosixPath(path).parts
    return bool(TESTS.intersection(folders)) or name.startswith("test_") or name.endswith("_test.py") or name in NO_MODULES


def _module(folder: Path, path: Path) -> str:
    """What a file is imported as: from src, or from above the topmost package that it is in."""
    parts = path.parts
    if _is_test(path.as_posix()):
        return ""
    if parts[0] == "src" and len(parts) > 1:
        return module_name(parts[1:])
    tops = [depth for depth in range(len(parts) - 1) if (folder.joinpath(*parts[: depth + 1]) / "__init__.py").is_file()]
    return module_name(parts[min(tops, default=0) :])


def _hidden(folder: Path, own: list[str]) -> str:
    below = [PurePosixPath(path).parts[1].removesuffix(".py") for path in own if path.startswith("src/")]
    if any("pythonpath" in text_of(folder / name) for name in PYTEST_FILES):
        return ""
    return next((module for module in below if module.isidentifier() and not installed(module)), "")


def _ranked(files: list[PythonFile]) -> tuple[OwnCallable, ...]:
    """Functions before classes, public modules before private ones; otherwise as they were found."""
    every = [each for file in files for each in file.suggestions]
    return tuple(sorted(every, key=lambda each: (any(part.startswith("_") for part in each.module.split(".")), bool(each.method))))
