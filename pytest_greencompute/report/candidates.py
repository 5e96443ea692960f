"""The table of a comparison of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_greencompute.report.columns import UNLIMITED, within
from pytest_greencompute.report.escape import printable
from pytest_greencompute.results.result import CandidateRow as Row
from pytest_greencompute.values.footprint import Amount
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import show, show_limit, show_share, significant

SENTENCE = 30  # characters that the last column, which may hold a sentence, counts as


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The heads, and the cells of each candidate, leanest first, those without a figure last."""
    ordered = sorted(rows, key=lambda row: (row.energy is None, row.energy or 0.0))
    settings = list(dict.fromkeys(key for row in rows for key in row.values))
    heads = [
        *(settings or ["candidate"]),
        "energy/query",
        "times",
        "accuracy",
        "to the best",
        "p95",
        "throughput",
        "tokens",
        "agrees",
        "weights",
        "",
    ]
    counted = [name for name in METRICS if any(name in row.counts for row in rows)]
    heads[-1:-1] = [METRICS[name].label for name in counted]
    cells = [[*_called(row, settings), *_cells(row)] for row in ordered]
    for row, line in zip(ordered, cells, strict=True):
        line[-1:-1] = [_counted(row, name) for name in counted]
    kept = [place for place, head in enumerate(heads) if place == 0 or head in settings or any(row[place] for row in cells)]
    return [heads[place] for place in kept], [[row[place] for place in kept] for row in cells]


def lines(rows: Sequence[Row], width: int = UNLIMITED, fit: Callable[[str], str] = str) -> list[str]:
    """The heading and the candidates, for a terminal of ``width``: a line each where that fits. ``fit`` replaces what it cannot show."""
    heads, cells = table(rows)
    shown = [[fit(printable(cell)) for cell in line] for line in (heads, *cells)]
    names = len({key for row in rows for key in row.values}) or 1
    word = [] if heads[-1] else [len(heads) - 1]
    lines_of = within(shown, width, [*range(names), *word], last=SENTENCE if word else None)
    return [line for several in lines_of for line in several]


def _called(row: Row, settings: Sequence[str]) -> list[str]:
    return [str(row.values.get(key, "")) for key in settings] or [row.candidate]


def _cells(row: Row) -> list[str]:
    def figure(name: str) -> str:
        value = row.figures.get(name)
        return "" if value is None else show(value, METRICS[name].dimension)

    return [
        figure("energy_per_query"),
        _times(row),
        figure("accuracy"),
        _difference(row),
        figure("latency_p95"),
        figure("throughput").replace(" queries", ""),
        figure("tokens_per_query"),
        "" if row.agreement is None else show_share(row.agreement),
        "" if (row.weights or 1.0) == 1.0 else show_share(row.weights or 1.0),
        _word(row),
    ]


def _counted(row: Row, name: str) -> str:
    """What was counted without a meter; a bound is shown as one."""
    count = row.counts.get(name)
    if count is None or count.value is None:
        return "-"
    sign = {"least": "≥ ", "most": "≤ "}.get(count.bound, "")
    return f"{sign}{show(count.value, METRICS[name].dimension)}"


def _times(row: Row) -> str:
    if row.times is None or row.candidate == row.times_of:
        return "" if row.times is None else "1"
    return _with_sides(row.times, lambda times: significant(times, 3))


def _with_sides(amount: Amount, shown: Callable[[float], str]) -> str:
    low, high = ("-" if side is None else shown(side) for side in (amount.low, amount.high))
    return f"{shown(amount.value)} [{low}, {high}]"


def _difference(row: Row) -> str:
    """In percentage points."""
    return "" if row.accuracy_difference is None else _with_sides(row.accuracy_difference, lambda share: f"{share * 100:+.1f}")


def _word(row: Row) -> str:
    if row.problem:
        return row.problem
    if row.right_sized:
        return "right-sized"
    if row.shortfall:
        short = row.shortfall.rpartition(", ")[2]  # "over the limit of 40 ms": the figure has a column of its own
        return short.partition(" of ")[0] if "floor" in short else short  # the heading says which floor
    return row.no_energy or ("on the front" if row.front and row.accuracy is not None else "")


def headline(test: str, rows: Sequence[Row]) -> str:
    """What stands above the table: whose candidates, what they must meet, which energy counts, and what the columns compare with."""
    first = rows[0]
    title = f"group {first.comparison}" if not first.by_turns else f"{test} ({first.comparison})" if first.comparison else test
    queries = "on the same queries" if first.by_turns else "on as many queries"  # tests of their own may have other ones
    said = [f"{len(rows)} {'settings' if first.values else 'candidates'} {queries}"]
    if first.floor is not None:
        said.append(f"accuracy at least {show_limit(first.floor, METRICS['accuracy'].dimension)}")
    if any(row.modelled for row in rows):
        said.append("energy modelled")
    idle = [row.candidate for row in rows if row.everywhere and row.domain and "gpu" not in row.domain]
    if idle:
        said.append(f"energy of all domains, since {', '.join(idle)} {'leaves' if len(idle) == 1 else 'leave'} the GPU idle")
    if not first.by_turns:
        said.append("measured one after the other")
    against = next((row.times_of for row in rows if row.times_of), "")
    if against:
        said.append(f"times: the energy of {against}")
    if any(row.agreement is not None for row in rows):
        said.append(f"agrees: with {first.agreement_with}")
    if any((row.weights or 1.0) < 1.0 for row in rows):
        said.append("weights: the share of them in that precision")
    return f"{title}: {'; '.join(said)}"
