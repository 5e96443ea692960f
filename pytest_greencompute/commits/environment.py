"""Whether another commit asks for another environment: then its code cannot be measured in this one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

LOCKS = (
    "requirements*.txt",
    "constraints*.txt",
    "requirements/*.txt",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pylock*.toml",
    "Pipfile.lock",
    "environment.yml",
    "environment.yaml",
    "setup.cfg",
    "setup.py",
)
PROJECT_KEYS = (
    ("build-system",),
    ("dependency-groups",),
    ("project", "dependencies"),
    ("project", "optional-dependencies"),
    ("project", "requires-python"),
    ("tool", "uv"),
    ("tool", "poetry", "dependencies"),
    ("tool", "poetry", "group"),
)


def changed_requirements(head: Path, base: Path) -> tuple[str, ...]:
    """Names of the files that say what to install and differ between two checked-out projects."""
    names = {path.relative_to(folder).as_posix() for folder in (head, base) for lock in LOCKS for path in folder.glob(lock)}
    changed = [name for name in sorted(names) if _text(head / name) != _text(base / name)]
    if _wanted(head / "pyproject.toml") != _wanted(base / "pyproject.toml"):
        changed.append("pyproject.toml")
    return tuple(changed)


def _text(path: Path) -> str | None:
    """What a file asks for: its lines without comments and blanks, or None where it is not there."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    if not any(fnmatch(path.name, pattern) for pattern in ("*.txt", "*.yml", "*.yaml")):
        return "\n".join(lines)
    return "\n".join(kept for line in lines if (kept := line.split(" #")[0].strip()) and not kept.startswith("#"))


def _wanted(path: Path) -> Mapping[tuple[str, ...], Any]:
    """What a pyproject.toml asks for; a budget or a linter's setting is no part of it."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found: dict[tuple[str, ...], Any] = {}
    for keys in PROJECT_KEYS:
        value: Any = data
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[keys] = value
    return found
