"""A sample of real traffic, to be replayed: one JSON object a line, its query under one key and the right answer under another."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

TrafficRecord = Mapping[str, Any]  # a line of the user's file

ONE_A_LINE = 'Write one JSON object a line, such as {"text": "where is my order?"}.'


@dataclass(frozen=True, slots=True)
class Traffic:
    """Queries in the order of the file, and the right answer of each (``references``; None where none were asked for)."""

    path: Path
    queries: list[Any]
    references: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.queries)


def read_traffic(path: str | os.PathLike[str], *, query: str = "text", reference: str | None = None, limit: int | None = None) -> Traffic:
    """Read a JSONL file of recorded queries. Empty lines are passed over.

    ``query`` and ``reference`` are the keys of a line's object. ``limit`` takes that many lines, evenly spaced over the whole file: its
    first lines are those of one morning. Raises SettingsError, naming file and line, for a file that cannot be read or is empty, for a
    line that is no JSON object, lacks a key or has null for its query, and for a limit that is no whole number of at least 1.
    """
    count = whole(limit)
    if limit is not None and count is None:
        raise SettingsError(f"limit is {limit!r}.", remedy="It must be a whole number of at least 1.")
    if not isinstance(path, str | os.PathLike):
        raise SettingsError(f"path is {path!r}.", remedy='Pass the path of a file, such as "traffic.jsonl".')
    file = Path(path)
    lines = list(_lines(file))
    if not lines:
        raise SettingsError(f"{file} has no line with a query.", remedy=ONE_A_LINE)
    chosen = lines if count is None or count >= len(lines) else [lines[index * len(lines) // count] for index in range(count)]
    objects = [(where, _object(text, where)) for where, text in chosen]
    references = None if reference is None else [_value(each, reference, where) for where, each in objects]
    return Traffic(file, [_query(each, query, where) for where, each in objects], references)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not empty, with file and number."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", remedy="Check the path; it is relative to where pytest runs."
        ) from error
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SettingsError(f"{path}:{number}: byte {error.start + 1} is not UTF-8.", remedy="Save the file as UTF-8.") from error
        if text.strip():
            yield f"{path}:{number}", text


def _object(text: str, where: str) -> TrafficRecord:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{where}: not JSON ({error}).", remedy=ONE_A_LINE) from error
    except RecursionError as error:
        raise SettingsError(f"{where}: its lists or objects are nested too deeply to be read.", remedy=ONE_A_LINE) from error
    if not isinstance(found, dict):
        raise SettingsError(f"{where}: {_kind(found)}, not an object.", remedy=ONE_A_LINE)
    return found


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names[type(value)]


def _query(found: TrafficRecord, key: str, where: str) -> Any:
    value = _value(found, key, where)
    if value is None:
        raise SettingsError(f"{where}: {key!r} is null, which is no query.", remedy="Leave the line out, or write its query.")
    return value


def _value(found: TrafficRecord, key: str, where: str) -> Any:
    if key in found:
        return found[key]
    near = difflib.get_close_matches(key, list(found), n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(map(repr, found)) or 'no keys'}."
    raise SettingsError(f"{where}: there is no {key!r}.", remedy=hint)
