"""One part judged again: figures and verdicts from its samples by the settings here, beside what the part says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_greencompute.errors import MADE_UP, SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.fleet.bases import against_again, refs_of
from pytest_greencompute.fleet.expected import cards_of, kind_of, kind_of_session
from pytest_greencompute.fleet.part import PartReport, PartRun
from pytest_greencompute.judging.budget import Budget, Limit, Line, resolve
from pytest_greencompute.judging.comparable import Record, matching, record, unlike
from pytest_greencompute.judging.hosts import HostFigures
from pytest_greencompute.judging.judge import HELD_AGAINST, Bench, hardware_of, judge_run, limits_for, lost_from_baseline, missing_runs
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.results.result import CandidateRow, Result, ShownVerdict, called
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

MARKER = "the marker"  # how the place of a limit begins that stands on a test
CANNOT = {  # judge a verdict again, by its kind, where the part alone could
    "base_ref": "{called}: the report does not hold the samples of {where}, so the comparison cannot be made again.",
    "baseline": "{called} was held against baseline {where!r} there. Gather with --baseline {where}, where its runs are.",
}
NEARLY = 1e-6  # by which a figure that is written may differ from the one that is worked out: versions of numpy round otherwise


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """One run of one part: its figures and verdicts, worked out again, and what is to be told of the part.

    ``kind`` is that of its hardware; ``samples`` tells runs apart by what was measured, and is None where nothing was. ``differs`` are
    sentences on what the part says otherwise.
    """

    part: str
    test: str
    name: str | None
    kind: str
    figures: HostFigures
    record: Record
    queries: int
    blocks: int
    seconds: float
    samples: int | None
    notes: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    candidate: CandidateRow | None = None
    budget: Budget = field(default_factory=lambda: Budget({}, (), {}))

    @property
    def where(self) -> tuple[str, str | None, str]:
        """What hosts are pooled by."""
        return self.test, self.name, self.kind


def judged_again(part: PartReport, settings: Settings, bench: Bench) -> Iterator[JudgedRun]:
    """Its runs, test by test. Raises SettingsError, naming the part, where its samples give no figure."""
    for test, rows in part.by_test.items():
        try:
            yield from _Again(part, test, rows, settings, bench).runs()
        except SettingsError as error:
            raise SettingsError(f"{part.name}: {error.message}", remedy=error.remedy) from error
        except MADE_UP as error:
            raise SettingsError(
                f"{part.name} cannot be judged ({type(error).__name__}: {error})."[:300], remedy="Measure it again."
            ) from error


@dataclass(frozen=True, slots=True)
class _Again:
    """One test of a part."""

    part: PartReport
    test: str
    rows: Sequence[PartRun]
    settings: Settings
    bench: Bench

    def runs(self) -> Iterator[JudgedRun]:
        runs = [each.run for each in self.rows if each.run is not None]
        only, names = len(runs) == 1, [run.name for run in runs]
        budget = self._budget(runs)
        lost = lost_from_baseline(self.test, self.bench, names, called(self.test, None))
        for row in self.rows:
            if row.run is not None:
                yield self._judged(row, row.run, budget, only=only, lost=[each for each in lost if each.run == row.run.name])
        broken = {
            row.shown.name: row.shown.problem or "it was not measured" for row in self.rows if row.run is None and row.shown.candidate
        }
        missing = (*missing_runs(budget, runs, called(self.test, None), metered=True, broken=broken), *lost)
        unmeasured = {row.shown.name: row.shown for row in self.rows if row.run is None}
        for name in dict.fromkeys([*(each.run for each in missing), *broken, *unmeasured]):
            if name not in names:
                found = [each for each in missing if each.run == name]
                told = _left_out(unmeasured[name], found) if name in unmeasured else ()
                yield self._unmeasured(name, [*found, *told], budget)

    def _budget(self, runs: Sequence[Run]) -> Budget:
        """What the settings here say of the test, behind the limits of its marks, which only the part knows; what else the part was judged
        by holds where the settings here say nothing."""
        told: dict[str, dict[str | None, dict[str, Limit]]] = {}
        for row in self.rows:
            for each in row.shown.verdicts:
                if each.kind == "budget" and each.limit is not None:
                    limit = Limit(METRICS[each.metric], each.limit, each.where)
                    told.setdefault(each.where, {}).setdefault(row.shown.name, {})[each.metric] = limit
        marks, others = ([Line(where, told[where]) for where in told if where.startswith(MARKER) is marked] for marked in (True, False))
        hardware = hardware_of(runs, self.part.told.facts.machine)
        hardware["gpu"] += tuple(each.device for each in self.part.told.facts.sources if each.domain.startswith("gpu"))
        hardware["meter"] += tuple(each.meter for each in self.part.told.facts.sources)
        return resolve([*marks, *self.settings.lines_for(self.test), *others], hardware)

    def _judged(self, row: PartRun, run: Run, budget: Budget, *, only: bool, lost: Sequence[Verdict]) -> JudgedRun:
        head = self.bench.figures(run, budget.confidence)
        outcomes = head.every()
        for name, outcome in outcomes.items():
            if isinstance(outcome, Estimate) and not all(math.isfinite(each or 0.0) for each in (outcome.value, outcome.low, outcome.high)):
                raise SettingsError(f"the samples of {run.test} give no {name} that is a number.", remedy="Measure it again.")
        key = limits_for(run, budget, only=only)
        kind = kind_of(run.provenance)
        subject = f"{called(run.test, run.name)} on {kind}"
        refs = refs_of(row.shown)
        against = [each for ref in refs if (each := against_again(row.shown, run, ref, head, budget, subject)) is not None]
        bench = self.bench if not refs or self.bench.compares else replace(self.bench, compares=True)
        verdicts = (*judge_run(head, key, budget, bench, subject, against), *lost)
        verdicts += tuple(_left_out(row.shown, verdicts))
        verdicts += tuple(_written(each) for each in row.shown.verdicts if each.kind == "comparison")
        host = HostFigures(self._host(run), outcomes, verdicts, cards_of(run.provenance.devices), self._saved(run, head))
        differs = tuple(_differences(self.part.name, row.shown, verdicts, outcomes))
        return JudgedRun(
            *(self.part.name, run.test, run.name, kind, host, record(run), run.queries, len(run.blocks), run.seconds),
            *(_identity(run), run.notes, differs, row.shown.candidate, budget),
        )

    def _unmeasured(self, name: str | None, verdicts: Sequence[Verdict], budget: Budget) -> JudgedRun:
        """A run that a limit names and the part has not."""
        facts = self.part.told.facts
        host = HostFigures(self.part.name, {}, tuple(verdicts))
        nothing = Record(Result(self.test).provenance)
        return JudgedRun(self.part.name, self.test, name, kind_of_session(facts), host, nothing, 0, 0, 0.0, None, budget=budget)

    def _host(self, run: Run) -> str:
        cards = sorted(cards_of(run.provenance.devices))
        return f"{self.part.name} ({', '.join(cards)})" if cards else self.part.name

    def _saved(self, run: Run, head: Figures) -> dict[str, tuple[Estimate, ...]]:
        """The figures of the baseline's runs that this one may be compared with, by metric."""
        if self.bench.baseline is None:
            return {}
        found, kept = unlike(run, self.bench.sessions, cpu_judged=head.of_processor), {}
        for name, metric in METRICS.items():
            figures = [self.bench.saved(each, head.aim.confidence).of(metric) for each in matching(found, name).runs]
            kept[name] = tuple(each for each in figures if isinstance(each, Estimate) and each.value > 0)
        return kept


