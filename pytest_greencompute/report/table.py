"""The table of a session's runs, as cells: what the terminal, the Markdown and the page show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.judging.judge import HELD_AGAINST
from pytest_greencompute.report.candidates import headline
from pytest_greencompute.report.columns import grid, wide, within
from pytest_greencompute.report.escape import printable
from pytest_greencompute.report.shares import share_of
from pytest_greencompute.results.result import CandidateRow, Figure, Result, ShownVerdict, called
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.units import money, show, show_limit, show_share

SHOWN_ALWAYS = ("energy_per_query", "latency_p95", "accuracy")
LAST = ("verdict", "limits from")  # heads of the columns after the figures


@dataclass(frozen=True, slots=True)
class Row:
    """One run: its place among the results, its cells, and the worst word of its verdicts ('' where it has none)."""

    place: int
    cells: tuple[str, ...]
    word: str


@dataclass(frozen=True, slots=True)
class Table:
    """What is shown of the runs. Invariant: every row has as many cells as there are ``heads``."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def table(results: Sequence[Result], currency: str = "") -> Table:
    """The runs that have something to say of their own, in order; those of a comparison are in its own table. Money is in ``currency``."""
    kept = [place for place, run in enumerate(results) if run.verdicts or not _only_in_a_comparison(run)]
    runs = [results[place] for place in kept]
    metrics = [_in(currency, metric) for metric in METRICS.values() if _has_column(metric, runs)]
    limited = {metric.name for metric in metrics if any(_budget(run, metric) is not None for run in runs)}
    heads = ["test", *(["hardware", "hosts"] if any(run.hardware for run in runs) else [])]
    for metric in metrics:
        heads += [metric.label, "budget"] if metric.name in limited and metric.kind != "score" else [metric.label]
    heads += LAST
    rows = [[*_which(run, gathered="hosts" in heads), *_row(run, metrics, limited)] for run in runs]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return Table(tuple(heads), tuple(Row(place, tuple(row), run.word) for place, row, run in zip(kept, rows, runs, strict=True)))


def lines(
    results: Sequence[Result], currency: str = "", width: int | None = None, fit: Callable[[str], str] = str
) -> list[tuple[str, str]]:
    """The table for a terminal, heading first, each line with the worst verdict word of its run; nothing where there is no run.

    It is no wider than ``width``, and a row has several lines where one is too long; where there is room, each run has a bar. Without a
    ``width`` it is a line a run, without bars. ``fit`` replaces what the terminal cannot show.
    """
    made = table(results, currency)
    if not made.rows:
        return []
    cells = [[fit(printable(cell)) for cell in row] for row in (made.heads, *(row.cells for row in made.rows))]
    words = ["", *(row.word for row in made.rows)]
    if width is None:
        return list(zip(grid(cells), words, strict=True))
    names, end = _names(made.heads), len(made.heads) - sum(head in LAST for head in made.heads)
    head, bars = _bars([results[row.place] for row in made.rows])
    shown = [[*row[:end], fit(bar), *row[end:]] for row, bar in zip(cells, [head, *bars], strict=True)] if any(bars) else cells
    first = {*range(names), *range(end, len(shown[0]))}
    if wide(shown) > width and (wide(cells) <= width or wide(shown, first) > width):
        shown, first = cells, {*range(names), *range(end, len(cells[0]))}
    joined = {column for column, name in enumerate(made.heads) if name == "budget"}
    found = within(shown, width, first, joined)
    return [(line, word) for several, word in zip(found, words, strict=True) for line in several]


def _names(heads: Sequence[str]) -> int:
    """How many columns say which run it is."""
    return 3 if "hosts" in heads else 1


def _bars(runs: Sequence[Result]) -> tuple[str, list[str]]:
    """The head of the column of bars, and a bar a run; empty ones where there is nothing to draw."""
    shares = [share_of(run) for run in runs]
    drawn = dict.fromkeys(share.of for share in shares if share is not None and share.bar)
    return f"of {' or '.join(drawn)}", ["" if share is None else share.bar for share in shares]


@dataclass(frozen=True, slots=True)
class ComparisonRows:
    """One comparison of candidates: the test it was made in, its name, and its rows."""

    test: str
    name: str | None
    rows: tuple[CandidateRow, ...]

    @property
    def headline(self) -> str:
        """What stands above its table."""
        return headline(self.test.partition("::")[2] or self.test, self.rows)


