"""The plots of the page, as Plotly figures in plain values, each with the table that says the same. Pure.

A figure holds data and what is its own of the layout; fonts, colours of the ground and margins are the page's, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pytest_greencompute.errors import MADE_UP
from pytest_greencompute.estimates.domains import idle_watts, net_energy
from pytest_greencompute.report.escape import plot_text
from pytest_greencompute.report.table import ComparisonRows
from pytest_greencompute.results.result import CandidateRow, Figure, Pairs, Result
from pytest_greencompute.store.history import Point
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import Block, sets_of
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import show, show_limit

ENERGY = METRICS["energy_per_query"]
BLUE, ORANGE, RED, GREY = "#3b82c4", "#d9822b", "#d64545", "#8a8f98"  # each stands out on white and on near black
LINES = (BLUE, ORANGE, "#3f9d6d", "#a06cd5", RED, GREY)
IN_SIGHT = (0.4, 2.5)  # a budget further from the figure than that many times would flatten all else
EQUAL = 0.05  # of a value lies below and above it where an axis has only that one
DIGITS = 6
JOULES = {"tickformat": ".3~s", "ticksuffix": "J"}
Drawn: TypeAlias = Mapping[str, Any]  # Plotly's own values, as JSON has them


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: its figure, what it shows in a sentence (for who cannot see it), what stands below it, and its table."""

    figure: Drawn
    label: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _all(values: Iterable[float]) -> list[float]:
    return [_round(value) for value in values]


def _markers(color: str, **more: Any) -> Drawn:
    return {"type": "scatter", "mode": "markers", "marker": {"color": color, **more.pop("marker", {})}, **more}


# --- the blocks of a run ----------------------------------------------------------------------------------------------


def blocks_over_time(result: Result) -> Plot | None:
    """The energy per query of each block of a run, over its time, with the interval of the whole and its budget; None without energy."""
    figure, run = result.metrics.get(ENERGY.name), result.run
    if figure is None or run is None or run.window:
        return None
    try:
        points = energies(run, figure.domain.split("+"))
    except MADE_UP:  # a file that somebody has edited
        return None
    if not points:
        return None
    budget = next((each.limit for each in result.verdicts if (each.metric, each.kind) == (ENERGY.name, "budget")), None)
    low, high = figure.low, figure.high
    interval = "" if low is None or high is None else f", between {show(low, ENERGY.dimension, 4)} and {show(high, ENERGY.dimension, 4)}"
    limit = "" if budget is None else f"; budget {show_limit(budget, ENERGY.dimension)}"
    spoiled = sum(bool(block.marks) for _, _, block in points)
    sets = len(sets_of(run.blocks))
    said = f"{len(points)} blocks in {sets} set{'' if sets == 1 else 's'}{f', {spoiled} of them spoiled' if spoiled else ''}"
    gaps = "; idle power of the gaps is taken off" if run.idles else ""
    model = "; energy modelled" if figure.method == "modelled" else ""
    return Plot(
        {"data": _traces_of_blocks(points), "layout": _layout_of_blocks(figure, budget)},
        f"Energy per query of each block over time: {show(figure.value, ENERGY.dimension, 4)} on average{interval}{limit}.",
        f"{said}{gaps}{model}. {_band(figure)}{_line_of(figure, budget)}.",
        ("seconds", "set", "energy/query", "spoiled by"),
        tuple(
            (f"{second:.2f}", str(block.set_index + 1), show(joules, ENERGY.dimension, 4), ", ".join(block.marks))
            for second, joules, block in points
        ),
    )


def energies(run: Run, domains: Sequence[str]) -> list[tuple[float, float, Block]]:
    """For each block of a run: seconds since the first began, joules per query of ``domains``, and the block."""
    idle = {domain: idle_watts(run, domain)[0] for domain in domains}
    start = run.blocks[0].start_ns if run.blocks else 0
    return [
        ((block.start_ns - start) / 1e9, sum(net_energy(block, domain, watts) for domain, watts in idle.items()) / block.queries, block)
        for block in run.blocks
    ]


def _traces_of_blocks(points: Sequence[tuple[float, float, Block]]) -> list[Drawn]:
    good = [(second, joules) for second, joules, block in points if not block.marks]
    bad = [(second, joules, block) for second, joules, block in points if block.marks]
    hover = "%{x:.1f} s<br>%{y:.4~s}J<extra></extra>"
    traces = [_markers(BLUE, name="block", x=_all(x for x, _ in good), y=_all(y for _, y in good), hovertemplate=hover)]
    if bad:
        traces.append(
            _markers(
                GREY,
                marker={"symbol": "x"},
                name="spoiled block",
                x=_all(x for x, _, _ in bad),
                y=_all(y for _, y, _ in bad),
                text=[plot_text(", ".join(block.marks)) for _, _, block in bad],
                hovertemplate="%{x:.1f} s<br>%{y:.4~s}J<br>%{text}<extra></extra>",
            )
        )
    by_set: dict[int, list[tuple[float, float, Block]]] = {}
    for point in points:
        by_set.setdefault(point[2].set_index, []).append(point)
    if len(by_set) < len(points):
        means = [(sum(x for x, _, _ in group) / len(group), _mean(group)) for group in by_set.values()]
        traces.append(
            _markers(
                ORANGE, mode="lines+markers", name="set", x=_all(x for x, _ in means), y=_all(y for _, y in means), hovertemplate=hover
            )
        )
    return traces


