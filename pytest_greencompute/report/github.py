"""What GitHub Actions is told: a job summary, annotations, and the outputs of the step.

Formats: "Workflow commands for GitHub Actions" of GitHub's documentation, "Adding a job summary" among it; the escapes are those of its
toolkit (``@actions/core``, ``command.ts``). Ten annotations of a kind are shown for a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report import markdown
from pytest_greencompute.report.changes import worst_regression
from pytest_greencompute.report.escape import command_data, command_property, printable, shortened
from pytest_greencompute.report.forms import Report, SourceLine
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.summary import Summary

MOST_ANNOTATIONS = 9
MOST_BYTES = 1024 * 1024  # of a step's summary; a longer one is refused as a whole
LONGEST_MESSAGE, LONGEST_TITLE = 1_000, 120


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line of the log that GitHub shows beside the code."""

    level: str
    title: str
    message: str
    place: SourceLine | None = None

    def __str__(self) -> str:
        properties = {"file": self.place[0], "line": str(self.place[1])} if self.place else {}
        properties["title"] = shortened(printable(self.title), LONGEST_TITLE)
        said = ",".join(f"{name}={command_property(printable(value))}" for name, value in properties.items())
        return f"::{self.level} {said}::{command_data(shortened(printable(self.message), LONGEST_MESSAGE))}"


def notices(summary: Summary, places: Mapping[str, SourceLine]) -> list[str]:
    """At most nine commands for the log: one about the whole, then one a failed verdict; nothing where all is well.

    ``places`` says where each test stands, by node id.
    """
    red, news = summary.reds, summary.bad_news
    if not summary.red:
        return [str(each) for each in _only_warned(summary)]
    shown = red[: MOST_ANNOTATIONS - 1]
    also = f"; the first {len(shown)} are shown beside the code" if len(red) > len(shown) else ""
    parts = [f"{len(red)} of {len(summary.verdicts)} verdicts failed the build{also}" if red else "", *news]
    said = " ".join(f"{part.rstrip('.')}." for part in parts if part)
    whole = Annotation("error", f"Energy budgets: {summary.headline}", said)
    return [str(each) for each in (whole, *(_of_verdict(*each, places) for each in shown))]


def _only_warned(summary: Summary) -> list[Annotation]:
    warned = [f"{run.called}: {each.word}" for run in summary.results for each in run.verdicts if each.effect == "warn"]
    if not warned and not summary.facts.loosened:
        return []
    said = [*(f"limits are laxer now: {each}" for each in summary.facts.loosened), *dict.fromkeys(warned)]
    return [Annotation("warning", f"Energy budgets: {summary.headline}", "; ".join(said))]


def _of_verdict(run: Result, verdict: ShownVerdict, places: Mapping[str, SourceLine]) -> Annotation:
    return Annotation("error", f"{verdict.word} {verdict.short}: {run.called}", verdict.reason, places.get(run.test))


def place_in(checkout: str, root: Path, path: str, line: int) -> SourceLine:
    """Where a test stands as GitHub asks it: ``path`` is below ``root``, the project's folder, which may be a part of the checkout."""
    below = os.path.relpath(root / path, checkout) if checkout else path
    return (path if below.startswith("..") else Path(below).as_posix()), line


def outputs(summary: Summary) -> dict[str, str]:
    """The outputs of the step: ``verdict``, ``red``, ``energy_j`` (joules in all), ``worst_regression`` (per cent); empty where none is.

    ``verdict`` is the worst word; FAIL, too, where something else turns the build red, so that no step after it takes it for well.
    """
    worst = worst_regression(summary.results)
    total = summary.facts.total_j
    return {
        "verdict": "FAIL" if summary.red and summary.word in {"", "PASS", "ACCEPTED"} else summary.word or "UNMEASURED",
        "red": "true" if summary.red else "false",
        "energy_j": "" if total is None else f"{total:.6g}",
        "worst_regression": "" if worst is None else f"{100 * worst:.1f}",
    }


def append_summary(path: str, sessions: Sequence[Summary]) -> None:
    """Add Markdown to the file that GITHUB_STEP_SUMMARY names. Raises SettingsError where it cannot be written."""
    try:
        taken = Path(path).stat().st_size
    except OSError:
        taken = 0
    text = markdown.write(sessions, MOST_BYTES - taken - 2, lambda text: len(text.encode()))
    append(path, f"\n{text}" if taken else text)


def reports(environ: Mapping[str, str], *, wanted: bool) -> list[Report]:
    """The job summary and the step's outputs, where GitHub has named the files for them; ``wanted``: they are asked for by name."""

    def summary_of(summary: Summary) -> None:
        append_summary(environ["GITHUB_STEP_SUMMARY"], [summary])

    def outputs_of(summary: Summary) -> None:
        append(environ["GITHUB_OUTPUT"], "".join(f"{name}={value}\n" for name, value in outputs(summary).items()))

    def refuse(name: str) -> Callable[[Summary], None]:
        def make(_: Summary) -> None:
            raise SettingsError(f"{name} is not set, as it is in a step of GitHub Actions.", remedy="--energy-github off asks for none.")

        return make

    files = {"GITHUB_STEP_SUMMARY": ("job summary", summary_of), "GITHUB_OUTPUT": ("step's outputs", outputs_of)}
    return [
        Report(called, make, True) if environ.get(name) else Report(called, refuse(name), wanted) for name, (called, make) in files.items()
    ]


def append(path: str, text: str) -> None:
    """Add to a file that GitHub reads when the step has ended. Raises SettingsError where it cannot be written."""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.", remedy="--energy-github off leaves it alone.") from error
