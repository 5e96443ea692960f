"""What a joule emits and costs: the factors that turn energy per query into carbon and money, and a year of traffic. Pure.

SI inside: kg CO2e per joule, currency units per joule, queries per second. PUE (power usage effectiveness, ISO/IEC 30134-2) is how many
joules a data centre draws for one that its computers use: carbon and money are those of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.units import CONSUMPTION, MASS, YEAR_S, money, show, show_share

J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Factors:
    """What a joule of the computers stands for: kg CO2e, and money in ``currency``. None: not set, or of no currency.

    Invariant: finite. Raises SettingsError.
    """

    carbon_kg_per_j: float | None = None
    money_per_j: float | None = None
    currency: str | None = None

    def __post_init__(self) -> None:
        for value in (self.carbon_kg_per_j, self.money_per_j):
            if value is not None and not math.isfinite(value):
                raise SettingsError(f"A joule stands for {value!r}.", remedy="It must be finite.")


@dataclass(frozen=True, slots=True)
class Footprint:
    """The factors that were set. None: not set, so nobody asked for that figure.

    ``kg_per_j`` and its ``carbon_source`` (a country's mix with its table, or "set by you"); ``price_per_j`` in ``currency``;
    ``queries_per_s`` is the traffic. ``why_no_carbon``: why an intensity that was asked for could not be had, with the remedy.
    Invariant: all finite, none negative, ``pue`` at least 1. Raises SettingsError.
    """

    kg_per_j: float | None = None
    carbon_source: str = ""
    price_per_j: float | None = None
    currency: str = ""
    pue: float = 1.0
    queries_per_s: float | None = None
    why_no_carbon: str = ""

    def __post_init__(self) -> None:
        for name in ("kg_per_j", "price_per_j", "queries_per_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"{name} is {value!r}.", remedy="It must be finite and not negative.")
        if not (math.isfinite(self.pue) and self.pue >= 1):
            raise SettingsError(
                f"pue is {self.pue!r}.", remedy="A data centre draws at least what its computers do: 1.0 or more, such as 1.2."
            )

    @property
    def carbon(self) -> float | None:
        """kg CO2e that a joule of the computers stands for; None where no intensity is set."""
        return None if self.kg_per_j is None else self.kg_per_j * self.pue

    @property
    def money(self) -> float | None:
        """What a joule of the computers costs, in ``currency``; None where no price is set."""
        return None if self.price_per_j is None else self.price_per_j * self.pue

    @property
    def factors(self) -> Factors:
        """What a joule of the computers stands for, for the provenance of a run."""
        return Factors(self.carbon, self.money, self.currency or None)

    @property
    def applies(self) -> bool:
        """Whether there is a figure that ``pue`` is part of."""
        return any(each is not None for each in (self.kg_per_j, self.price_per_j, self.queries_per_s)) or bool(self.why_no_carbon)


class Amount(NamedTuple):
    """A figure with the ends of its interval; None where the interval is open."""

    value: float
    low: float | None
    high: float | None

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)


@dataclass(frozen=True, slots=True)
class Year:
    """What 365 days of the traffic use, PUE included: kWh, kg CO2e, and money in the price's currency. None: not asked for."""

    queries: float
    kwh: Amount
    kg: Amount | None
    money: Amount | None


def yearly(footprint: Footprint, energy_j_per_query: float, low: float | None, high: float | None) -> Year | None:
    """A year of ``footprint.queries_per_s`` at so many joules a query, whose interval is ``low`` to ``high``; None without traffic."""
    if footprint.queries_per_s is None:
        return None
    queries = footprint.queries_per_s * YEAR_S

    def amount(of_a_joule: float) -> Amount:
        factor = queries * of_a_joule
        return Amount(energy_j_per_query * factor, None if low is None else low * factor, None if high is None else high * factor)

    return Year(
        queries,
        amount(footprint.pue / J_PER_KWH),
        None if footprint.carbon is None else amount(footprint.carbon),
        None if footprint.money is None else amount(footprint.money),
    )


def show_year(year: Year, currency: str, *, modelled: bool = False) -> str:
    """'2.5 MWh ±0.8 %, 140 kg CO2e and 620 EUR': the share holds for all three, since the factors have no interval of their own."""
    energy = year.kwh
    sides = [abs(end - energy.value) for end in (energy.low, energy.high) if end is not None]
    sure = f" ±{show_share(max(sides) / abs(energy.value))}" if len(sides) == 2 and energy.value else ""
    parts = [f"{show(energy.value * J_PER_KWH, CONSUMPTION)}{sure}{' modelled' if modelled else ''}"]
    if year.kg is not None:
        parts.append(f"{show(year.kg.value, MASS)} CO2e")
    if year.money is not None:
        parts.append(show(year.money.value, money(currency)))
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
