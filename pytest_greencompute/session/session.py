"""One pytest session's measuring: what is open, what each metered test measured, and what its verdicts do.

Everything comes in as an argument, so that tests drive it with a simulated GPU and clock. Nothing here knows pytest's hooks;
it raises plain exceptions, which ``hooks.judged`` lets the test fail with.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.budget import Budget, resolve
from pytest_greencompute.judging.judge import HELD_AGAINST, Bench, hardware_of
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.machine import facts as machine
from pytest_greencompute.machine.clock import Clock, RealClock
from pytest_greencompute.machine.tracers import tracers
from pytest_greencompute.measuring.effort import Telling, tell_nobody
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.meters.base import traits_of
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.registry import meter
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.results.session import Facts, Refusal
from pytest_greencompute.session.explained import asked_for, commit_of, explain_loads, not_explained
from pytest_greencompute.session.opened import OpenMeters
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.session.verdicts import enforce, judged
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.store.runs import store_of
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.provenance import Machine, Provenance
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:  # loaded where other commits are compared with
    from pytest_greencompute.pairing.commits import Bases
    from pytest_greencompute.session.other_commits import OtherCommits


class Session:
    """Opens the meters when the first metered test is set up, measures, judges, and keeps the total."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        environ: Mapping[str, str],
        *,
        clock: Clock | None = None,
        extra_meters: Mapping[str, Any] | None = None,
        tell: Telling | None = None,
        waiting: Callable[[str], None] = lambda _: None,
        today: datetime.date | None = None,
        alarms: int = 1,
        side_options: Sequence[str] = (),
        is_side: bool = False,
    ) -> None:
        self.settings = settings
        self.opened: OpenMeters | None = None
        self._others: OtherCommits | None = None
        self._alarms = max(1, alarms)
        self.root = root
        self.home = settings.folder or root
        self.environ = environ
        self.extra_meters = dict(extra_meters or {})
        self.machine = Machine()
        self.loosened: tuple[str, ...] = ()
        self._clock = clock
        self._tell = tell
        self._waiting = waiting
        self._today = today or datetime.datetime.now(tz=datetime.timezone.utc).date()
        self._is_side = is_side
        self.side_options = tuple(side_options)
        self._device_s = self._apart_s = 0.0
        self.saved: Sequence[Sequence[Run]] = ()
        self._bench: Bench | None = None
        if settings.baseline is not None and settings.enabled:
            self.saved = store_of(self.home).named(settings.baseline).runs()
        if settings.base_refs and settings.enabled:
            self._others = self._commits(settings.base_refs)

    # --- opening and the total ---

    @property
    def clock(self) -> Clock:
        if self._clock is None:
            self._clock = RealClock()
        return self._clock

    def sees_hosts(self) -> bool:
        """Whether some meter that is listed is of other hosts."""
        return any(traits_of(meter(name, self.extra_meters)).sees == "hosts" for name in self.settings.meters)

    @property
    def footprint(self) -> Footprint | None:
        """What energy is turned into; None where nobody asked."""
        return self.settings.footprint

    def open(self) -> None:
        """Open the meters once; a session without any goes on, and says why each energy is unmeasured."""
        if self.opened is None:
            self.opened = OpenMeters(self.settings, self.clock, self.environ, self.root, self.extra_meters, is_side=self._is_side)
            self.machine = self.opened.machine
            if self.bases is not None:
                self.bases.open()

    @property
    def instruments(self) -> Instruments | None:
        """The open meters; None before the first metered test."""
        return None if self.opened is None else self.opened.instruments

    @property
    def problem(self) -> str:
        """Why no meter works, in whole; empty where one does, or none was opened."""
        return "" if self.opened is None else self.opened.problem

    @property
    def why_unmeasured(self) -> str:
        """Why a run has no energy, in short; empty where it has."""
        return "" if self.opened is None else self.opened.why_unmeasured

    def note_total(self) -> None:
        """The total ends here unless another metered test follows."""
        if self.opened is not None:
            self.opened.note_total()

    def facts(self) -> Facts:
        """What this session is, besides its runs. Cheap: it reads nothing."""
        if self.opened is None:
            return Facts(machine=self.machine, loosened=self.loosened)
        parts, why = self.opened.total()
        meters, total_j = self.opened.instruments, sum(parts.values()) if parts else None
        return Facts(
            machine=self.machine,
            sources=tuple(meters.sources),
            refusals=tuple(Refusal.of(*each) for each in meters.refusals),
            problem=self.problem,
            seconds=self.opened.seconds,
            total_j=total_j,
            by_domain=parts,
            why_no_total=why,
            loosened=self.loosened,
            device_s=self._device_s,
            apart_s=self._apart_s,
            mean_w=None if total_j is None or not self.opened.seconds else total_j / self.opened.seconds,
        )

    def close(self) -> None:
        """Close the meters and put the signal handler back; may be called twice."""
        with contextlib.ExitStack() as closing:
            if self.bases is not None:
                closing.callback(self.bases.close)
            if self.opened is not None:
                closing.callback(self.opened.close)

    # --- other commits ---

    @property
    def bases(self) -> Bases | None:
        """The other commits; None where none is compared with."""
        return None if self._others is None else self._others.bases

    def _commits(self, refs: tuple[str, ...]) -> OtherCommits:
        """Other commits than this one. Raises GitError for one that there is not."""
        from pytest_greencompute.session.other_commits import OtherCommits

        settings = replace(self.settings, base_refs=refs)
        return OtherCommits(settings, self.root, self.home, self.environ, self.side_options, self._alarms)

    def expect_tests(self, node_ids: Sequence[str]) -> None:
        """The tests that are going to be measured, in order: what serves them at another commit is started once."""
        if self.bases is not None:
            self.bases.tests = tuple(node_ids)

    def contend(self, test: MeteredTest) -> None:
        """Start the test at the other commits, if there are any: they import what they need while this side's fixtures load."""
        if self._others is not None and self.opened is not None:
            budget, tell = self.budget(test), self.tell(test)
            test.told = test.plan(budget)
            test.contest = self._others.contest(test, budget, self.aim(test), lambda what: tell(Tell(what)), self.opened.instruments)
            test.contest.limit = self.limit(test)
            with contextlib.ExitStack() as measuring:
                if self.settings.base_turns == "launches":
                    measuring.enter_context(self.lock())
                    measuring.enter_context(test.contest.limit.counting())
                test.contest.start()

    # --- judging ---

    def budget(self, test: MeteredTest) -> Budget:
        """What holds for a test on the hardware that is open."""
        lines = test.now()
        if self.machine == Machine() and any(line.on for line in lines):
            self.machine = machine.facts(self.environ, self.root)
        sources = self.instruments.sources if self.instruments is not None else ()
        hardware = hardware_of(test.runs, self.machine)
        hardware["gpu"] += tuple(source.device for source in sources if source.domain.startswith("gpu"))
        hardware["meter"] += tuple(source.meter for source in sources)
        return resolve(lines, hardware)

    def bench(self) -> Bench:
        """What all tests are judged against; made once, since it keeps the figures of the saved runs."""
        if self._bench is not None:
            return self._bench
        settings = self.settings
        baseline = settings.baseline if settings.enabled else None
        self._bench = Bench(
            Aim(domains=settings.domains, footprint=settings.footprint or Footprint()),
            settings.accuracy_confidence,
            settings.accept,
            self._today,
            baseline,
            self.saved,
            alarms=self._alarms,
            compares=any(getattr(settings, row.setting) for row in HELD_AGAINST.values()),
        )
        return self._bench

    def judge(self, test: MeteredTest, *, ended: bool = True) -> list[Verdict]:
        """Judge all that a test measured, keep the results on it, and return the verdicts.

        ``ended``: its body came to its end, so that what it did not measure is missing.
        """
        if ended and test.contest is not None and self._others is not None:
            try:
                test.contest.confirm(nothing=not test.runs and not test.windows)
            finally:
                self.told()
            self.loosened = tuple(dict.fromkeys((*self.loosened, *self._others.laxer(test, test.contest, self.budget))))
        verdicts = judged(test, self.budget(test), self.bench(), self.settings, ended=ended)
        if ended and self.settings.explain != "off":
            try:
                self._explain(test, verdicts)
            finally:
                self.told()
        return verdicts

    def _explain(self, test: MeteredTest, verdicts: Sequence[Verdict]) -> None:
        """Look at both sides of what FAILed against a commit, or against a baseline whose commit is in this clone."""
        always = self.settings.explain == "always"
        learnt = () if self.instruments is None else self.instruments.behaviours
        if test.contest is not None and self._others is not None:
            self._others.explain(test, test.contest, asked_for(verdicts, "base_ref", always=always), learnt)
        asked = explain_loads(test, asked_for(verdicts, "baseline", always=always), self.saved)
        if asked and self.opened is not None:
            tell = self.tell(test)
            say, aim, budget = (lambda what: tell(Tell(what))), self.aim(test), self.budget(test)
            try:
                commits = self._commits((commit_of(self.saved, test, self.machine),))
                with contextlib.closing(commits.bases):
                    commits.bases.open()
                    contest = commits.contest(test, budget, aim, say, self.opened.instruments)
                    contest.limit = self.limit(test)
                    commits.explain(test, contest, asked, learnt)
            except GreencomputeError as error:
                not_explained(test, asked, error)

    def enforce(self, test: MeteredTest, verdicts: Sequence[Verdict], *, only_failures: bool = False) -> None:
        """Raise BudgetsFailedError or BudgetsSkippedError with the sentences of the verdicts that ask for it."""
        enforce(test, verdicts, self.settings, only_failures=only_failures)

    def provenance(self) -> Provenance:
        """What ran where, for every run of this session."""
        footprint = None if self.footprint is None else self.footprint.factors
        return Provenance(machine=self.machine, footprint=footprint, traced=", ".join(tracers()) or None)

    # --- what the fixture needs ---

    def limit(self, test: MeteredTest) -> TimeLimit:
        """What the test may cost, of which its earlier runs have used their parts."""
        if test.limit is None:
            test.limit = TimeLimit(self.clock)
        test.limit.seconds = self.budget(test).seconds(runs=len(test.runs) + 1, commits=len(self.settings.base_refs))
        return test.limit

    def note_cost(self, test: MeteredTest) -> None:
        """The test is over: what its runs and windows took is added to the session's."""
        limit, test.limit = test.limit, None
        self._device_s += sum(window.seconds for window in test.windows)
        if limit is not None:
            self._device_s += limit.spent_s
            self._apart_s += limit.apart_s

    def tell(self, test: MeteredTest) -> Telling:
        """Progress of one test, for whoever shows it."""
        if self._tell is None:
            return tell_nobody
        show = self._tell
        return lambda step: show(replace(step, what=f"{test.subject}: {step.what}"))

    def told(self) -> None:
        """A measurement has ended: nothing of its progress is to stay on the screen."""
        clear = getattr(self._tell, "clear", None)
        if clear is not None:
            clear()

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """The locks of all metered devices."""
        assert self.opened is not None
        return self.opened.lock(self._waiting)

    def aim(self, test: MeteredTest | None) -> Aim:
        """What is asked of a test's runs: the session's aim, as sure as the test's budget wants it; without a test, the session's own."""
        aim = self.bench().aim
        return aim if test is None else aim.at(self.budget(test).confidence)
