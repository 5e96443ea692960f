"""Advice as a table: what to do, and what was tried in vain."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_greencompute.results.result import AdvisedChange, CandidateRow
from pytest_greencompute.values.footprint import Amount, show_year
from pytest_greencompute.values.units import significant

DO_HEADS = ("do this", "saves", "accuracy", "a batch takes", "less a year", "lines")
VAIN_HEADS = ("tried in vain", "why")


Grid = tuple[str, Sequence[str], list[list[str]]]  # its title, heads and rows


def grids(rows: Sequence[CandidateRow], currency: str) -> list[Grid]:
    """The tables of the advice that a comparison is about; none where it is about none. A year's money is in ``currency``."""
    advice = next((row.advice for row in rows if row.advice is not None), None)
    if advice is None:
        return []
    do = [[each.name, *_cells(each, currency)] for each in advice.do]
    vain = [[name, why] for name, why in advice.in_vain.items()]
    both: list[Grid] = [("What to do", DO_HEADS, do), ("Tried in vain", VAIN_HEADS, vain)]
    return [each for each in both if each[2]]


def _cells(each: AdvisedChange, currency: str) -> list[str]:
    energy = each.energy
    saved = Amount(1 - energy.value, None if energy.high is None else 1 - energy.high, None if energy.low is None else 1 - energy.low)
    return [
        f"{_interval(saved, 100)} %",
        "" if each.accuracy is None else f"{_interval(each.accuracy, 100, '+.1f')} points",
        "" if each.latency is None else f"{_interval(each.latency, 1)} times as long",
        "" if each.year is None else show_year(each.year, currency),
        "; ".join(each.code),
    ]


def _interval(amount: Amount, factor: float, form: str = "") -> str:
    value, low, high = ("-" if each is None else format(each * factor, form) if form else significant(each * factor, 3) for each in amount)
    return value if amount.low is None and amount.high is None else f"{value} [{low}, {high}]"