def _mean(group: Sequence[tuple[float, float, Block]]) -> float:
    """Joules per query of a set: of all its queries."""
    return sum(joules * block.queries for _, joules, block in group) / sum(block.queries for _, _, block in group)


def _in_sight(figure: Figure, budget: float | None) -> bool:
    return budget is not None and IN_SIGHT[0] * figure.value <= budget <= IN_SIGHT[1] * figure.value


def _band(figure: Figure) -> str:
    return "An interval that is open has no band" if None in (figure.low, figure.high) else "The band is the interval of the mean"


def _line_of(figure: Figure, budget: float | None) -> str:
    if budget is None:
        return ""
    return ", the dashed line the budget" if _in_sight(figure, budget) else "; the budget is too far away to be shown"


def _layout_of_blocks(figure: Figure, budget: float | None) -> Drawn:
    shapes: list[Drawn] = []
    wide = {"xref": "paper", "x0": 0, "x1": 1}
    if figure.low is not None and figure.high is not None:
        band = {"type": "rect", "y0": _round(figure.low), "y1": _round(figure.high), "fillcolor": BLUE, "opacity": 0.25}
        shapes.append({**wide, **band, "line": {"width": 0}, "layer": "below"})
    if _in_sight(figure, budget):
        line = {"type": "line", "y0": budget, "y1": budget, "line": {"color": RED, "width": 2, "dash": "dash"}}
        shapes.append({**wide, **line})
    reach = [value for value in (figure.low, figure.high, budget if _in_sight(figure, budget) else None) if value is not None]
    # A trace that is not drawn widens the axis to what the shapes need; Plotly leaves them out when it chooses a range.
    return {
        "shapes": shapes,
        "xaxis": {"title": {"text": "seconds"}},
        "yaxis": {"title": {"text": "J per query"}, **JOULES, **({"autorangeoptions": {"include": _all(reach)}} if reach else {})},
    }


# --- base against head ------------------------------------------------------------------------------------------------