def _left_out(shown: Result, again: Sequence[Verdict]) -> Iterator[Verdict]:
    """What the part was judged by that cannot be judged here: UNMEASURED, whatever it says."""
    found = {(each.kind, each.metric, each.where if each.kind in HELD_AGAINST else "") for each in again}
    for each in shown.verdicts:
        if each.kind == "comparison" or (each.kind, each.metric, each.where if each.kind in HELD_AGAINST else "") in found:
            continue
        why = CANNOT.get(each.kind, "").format(called=called(shown.test, shown.name), where=each.where)
        reason = each.reason if each.word == "UNMEASURED" or not why else why
        yield Verdict("UNMEASURED", each.metric, each.kind, reason, where=each.where)


def _written(shown: ShownVerdict) -> Verdict:
    """A verdict among candidates as the part has it: what the candidates were asked for stands in the test alone."""
    reason = f"{shown.reason} (As the part says: candidates are judged where they are measured.)"
    return Verdict(shown.word, shown.metric, shown.kind, reason, None, shown.limit, shown.sees, shown.where)


def _identity(run: Run) -> int | None:
    """What tells one measurement from another: when it was measured on which devices, and what was read. None without a block."""
    if not run.blocks:
        return None
    devices = tuple(sorted((source.domain, source.device, source.uuid) for source in run.sources))
    blocks = tuple((each.start_ns, each.end_ns, *(span.energy_j for span in each.spans.values())) for each in run.blocks)
    return hash((run.test, run.name, devices, blocks))


def _differences(part: str, shown: Result, verdicts: Sequence[Verdict], outcomes: Mapping[str, object]) -> Iterator[str]:
    """What a part says of a run otherwise than its samples do."""
    subject = called(shown.test, shown.name)
    both = [(name, told.value, outcomes.get(name)) for name, told in shown.metrics.items()]
    other = [(name, told, found.value) for name, told, found in both if isinstance(found, Estimate) and not _close(told, found.value)]
    for name, told, found in other[:1]:
        more = f" ({len(other) - 1} more figures differ)" if len(other) > 1 else ""
        yield f"{part} says {name} {told:.6g} of {subject}, and its samples give {found:.6g}: this one counts{more}"
    again = {(each.kind, each.metric, each.where): each.word for each in verdicts}
    by_metric = {(each.kind, each.metric): each.word for each in verdicts}
    for each in shown.verdicts:
        word = again.get((each.kind, each.metric, each.where)) or by_metric.get((each.kind, each.metric))
        if word is not None and word != each.word and not _shares_its_error(each, word):
            yield f"{part} says {each.word} on {each.short} of {subject}, and its samples say {word}: this one counts"


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=NEARLY, abs_tol=1e-12)


def _shares_its_error(shown: ShownVerdict, word: str) -> bool:
    """Whether a FAIL was only not clear enough among that session's verdicts, of which there are others here."""
    return shown.kind in {"budget", "baseline"} and {shown.word, word} == {"FAIL", "INCONCLUSIVE"}


def alone(runs: Sequence[JudgedRun], bench: Bench) -> Bench:
    """The bench for as many verdicts as may be a FAIL by chance among these."""
    chances = {(*run.where, each.kind, each.metric) for run in runs for each in run.figures.verdicts if not METRICS[each.metric].exact}
    return replace(bench, alarms=max(1, len(chances)))
