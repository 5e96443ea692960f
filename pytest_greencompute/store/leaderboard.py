"""A leaderboard out of its CSV files, in the form in which AI Energy Score publishes it.

One file a task, named after it (``text_generation.csv``), with the columns ``model``, ``total_gpu_energy`` in kWh per 1,000 queries,
``energy_score`` (the published stars) and, where models are rated by class, ``class``. The date is the one in the folder's name. Files of
December 2025 have more columns (``test date``, tokens, throughput), which are not looked at.

The published stars are checked: where the rule of ``rating`` does not give them, the leaderboard was made by another rule.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.star_scale import LEADERBOARDS, Leaderboard, Range

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

ENERGY, STARS, CLASS = "total_gpu_energy", "energy_score", "class"
_WH_IN_KWH = 1000
_DATE = re.compile(r"(?<!\d)20\d\d-(?:0[1-9]|1[0-2])(?!\d)")
_FORM = f"It needs a header with model, {ENERGY} (kWh per 1,000 queries), {STARS} and, where models have classes, {CLASS}."


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a leaderboard: the line that holds it, its class if it has one, Wh per 1,000 queries, the published stars if any."""

    line: int
    model_class: str | None
    wh_per_1000_queries: float
    stars: int | None


def leaderboard_named(named: object, root: Path) -> Leaderboard:
    """The leaderboard in this package that is of the date ``named``, or the one in that file or folder below ``root``.

    Raises SettingsError where there is neither, and as ``read_leaderboard``.
    """
    if isinstance(named, str) and named in LEADERBOARDS:
        return LEADERBOARDS[named]
    path = root / os.fsdecode(named) if isinstance(named, str | os.PathLike) else None
    if path is None or not os.path.exists(path):  # noqa: PTH110  Path.exists raises for a name that is too long
        remedy = f"Name a leaderboard's CSV file, a folder of them, or the date of one that is in this package: {', '.join(LEADERBOARDS)}."
        raise SettingsError(f"The reference is {str(named)[:80]!r}, and there is no such file.", remedy=remedy)
    return read_leaderboard(path)


def read_leaderboard(path: Path) -> Leaderboard:
    """The leaderboard in a CSV file (one task) or in a folder of them.

    Raises SettingsError, naming file and line, for a path that cannot be read, a name without a date, a file that is not in the
    published form, an energy that is not a finite positive number, and published stars that the rule does not give.
    """
    path = path.absolute()
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise SettingsError(f"{path} holds no CSV file.", remedy="A leaderboard has one for each task, such as text_generation.csv.")
    ranges: dict[tuple[str, str | None], Range] = {}
    for file in files:
        for model_class, scale in _ranges(file, read_entries(file)).items():
            ranges[file.stem, model_class] = scale
    return Leaderboard(_date(path), str(path), ranges)


def _date(path: Path) -> str:
    """The last date in the name of the folder (or file), or of what holds it."""
    for name in (path.name, path.parent.name, path.resolve().name, path.resolve().parent.name):
        found = _DATE.findall(name)
        if found:
            return str(found[-1])
    raise SettingsError(
        f"{path} has no date, and stars belong to one dated leaderboard.",
        remedy="Name its folder after its month, such as ai-energy-score-2025-02.",
    )


def read_entries(file: Path) -> list[Entry]:
    """The models of one task's file. Raises SettingsError, naming file and line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            if ENERGY not in (reader.fieldnames or ()):
                raise SettingsError(f"{file} has no column {ENERGY}.", remedy=_FORM)
            entries = [_entry(file, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{file} cannot be read: {what}.", remedy=_FORM) from error
    if not entries:
        raise SettingsError(f"{file} holds no model.", remedy=_FORM)
    return entries


def _entry(file: Path, line: int, row: Mapping[str, str | None]) -> Entry:
    written = (row.get(ENERGY) or "").strip()
    try:
        # In decimals: a product of floats could differ in its last bit from what is written.
        energy = float(Decimal(written) * _WH_IN_KWH)
        usable = 0 < energy < float("inf")
    except ArithmeticError:
        usable = False
    if not usable:
        raise SettingsError(f"{file}, line {line}: {ENERGY} is {written!r}.", remedy="It must be a finite positive number of kWh.")
    published = (row.get(STARS) or "").strip()
    if published not in {"", "1", "2", "3", "4", "5"}:
        raise SettingsError(f"{file}, line {line}: {STARS} is {published!r}.", remedy="It must be 1 to 5, or empty.")
    return Entry(line, (row.get(CLASS) or "").strip() or None, energy, int(published) if published else None)


def _ranges(file: Path, entries: Iterable[Entry]) -> dict[str | None, Range]:
    by_class: dict[str | None, list[Entry]] = {}
    for entry in entries:
        by_class.setdefault(entry.model_class, []).append(entry)
    ranges = {}
    for model_class, of_class in by_class.items():
        energies = [entry.wh_per_1000_queries for entry in of_class]
        scale = Range(min(energies), max(energies), len(energies))
        if scale.lowest < scale.highest:
            _check(file, of_class, scale)
        ranges[model_class] = scale
    return ranges


def _check(file: Path, entries: Iterable[Entry], scale: Range) -> None:
    """Raise SettingsError where published stars are not those of the rule."""
    for entry in entries:
        stars = scale.stars(entry.wh_per_1000_queries)
        if entry.stars not in {None, stars}:
            raise SettingsError(
                f"{file}, line {entry.line}: the published {STARS} is {entry.stars}, and the rule gives {stars}.",
                remedy="The file is not whole, or was made by another rule, by which nothing can be rated here.",
            )
