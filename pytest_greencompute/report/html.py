"""The report as one page that works offline: a bar a run, verdicts, what changed, and for each run its plots beside their tables.

Jinja2 escapes every text; the plots are Plotly's, drawn when they come into sight. Nothing on the page asks the network for anything,
and its Content-Security-Policy forbids it: scripts run only if they are the two whose hashes it names.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report import advised, candidates, explained, plots
from pytest_greencompute.report.bars import Picture, picture
from pytest_greencompute.report.changes import Change, changes
from pytest_greencompute.report.escape import printable, script_json, shortened
from pytest_greencompute.report.plots import Drawn, Plot
from pytest_greencompute.report.summary import commit, heading, loosened, remarks, totals, unmetered, years
from pytest_greencompute.report.table import ComparisonRows, Table, comparisons, figure, table
from pytest_greencompute.results.provenance_json import provenance_to_json
from pytest_greencompute.results.result import Explained, Figure, Result, ShownVerdict, called
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.history import ON_A_PAGE, History, Point
from pytest_greencompute.store.runs import store_of
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import show, show_limit

FOLDER = Path(__file__).with_name("page")
LONG = 40  # characters of a cell that may be broken into lines
LOAD = ("answered", "reconnected", "cut", "prompt_tokens", "cached_tokens")  # of ``Serving``
NAME = 120  # characters of a name in a heading; its title holds the whole


@dataclass(slots=True)
class Plots:
    """The figures of a page, in the order of their numbers."""

    figures: list[Drawn] = field(default_factory=list)

    def numbered(self, *made: Plot | None) -> list[tuple[int, Plot]]:
        """The plots that are there, each with its number on the page."""
        found = []
        for plot in made:
            if plot is not None:
                found.append((len(self.figures), plot))
                self.figures.append(plot.figure)
        return found


@dataclass(frozen=True, slots=True)
class RunPart:
    """One run on the page."""

    name: str
    word: str
    red: bool
    plots: list[tuple[int, Plot]]
    explained: list[tuple[Explained, list[tuple[int, Plot]]]]
    figures: list[tuple[str, str, str]]
    verdicts: list[tuple[str, str, str, str]]
    notes: list[str]
    about: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SessionPart:
    """One session on the page."""

    summary: Summary
    about: list[str]
    picture: Picture | None
    loosened: list[str]
    table: Table
    reds: frozenset[int]
    failures: list[tuple[str, str, str]]
    changes: list[Change]
    comparisons: list[tuple[ComparisonRows, list[tuple[int, Plot]], list[str], list[list[str]], list[advised.Grid]]]
    runs: list[RunPart]
    remarks: list[str]
    bad_news: list[str]


def text(sessions: Sequence[Summary], home: Path) -> str:
    """The page of sessions of one project, with its history. Raises SettingsError."""
    return page(sessions, store_of(home).history(newest=ON_A_PAGE))


def page(sessions: Sequence[Summary], history: History) -> str:
    """The whole page. Raises SettingsError where a package that it needs is not installed."""
    environment, script = _environment(), _plotly()
    made = Plots()
    parts = [_session(summary, made) for summary in sessions]
    past = list(_history(sessions, history, made))
    ours = (FOLDER / "page.js").read_text(encoding="utf-8")
    text: str = environment.get_template("page.html.j2").render(
        sessions=parts,
        past=past,
        problems=history.problems,
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        plotly=script if made.figures else "",
        script=ours,
        hashes=[_hash(each) for each in ((script, ours) if made.figures else (ours,))],
        figures=script_json(json.dumps(made.figures, allow_nan=False, separators=(",", ":"))),
    )
    return text.lstrip()  # the macros above the page leave blank lines


@functools.cache
def _environment() -> Any:
    try:
        import jinja2
        import markupsafe
    except ModuleNotFoundError as error:
        raise SettingsError("The HTML report needs jinja2.", remedy="pip install 'pytest-greencompute[report]'.") from error
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    made.globals |= {"explained": explained}
    made.filters["short"] = lambda text: shortened(printable(text), NAME)
    made.filters["lines"] = lambda rows: markupsafe.Markup("\n".join(map(_line, rows)))
    return made


@functools.cache
def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise SettingsError("The HTML report needs plotly.", remedy="pip install 'pytest-greencompute[report]'.") from error
    text: str = get_plotlyjs()
    return text


def _line(cells: Sequence[str]) -> str:
    """A row of a table as HTML. The blocks of a thousand runs are 200,000 cells, for which a template is ten times slower."""
    first, *others = (html.escape(printable(cell)) for cell in cells)
    shown = "".join(f'<td class="long">{cell}</td>' if len(cell) > LONG else f"<td>{cell}</td>" for cell in others)
    return f'<tr><th scope="row">{first}</th>{shown}</tr>'


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _session(summary: Summary, made: Plots) -> SessionPart:
    rows = table(summary.results, summary.currency)
    return SessionPart(
        summary,
        [
            *filter(None, [unmetered(summary)]),
            totals(summary),
            heading(summary),
            *filter(None, [commit(summary)]),
            *([f"{summary.when} UTC"] if summary.when else []),
        ],
        picture([summary.results[row.place] for row in rows.rows]),
        [each.removeprefix("loosened: ") for each in loosened(summary)],
        rows,
        frozenset(place for place, run in enumerate(summary.results) if run.red),
        [(verdict.word, run.called, verdict.reason) for run, verdict in summary.reds],
        changes(summary.results),
        [
            (each, made.numbered(plots.front(each)), *candidates.table(each.rows), advised.grids(each.rows, summary.currency))
            for each in comparisons(summary.results)
        ],
        [_run(run, made) for run in summary.results],
        [
            *years(summary),
            *remarks(summary),
            *(f"not measured: {test} ({reason})" for test, reason in summary.not_measured),
            *(sentence for sentence, bad in summary.said if not bad),
        ],
        summary.bad_news,
    )


def _run(run: Result, made: Plots) -> RunPart:
    pairs = [plots.pairs_of(each) for each in run.against if each.metric == plots.ENERGY.name]
    return RunPart(
        run.called,
        run.word,
        run.red,
        made.numbered(plots.blocks_over_time(run), *pairs),
        [(each, made.numbered(*explained.icicles(each))) for each in run.explained],
        [(METRICS[name].label, figure(METRICS[name], told), _interval(name, told)) for name, told in run.metrics.items()],
        [_verdict(verdict) for verdict in run.verdicts],
        [*run.notes, *filter(None, [run.problem])],
        _flat(
            {
                "queries": run.queries,
                "blocks": run.blocks,
                "seconds": round(run.seconds, 1),
                **_load(run),
                **provenance_to_json(run.provenance),
            }
        ),
    )


def _load(run: Result) -> Mapping[str, int | None]:
    """What was counted of a server's load beside its figures; empty for other runs."""
    seen = None if run.run is None else run.run.serving
    return {} if seen is None else {name.replace("_", " "): getattr(seen, name) for name in LOAD}


