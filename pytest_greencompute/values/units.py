"""How quantities are parsed, printed and called in each format. Inside, everything is an SI float.

Laws: a string without a unit is an error unless the dimension has none; a number is taken as SI; nothing that is not
finite passes; a wrong dimension names the units that would have been right.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class Called(NamedTuple):
    """What the formats of reports call the SI unit: its names in OpenMetrics and in OpenTelemetry (UCUM), and the ending in JUnit."""

    openmetrics: str = ""
    ucum: str = "1"
    junit: str = ""


PLAIN = Called()


@dataclass(frozen=True, slots=True)
class Dimension:
    """A kind of quantity: ``si`` is the unit of the floats inside, ``units`` what people may write, ``prints`` what we write.

    ``hint`` stands behind the example in a remedy, where a list of the units would not say it.
    """

    name: str
    si: str
    units: Mapping[str, float]
    prints: tuple[tuple[str, float], ...]
    example: str
    hint: str = ""
    called: Called = PLAIN


ENERGY = Dimension(
    "energy",
    "J",
    {"J": 1.0, "mJ": 1e-3, "µJ": 1e-6, "uJ": 1e-6, "nJ": 1e-9, "kJ": 1e3, "MJ": 1e6, "Wh": 3600.0, "mWh": 3.6, "kWh": 3.6e6, "Ws": 1.0},
    (("MJ", 1e6), ("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9)),
    "0.8 J",
    called=Called("joules", "J", "_j"),
)
TIME = Dimension(
    "time",
    "s",
    {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0},
    (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)),
    "40 ms",
    called=Called("seconds", "s", "_s"),
)
POWER = Dimension(
    "power", "W", {"W": 1.0, "mW": 1e-3, "kW": 1e3}, (("kW", 1e3), ("W", 1.0), ("mW", 1e-3)), "250 W", called=Called("watts", "W", "_w")
)
RATE = Dimension(
    "rate",
    "1/s",
    {"/s": 1.0, "1/s": 1.0, "queries/s": 1.0, "/min": 1 / 60},
    (("queries/s", 1.0),),
    "120 /s",
    called=Called("per_second", "1/s", "_per_s"),
)
RATIO = Dimension("ratio", "1", {"": 1.0, "%": 0.01}, (("", 1.0),), "0.92")
SHARE = Dimension("share", "1", {"": 1.0, "%": 0.01}, (("%", 0.01),), "20 %")
SHARES = (RATIO, SHARE)  # what is 1 at most
COUNT = Dimension("count", "1", {"": 1.0, "tokens": 1.0, "calls": 1.0, "faults": 1.0}, (("", 1.0),), "64")
OPERATIONS = Dimension(
    "number of operations",
    "FLOP",
    {"FLOP": 1.0, "kFLOP": 1e3, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12},
    (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3), ("FLOP", 1.0)),
    "3.2 GFLOP",
    called=Called("flop", "{operation}", "_flop"),
)
MEMORY = Dimension(
    "size of memory",
    "B",
    {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3},
    (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
    "1.5 GB",
    called=Called("bytes", "By", "_bytes"),
)
MASS = Dimension(
    "mass of CO2e",
    "kg",
    {"kg": 1.0, "g": 1e-3, "mg": 1e-6, "µg": 1e-9, "ug": 1e-9, "ng": 1e-12, "t": 1e3},
    (("t", 1e3), ("kg", 1.0), ("g", 1e-3), ("mg", 1e-6), ("µg", 1e-9), ("ng", 1e-12)),
    "0.2 g",
    called=Called("kilograms", "kg", "_kg"),
)
MONEY = Dimension(
    "amount of money", "currency", {"": 1.0}, (("", 1.0),), "0.0002", "in the currency of electricity_price", Called("", "{currency}")
)
DIMENSIONS: tuple[Dimension, ...] = (ENERGY, TIME, POWER, RATE, RATIO, COUNT, OPERATIONS, MEMORY, MASS, MONEY)
# One thing per another; parse_intensity, parse_price and parse_traffic read them, and these say how they are written and shown.
_J_OF = {"J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9, "Wh": 3600.0, "kWh": 3.6e6, "MWh": 3.6e9}
INTENSITY = Dimension("carbon intensity", "kg/J", {}, (("g/kWh", 1e-3 / 3.6e6),), "56 g/kWh", "or in kg/kWh, kg/MWh, t/MWh, g/MJ")
PRICE = Dimension("price of electricity", "currency/J", {}, (), "0.25 EUR/kWh", "with any currency, per kWh, MWh, MJ or J")
TRAFFIC = Dimension(
    "rate of queries", "1/s", {}, (), "40M/day", "or '12/s', with k, M or B, per second, minute, hour, day, week, month or year"
)
# What a year uses, for people: the energy of electricity bills.
CONSUMPTION = Dimension(
    "energy", "J", {}, (("TWh", 3.6e15), ("GWh", 3.6e12), ("MWh", 3.6e9), ("kWh", 3.6e6), ("Wh", 3600.0), ("mWh", 3.6)), "2.5 MWh"
)
DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
_S_OF = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), DAY_S),
    "week": 7 * DAY_S,
    "month": YEAR_S / 12,
    **dict.fromkeys(("y", "year"), YEAR_S),
}
_THOUSANDS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?))\s*(.*?)\s*", re.IGNORECASE)
_PER_QUERIES = re.compile(r"(\S*?)\s*(?:/|\bper\b)\s*([\d.,_ ]*?)\s*quer(?:y|ies)")
_WHOLE = re.compile(r"[\d_]*|\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+")  # 1,000 is a thousand; 1,5 is not fifteen
MOST_DIGITS = 30  # of a number of queries; Python refuses to read thousands
_PER = re.compile(r"(.*?)\s*(?:/|\b(?:per|an?)\b)\s*(\w+)")
_OF_CO2 = re.compile(r"\s*CO[2₂](?:-?eq?)?", re.IGNORECASE)
_OF_QUERIES = re.compile(r"\s*(?:quer(?:y|ies)|requests?)")
_CURRENCY_FIRST = re.compile(r"\s*([A-Za-z]{3}|[^\w\s+.-])\s*([\d.][\d_.]*)(.*)")


def parse(written: object, dimension: Dimension) -> float:
    """``written`` ("3.2 J", "0.4 Wh/1000 queries", 0.8, "92 %") as an SI float of ``dimension``.

    A number is taken to be SI already. Raises SettingsError for any other dimension, an unknown unit, a string that is
    not a quantity, a bool, and anything that is not finite.
    """
    if not isinstance(written, str | float):
        counted = whole(written, least=None)
        if counted is None:
            raise SettingsError(f"{written!r} is not a quantity.", remedy=_remedy(dimension))
        written = counted
    if isinstance(written, str):
        number, unit = _split(written, dimension)
        value = number * _factor(written, unit, dimension) if math.isfinite(number) else number
    else:
        value = float(written) if abs(written) < 1e308 else math.inf  # an int may be too large for a float
    if not math.isfinite(value):
        raise SettingsError(f"{written!r} is not a finite number.", remedy=_remedy(dimension))
    return value


def whole(value: Any, least: int | None = 1) -> int | None:
    """A whole number of Python's, numpy's or another library's, of at least ``least``, as an int; None for all else, and True and False."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if least is None or number >= least else None


