"""The section at the end of a pytest session."""

from __future__ import annotations

import sys
from typing import Any

from pytest_greencompute.report import candidates, explained, room
from pytest_greencompute.report.columns import folded
from pytest_greencompute.report.escape import fitted, printable
from pytest_greencompute.report.summary import heading, look_closer, loosened, remarks, totals, unmetered, warnings, years
from pytest_greencompute.report.table import comparisons, lines
from pytest_greencompute.results.summary import Summary

COLOURS = {"FAIL": "red", "UNMEASURED": "yellow", "INCONCLUSIVE": "yellow", "ACCEPTED": "yellow", "PASS": "green"}


def show_nothing_metered(reporter: Any, summary: Summary) -> None:
    """Without --energy-budget: one quiet line, so that nobody takes a green run for a measured one."""
    reporter = Fitted(reporter)
    if quiet := unmetered(summary):
        for sentence in warnings(summary):
            reporter.write_line(printable(sentence))
        reporter.write_line(f"energy: {quiet}")
    for sentence, bad in summary.said:
        reporter.write_line(printable(f"energy: {sentence}"), red=bad)


def show_summary(reporter: Any, summary: Summary) -> None:
    """The whole section."""
    reporter = Fitted(reporter)
    reporter.write_sep("─", printable(f"energy: {heading(summary)}"))
    for sentence in loosened(summary):
        reporter.write_line(printable(sentence), yellow=True)
    for line, word in lines(summary.results, summary.currency, reporter.width, reporter.fit):
        reporter.write_line(line, **({COLOURS[word]: True} if word in COLOURS else {}))
    for compared in comparisons(summary.results):
        reporter.write_line(printable(compared.headline))
        for line in candidates.lines(compared.rows, reporter.width - 2, reporter.fit):
            reporter.write_line(f"  {line}".rstrip())
    for line in explained.session_lines(summary.results, reporter.width, reporter.fit):
        reporter.write_line(line)
    for test, reason in summary.not_measured:
        reporter.write_line(printable(f"not measured: {test} ({reason})"))
    for sentence in (*years(summary), *remarks(summary), *look_closer(summary)):
        reporter.write_line(printable(sentence))
    if summary.total and summary.total.effect == "fail":
        reporter.write_line(printable(summary.total.reason), red=True)
    for sentence, bad in summary.said:
        reporter.write_line(printable(sentence), red=bad)
    reporter.write_line(totals(summary))


def write(reporter: Any, summary: Summary) -> None:
    """Print what there is to say at the end of a session."""
    (show_summary if summary.enabled else show_nothing_metered)(reporter, summary)


class Fitted:
    """pytest's terminal, on which signs that it cannot show are replaced, and sentences break between words. pytest itself would print the
    whole line as escapes.
    """

    __slots__ = ("_reporter", "_room", "encoding", "width")

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self.encoding = encoding_of(reporter)
        self.width = width_of(reporter)
        self._room = room.for_sentences(_file(reporter))

    def fit(self, text: str) -> str:
        return fitted(text, self.encoding)

    def write_line(self, line: str, **markup: bool) -> None:
        for part in folded(self.fit(line), self._room):
            self._reporter.write_line(part, **markup)

    def write_sep(self, sep: str, title: str) -> None:
        self._reporter.write_sep(self.fit(sep), self.fit(title))


def width_of(reporter: Any) -> int:
    """The columns of pytest's terminal, which are 80 where it writes to a file; of ours where something else writes."""
    columns: int | None = getattr(getattr(reporter, "_tw", None), "fullwidth", None)
    return columns or room.for_tables()


def encoding_of(reporter: Any) -> str | None:
    """The encoding of pytest's terminal, whatever writes to it: a stream without one holds text, and every sign."""
    return getattr(_file(reporter), "encoding", None) or "utf-8"


def _file(reporter: Any) -> Any:
    """What pytest's terminal, or ours, writes to."""
    return getattr(getattr(reporter, "_tw", None), "_file", sys.stdout)


def fit_failures(reporter: Any, failed: set[str]) -> None:
    """Before pytest prints why tests failed: the same for what the failures in ``failed`` say (by node id)."""
    encoding = encoding_of(reporter)
    if fitted("±≥", encoding) == "±≥":
        return
    for report in reporter.stats.get("failed", ()):
        if report.nodeid not in failed:
            continue
        for trace, crash, _ in getattr(report.longrepr, "chain", ()):
            for entry in trace.reprentries:
                entry.lines = [fitted(line, encoding) for line in entry.lines]
            if crash is not None:
                crash.message = fitted(crash.message, encoding)
