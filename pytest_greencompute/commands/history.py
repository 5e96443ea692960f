"""``greencompute history``: the figures of the sessions that were saved, oldest first, each with its commit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import fit, say, tell
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report import room
from pytest_greencompute.report.columns import within
from pytest_greencompute.report.escape import json_text, printable
from pytest_greencompute.report.table import figure
from pytest_greencompute.results.document import figure_to_json
from pytest_greencompute.results.result import called
from pytest_greencompute.settings.finding import home_of
from pytest_greencompute.store.history import Point
from pytest_greencompute.store.runs import store_of
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Json

SHOWN = ("energy_per_query", "latency_p95", "accuracy")


def run(given: Arguments, root: Path) -> int:
    """Print it. 0: there is one; 3: some of its files could not be read. Raises SettingsError where nothing was saved."""
    home = home_of(root)
    store, names = store_of(home), tuple(given.get("baseline") or ())
    found = store.history(names)
    points = [point for point in found.points if not given.get("test") or given["test"] in point.test]
    if not points and not found.problems:
        what = (
            f"no run of a test called {given['test']!r}"
            if given.get("test") and found.points
            else f"nothing{f' of {names[0]!r}' if names else ''}"
        )
        raise SettingsError(f"{home / store.where} holds {what}.", remedy="pytest --energy-budget --energy-save NAME keeps a session.")
    if given.get("json"):
        print(json_text([_as_json(point) for point in points], sys.stdout.encoding))
    else:
        for line in lines(points, room.for_tables()):
            tell(line)
    for problem in found.problems:
        say(problem)
    return 3 if found.problems else 0


def lines(points: Sequence[Point], width: int) -> list[str]:
    """The table, heading first, for a terminal of ``width``: what is measured on one line where that fits, else its figures below."""
    shown = [name for name in SHOWN if any(name in point.metrics for point in points)]
    heads = ["when", "commit", "baseline", "test", *(METRICS[name].label for name in shown), "on"]
    rows = [
        [
            point.when,
            point.at,
            point.baseline,
            called(point.test, point.run),
            *(figure(METRICS[name], point.metrics.get(name)) for name in shown),
            ", ".join(point.devices),
        ]
        for point in points
    ]
    cells = [[fit(printable(cell)) for cell in row] for row in (heads, *rows)]
    return [line for several in within(cells, width, range(heads.index("test") + 1), whole=True) for line in several]


def _as_json(point: Point) -> dict[str, Json]:
    return {
        "created": point.created,
        "commit": point.commit or None,
        "changed": point.dirty,
        "baseline": point.baseline,
        "test": point.test,
        "name": point.run,
        "metrics": {name: figure_to_json(figure) for name, figure in point.metrics.items()},
        "devices": list(point.devices),
    }
