"""The other commits of a session, and one test's processes at each of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.judging.budget import Budget, Limit
from pytest_greencompute.judging.judge import ALWAYS_COMPARED, Against, lost_runs
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing import started
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.launches import Launched, launch_by_turns
from pytest_greencompute.pairing.looking import profiles
from pytest_greencompute.pairing.outlook import Outlook
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.room import Room
from pytest_greencompute.pairing.runs import IN_PAIRS, BaseOfTest, Match, Pairing, Saying
from pytest_greencompute.pairing.started import NotMeasuredError, Side
from pytest_greencompute.pairing.told import Explaining, Told
from pytest_greencompute.pairing.verdicts import KIND, against_base, notes_of
from pytest_greencompute.results.result import Pairs
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.run import Run

LOADING_TIMES = 10.0  # what this side took to load
WINDOW = "a window is judged by its budgets: it is not measured by turns with other commits"


@dataclass
class Contest:
    """One test against all bases: their processes, started together with the test and ended with it, and what they showed.

    ``by_launches``: whole launches take turns before the test, instead of sets with the test. ``told`` is what a process of a side is
    told; ``alarms`` how many verdicts of the session share the error of a FAIL; ``say`` is told what it is waiting for. ``room`` as for
    ``Pairing``; ``limit`` is what the test may cost.
    """

    checked_out: Bases
    node_id: str
    told: Told
    budget: Budget
    aim: Aim
    launches: int = 1
    alarms: int = 1
    by_launches: bool = False
    say: Saying = lambda _: None
    room: Room | None = None
    limit: TimeLimit = field(default_factory=TimeLimit)
    bases: list[BaseOfTest] = field(default_factory=list, init=False)
    _pairings: dict[str | None, Pairing] = field(default_factory=dict, init=False)
    _launched: dict[str, Launched] = field(default_factory=dict, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)

    def start(self) -> None:
        """Start a process for each base, which imports what it needs and waits; where launches take turns, measure them all now."""
        self._began = time.monotonic()
        self.bases = self.checked_out.of_test(self.node_id)
        for base in self.bases:
            if not self.by_launches:
                base.start(self._serve, self.room)
            elif base.side is not None and not base.problem:
                head = self.checked_out.head(self.node_id)
                self._launched[base.label] = launch_by_turns(
                    self.launch, base.side, head, launches=self.launches, compared=self._in_pairs, say=self.say, apart=self.limit.apart
                )

    def launch(self, side: Side) -> Process:
        """A process of a side."""
        return self.checked_out.launch(side, self.told)

    def _serve(self, side: Side) -> Process:
        return self.checked_out.serve(side, self.told)

    def pairing(self, name: str | None) -> Pairing:
        """The comparison of the run called ``name``, which is about to be measured."""
        rules = {metric.name: self._rule(metric) for metric in self._in_pairs(name)}
        matches = [self._match(base, rules, name) for base in self.bases]
        head, loading_s = self.checked_out.head(self.node_id), max(started.LOADING_S, LOADING_TIMES * (time.monotonic() - self._began))
        pairing = Pairing(matches, head, self.launch, self.aim, self.launches, name, self.say, room=self.room, loading_s=loading_s)
        pairing.outlook = Outlook(self.limit)
        self._pairings[name] = pairing
        return pairing

    def _match(self, base: BaseOfTest, rules: Mapping[str, Rule], name: str | None) -> Match:
        launched = self._launched.get(base.label)
        if launched is None:
            return Match(base, rules, self.aim)
        bases, heads, problem = launched.of(name, self.aim)
        match = Match(base, rules, self.aim, run=bases[0] if bases else None, launched=(bases, heads))
        match.problem, match.missing = problem, launched.missing
        return match

    def _in_pairs(self, name: str | None) -> list[Metric]:
        """The metrics of a run that are compared set by set, or launch by launch."""
        return [METRICS[each] for each in self._compared(name) if METRICS[each].kind in IN_PAIRS]

    def _rule(self, metric: Metric) -> Rule:
        budget = self.budget
        return Rule(budget.tolerance(metric), budget.confidence, metric.better, budget.floor(metric), self.alarms)

    def _compared(self, name: str | None) -> tuple[str, ...]:
        """The metrics of a run that are held against bases: those that always are, and those that have a limit."""
        return tuple(dict.fromkeys((*ALWAYS_COMPARED, *self._limits(name))))

    def _limits(self, name: str | None) -> dict[str, Limit]:
        return {**self.budget.limits.get(None, {}), **self.budget.limits.get(name, {})}

    def lost(self, subject: str) -> tuple[Verdict, ...]:
        """UNMEASURED verdicts for the runs that the test measures at a base and does not measure any more."""
        verdicts: list[Verdict] = []
        for base in self.bases:
            launched = self._launched.get(base.label)
            names = base.names if launched is None else [name for launch in launched.base for name in launch]
            verdicts += lost_runs(names, self._pairings, subject, kind=KIND, where=base.label)
        return tuple(verdicts)

    def confirm(self, *, nothing: bool = False) -> None:
        """Start base and head afresh where a FAIL must be seen again. The processes of the test's own runs end first.

        They come to the end of their tests before, so that what they measure besides is known; where this side has measured ``nothing``,
        too, but not for windows and candidates alone, which the bases would run in vain.
        """
        for base in self.bases:
            base.has_room()
            if base.process is not None and (self._pairings or nothing):
                self.say(f"waiting for the end of the test at {base.label}")
                base.process.run_through()
        self.close()
        if any(match.asks == "relaunch" for pairing in self._pairings.values() for match in pairing.matches):
            self.checked_out.end_serving()  # the models that it keeps for the tests that follow take memory
        for pairing in self._pairings.values():
            with self.limit.counting():
                pairing.confirm()

    def explain(self, label: str, name: str | None, how: Explaining) -> tuple[Profile, Profile]:
        """What the commit of that label and this tree are seen to do in the run called ``name``. Raises NotMeasuredError."""
        base = next(each for each in self.checked_out.of_test(self.node_id) if each.label == label)
        if base.side is None or base.problem:
            raise NotMeasuredError(base.problem)
        self.close()
        self.checked_out.end_serving()
        head, loading_s = self.checked_out.head(self.node_id), max(started.LOADING_S, LOADING_TIMES * (time.monotonic() - self._began))
        with self.limit.counting():
            return profiles(partial(self.launch, base.side), partial(self.launch, head), name, how, self.limit, loading_s, self.say)

    def wait_still(self) -> None:
        """Wait until nothing loads beside this side any more, which is about to be metered without the bases."""
        for base in self.bases:
            base.has_room()
            if base.process is not None:
                with contextlib.suppress(NotMeasuredError):
                    base.process.wait_still(started.LOADING_S)

    def against(self, head: Figures, subject: str) -> list[Against]:
        """What a run is held against: the bases that have the test."""
        return [against_base(match, head, subject) for match in self._matches(head.run.name) if not match.missing]

    def notes(self, head: Figures) -> tuple[str, ...]:
        """What else there is to say of a run beside the bases."""
        if head.run.name not in self._pairings:
            return (WINDOW,) if head.run.window else ()
        return (*(note for match in self._matches(head.run.name) for note in notes_of(match, head)), *self.checked_out.notes)

    def _matches(self, name: str | None) -> Sequence[Match]:
        pairing = self._pairings.get(name)
        return () if pairing is None else pairing.matches

    def demands(self) -> dict[str, Demands]:
        """What each commit demands of the test, by the commit's label; those that told nothing are left out."""
        found = {}
        for base in self.bases:
            launched = self._launched.get(base.label)
            told = base.process.demands if base.process else base.demands or (launched.demands if launched else None)
            if told:
                found[base.label] = told
        return found

    def pairs(self, name: str | None) -> list[Pairs]:
        """The pairs of sets that a run was measured in, for each base and metric (SI units)."""
        return [
            Pairs(match.base.label, metric, test.measured, test.again, test.max_pairs, test.first or test.max_pairs, test.launches)
            for match in self._matches(name)
            for metric, test in match.tests.items()
            if test.measured
        ]

    def measured_at(self, name: str | None) -> dict[str, Run]:
        """The run of that name at each base that it was compared with set by set."""
        return {match.base.label: match.run for match in self._matches(name) if match.run is not None and match.launched is None}

    def close(self) -> None:
        """End all processes. May be called twice."""
        for base in self.bases:
            base.close()
