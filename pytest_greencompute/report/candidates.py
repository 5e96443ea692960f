"""The table of a comparison, from its plain dicts (``Comparison.described``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_greencompute.metrics import METRICS
from pytest_greencompute.units import show, show_limit, significant

Row = Mapping[str, Any]


def lines(rows: Sequence[Row]) -> list[str]:
    """The heading and one line a candidate, leanest first, those without a figure last."""
    from tabulate import tabulate

    ordered = sorted(rows, key=lambda row: (row["figures"]["energy_per_query"] is None, row["figures"]["energy_per_query"] or 0.0))
    heads = ["candidate", "energy/query", f"times {_against(rows)}", "accuracy", "to the best", "p95", "throughput", "same answers", ""]
    cells = [_cells(row) for row in ordered]
    kept = [place for place in range(len(heads)) if place == 0 or any(row[place] for row in cells)]
    shown = [[row[place] for place in kept] for row in cells]
    return tabulate(shown, headers=[heads[place] for place in kept], tablefmt="plain", disable_numparse=True).splitlines()


def _against(rows: Sequence[Row]) -> str:
    return next((str(row["times_of"]) for row in rows if row["times_of"]), "")


def _cells(row: Row) -> list[str]:
    figures = row["figures"]

    def figure(name: str) -> str:
        return "" if figures[name] is None else show(figures[name], METRICS[name].dimension)

    energy = figure("energy_per_query") + (" modelled" if row["modelled"] else "")
    same = "" if row["agreement"] is None else f"{row['agreement']:.1%}".replace("%", " %")
    return [
        row["candidate"],
        energy,
        _times(row),
        figure("accuracy"),
        _difference(row),
        figure("latency_p95"),
        figure("throughput"),
        same,
        _word(row),
    ]


def _times(row: Row) -> str:
    ratio = row["times"]
    if ratio is None or row["candidate"] == row["times_of"]:
        return "" if ratio is None else "1"
    sides = ["-" if ratio[side] is None else significant(ratio[side], 3) for side in ("low", "high")]
    return f"{significant(ratio['value'], 3)} [{sides[0]}, {sides[1]}]"


def _difference(row: Row) -> str:
    difference = row["accuracy_difference"]
    if difference is None:
        return ""
    sides = ["-" if difference[side] is None else f"{difference[side] * 100:+.1f}" for side in ("low", "high")]
    return f"{difference['value'] * 100:+.1f} points [{sides[0]}, {sides[1]}]"


def _word(row: Row) -> str:
    if row["problem"]:
        return str(row["problem"])
    if row["right_sized"]:
        return "right-sized"
    return str(row["shortfall"]) or ("on the front" if row["front"] else "")


def headline(test: str, rows: Sequence[Row]) -> str:
    """What stands above the table."""
    name = f" ({rows[0]['comparison']})" if rows[0]["comparison"] else ""
    floor = f", accuracy at least {show_limit(rows[0]['floor'], METRICS['accuracy'].dimension)}" if rows[0]["floor"] is not None else ""
    how = "" if rows[0]["by_turns"] else ", measured one after the other"
    return f"{test}{name}: {len(rows)} candidates on the same queries{floor}{how}"
