"""Parts into one session: what may be pooled, what is missing, what is refused and why, and the verdicts of all hosts of one kind.

Parts are read one by one, and of each only its figures are kept, so that a thousand take no more memory than their figures. Nothing depends
on the order in which they come, or on the clocks of the hosts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet.again import JudgedRun, alone, judged_again
from pytest_greencompute.fleet.expected import GPU, Gap, Measurements, gaps, is_meant, kind_of_session
from pytest_greencompute.fleet.part import PartReport, read_part
from pytest_greencompute.judging.comparable import RULES, Record, differences
from pytest_greencompute.judging.hosts import disagreeing, pooled, pooled_outcomes
from pytest_greencompute.judging.judge import ALWAYS_COMPARED, Bench, judge_total
from pytest_greencompute.judging.verdict import Effect, Verdict, accepted, effect, unmeasured
from pytest_greencompute.results.result import Figure, Result, ShownVerdict, called
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.settings.settings import Expected, Settings
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import listed
from pytest_greencompute.values.provenance import Machine, Provenance

PLUGIN = "pytest-greencompute"
# What makes two runs of one test answers to other queries, whatever they ran on (rows of ``judging.comparable``).
QUERIES = (
    *("measured as", "number of queries", "queries", "order and values of the queries", "references", "score", "tokens="),
    *("reasoning markers", "repeats", "interface", "streaming", "max_tokens", "options of the requests"),
)
BY_ITSELF = (0, 1)  # exit statuses of a session of pytest's that came to its end
MOST_NAMED = 8  # hosts, in one sentence
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the parts are held to: the commit and the version of this plugin that they must be of, and the pairs that must be there.

    None: whatever most of them have.
    """

    commit: str | None = None
    version: str | None = None
    pairs: Expected = field(default_factory=Expected)


