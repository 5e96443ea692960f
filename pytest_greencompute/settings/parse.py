"""One parser for each kind of value that a setting may have, with an error that names where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_greencompute.judging.verdict import Acceptance
    from pytest_greencompute.values.footprint import Footprint

ALLOWABLE = ("another process", "thermal slowdown", "power brake", "hardware slowdown")
MOST_LAUNCHES = 16
DOMAINS = ("auto", "gpu", "cpu", "dram", "all")
ACCEPT_KEYS = ("test", "metric", "up_to", "reason", "expires")


def acceptance(entry: Mapping[str, Any], where: str) -> Acceptance:
    """One [[accept]] entry. Raises SettingsError for missing or unknown keys and values that do not parse."""
    import datetime

    from pytest_greencompute.errors import SettingsError
    from pytest_greencompute.judging.budget import check_share
    from pytest_greencompute.judging.verdict import Acceptance
    from pytest_greencompute.values.metrics import METRICS
    from pytest_greencompute.values.names import unknown_key
    from pytest_greencompute.values.units import parse_positive

    for key in entry:
        if key not in ACCEPT_KEYS:
            raise unknown_key(key, ACCEPT_KEYS, "key of accept")
    missing = [key for key in ACCEPT_KEYS if not entry.get(key)]
    if missing:
        raise SettingsError(f"{', '.join(missing)} missing.", remedy=f"An accepted failure needs {', '.join(ACCEPT_KEYS)}.")
    if _text(entry["metric"]) not in METRICS:
        raise unknown_key(entry["metric"], list(METRICS), "metric")
    expires = entry["expires"]
    try:
        date = datetime.date.fromisoformat(expires) if isinstance(expires, str) else expires
    except ValueError:
        date = None
    date = date.date() if isinstance(date, datetime.datetime) else date
    if not isinstance(date, datetime.date):
        raise SettingsError(f"expires = {expires!r} is not a date.", remedy="Write it like 2027-03-01.")
    metric = METRICS[entry["metric"]]
    up_to = parse_positive(entry["up_to"], metric.dimension)
    check_share(metric, up_to, entry["up_to"])
    return Acceptance(_text(entry["test"]), metric, up_to, _text(entry["reason"]), date, where)


def _settings_error(message: str, remedy: str) -> Exception:
    from pytest_greencompute.errors import SettingsError

    return SettingsError(message, remedy=remedy)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _settings_error(f"{value!r} is not true or false.", "Write true or false.")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _settings_error(f"{value!r} is not a text.", "Write it in quotes.")
    return value


def _launches(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_LAUNCHES:
        raise _settings_error(f"{value!r} is not a number of launches.", f"Write a whole number from 1 to {MOST_LAUNCHES}.")
    return number


def _names(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise _settings_error(f"{value!r} is not a list of names.", 'Write it like "nvml,rapl" or ["nvml", "rapl"].')
    return tuple(name.strip() for name in names)


def _domains(value: Any) -> tuple[str, ...]:
    import re

    names = _names(value.replace("+", ",") if isinstance(value, str) else value)
    for name in names:
        if not re.fullmatch(rf"({'|'.join(DOMAINS)})(:\w+)?", name):
            raise _settings_error(f"{name!r} is not a domain.", f"Use one or more of {', '.join(DOMAINS)}, or one device such as 'gpu:0'.")
    if len(names) > 1 and {"auto", "all"} & set(names):
        raise _settings_error(f"{value!r} mixes 'auto' or 'all' with others.", "Name the domains, or one of the two alone.")
    return names


def _markers(value: Any) -> tuple[str, str] | None:
    from pytest_greencompute.models.tokens import check_markers

    return None if value is None else check_markers(value)


def _choice(value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise _settings_error(f"{value!r} is not one of {', '.join(choices)}.", "")
    return str(value)


def _confidence(value: Any) -> float:
    from pytest_greencompute.judging.budget import parse_term

    confidence: float = parse_term("confidence", value)
    return confidence


def _unmetered(value: Any) -> str | int:
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not whole and value not in ("once", "skip"):
        raise _settings_error(f"{value!r} is not 'once', 'skip' or a number of queries.", "")
    return value  # type: ignore[no-any-return]  # just checked


def _allow(value: Any) -> frozenset[str]:
    names = _names(value)
    for name in names:
        if name not in ALLOWABLE:
            raise _settings_error(f"{name!r} cannot be allowed.", f"Known: {', '.join(ALLOWABLE)}.")
    return frozenset(names)


def _pue(value: Any) -> float:
    from pytest_greencompute.values.footprint import Footprint

    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _settings_error(f"{value!r} is not a number.", "Write it like 1.2: what the data centre draws for a joule of its computers.")
    return Footprint(pue=float(value)).pue


def _with_country(footprint: Footprint, code: Any, *, enabled: bool) -> Footprint:
    """The footprint with the intensity of a country. That CodeCarbon is not here is no mistake in the file: it leaves no carbon."""
    from pytest_greencompute.errors import MeterError
    from pytest_greencompute.settings.intensity import of_country

    if not enabled:
        _text(code)
        return footprint
    try:
        mix = of_country(code)
    except MeterError as error:
        return replace(footprint, why_no_carbon=str(error))
    return replace(footprint, kg_per_j=mix.kg_per_j, carbon_source=mix.source)


def _number_like(value: Any) -> Any:
    """A command-line string that is a bare number, as a number: options have no types, so that the units parser has the last word."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _baseline_name(value: Any) -> str:
    import re

    name = _text(value)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise _settings_error(f"{name!r} cannot name a baseline.", "Use letters, digits, '.', '-' and '_'.")
    return name
