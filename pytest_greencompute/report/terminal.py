"""The section at the end of a pytest session."""

from __future__ import annotations

from typing import Any

from pytest_greencompute.report import candidates
from pytest_greencompute.report.escape import printable
from pytest_greencompute.report.summary import Summary, heading, loosened, remarks, totals, unmetered, warnings, years
from pytest_greencompute.report.table import comparisons, lines

COLOURS = {"FAIL": "red", "UNMEASURED": "yellow", "INCONCLUSIVE": "yellow", "ACCEPTED": "yellow", "PASS": "green"}


def show_nothing_metered(reporter: Any, summary: Summary) -> None:
    """Without --energy-budget: one quiet line, so that nobody takes a green run for a measured one."""
    if quiet := unmetered(summary):
        for sentence in warnings(summary):
            reporter.write_line(printable(sentence))
        reporter.write_line(f"energy: {quiet}")
    for sentence, bad in summary.said:
        reporter.write_line(printable(f"energy: {sentence}"), red=bad)


def show_summary(reporter: Any, summary: Summary) -> None:
    """The whole section."""
    reporter.write_sep(_dash(reporter), printable(f"energy: {heading(summary)}"))
    for sentence in loosened(summary):
        reporter.write_line(printable(sentence), yellow=True)
    for line, word in lines(summary.results, summary.currency):
        reporter.write_line(line, **({COLOURS[word]: True} if word in COLOURS else {}))
    for compared in comparisons(summary.results):
        reporter.write_line(printable(compared.headline))
        for line in candidates.lines(compared.rows):
            reporter.write_line(f"  {line}".rstrip())
    for test, reason in summary.not_measured:
        reporter.write_line(printable(f"not measured: {test} ({reason})"))
    for sentence in (*years(summary), *remarks(summary)):
        reporter.write_line(printable(sentence))
    if summary.total and summary.total["effect"] == "fail":
        reporter.write_line(printable(summary.total["reason"]), red=True)
    for sentence, bad in summary.said:
        reporter.write_line(printable(sentence), red=bad)
    reporter.write_line(totals(summary))


def write(reporter: Any, summary: Summary) -> None:
    """Print what there is to say at the end of a session."""
    (show_summary if summary.enabled else show_nothing_metered)(reporter, summary)


def _dash(reporter: Any) -> str:
    encoding = getattr(getattr(reporter, "_tw", None), "_file", None)
    name = (getattr(encoding, "encoding", "") or "").lower()
    return "─" if "utf" in name else "-"
