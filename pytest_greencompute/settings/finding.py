"""The files that hold settings, read.

Law: no table of ours is passed over in silence. Two files that have one are an error that names both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.budget import Names
from pytest_greencompute.settings.folders import PROJECT, TABLE, Where, folders, mentions, upward
from pytest_greencompute.settings.toml_file import TomlFile, TomlTable

PYTESTS = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg")  # where pytest's own settings may stand
OURS = ("greencompute", "pytest_greencompute")  # what a table of ours may have been meant to be called


def read_files(where: Where, named: str | None = None, *, measuring: bool = False) -> tuple[TomlFile, ...]:
    """The files that hold settings: the one that is named first (``--energy-budget-file``), then the project's. Keys of the first win.

    Raises SettingsError where a file does not parse, and where two hold settings and something is to be measured (``measuring``, or one
    of them says so) without that one is named.
    """
    above = folders(where)
    found = [file for folder in above if mentions(folder / PROJECT) and _has_table(file := _file(folder, where))]
    mine = [file for file in found if file.path.parent == where.root]
    others = [folder / name for folder in above for name in PYTESTS]
    for path in dict.fromkeys(others if where.ini is None else [where.ini, *others]):
        if mentions(path) and (named is None or (where.folder / named).resolve() != path.resolve()):
            _check_ini(path)
    if named is None and len(found) > 1 and (measuring or any(_table(file).get("budget") is True for file in found)):
        one, other = found[0].name, found[1].name
        raise SettingsError(
            f"{one} and {other} both have [tool.{TABLE}] for these tests, and only one can hold.",
            remedy=f"Keep one of them, measure each project by itself, or say which: --energy-budget-file {one}",
        )
    project = next(iter([*mine, *found]), None)
    if project is None and (where.root / PROJECT).is_file():
        project = _file(where.root, where)
    if named is not None and len(found) > 1 and not mine:  # which of several would fill in is not said
        project = None
    return _with_named(project, named, where)


def read_nearest(folder: Path, test: str = "") -> tuple[TomlFile, ...]:
    """For the commands: the files that hold in ``folder``, or for a test by its name from there. The nearest settings win."""
    start = (folder / test.partition("::")[0]).resolve()
    above = upward(start if start.is_dir() else start.parent)
    home = next((each for each in above if has_settings(each / PROJECT)), folder.resolve())
    where = Where(folder, folder)
    return _with_named(_file(home, where) if (home / PROJECT).is_file() else None, None, where)


def _with_named(project: TomlFile | None, named: str | None, where: Where) -> tuple[TomlFile, ...]:
    """The project's file, if there is one, after the one that is named, or that the project's names itself."""
    base, own = where.folder, None if project is None else _table(project).get("budget_file")
    if named is None and project is not None and isinstance(own, str):
        named, base = own, project.path.parent
    if named is None:
        return () if project is None else (project,)
    path = (base / named).resolve()
    if project is not None and path == project.path:
        return (project,)
    folder = path.parent if path.name == PROJECT else where.root if project is None else project.path.parent
    first = TomlFile(base / named, named, folder=folder, names=_names(where, folder))
    return (first,) if project is None else (first, project)


def home_of(folder: Path) -> Path:
    """The folder whose baselines hold in ``folder``, for the commands: itself, or the nearest above it with some, or with settings."""
    return next((each for each in upward(folder) if (each / ".greencompute").is_dir() or has_settings(each / PROJECT)), folder)


def has_settings(path: Path) -> bool:
    """Whether a file has a table of ours. Raises SettingsError where it does not parse."""
    return mentions(path) and _has_table(TomlFile(path))


def _file(folder: Path, where: Where) -> TomlFile:
    path = folder / PROJECT
    shown = PROJECT if folder == where.root else os.path.relpath(path, where.folder)
    home = where.root if path == where.named else folder
    return TomlFile(path, shown, folder=home, names=_names(where, home))


def _table(file: TomlFile) -> TomlTable:
    tool = file.data.get("tool")
    table = tool.get(TABLE) if isinstance(tool, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _has_table(file: TomlFile) -> bool:
    """Raises SettingsError for a table that nobody reads, since it has another name."""
    tool = file.data.get("tool")
    tables = tool if isinstance(tool, Mapping) else {}
    if TABLE in tables:
        return True
    close = [f"tool.{key}" for key in tables if _meant(key)] + [key for key in file.data if _meant(key)]
    if close:
        raise SettingsError(f"{file.where(*close[0].split('.'))}: nobody reads [{close[0]}].", remedy=f"Call it [tool.{TABLE}].")
    return False


def _meant(key: str) -> bool:
    return key.lower().replace("-", "_") in OURS


def _check_ini(path: Path) -> None:
    """Raises SettingsError for a table of ours in pytest's own configuration."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        heading = re.match(r"\[+(?:(?:tool|pytest)[.:])?([\w-]+)[].:]", line)
        if heading and _meant(heading.group(1)):
            raise SettingsError(
                f"{path.name}:{number}: nobody reads {line.strip()} here.", remedy=f"Move it into {PROJECT}, as [tool.{TABLE}]."
            )


def _names(where: Where, folder: Path) -> Names:
    """What a file in ``folder`` calls tests that pytest names by their path from its root."""
    try:
        both = Path(os.path.commonpath([where.root, folder]))
    except ValueError:  # on two drives
        return Names()
    down, up = (each.relative_to(both).as_posix() + "/" if each != both else "" for each in (where.root, folder))
    outside = {name: path for name, path in where.files.items() if where.root not in path.resolve().parents}
    return Names(down, up, {name: Path(os.path.relpath(path.resolve(), both)).as_posix() for name, path in outside.items()})