def parse_positive(written: object, dimension: Dimension) -> float:
    """As ``parse``, for limits: zero and negative values are errors too."""
    value = parse(written, dimension)
    if value <= 0:
        raise SettingsError(f"{written!r} is not greater than zero.", remedy=_remedy(dimension))
    return value


def parse_share(written: object) -> float:
    """A share that may be 1 or more, such as a margin: 0.05, "5 %", "150 %". A bare number from 1 on may be meant as per cent: refused."""
    value = parse(written, RATIO)
    if value >= 1 and "%" not in str(written):
        meant = f"{value:g} %"
        raise SettingsError(f"{written!r} may be {meant} or {100 * value:g} %.", remedy=f"Write it with its sign, such as '{meant}'.")
    return value


def _split(written: str, dimension: Dimension) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(written)
    if match is None:
        raise SettingsError(f"{written!r} is not a quantity.", remedy=_remedy(dimension))
    return float(match.group(1).replace("_", "")), match.group(2).replace("μ", "µ")


def _factor(written: str, unit: str, dimension: Dimension) -> float:
    if unit in dimension.units:
        return dimension.units[unit]
    per = _PER_QUERIES.fullmatch(unit) if dimension in (ENERGY, MASS, MONEY) else None
    if per is not None and per.group(1) in dimension.units and not (_WHOLE.fullmatch(per.group(2)) and len(per.group(2)) < MOST_DIGITS):
        remedy = "Write a whole number of queries, such as 1000 or 1,000."
        raise SettingsError(f"{written!r} is per {per.group(2)!r} queries, which is no whole number.", remedy=remedy)
    if per is not None and per.group(1) in dimension.units:
        count = re.sub(r"[,_ ]", "", per.group(2))
        if count == "" or int(count) > 0:
            return dimension.units[per.group(1)] / int(count or 1)
    for other in DIMENSIONS:
        if other is not dimension and unit and unit in other.units:
            raise SettingsError(f"{written!r} is {_a(other.name)}, not {_a(dimension.name)}.", remedy=_remedy(dimension))
    if not unit:
        raise SettingsError(f"{written!r} has no unit.", remedy=_remedy(dimension))
    if unit.startswith(","):
        raise SettingsError(f"{written!r} has a decimal comma.", remedy=_remedy(dimension))
    known = [each for each in dimension.units if each]
    alike = [each for each in known if each.casefold() == unit.casefold()]  # for 'KJ' that is 'kJ', and not 'J'
    near = alike if len(alike) == 1 else difflib.get_close_matches(unit, alike or known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SettingsError(f"{written!r} has an unknown unit, {unit!r}.{hint}", remedy=_remedy(dimension))


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _remedy(dimension: Dimension) -> str:
    known = ", ".join(unit for unit in dimension.units if unit and unit not in {"µJ", "µs", "µg"})
    if dimension.hint:
        return f"Write it like {dimension.example!r}, {dimension.hint}."
    return f"Write it like {dimension.example!r} (units: {known})." if known else f"Write it like {dimension.example!r}."


# --- one thing per another --------------------------------------------------------------------------------------------


def parse_intensity(written: object) -> float:
    """A carbon intensity such as "56 g/kWh", "0.056 kg CO2e per kWh" or "15.6 g/MJ", in kg per joule. Raises SettingsError."""
    number, above, below = _split_per(written, INTENSITY)
    mass = _OF_CO2.sub("", above)
    if mass not in MASS.units or below not in _J_OF:
        raise _no_such(written, INTENSITY)
    return _finite(written, number * MASS.units[mass] / _J_OF[below], INTENSITY)


def parse_price(written: object) -> tuple[float, str]:
    """A price of electricity such as "0.25 EUR/kWh", "€0.25/kWh" or "90 USD per MWh": per joule, with its currency.

    The currency is a code of three letters or a currency sign, and kept as it is. Raises SettingsError.
    """
    first = _CURRENCY_FIRST.fullmatch(written) if isinstance(written, str) else None
    number, currency, below = _split_per(f"{first[2]} {first[1]}{first[3]}" if first else written, PRICE, as_written=written)
    sign = len(currency) == 1 and unicodedata.category(currency) == "Sc"
    code = bool(re.fullmatch(r"[A-Za-z]{3}", currency)) and currency not in ENERGY.units
    if not (sign or code) or below not in _J_OF:
        raise _no_such(written, PRICE)
    return _finite(written, number / _J_OF[below], PRICE), currency.upper()


def parse_traffic(written: object) -> float:
    """How many queries come in, such as "40M/day", "12/s" or "2.5k queries an hour", per second. A year has 365 days, a month a twelfth.

    k, M and B are a thousand, a million and a thousand million. Raises SettingsError.
    """
    number, above, below = _split_per(written, TRAFFIC)
    thousands = _OF_QUERIES.sub("", above)
    if thousands not in _THOUSANDS or below not in _S_OF:
        raise _no_such(written, TRAFFIC)
    return _finite(written, number * _THOUSANDS[thousands] / _S_OF[below], TRAFFIC)


def _split_per(written: object, dimension: Dimension, *, as_written: object = None) -> tuple[float, str, str]:
    """Number, and what stands above and below the stroke. A bare number has no unit that could be guessed."""
    told = written if as_written is None else as_written
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise SettingsError(f"{told!r} is not a quantity.", remedy=_remedy(dimension))
    match = _QUANTITY.fullmatch(written) if isinstance(written, str) else None
    if not isinstance(written, str) or (match is not None and not match[2]):
        raise SettingsError(f"{told!r} has no unit.", remedy=_remedy(dimension))
    per = None if match is None else _PER.fullmatch(match[2].replace("μ", "µ"))
    if match is None or per is None:
        raise _no_such(told, dimension)
    if per[1].startswith(","):
        raise SettingsError(f"{told!r} has a decimal comma.", remedy=_remedy(dimension))
    return float(match[1].replace("_", "")), per[1], per[2]


def _no_such(written: object, dimension: Dimension) -> SettingsError:
    return SettingsError(f"{written!r} is not {_a(dimension.name)}.", remedy=_remedy(dimension))


def _finite(written: object, value: float, dimension: Dimension) -> float:
    if not math.isfinite(value):
        raise SettingsError(f"{written!r} is not a finite number.", remedy=_remedy(dimension))
    if value <= 0:
        raise SettingsError(f"{written!r} is not greater than zero.", remedy=_remedy(dimension))
    return value


@cache
def money(currency: str) -> Dimension:
    """Amounts in one currency: they are shown with it, and may be written with it. Without a currency, plain numbers.

    A query costs so little that its prints have the prefixes of SI: 41.6 nEUR reads better than eight zeros.
    """
    if not currency:
        return MONEY
    prints = tuple((f"{prefix}{currency}", factor) for prefix, factor in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)))
    return Dimension(MONEY.name, MONEY.si, {"": 1.0, **dict(prints)}, prints, f"0.0002 {currency}", called=MONEY.called)