def pairs_of(against: Pairs) -> Plot:
    """Base and head of each pair, joined by a line, in the order in which they were measured."""
    metric, pairs = METRICS[against.metric], against.pairs
    numbers = list(range(1, len(pairs) + 1))
    bases, heads = _all(base for base, _ in pairs), _all(head for _, head in pairs)
    at = [each for number in numbers for each in (number, number, None)]
    ends = [each for base, head in zip(bases, heads, strict=True) for each in (base, head, None)]
    unit = {"J": "J", "s": "s", "W": "W"}.get(against.unit, "")
    hover = f"pair %{{x}}<br>%{{y:.4~s}}{unit}<extra>%{{fullData.name}}</extra>"
    line = {"type": "scatter", "mode": "lines", "line": {"color": GREY, "width": 1}, "hoverinfo": "skip", "showlegend": False}
    worse = sum(head > base if metric.better == "lower" else head < base for base, head in pairs)
    return Plot(
        {
            "data": [
                {**line, "x": at, "y": ends},
                _markers(GREY, marker={"symbol": "circle-open", "size": 8}, name="base", x=numbers, y=bases, hovertemplate=hover),
                _markers(BLUE, marker={"size": 8}, name="this tree", x=numbers, y=heads, hovertemplate=hover),
            ],
            "layout": {
                "xaxis": {"title": {"text": "pair"}, "dtick": max(1, len(pairs) // 10)},
                "yaxis": {"title": {"text": plot_text(metric.label)}, "tickformat": ".3~s", "ticksuffix": unit},
            },
        },
        f"{metric.label} of {len(pairs)} pairs, this tree beside {against.ref}: this tree was worse in {worse} of them.",
        f"Each pair was measured side by side: {against.ref} and this tree, by turns. The first launch of both.",
        ("pair", "base", "this tree", "times"),
        tuple(
            (str(number), show(base, metric.dimension, 4), show(head, metric.dimension, 4), f"{head / base:.3f}")
            for number, (base, head) in enumerate(pairs, 1)
        ),
    )


# --- candidates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Placed:
    """A candidate with its place: joules per query, and what the other axis shows."""

    joules: float
    y: float
    row: CandidateRow


def front(compared: ComparisonRows) -> Plot | None:
    """Accuracy against energy of the candidates, the front joined; p95 latency where no accuracy is known. None below two points."""
    by = "accuracy" if any(row.accuracy is not None for row in compared.rows) else "latency_p95"
    placed = [(row.energy, row.figures.get(by), row) for row in compared.rows]
    rows = sorted((_Placed(x, y, row) for x, y, row in placed if x is not None and y is not None), key=lambda each: each.joules)
    if len(rows) < 2:
        return None
    metric = METRICS[by]
    traces = [_candidates(group, *style) for style, group in _grouped(rows)]
    on_front = [each for each in rows if each.row.front] if by == "accuracy" else []
    if len(on_front) > 1:
        line = {"type": "scatter", "mode": "lines", "line": {"color": GREY, "width": 1, "dash": "dot"}, "hoverinfo": "skip"}
        traces.insert(0, {**line, "x": _all(each.joules for each in on_front), "y": _all(each.y for each in on_front), "showlegend": False})
    wide = rows[-1].joules > 20 * rows[0].joules
    right = next((each.row.candidate for each in rows if each.row.right_sized), None)
    return Plot(
        {
            "data": traces,
            "layout": {
                "xaxis": {"title": {"text": "J per query"}, **JOULES, **({"type": "log"} if wide else {})},
                "yaxis": {
                    "title": {"text": plot_text(metric.label)},
                    **({} if by == "accuracy" else {"tickformat": ".3~s", "ticksuffix": "s"}),
                    **_around([each.y for each in rows]),
                },
            },
        },
        f"{metric.label} against energy per query of {len(rows)} candidates{f'; right-sized: {right}' if right else ''}.",
        "Further left is leaner, further up more accurate; the dotted line joins those that no other beats in both."
        if by == "accuracy"
        else "Further left is leaner, further down faster.",
        ("candidate", "energy/query", metric.label),
        tuple((each.row.candidate, show(each.joules, ENERGY.dimension), show(each.y, metric.dimension)) for each in rows),
    )


def _around(values: Sequence[float]) -> dict[str, list[float]]:
    """The range of an axis on which all values are the same, which Plotly would begin at nought and end at twice the value."""
    low, high = min(values), max(values)
    return {"range": _all((low - EQUAL * (abs(low) or 1.0), high + EQUAL * (abs(high) or 1.0)))} if low == high else {}


def _grouped(rows: Sequence[_Placed]) -> list[tuple[tuple[str, str, str], list[_Placed]]]:
    """Candidates by how they are drawn: (name, colour, symbol)."""
    found: dict[tuple[str, str, str], list[_Placed]] = {}
    for each in rows:
        style = (
            ("right-sized", ORANGE, "star")
            if each.row.right_sized
            else ("on the front", BLUE, "circle")
            if each.row.front
            else ("other", GREY, "circle")
        )
        found.setdefault(style, []).append(each)
    return list(found.items())


def _candidates(rows: Sequence[_Placed], name: str, color: str, symbol: str) -> Drawn:
    return _markers(
        color,
        mode="markers+text",
        marker={"symbol": symbol, "size": 16 if symbol == "star" else 10},
        name=name,
        x=_all(each.joules for each in rows),
        y=_all(each.y for each in rows),
        text=[plot_text(each.row.candidate, 40) for each in rows],
        textposition="top center",
        cliponaxis=False,
        hovertemplate="%{text}<br>%{x:.4~s}J<br>%{y:.4~g}<extra></extra>",
    )


# --- history ----------------------------------------------------------------------------------------------------------


def over_sessions(points: Sequence[Point]) -> Plot | None:
    """Energy per query of one test over the sessions that were saved, a line a baseline. None below two sessions."""
    known = [(point, point.metrics[ENERGY.name]) for point in points if ENERGY.name in point.metrics]
    if len(known) < 2:
        return None
    names = list(dict.fromkeys(point.baseline for point, _ in known))
    traces = [_of_baseline(name, [each for each in known if each[0].baseline == name], number) for number, name in enumerate(names)]
    return Plot(
        {
            "data": traces,
            "layout": {"xaxis": {"type": "date"}, "yaxis": {"title": {"text": "J per query"}, "rangemode": "tozero", **JOULES}},
        },
        f"Energy per query in {len(known)} saved sessions, from {known[0][0].created[:10]} to {known[-1][0].created[:10]}.",
        "Saved sessions, whatever they ran on: the table names the device.",
        ("when", "commit", "baseline", "energy/query", "low", "high", "on"),
        tuple(
            (
                point.when,
                point.at,
                point.baseline,
                *("-" if value is None else show(value, ENERGY.dimension, 4) for value in (figure.value, figure.low, figure.high)),
                ", ".join(point.devices),
            )
            for point, figure in known
        ),
    )


def _of_baseline(name: str, points: Sequence[tuple[Point, Figure]], number: int) -> Drawn:
    def reach(ends: Iterable[float | None]) -> list[float]:
        return [0.0 if end is None else _round(abs(end - figure.value)) for (_, figure), end in zip(points, ends, strict=True)]

    highs, lows = reach(figure.high for _, figure in points), reach(figure.low for _, figure in points)

    return _markers(
        LINES[number % len(LINES)],
        mode="lines+markers",
        name=plot_text(name, 40),
        x=[point.created for point, _ in points],
        y=_all(figure.value for _, figure in points),
        error_y={"type": "data", "symmetric": False, "array": highs, "arrayminus": lows, "thickness": 1},
        text=[plot_text(point.at if point.commit else f"no commit{point.at}") for point, _ in points],
        hovertemplate="%{x}<br>%{text}<br>%{y:.4~s}J<extra>%{fullData.name}</extra>",
    )