@dataclass(slots=True)
class Gathering:
    """The parts as they are read, and what came of them. ``lost``: why parts never came, by test and hardware."""

    settings: Settings
    bench: Bench
    wanted: Requirements
    parts: list[PartReport] = field(default_factory=list)
    runs: list[JudgedRun] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: dict[tuple[str, str], str] = field(default_factory=dict)
    _paths: dict[str, Path] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, name: str) -> None:
        """Take a part in, or refuse it by its name."""
        try:
            part = read_part(path, name)
            if (same := self._digests.setdefault(part.digest, name)) != name:
                self.notes.append(f"{name} is the same file as {same}: counted once")
                return
            runs = list(judged_again(part, self.settings, self.bench))
        except SettingsError as error:
            self.refused.append(f"refused: {error}")
            return
        self._paths[name] = path
        self.parts.append(part.without_runs)
        self.runs += runs

    def end(self, created: str) -> Summary:
        """The session of all parts. Call it once, when all are read."""
        self._refuse_others()
        self._refuse_same_samples()
        self._refuse_other_queries()
        groups = list(self._groups())
        groups = self._shared_error(groups)
        seen = self._seen(groups)
        results = [self._result(group) for group in groups] + [self._gap(each) for each in gaps(self.wanted.pairs, seen)]
        results.sort(key=lambda each: (each.test, each.name or "", each.hardware))
        summary = Summary(
            enabled=True,
            facts=self._facts(),
            results=results,
            metered=len({each.test for each in results}),
            not_measured=sorted({(test, f"{why}, on {kind}") for kind, tests in seen.left_out.items() for test, why in tests.items()}),
            broken=[(test, f"{why} ({part.name})") for part in self.parts for test, why in part.told.broken],
            said=[*((each, True) for each in (*self.refused, *self._bad_news(seen))), *((each, False) for each in self._said(seen))],
            footprint=self.settings.footprint,
            created=created,
        )
        return replace(summary, exit_status=int(summary.red))

    # --- what is refused ---

    def _refuse_others(self) -> None:
        """Parts of another commit, and of another version of this plugin."""
        commit = self.wanted.commit or _most([part.commit for part in self.parts if part.commit])
        version = self.wanted.version or _most([each for each in map(_version, self.parts) if each])
        for part in list(self.parts):
            machine = part.told.facts.machine
            if machine == Machine() and not any(run.part == part.name for run in self.runs):
                continue  # it measured nothing, and says why
            if commit and not (part.commit or "").startswith(commit):
                is_of = f"is of commit {part.commit[:10]}" if part.commit else "does not say of which commit it is"
                remedy = f"Measure {commit[:10]} there, or gather with --commit."
                self._refuse(part, f"{is_of}, and {commit[:10]} is gathered. {remedy}")
            elif version and _version(part) != version:
                is_of = f"was measured with {PLUGIN} {_version(part) or 'of an unknown version'}"
                self._refuse(part, f"{is_of}, and this is {version}. Install the same one on every host.")

    def _refuse(self, part: PartReport, why: str) -> None:
        self.refused.append(f"refused: {part.name} {why}")
        self.parts.remove(part)
        self.runs = [run for run in self.runs if run.part != part.name]

    def _refuse_same_samples(self) -> None:
        """A measurement that two parts hold counts once, however the files differ besides."""
        first: dict[int, JudgedRun] = {}
        for run in list(self.runs):
            other = run if run.samples is None else first.setdefault(run.samples, run)
            if other is not run:
                self.refused.append(
                    f"refused: {run.part} holds the same samples of {called(run.test, run.name)} as {other.part}. "
                    "Measure it on each host, and upload each report under a name of its own."
                )
                self.runs.remove(run)

    def _refuse_other_queries(self) -> None:
        """Of each test the runs that answered other queries than most of them."""
        rows = {row.name: row for row in RULES}
        by_run: dict[tuple[str, str | None], list[JudgedRun]] = {}
        for run in self.runs:
            if run.samples is not None:
                by_run.setdefault((run.test, run.name), []).append(run)
        for runs in by_run.values():
            asked = [tuple(repr(rows[name].of(run.record)) for name in QUERIES) for run in runs]
            most = _most(asked)
            usual = next(run for run, each in zip(runs, asked, strict=True) if each == most)
            for run, each in zip(runs, asked, strict=True):
                if each != most:
                    differ = ", ".join(name for name, one, other in zip(QUERIES, each, most or (), strict=True) if one != other)
                    asked_for = f"{run.part} asked {called(run.test, run.name)} other queries than {usual.part} ({differ} differ)"
                    self.refused.append(f"refused: {asked_for}. Measure the same queries on every host.")
                    self.runs.remove(run)

    # --- what is pooled ---

    def _groups(self) -> Iterator[list[JudgedRun]]:
        """The runs that hosts are pooled of: of one test on one kind of hardware, measured alike."""
        by_kind: dict[tuple[str, str | None, str], list[list[JudgedRun]]] = {}
        for run in sorted(self.runs, key=lambda each: each.samples is None):  # what was not measured is like any
            groups = by_kind.setdefault(run.where, [])
            mine = next((group for group in groups if run.samples is None or not _otherwise(group[0].record, run.record)), None)
            if mine is None:
                groups.append(mine := [])
            mine.append(run)
        for groups in by_kind.values():
            usual = max(groups, key=len)
            for group in groups:
                yield group if group is usual else [replace(run, kind=_label(run, usual[0])) for run in group]

    def _shared_error(self, groups: list[list[JudgedRun]]) -> list[list[JudgedRun]]:
        """The same with the error of a FAIL shared among all verdicts: a host that FAILs alone is judged once more."""
        self.bench = alone(self.runs, self.bench)
        doubtful = [group[0] for group in groups if len(group) == 1 and _may_be_chance(group[0])] if self.bench.alarms > 1 else []
        surer: dict[tuple[str, str, str | None], JudgedRun] = {}
        for name in dict.fromkeys(run.part for run in doubtful):
            part = read_part(self._paths[name], name)
            surer |= {(name, run.test, run.name): run for run in judged_again(part, self.settings, self.bench)}
        found = {id(run): replace(run, figures=surer[run.part, run.test, run.name].figures) for run in doubtful}
        return [[found.get(id(run), run) for run in group] for group in groups]

    def _result(self, group: Sequence[JudgedRun]) -> Result:
        first, hosts = group[0], [run.figures for run in group]
        subject = f"{called(first.test, first.name)} on {first.kind}"
        found = pooled(hosts, first.budget, subject, alarms=self.bench.alarms)
        if len(group) > 1:
            found = tuple(accepted(each, first.test, self.bench.accept, self.bench.today) for each in found)
        figures = pooled_outcomes(hosts, first.budget.confidence)
        judged = [each.metric for each in found]
        notes = first.notes if len(group) == 1 else (*disagreeing(hosts, [*ALWAYS_COMPARED, *judged]), _pool_of(group))
        metrics = {name: Figure.of(each) for name, each in figures.items()}
        metrics |= {
            each.metric: Figure.of(each.estimate) for each in found if each.estimate is not None and each.metric == "answers_changed"
        }
        return Result(
            first.test,
            first.name,
            first.queries,
            sum(run.blocks for run in group),
            math.fsum(run.seconds for run in group),
            metered=True,
            metrics=metrics,
            verdicts=self._shown(found),
            notes=notes,
            provenance=first.record.said if len(group) == 1 else _common(first.record.said),
            candidate=first.candidate if len(group) == 1 else None,
            hardware=first.kind,
            hosts=sum(run.samples is not None for run in group),
        )

    def _shown(self, verdicts: Iterable[Verdict]) -> tuple[ShownVerdict, ...]:
        return tuple(ShownVerdict.of(each, effect(each, self.settings.policy)) for each in verdicts)

    def _gap(self, gap: Gap) -> Result:
        """A pair that is not there is red, unless nothing is to be."""
        verdict = unmeasured(METRICS["energy_per_query"], f"{called(gap.test, None)} on {gap.hardware}", gap.why)
        does: Effect = "warn" if self.settings.policy.enforce == "warn" else "fail"
        return Result(gap.test, verdicts=(ShownVerdict.of(verdict, does),), hardware=gap.hardware)

    # --- what is told of the whole ---

    def _seen(self, groups: Sequence[Sequence[JudgedRun]]) -> Measurements:
        hosts: dict[str, dict[str, int]] = {}
        for group in groups:
            count = sum(run.samples is not None for run in group)
            by_test = hosts.setdefault(group[0].kind, {})
            by_test[group[0].test] = max(count, by_test.get(group[0].test, 0))
        left: dict[str, dict[str, str]] = {}
        for part in self.parts:
            for test, why in part.told.not_measured:
                left.setdefault(kind_of_session(part.told.facts), {})[test] = why
        return Measurements(hosts, left, self.lost)

    def _facts(self) -> Facts:
        told = [part.told.facts for part in self.parts]
        totals = [each.total_j for each in told]
        commit = next((part.commit for part in self.parts if part.commit), None)
        sources = [replace(source, uuid="") for each in told for source in each.sources]
        return Facts(
            machine=Machine(commit=commit, dirty=any(each.machine.dirty for each in told) if commit else None),
            sources=tuple({(each.meter, each.domain, each.device, each.method): each for each in sources}.values()),
            seconds=math.fsum(each.seconds for each in told),
            total_j=math.fsum(each for each in totals if each is not None) if totals and None not in totals else None,
            loosened=tuple(dict.fromkeys(sentence for each in told for sentence in each.loosened)),
        )

    def _bad_news(self, seen: Measurements) -> Iterator[str]:
        """What is red besides verdicts: sessions that did not end well, totals, and budgets of tests that no part has."""
        for part in self.parts:
            told = part.told
            yield from (f"{part.name}: {sentence}" for sentence, bad in told.said if bad)
            limit = self.settings.total_j if told.total is None or self.settings.total_j is not None else told.total.limit
            if limit is not None:
                total = judge_total(limit, told.facts.total_j, "", modelled=told.facts.total_modelled)
                if effect(total, self.settings.policy) == "fail":
                    yield f"{part.name}: {total.reason}"
            if told.exit_status not in BY_ITSELF:
                yield f"{part.name} did not come to its end: pytest's exit status was {told.exit_status}. Measure it again."
            elif told.exit_status and not (part.red or told.broken or told.bad_news):
                yield f"{part.name}: a test failed that is not metered: pytest's exit status was 1"
        if self.settings.policy.fails_unmeasured:
            if not any(count for by_test in seen.hosts.values() for count in by_test.values()):
                yield "no part measured anything, so there is nothing to judge"
            yield from self._stale(seen)

    def _stale(self, seen: Measurements) -> Iterator[str]:
        tests = {test for by_kind in (seen.hosts, seen.left_out) for by_test in by_kind.values() for test in by_test}
        tests |= {test for part in self.parts for test, _ in part.told.broken} | {*self.wanted.pairs.tests}
        for pattern, where in self.settings.where.items():
            if all(self.settings.names.rank(pattern, test) is None for test in tests):
                yield f"{where}: no part has a test that {pattern!r} speaks of. Measure it, or remove the budget."

    def _said(self, seen: Measurements) -> Iterator[str]:
        yield from self.notes
        yield from (sentence for run in self.runs for sentence in run.differs)
        for part in self.parts:
            if part.told.facts.machine.dirty:
                yield f"{part.name}: tracked files differed from the commit"
            if part.told.facts.problem:
                yield f"{part.name}: no meter: {part.told.facts.problem}"
        wanted = self.wanted.pairs.hardware
        yield from (f"not expected: {kind}" for kind in seen.kinds if wanted and not any(is_meant(each, kind) for each in wanted))
        if not wanted:
            yield "no hardware was expected by name, so a kind that is missing is not noticed: --expect-hardware names them"
        if self.parts and not any(part.commit for part in self.parts):
            yield "no part says of which commit it is"


