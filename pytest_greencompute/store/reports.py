"""Reading a JSON report as a whole, for showing it: whoever wrote the file, what comes out has the form that the schema says."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MADE_UP, GreencomputeError, SettingsError
from pytest_greencompute.results.document import summary_of
from pytest_greencompute.results.run_json import SCHEMA, JsonObject, schema
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.metrics import METRICS

MOST_DIGITS = 30  # of a whole number; nanoseconds since 1970 have 19
MOST_BYTES = 512 * 1024 * 1024  # larger than any session's; a file that is larger is none of ours


def read_session(path: Path, *, samples: bool = True) -> Summary:
    """The session that a report tells of, without its runs' samples where those are not needed.

    Raises SettingsError, naming the file, where it is missing, cut short, or no report of this schema.
    """
    report = read_report(path)
    try:
        return summary_of(report, samples=samples)
    except GreencomputeError as error:
        raise SettingsError(f"{path} cannot be shown: {error.message}", remedy="Measure it again.") from error
    except MADE_UP as error:
        # The schema cannot say all that a report must be; one that somebody edited may get this far.
        raise SettingsError(f"{path} cannot be shown ({type(error).__name__}: {error}).", remedy="Measure it again.") from error


def read_report(path: Path, *, most_bytes: int = MOST_BYTES, largest: float = sys.float_info.max) -> JsonObject:
    """A report whose form has been checked, with no file and no fraction beyond these limits. Raises SettingsError, naming the file."""

    def fraction(text: str) -> float:
        number = float(text)
        if not -largest <= number <= largest:
            raise ValueError(f"{text[:20]} is too large")
        return number

    remedy = "pytest --energy-json PATH writes one."
    try:
        if path.stat().st_size > most_bytes:
            raise SettingsError(f"{path} is larger than {most_bytes >> 20} MiB, so it is no report.", remedy=remedy)
        report = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=fraction, parse_int=_whole)
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist.", remedy=remedy) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not a whole JSON report: {error}.", remedy=remedy) from error
    found = report.get("schema") if isinstance(report, dict) else None
    if found != SCHEMA:
        newer = isinstance(found, str) and found.startswith("greencompute.report/")
        raise SettingsError(
            f"{path} has schema {found!r}; this version reads {SCHEMA!r}.", remedy="Update pytest-greencompute." if newer else remedy
        )
    problem = _wrong_in(report)
    if problem:
        raise SettingsError(f"{path} is no JSON report of this schema: {problem}.", remedy=remedy)
    checked: JsonObject = report
    return checked


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:20]}… is too large")
    return int(text)


@functools.cache
def _checker() -> Callable[[Any], Any]:
    """The schema as a function. Raises SettingsError where the package for it is not installed."""
    try:
        import fastjsonschema
    except ModuleNotFoundError as error:
        raise SettingsError("Reading a report needs fastjsonschema.", remedy="pip install 'pytest-greencompute[report]'.") from error
    return fastjsonschema.compile(schema())  # type: ignore[no-any-return]


def _wrong_in(report: Any) -> str:
    """What the schema finds wrong, and metrics that nobody knows; or an empty text."""
    check = _checker()
    try:
        check(report)
    except ValueError as error:  # JsonSchemaException is one
        return str(error).removeprefix("data.")[:300]
    for run in report["runs"]:
        unknown = [name for name in (*run["metrics"], *(each["metric"] for each in run["verdicts"])) if name not in METRICS]
        if unknown:
            return f"{unknown[0][:100]!r} is no metric"
    return ""