def comparisons(results: Sequence[Result]) -> list[ComparisonRows]:
    """The comparisons that were made, in order."""
    found: dict[tuple[str, str | None], list[CandidateRow]] = {}
    for run in results:
        if run.candidate is not None:
            found.setdefault((run.test, run.candidate.comparison), []).append(run.candidate)
    return [ComparisonRows(test, name, tuple(rows)) for (test, name), rows in found.items()]


def _only_in_a_comparison(run: Result) -> bool:
    """Whether the table of its comparison shows all there is; a member of a group has a test of its own."""
    return run.candidate is not None and (run.candidate.by_turns or not run.metered)


def _in(currency: str, metric: Metric) -> Metric:
    return replace(metric, dimension=money(currency)) if metric.per == "money" else metric


def _has_column(metric: Metric, results: Sequence[Result]) -> bool:
    judged = any(verdict.metric == metric.name for run in results for verdict in run.verdicts)
    always = metric.name in SHOWN_ALWAYS or metric.per in {"carbon", "money"}  # the latter exist only where they were asked for
    return judged or (always and any(metric.name in run.metrics for run in results))


def _budget(run: Result, metric: Metric) -> float | None:
    """The limit that a metric of the run has, if it has one."""
    limits = (each.limit for each in run.verdicts if (each.metric, each.kind) == (metric.name, "budget") and each.limit is not None)
    return next(limits, None)


def _which(run: Result, *, gathered: bool) -> list[str]:
    """The cells that say which run it is."""
    return [called(run.test, run.name), run.hardware, str(run.hosts or "-")] if gathered else [run.called]


def _row(run: Result, metrics: Sequence[Metric], limited: set[str]) -> list[str]:
    cells = []
    for metric in metrics:
        shown, budget = figure(metric, run.metrics.get(metric.name)), _budget(run, metric)
        limit = "" if budget is None else show_limit(budget, metric.dimension)
        if metric.kind == "score":
            cells.append(f"{shown}{f' ≥ {limit}' if limit else ''}")
        else:
            cells += [shown, limit] if metric.name in limited else [shown]
    sources = dict.fromkeys(_place(verdict) for verdict in run.verdicts if verdict.where)
    return [*cells, _verdict(run), ", ".join(_folded(sources))]


def _folded(places: Iterable[str]) -> list[str]:
    """Places with the lines of one file as one: "pyproject.toml:7-19"."""
    lines: dict[str, list[int]] = {}
    for place in places:
        file, _, line = place.rpartition(":")
        numbered = line.isascii() and line.isdigit()  # str.isdigit alone takes "²" for one, and int does not
        lines.setdefault(file if numbered else place, []).extend([int(line)] if numbered else [])
    return [_with_lines(file, sorted(set(numbers))) for file, numbers in lines.items()]


def _with_lines(file: str, lines: Sequence[int]) -> str:
    if not lines:
        return file
    return f"{file}:{lines[0]}" if len(lines) == 1 else f"{file}:{lines[0]}-{lines[-1]}"


def _place(verdict: ShownVerdict) -> str:
    shown = HELD_AGAINST[verdict.kind].shown.format(verdict.where) if verdict.kind in HELD_AGAINST else verdict.where
    return "marker" if shown.startswith("the marker") else shown


def figure(metric: Metric, told: Figure | None) -> str:
    """A figure as the report has it: '0.612 J ±0.8 %', with its interval where it is an energy; '-' for none."""
    if told is None:
        return "-"
    text = show(told.value, metric.dimension, 1 if metric.whole else 3)
    if metric.exact and (told.low is None) != (told.high is None):
        return f"{'≥' if told.high is None else '≤'} {text}"
    if metric.kind != "energy":
        return text
    if told.low is not None and told.high is not None and told.value:
        half = max(told.high - told.value, told.value - told.low)
        text += f" ±{show_share(half / abs(told.value))}"
    return f"{text} modelled" if told.method == "modelled" else text


def _verdict(run: Result) -> str:
    if run.word == "PASS" and run.red:
        return "PASS, red: modelled"
    if run.word in {"", "PASS"}:
        return run.word or "no budget"
    named = dict.fromkeys(verdict.short for verdict in run.verdicts if verdict.word == run.word)
    return f"{run.word} {', '.join(named)}"