def _most(values: Sequence[T]) -> T | None:
    """What most of them are, of as many the first; None where there is none."""
    return next((value for value, _ in Counter(values).most_common(1)), None)


def _version(part: PartReport) -> str | None:
    return part.told.facts.machine.versions.get(PLUGIN)


def _otherwise(one: Record, other: Record) -> list[str]:
    """What keeps two runs on one kind of hardware from being pooled, with the second one's value: 'power limit 350 W'."""
    found = differences(other, one, cpu_judged=not any(each.startswith(GPU) for each in one.said.devices))
    return [f"{each.name} {each.ours}" for each in found if each.blocks and not each.metrics]


def _label(run: JudgedRun, usual: JudgedRun) -> str:
    return f"{run.kind} ({', '.join(_otherwise(usual.record, run.record))})"


def _may_be_chance(run: JudgedRun) -> bool:
    return any(each.word == "FAIL" and not METRICS[each.metric].exact for each in run.figures.verdicts)


def _pool_of(group: Sequence[JudgedRun]) -> str:
    """Which hosts were pooled: a card that was measured more than once is said."""
    cards = Counter(card for run in group for card in run.figures.cards)
    twice = [f"{card} was measured {times} times" for card, times in cards.items() if times > 1]
    return "; ".join([f"pooled: {listed([run.figures.host for run in group], MOST_NAMED)}", *twice])


def _common(said: Provenance) -> Provenance:
    """What the hosts of one kind share: not which cards they are, nor how warm."""
    devices = {domain: replace(device, uuid=None, facts={}) for domain, device in said.devices.items()}
    return replace(said, machine=Machine(commit=said.machine.commit, versions=said.machine.versions), devices=devices, conditions=None)