def show_traffic(queries_per_s: float) -> str:
    """Queries a day, for people: '40M queries a day'."""
    a_day = queries_per_s * DAY_S
    letter, factor = next(((each, size) for each, size in reversed(_THOUSANDS.items()) if a_day >= size), ("", 1.0))
    number = significant(a_day / factor, 3)
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{letter} queries a day"


# --- printing ---------------------------------------------------------------------------------------------------------


def show(value: float, dimension: Dimension, digits: int = 3) -> str:
    """``value`` (SI) for people, with ``digits`` significant digits: ``show(0.0312, TIME)`` is '31.2 ms'."""
    size = abs(value)
    unit, factor = dimension.prints[-1]
    for unit, factor in dimension.prints:  # noqa: B007  the pair outlives the loop on purpose
        if size / factor >= (1 if factor > 1 else 0.1):
            break
    if size == 0 or not math.isfinite(value):
        unit, factor = dimension.si if dimension.si != "1" else "", 1.0
    return f"{significant(value / factor, digits)} {unit}".rstrip()


def significant(value: float, digits: int) -> str:
    """``value`` with ``digits`` significant digits and no exponent below a million: 0.612, 31.2, 310."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    if math.isinf(rounded):  # the largest floats, rounded up
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{places}f}"


def show_limit(value: float, dimension: Dimension) -> str:
    """A limit for people, with no more digits than it needs: 0.8 is '0.8 J', 0.04 is '40 ms'."""
    number, space, unit = show(value, dimension, 6).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{space}{unit}"


def show_interval(value: float, low: float | None, high: float | None, dimension: Dimension, digits: int = 4) -> str:
    """A value with its interval in one unit: '1.931 J [1.920, 1.942]'; an open side is written as '-' ."""
    text = show(value, dimension, digits)
    number, _, unit = text.partition(" ")
    factor = dict(dimension.prints).get(unit, 1.0)
    places = len(number.partition(".")[2]) if value else digits - 1  # a bare 0 must not round its interval to [0, 0]
    sides = ["-" if side is None else f"{side / factor:.{places}f}" for side in (low, high)]
    return f"{text} [{sides[0]}, {sides[1]}]"


def show_share(share: float) -> str:
    """A relative share for people: 0.0083 is '0.8 %'."""
    percent = share * 100
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"


class Quantity:
    """Comparison of a value that knows its dimension with numbers (SI), strings ("0.8 J") and its like.

    Subclasses have ``value`` (SI float) and ``dimension``. Comparing different dimensions raises SettingsError.
    Comparisons use ``value``, the point estimate; budgets use the interval.
    """

    __slots__ = ()

    value: float
    dimension: Dimension

    def _other(self, other: object) -> float:
        if isinstance(other, Quantity):
            if other.dimension is not self.dimension:
                raise SettingsError(f"{_a(self.dimension.name)} does not compare with {_a(other.dimension.name)}.".capitalize())
            return other.value
        return parse(other, self.dimension)

    def __lt__(self, other: object) -> bool:
        return self.value < self._other(other)

    def __le__(self, other: object) -> bool:
        return self.value <= self._other(other)

    def __gt__(self, other: object) -> bool:
        return self.value > self._other(other)

    def __ge__(self, other: object) -> bool:
        return self.value >= self._other(other)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Quantity | str | int | float) or whole(other, least=None) is not None:
            return self.value == self._other(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.value)

    def __format__(self, spec: str) -> str:
        """``f"{run.energy_per_query:.3f}"`` is the value, SI; without a format a figure is what ``str`` says."""
        return format(self.value, spec) if spec else str(self)

    def __float__(self) -> float:
        return self.value
