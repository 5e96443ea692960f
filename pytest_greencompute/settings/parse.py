"""One parser for each kind of value that a setting may have. Each raises SettingsError; who calls knows where the value was written."""

from __future__ import annotations

import datetime
import difflib
import re
from dataclasses import replace

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.judging.budget import check_share, parse_term
from pytest_greencompute.judging.verdict import Acceptance
from pytest_greencompute.models.tokens import check_markers
from pytest_greencompute.settings.toml_file import TomlTable
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import unknown_key
from pytest_greencompute.values.powers import DISAGREE
from pytest_greencompute.values.readings import DOMAINS
from pytest_greencompute.values.units import parse_positive

ALLOWABLE = ("another process", "thermal slowdown", "power brake", "hardware slowdown", DISAGREE)
MOST_LAUNCHES = 16
MOST_HOSTS = 10_000
ACCEPT_KEYS = ("test", "metric", "up_to", "reason", "expires")


def acceptance(entry: TomlTable, where: str) -> Acceptance:
    """One [[accept]] entry. Raises SettingsError for missing or unknown keys, too."""
    for key in entry:
        if key not in ACCEPT_KEYS:
            raise unknown_key(key, ACCEPT_KEYS, "key of accept")
    missing = [key for key in ACCEPT_KEYS if not entry.get(key)]
    if missing:
        raise SettingsError(f"{', '.join(missing)} missing.", remedy=f"An accepted failure needs {', '.join(ACCEPT_KEYS)}.")
    test, name, written, reason, expires = (entry.get(key) for key in ACCEPT_KEYS)
    if text(name) not in METRICS:
        raise unknown_key(name, list(METRICS), "metric")
    date = _date(expires)
    metric = METRICS[text(name)]
    up_to = parse_positive(written, metric.dimension)
    check_share(metric, up_to, written)
    return Acceptance(text(test), metric, up_to, text(reason), date, where)


def _date(value: object) -> datetime.date:
    try:
        date = datetime.date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        date = None
    date = date.date() if isinstance(date, datetime.datetime) else date
    if not isinstance(date, datetime.date):
        raise SettingsError(f"expires = {value!r} is not a date.", remedy="Write it like 2027-03-01.")
    return date


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise SettingsError(f"{value!r} is not true or false.", remedy="Write true or false.")
    return value


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{value!r} is not a text.", remedy="Write it in quotes.")
    return value


def launches(value: object) -> int:
    """A number of launches."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_LAUNCHES:
        raise SettingsError(f"{value!r} is not a number of launches.", remedy=f"Write a whole number from 1 to {MOST_LAUNCHES}.")
    return number


def hosts(value: object) -> int:
    """How many hosts of a kind are expected."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_HOSTS:
        raise SettingsError(f"{value!r} is not a number of hosts.", remedy=f"Write a whole number from 1 to {MOST_HOSTS}.")
    return number


def names(value: object) -> tuple[str, ...]:
    """Some names, each once, as a list or with commas between them."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(name, str) and name.strip() for name in found):
        raise SettingsError(f"{value!r} is not a list of names.", remedy='Write it like "nvml,rapl" or ["nvml", "rapl"].')
    return tuple(dict.fromkeys(name.strip() for name in found))


def hardware(value: object) -> tuple[str, ...]:
    """Kinds of hardware, each once, however it is written: a kind that stands there twice would be measured twice."""
    found: dict[str, str] = {}
    for name in names(value):
        found.setdefault(name.casefold(), name)
    return tuple(found.values())


def domains(value: object, *, of_others: bool = False) -> tuple[str, ...]:
    """Domains of energy, with + or commas between them; ``of_others``: meters that are not ours are listed, and have domains of their own.

    One of those that nothing meters leaves no figure, and the reason says so.
    """
    found, known = names(value.replace("+", ",") if isinstance(value, str) else value), ("auto", *DOMAINS, "all")
    for name in found:
        match = re.fullmatch(r"([a-z][-.a-z0-9_]*)(:[\w.-]+(/[\w.-]+)?)?", name)
        theirs = match is not None and of_others and not difflib.get_close_matches(match[1], DOMAINS, cutoff=0.8)  # 'gpus' is a mistake
        if match is None or (match[1] not in known and not theirs):
            raise SettingsError(
                f"{name!r} is not a domain.", remedy=f"Use one or more of {', '.join(known)}, or one device such as 'gpu:0'."
            )
    if len(found) > 1 and {"auto", "all"} & set(found):
        raise SettingsError(f"{value!r} mixes 'auto' or 'all' with others.", remedy="Name the domains, or one of the two alone.")
    return found


def markers(value: object) -> tuple[str, str] | None:
    """What opens and what closes a part of an answer that is reasoning."""
    return None if value is None else check_markers(value)


def choice(value: object, choices: tuple[str, ...]) -> str:
    """One of ``choices``."""
    if value not in choices:
        raise SettingsError(f"{value!r} is not one of {', '.join(choices)}.")
    return str(value)


def confidence(value: object) -> float:
    """A confidence from 0.5 to 1."""
    found: float = parse_term("confidence", value)
    return found


def unmetered(value: object) -> str | int:
    """How many queries run where nothing is metered: a number, ``once`` (all of them) or ``skip``."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if value not in ("once", "skip"):
        raise SettingsError(f"{value!r} is not 'once', 'skip' or a number of queries.")
    return str(value)


def allow(value: object) -> frozenset[str]:
    """What may disturb a block and let it count all the same."""
    found = names(value)
    for name in found:
        if name not in ALLOWABLE:
            raise SettingsError(f"{name!r} cannot be allowed.", remedy=f"Known: {', '.join(ALLOWABLE)}.")
    return frozenset(found)


def pue(value: object) -> float:
    """A power usage effectiveness."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(
            f"{value!r} is not a number.", remedy="Write it like 1.2: what the data centre draws for a joule of its computers."
        )
    return Footprint(pue=float(value)).pue


def with_country(footprint: Footprint, code: object, *, enabled: bool) -> Footprint:
    """The footprint with the intensity of a country. That CodeCarbon is not here is no mistake in the file: it leaves no carbon."""
    from pytest_greencompute.settings.intensity import of_country  # CodeCarbon is looked for only where a country is named

    if not enabled:
        text(code)
        return footprint
    try:
        mix = of_country(code)
    except MeterError as error:
        return replace(footprint, why_no_carbon=str(error))
    return replace(footprint, kg_per_j=mix.kg_per_j, carbon_source=mix.source)


def number_like(value: object) -> object:
    """A command-line string that is a bare number, as a number: options have no types, so that the units parser has the last word."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def baseline_name(value: object) -> str:
    """A name that a folder may have."""
    name = text(value)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise SettingsError(f"{name!r} cannot name a baseline.", remedy="Use letters, digits, '.', '-' and '_'.")
    return name
