"""A part: the JSON report of an ordinary session, read as something that a stranger may have written.

Nothing in it is believed: sizes are limited before anything is worked out, runs are made of their samples, and what cannot be is refused
with the file's name.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_greencompute.errors import MADE_UP, SettingsError
from pytest_greencompute.results.document import result_from_json, summary_of
from pytest_greencompute.results.result import Result
from pytest_greencompute.results.run_json import JsonObject
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.reports import read_report
from pytest_greencompute.values.run import Run

MOST_BYTES = 32 * 1024 * 1024  # of one report; that of twenty metered tests has about one
MOST_SAMPLES = 1_000_000  # of one report
MOST_DEEP = 40  # tables within tables
LARGEST = 1e30  # of any number: no device uses so many joules, and its square still has a float
MOST_LOOKS = 10_000
MOST_SETS = 100_000  # of one run
MOST_NAME = 2_000  # characters of a test's id, and of a run's name
AGAIN = "Measure it again."


@dataclass(frozen=True, slots=True)
class PartRun:
    """One run of a part: what the report shows of it, and the samples; None where a budget named a run that was not measured."""

    shown: Result
    run: Run | None


@dataclass(frozen=True, slots=True)
class PartReport:
    """One report: ``name`` is what people call the file, ``digest`` that of its bytes, ``told`` the session without its samples.

    ``red``: it says itself that a verdict failed.
    """

    name: str
    digest: str
    told: Summary
    runs: tuple[PartRun, ...]
    red: bool = False

    @property
    def without_runs(self) -> PartReport:
        """What is kept of it when its runs have been judged."""
        return replace(self, told=replace(self.told, results=()), runs=())

    @property
    def commit(self) -> str | None:
        """The commit that was measured; None where the report does not say."""
        return self.told.facts.machine.commit

    @property
    def by_test(self) -> Mapping[str, Sequence[PartRun]]:
        """Its runs, test by test."""
        found: dict[str, list[PartRun]] = {}
        for each in self.runs:
            found.setdefault(each.shown.test, []).append(each)
        return found


def read_part(path: Path, name: str) -> PartReport:
    """The part that lies at ``path``. Raises SettingsError, naming it, for whatever is no report that can be judged again."""
    if not path.is_file():
        why = "holds no JSON report" if path.is_dir() else "is no file"
        raise SettingsError(f"{name} {why}.", remedy="pytest --energy-json PATH writes one.")
    try:
        report = read_report(path, most_bytes=MOST_BYTES, largest=LARGEST)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        problem = _too_much(report) or _not_a_part(report)
        if not problem:
            told = summary_of({**report, "runs": []})
            # Not by way of ``summary_of``: it leaves samples out that somebody has edited.
            read = [result_from_json(data) for data in report["runs"]]
            runs = tuple(PartRun(each, each.run) for each in read)
            every = [each for part in runs for each in (part.run, part.shown.linked, *part.shown.bases.values())]
            problem = _too_many_sets([each for each in every if each is not None])
    except SettingsError as error:
        raise SettingsError(error.message.replace(str(path), name), remedy=error.remedy) from error
    except MADE_UP as error:
        problem = f"cannot be judged ({type(error).__name__}: {error})"[:300]
    if problem:
        raise SettingsError(f"{name} {problem}.", remedy=AGAIN)
    return PartReport(name, digest, told, runs, red=any(each.red for each in read))


def _too_many_sets(runs: Sequence[Run]) -> str:
    """Sets are numbered as they come: a number beyond any stands for memory that nobody has."""
    most = max((block.set_index for run in runs for block in (*run.blocks, *run.warmup)), default=0)
    return f"holds a set with the number {most:.3g}, and {MOST_SETS:,} are the most that a run has" if most > MOST_SETS else ""


def _not_a_part(report: JsonObject) -> str:
    """Why a report that is whole cannot be judged again; or an empty text."""
    runs = report["runs"]
    if any("hardware" in run for run in runs):
        return "was gathered itself: gather the reports of its sessions"
    if not report["session"].get("measured", True):
        return "was not measured: pytest --energy-budget measures"
    for run in runs:
        if run["raw"] is None and (run["metrics"] or any(each["verdict"] != "UNMEASURED" for each in run["verdicts"])):
            return f"holds no samples of {run['test'][:MOST_NAME]}, so its verdict cannot be worked out again"
    times = Counter((run["test"], run["name"]) for run in runs)
    if twice := next((test for (test, _), count in times.items() if count > 1), ""):
        return f"holds {twice[:MOST_NAME]} twice, as no session does: one host would count for two"
    if not runs and not any(report["session"].get(each) for each in ("not_measured", "broken", "problem")):
        return "holds no measured test"
    return ""


def _too_much(report: JsonObject) -> str:
    """What of a report is beyond its limits; or an empty text. Nothing that grows with a number of the report has been done before."""
    samples = 0
    for run in report["runs"]:
        if len(run["test"]) > MOST_NAME or len(run["name"] or "") > MOST_NAME:
            return f"has a test whose name is longer than {MOST_NAME:,} characters"
        for each in (run, *(base["run"] for base in run.get("bases", ())), *([run["linked"]] if "linked" in run else [])):
            raw = each["raw"] or {}
            samples += sum(map(len, raw.get("sets", ()))) + sum(len(value) for value in raw.values() if isinstance(value, list))
            if raw.get("looks", 1) > MOST_LOOKS:
                return f"holds a run that was looked at more than {MOST_LOOKS:,} times"
            if _depth(each["provenance"]) > MOST_DEEP:
                return f"has more than {MOST_DEEP} tables within tables"
    if samples > MOST_SAMPLES:
        return f"holds {samples:,} samples, and {MOST_SAMPLES:,} are the most that are read"
    return f"has more than {MOST_DEEP} tables within tables" if _depth(report["session"]) > MOST_DEEP else ""


def _depth(value: object) -> int:
    """How many tables within tables there are."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [list(each.values()) if isinstance(each, Mapping) else each for each in level if isinstance(each, Mapping | list)]
        level = [item for each in inner for item in each]
    return depth
