"""Limits written into the text of a TOML file: a value is replaced where it stands, and every other byte stays.

Laws: an edited text is read again by the parser that reads budgets, and must mean the old data with the new limit and nothing else, or
it is not used; a number keeps the unit, the kind of quotes and the kind of number that the user wrote.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.toml_file import TomlTable
from pytest_greencompute.values.units import Dimension, parse, show

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


DIGITS = 3
SET_ON = "set_on"
_NUMBER = re.compile(r"(\s*)([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(.*)", re.DOTALL)
Keys = tuple[str | int, ...]
TomlValue = str | int | float


@dataclass(frozen=True, slots=True)
class NewLimit:
    """``value``, as it is to be written, for ``metric`` in a table: its keys from the top of the file, a number for a list's entry.

    A table that is not there is made. ``set_on`` is noted beside the limit; empty: what is noted there stays as it is.
    """

    table: Keys
    metric: str
    value: TomlValue
    set_on: str = ""


# --- numbers ----------------------------------------------------------------------------------------------------------


def in_their_unit(written: TomlValue, wanted: float, end: float, dimension: Dimension, *, up: bool) -> TomlValue:
    """``wanted`` (SI) as the user writes limits, ``written`` for example: rounded away from the measured figure, to three digits.

    ``end`` (SI) is what the limit must not cut off; it lies on the good side of ``wanted``. No value is negative.
    """
    space, rest, factor = "", "", 1.0
    if isinstance(written, str):
        match = _NUMBER.fullmatch(written)
        if match is None:
            raise SettingsError(f"{written!r} is not a quantity.")
        space, rest = match.group(1), match.group(3)
        factor = parse(f"1{rest}", dimension)
    number = _rounded(wanted / factor, up=up)
    while True:
        new = f"{space}{_plain(number)}{rest}" if isinstance(written, str) else _like(written, number)
        read = parse(new, dimension)
        if read >= end if up else read <= end:
            return new
        step = Decimal(1).scaleb(number.adjusted() - DIGITS + 1)  # what a unit's factor does to the last bit of a float
        number += step if up else -step


def first_written(wanted: float, end: float, dimension: Dimension, *, up: bool) -> TomlValue:
    """A limit that nobody wrote before, in the unit that reads best."""
    return in_their_unit(show(wanted, dimension), wanted, end, dimension, up=up)


def _rounded(value: float, *, up: bool) -> Decimal:
    exact = Decimal(f"{value:.11e}")  # 0.5 * 1.05 is 0.525, whatever its last bits say
    return exact.quantize(Decimal(1).scaleb(exact.adjusted() - DIGITS + 1), ROUND_CEILING if up else ROUND_FLOOR)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _like(written: int | float, number: Decimal) -> int | float:
    return int(number) if isinstance(written, int) and number == number.to_integral_value() else float(number)


# --- text -------------------------------------------------------------------------------------------------------------


def written_at(data: TomlTable, keys: Keys) -> Any:
    """What stands at ``keys``; None where nothing does."""
    value: Any = data
    for key in keys:
        there = key in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(key, int) and key < len(value)
        if not there:
            return None
        value = value[key]
    return value


def appended(text: str, tables: str) -> str | None:
    """``text`` with ``tables`` below it, in its kind of lines; None where that is no TOML any more, as after ``tool = {…}``."""
    newline = "\r\n" if "\r\n" in text else "\n"
    new = (text.rstrip("\r\n") + newline if text else "") + tables.replace("\n", newline)
    try:
        tomllib.loads(new)
    except (ValueError, RecursionError):
        return None
    return new


def rewritten(text: str, limit: NewLimit) -> str | None:
    """``text`` with the limit in it; None where that cannot be done without touching anything else. ``text`` is TOML."""
    expected = _expected(tomllib.loads(text), limit)
    if expected is None:
        return None
    for edit in _edits(text, limit):
        try:
            new = edit()
            if tomllib.loads(new) == expected:
                return new
        except Exception:  # noqa: BLE001  whatever tomlkit cannot do with this file, the next way may
            continue
    return None


def _expected(data: TomlTable, limit: NewLimit) -> TomlTable | None:
    data = copy.deepcopy(data)
    table: Any = data
    for key in limit.table:
        if isinstance(table, dict):
            table = table.setdefault(str(key), {})
        elif isinstance(table, list) and isinstance(key, int) and key < len(table):
            table = table[key]
    if not isinstance(table, dict):
        return None
    table[limit.metric] = limit.value
    if limit.set_on:
        table[SET_ON] = limit.set_on
    return data


def _edits(text: str, limit: NewLimit) -> Iterator[Callable[[], str]]:
    """Ways to write the limit, the one that looks best first; some suit only some files."""
    if isinstance(written_at(tomllib.loads(text), limit.table), dict):
        yield lambda: _in_place(text, limit, _below)
        yield lambda: _in_place(text, limit, _at_the_end)
    else:
        yield lambda: _new_table(text, limit, _after_its_like(text, limit.table[:-1]))
        yield lambda: _new_table(text, limit, len(text))


def _in_place(text: str, limit: NewLimit, add: Callable[[Any, str, str, str], None]) -> str:
    document = _parsed(text)
    table: Any = document
    for key in limit.table:
        table = table[key]
    if limit.metric in table:
        _replace(table, limit.metric, limit.value)
    else:
        last = [key for key, value in table.items() if not isinstance(value, dict | list)][-1]
        add(table, str(last), limit.metric, _as_toml(limit.value))
    if limit.set_on and SET_ON in table:
        _replace(table, SET_ON, limit.set_on)
    elif limit.set_on:
        add(table, limit.metric, SET_ON, _as_toml(limit.set_on))
    return document.as_string()


def _parsed(text: str) -> TOMLDocument:
    import tomlkit

    document = tomlkit.parse(text)
    if document.as_string() != text:
        raise SettingsError("tomlkit does not give back what it read.")
    return document


def _replace(table: Any, key: str, value: TomlValue) -> None:
    import tomlkit

    literal = isinstance(value, str) and table[key].as_string().startswith("'")
    table[key] = tomlkit.string(str(value), literal=True) if literal else value


def _below(table: Any, above: str, key: str, value: str) -> None:
    """A line of its own under that of ``above``: at its end tomlkit would put it below the comments that belong to the next table."""
    trivia = table[above].trivia
    newline = trivia.trail if "\n" in trivia.trail else "\n"
    trivia.trail = f"{newline}{trivia.indent}{key} = {value}{trivia.trail}"


def _at_the_end(table: Any, above: str, key: str, value: str) -> None:  # noqa: ARG001  one of the ways to add a key
    import tomlkit

    table[key] = tomlkit.value(value)


def _new_table(text: str, limit: NewLimit, place: int) -> str:
    import tomlkit

    newline = "\r\n" if "\r\n" in text else "\n"
    heading = ".".join(tomlkit.key(str(key)).as_string() for key in limit.table)
    lines = [f"[{heading}]", f"{limit.metric} = {_as_toml(limit.value)}"]
    lines += [f"{SET_ON} = {_as_toml(limit.set_on)}"] if limit.set_on else []
    before, after = text[:place], text[place:]
    gap = newline if before.endswith("\n") or not before else newline * 2
    return before + (gap if before else "") + newline.join(lines) + newline + after


def _after_its_like(text: str, parent: Keys) -> int:
    """Where the last table under ``parent`` ends, comments that introduce the next table left to it; the end where there is none."""
    lines = text.splitlines(keepends=True)
    headings = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    mine = [number for number in headings if written_at(_heading(lines[number]), parent) is not None]
    if not mine:
        return len(text)
    end = next((number for number in headings if number > mine[-1]), len(lines))
    while lines[end - 1].strip().startswith("#") or not lines[end - 1].strip():
        end -= 1
    return sum(len(line) for line in lines[:end])


def _heading(line: str) -> TomlTable:
    """The nested tables that a heading names; of a list of tables, its first."""
    try:
        data: Any = tomllib.loads(line)
    except (ValueError, RecursionError):
        return {}
    return {key: _opened(value) for key, value in data.items()}


def _opened(value: Any) -> Any:
    value = value[0] if isinstance(value, list) and value else value
    return {key: _opened(each) for key, each in value.items()} if isinstance(value, dict) else value


def _as_toml(value: TomlValue) -> str:
    import tomlkit

    item: Any = tomlkit.item(value)
    return str(item.as_string())
