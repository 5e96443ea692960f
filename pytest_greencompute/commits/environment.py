"""Whether another commit asks for another environment: then its code cannot be measured in this one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from pathlib import Path
from typing import Any

LOCKS = (
    "*requirements*.txt",
    "constraints*.txt",
    "requirements/*.txt",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pylock*.toml",
    "Pipfile.lock",
    "pixi.lock",
    "conda-lock.yml",
    "environment*.yml",
    "environment*.yaml",
    "setup.cfg",
    "setup.py",
)
SETUP_CFG = {"options": ("install_requires", "setup_requires", "tests_require", "python_requires"), "options.extras_require": ()}
OWN = {"editable", "virtual"}  # the sources of the project itself in uv.lock
PROJECT_KEYS = (
    ("build-system",),
    ("dependency-groups",),
    ("project", "dependencies"),
    ("project", "optional-dependencies"),
    ("project", "requires-python"),
    ("tool", "uv"),
    ("tool", "pdm", "dev-dependencies"),
    ("tool", "poetry", "dependencies"),
    ("tool", "poetry", "dev-dependencies"),
    ("tool", "poetry", "group"),
)


def changed_requirements(head: Path, base: Path) -> tuple[str, ...]:
    """Names of the files that say what to install and differ between two checked-out projects."""
    names = {path.relative_to(folder).as_posix() for folder in (head, base) for lock in LOCKS for path in folder.glob(lock)}
    changed = [name for name in sorted(names) if _asked(head / name) != _asked(base / name)]
    if _wanted(head / "pyproject.toml") != _wanted(base / "pyproject.toml"):
        changed.append("pyproject.toml")
    return tuple(changed)


def _asked(path: Path) -> Any:
    """What a file asks for, None where that is nothing or it is not there. A change of comments, or of a linter's setting, is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if path.suffix in {".txt", ".yml", ".yaml"}:
        lines = (line.split(" #")[0].strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")] or None
    if path.name == "setup.cfg":
        return _of_setup_cfg(text)
    if path.suffix in {".lock", ".toml"}:
        return _of_lock(text)
    return text


def _of_setup_cfg(text: str) -> Any:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except ConfigParserError:
        return text
    found = {name: dict(parser[name]) for name in SETUP_CFG if parser.has_section(name)}
    asked = {name: {key: value for key, value in found[name].items() if key in (SETUP_CFG[name] or found[name])} for name in found}
    return {name: values for name, values in asked.items() if values} or None


def _of_lock(text: str) -> Any:
    """A lock file without the version of the project itself, which uv notes beside those of the packages."""
    try:
        data = _toml(text)
    except (ValueError, RecursionError):  # not every lock file is TOML
        return text
    packages = data.get("package")
    for package in packages if isinstance(packages, list) else ():
        source = package.get("source") if isinstance(package, dict) else None
        if isinstance(source, dict) and OWN.intersection(source):
            package.pop("version", None)
    return data


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _wanted(path: Path) -> Mapping[tuple[str, ...], Any]:
    """What a pyproject.toml asks for; a budget or a linter's setting is no part of it."""
    try:
        data = _toml(path.read_text(encoding="utf-8"))
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
