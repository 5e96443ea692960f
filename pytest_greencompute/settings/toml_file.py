"""A TOML file that remembers where each key stands, so that an error can name the line."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.budget import Names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


TomlTable = Mapping[str, Any]  # as TOML has it: foreign until it is parsed
Path_ = tuple[str | int, ...]
_KEY = re.compile(r"""\s*((?:[\w-]+|"(?:[^"\\]|\\.)*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"(?:[^"\\]|\\.)*"|'[^']*'))*)\s*=""")


class TomlFile:
    """One parsed file. ``data`` is its content; ``where("budgets", "tests/test_x.py::test_y", "accuracy")`` is 'pyproject.toml:14'.

    ``folder`` (default: its own) is that of the project that it speaks of, ``names`` what it calls the project's tests. Raises
    SettingsError, naming the file, where it is missing, is a folder, cannot be read or does not parse.
    """

    def __init__(self, path: Path, shown_as: str | None = None, *, folder: Path | None = None, names: Names | None = None) -> None:
        self.path = path
        self.folder = path.parent if folder is None else folder
        self.names = Names() if names is None else names
        self.name = shown_as or str(path)
        try:
            self.text = path.read_text(encoding="utf-8")
            self.data: TomlTable = tomllib.loads(self.text)
        except FileNotFoundError as error:
            raise SettingsError(f"{self.name} does not exist.", remedy="Check the path, or run `greencompute init`.") from error
        except IsADirectoryError as error:
            raise SettingsError(f"{self.name} is a folder.", remedy="Name a TOML file in it.") from error
        except OSError as error:
            raise SettingsError(f"{self.name} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{self.name} is not UTF-8 text ({error.reason}).") from error
        except (ValueError, RecursionError) as error:  # of its grammar, of numbers too long to be read, of tables too deep
            raise SettingsError(f"{self.name} is not valid TOML: {error}.") from error
        self._lines: dict[Path_, int] | None = None

    def where(self, *keys: str | int) -> str:
        """File and line of a key, or of the nearest table around it."""
        if self._lines is None:
            self._lines = _key_lines(self.text)
        for end in range(len(keys), 0, -1):
            if keys[:end] in self._lines:
                return f"{self.name}:{self._lines[keys[:end]]}"
        return self.name


def _key_lines(text: str) -> dict[Path_, int]:
    """Line number (from 1) of each table heading and each key at the start of a line, and the first of a table that dotted keys make."""
    lines: dict[Path_, int] = {}
    dotted: dict[Path_, int] = {}
    table: Path_ = ()
    counts: dict[Path_, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            heading = _path_of(stripped)
            if heading is not None:
                table = _with_indexes(heading, counts, is_list=stripped.startswith("[["))
                lines.setdefault(table, number)
            continue
        match = _KEY.match(line)
        path = _path_of(f"{match.group(1)} = 0") if match else None
        if path is not None:
            lines.setdefault((*table, *path), number)
            for end in range(1, len(path)):
                dotted.setdefault((*table, *path[:end]), number)
    return dotted | lines


def _path_of(statement: str) -> tuple[str, ...] | None:
    """The keys that one TOML statement sets, or None where it is not a whole statement."""
    try:
        value: Any = tomllib.loads(statement)
    except (ValueError, RecursionError):
        return None
    path: list[str] = []
    while isinstance(value, Mapping | list) and value:
        if isinstance(value, list):
            value = value[0]
            continue
        key = next(iter(value))
        path.append(key)
        value = value[key]
    return tuple(path)


def _with_indexes(heading: tuple[str, ...], counts: dict[Path_, int], *, is_list: bool) -> Path_:
    """A heading's path with the index of each list of tables on the way: ('budgets', 'x', 'on', 1)."""
    path: Path_ = ()
    for depth, key in enumerate(heading):
        path = (*path, key)
        if is_list and depth == len(heading) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
