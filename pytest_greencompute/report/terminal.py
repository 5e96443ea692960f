"""The section at the end of a pytest session."""

from __future__ import annotations

from typing import Any

from pytest_greencompute.report import candidates, explained
from pytest_greencompute.report.escape import fitted, printable
from pytest_greencompute.report.summary import heading, loosened, remarks, totals, unmetered, warnings, years
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
    for line, word in lines(summary.results, summary.currency):
        reporter.write_line(line, **({COLOURS[word]: True} if word in COLOURS else {}))
    for compared in comparisons(summary.results):
        reporter.write_line(printable(compared.headline))
        for line in candidates.lines(compared.rows):
            reporter.write_line(f"  {line}".rstrip())
    for line in explained.session_lines(summary.results):
        reporter.write_line(line)
    for test, reason in summary.not_measured:
        reporter.write_line(printable(f"not measured: {test} ({reason})"))
    for sentence in (*years(summary), *remarks(summary)):
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
    """pytest's terminal, on which signs that it cannot show are replaced. pytest itself would print the whole line as escapes."""

    __slots__ = ("_reporter", "encoding")

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self.encoding = encoding_of(reporter)

    def write_line(self, line: str, **markup: bool) -> None:
        self._reporter.write_line(fitted(line, self.encoding), **markup)

    def write_sep(self, sep: str, title: str) -> None:
        self._reporter.write_sep(fitted(sep, self.encoding), fitted(title, self.encoding))


def encoding_of(reporter: Any) -> str | None:
    """The encoding of pytest's terminal, whatever writes to it: a stream without one holds text, and every sign."""
    return getattr(getattr(getattr(reporter, "_tw", None), "_file", None), "encoding", None) or "utf-8"


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
