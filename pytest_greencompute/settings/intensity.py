"""The carbon intensity of a country's electricity, from the table that CodeCarbon brings along. Nothing is written, printed or sent.

Of CodeCarbon only ``DataSource`` is asked, for the place of the table: its own sum would take the world's average for a country that it
does not know, and say so in a log. The table has, by ISO 3166 code of three letters, grams of CO2e per kWh and the year of the figure.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.values.footprint import J_PER_KWH

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

INSTALL = "pip install 'pytest-greencompute[codecarbon]'"
OR_WRITE = 'carbon_intensity = "56 g/kWh"'
MOST_NEAR = 3


@dataclass(frozen=True, slots=True)
class Mix:
    """A country's electricity: ``kg_per_j`` of CO2e, and the table and year that it comes from."""

    kg_per_j: float
    source: str


def of_country(written: object) -> Mix:
    """The mix of a country by its code of three letters, in any case.

    Raises SettingsError for a code that the table does not have, MeterError where CodeCarbon or its table cannot be used here.
    """
    if not isinstance(written, str) or not written.strip():
        raise SettingsError(f"{written!r} is not a country.", remedy='Write its ISO 3166 code of three letters, such as "FRA".')
    table, version = _table()
    code = written.strip().upper()
    if code not in table:
        near = _near(written.strip(), {each: str(entry.get("country_name", "")) for each, entry in table.items()})
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        remedy = f"Write an ISO 3166 code of three letters, or {OR_WRITE}."
        raise SettingsError(f"{written!r} is not a country of CodeCarbon's table.{hint}", remedy=remedy)
    grams, year = table[code].get("carbon_intensity"), table[code].get("year")
    if isinstance(grams, bool) or not isinstance(grams, int | float) or not grams > 0:  # a 0 stands for a grid that was not looked at
        message = f"CodeCarbon {version} has no carbon intensity for {code} (it says {grams!r})."
        raise SettingsError(message, remedy=f"Write {OR_WRITE}.")
    return Mix(grams / 1e3 / J_PER_KWH, f"{code} {year}, energy mix of CodeCarbon {version}")


def _table() -> tuple[Mapping[str, Mapping[str, Any]], str]:
    """The table by country, and CodeCarbon's version. Raises MeterError."""
    if importlib.util.find_spec("codecarbon") is None:
        raise MeterError("CodeCarbon is not installed.", remedy=f"{INSTALL}, or write {OR_WRITE} in place of country.")
    try:
        source = importlib.import_module("codecarbon.input").DataSource()
        # The path, since its reader of this table reads all the others too, and loads pandas for them.
        table = json.loads(Path(source.global_energy_mix_data_path).read_text(encoding="utf-8"))
        return {str(code): dict(entry) for code, entry in table.items()}, metadata.version("codecarbon")
    except Exception as error:  # whatever breaks inside CodeCarbon is no fault of the test's
        why = f"{type(error).__name__}: {error}"
        raise MeterError(f"CodeCarbon's table could not be read ({why}).", remedy=f"Write {OR_WRITE} in place of country.") from error


def _near(written: str, names: Mapping[str, str]) -> list[str]:
    """Codes with their names that may have been meant: by name, by the first two letters, else by likeness."""
    folded = written.casefold()
    by_name = [code for code, name in names.items() if folded == name.casefold()]
    by_start = [code for code in names if len(written) == 2 and code.startswith(written.upper())]
    codes = difflib.get_close_matches(written.upper(), names, n=MOST_NEAR, cutoff=0.6)
    alike = difflib.get_close_matches(folded, [name.casefold() for name in names.values()], n=MOST_NEAR, cutoff=0.75)
    found = by_name or by_start or [code for code, name in names.items() if name.casefold() in alike] or codes
    return [f"{code} ({names[code]})" for code in found[:MOST_NEAR]]