def _interval(name: str, told: Figure) -> str:
    ends = [None if end is None else show(end, METRICS[name].dimension, 4) for end in (told.low, told.high)]
    return "" if ends == [None, None] else f"{ends[0] or 'open'} to {ends[1] or 'open'}"


def _verdict(verdict: ShownVerdict) -> tuple[str, str, str, str]:
    metric = METRICS[verdict.metric]
    limit = "" if verdict.limit is None or verdict.kind != "budget" else show_limit(verdict.limit, metric.dimension)
    return verdict.word, metric.label, limit, verdict.reason


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """What ran where, a line a fact: 'devices gpu:0 driver'."""
    if isinstance(value, Mapping):
        return [line for key, each in value.items() for line in _flat(each, f"{name} {key}".strip())]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))]
    return [] if value is None or value == "" else [(name, str(value))]


def _history(sessions: Sequence[Summary], history: History, made: Plots) -> Iterator[tuple[str, list[tuple[int, Plot]]]]:
    """The history of each run: those of this report first."""
    here = {(run.test, run.name) for summary in sessions for run in summary.results}
    by_run: dict[tuple[str, str | None], list[Point]] = {}
    for point in history.points:
        by_run.setdefault((point.test, point.run), []).append(point)
    for (test, name), points in sorted(by_run.items(), key=lambda each: (each[0] not in here, each[0][0], each[0][1] or "")):
        numbered = made.numbered(plots.over_sessions(points))
        if numbered:
            yield called(test, name), numbered
