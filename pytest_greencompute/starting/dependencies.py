"""The packages that a project's own files name: pyproject.toml, requirements and setup.cfg, as texts."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Iterator, Mapping

from pytest_greencompute.settings.toml_file import TomlTable

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:[\[;@<>=!~(,#\s]|$)")


def in_pyproject(data: TomlTable) -> frozenset[str]:
    """Of the project, its extras and its dependency groups, and Poetry's."""
    project, poetry = _table(data, "project"), _table(data, "tool", "poetry")
    lists = [project.get("dependencies"), *_table(project, "optional-dependencies").values(), *_table(data, "dependency-groups").values()]
    tables = [poetry, *(group for group in _table(poetry, "group").values() if isinstance(group, Mapping))]
    keys = [str(key) for table in tables for name in ("dependencies", "dev-dependencies") for key in _table(table, name)]
    return _names(each for entries in (*lists, keys) if isinstance(entries, list) for each in entries)


def in_requirements(text: str) -> frozenset[str]:
    """Of a requirements file: its options, addresses and paths are no names."""
    return _names(line for line in text.splitlines() if "://" not in line.partition("@")[0])


def in_setup_cfg(text: str) -> frozenset[str]:
    """What setup.cfg has setuptools install, its extras included; nothing where it does not parse."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        return frozenset()
    lists = [parser.get("options", "install_requires", fallback="")]
    lists += [value for _, value in parser.items("options.extras_require")] if parser.has_section("options.extras_require") else []
    return _names(line for each in lists for line in each.splitlines())


def is_package(data: TomlTable) -> bool:
    """Whether pip can install the project with what it depends on: by its [project], or by Poetry's own table where Poetry builds it."""
    poetry = _table(data, "tool", "poetry")
    return "project" in data or bool(poetry and "build-system" in data and poetry.get("package-mode", True))


def extras_of(data: TomlTable) -> frozenset[str]:
    """The names of the project's extras."""
    return frozenset(map(str, _table(data, "project", "optional-dependencies")))


def groups_of(data: TomlTable) -> frozenset[str]:
    """The names of its dependency groups."""
    return frozenset(map(str, _table(data, "dependency-groups")))


def pythons_of(data: TomlTable) -> str:
    """Which Pythons it asks for, such as ">=3.11"; empty where it does not say."""
    asked = _table(data, "project").get("requires-python")
    return asked if isinstance(asked, str) else ""


def paths_of_tests(data: TomlTable) -> tuple[str, ...]:
    """The folders that its pytest looks for tests in, as pyproject.toml has them."""
    told = _table(data, "tool", "pytest", "ini_options").get("testpaths", _table(data, "tool", "pytest").get("testpaths"))
    paths = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
    return tuple(each for each in paths if isinstance(each, str))


def _table(data: TomlTable, *keys: str) -> TomlTable:
    for key in keys:
        found = data.get(key)
        data = found if isinstance(found, Mapping) else {}
    return data


def _names(requirements: Iterable[object]) -> frozenset[str]:
    return frozenset(_each(requirements))


def _each(requirements: Iterable[object]) -> Iterator[str]:
    for written in requirements:
        if isinstance(written, str) and (found := _NAME.match(written)):
            yield re.sub(r"[-_.]+", "-", found.group(1)).lower()
