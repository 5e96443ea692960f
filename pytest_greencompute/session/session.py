"""One pytest session's measuring: what is open, what each metered test measured, and what its verdicts do.

Everything comes in as an argument, so that tests drive it with a simulated GPU and clock. Nothing here knows pytest's hooks;
it raises plain exceptions that plugin.py places.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import MeterError, NoMeterError
from pytest_greencompute.machine.tracers import tracers
from pytest_greencompute.session.opened import terminate
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.session.verdicts import enforce, judged
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.provenance import Machine, Provenance

if TYPE_CHECKING:
    from pytest_greencompute.judging.budget import Budget, Line, Terms
    from pytest_greencompute.judging.judge import Bench
    from pytest_greencompute.judging.laxer import Stance
    from pytest_greencompute.judging.verdict import Verdict
    from pytest_greencompute.machine.clock import Clock
    from pytest_greencompute.measuring.effort import Telling
    from pytest_greencompute.meters.instruments import Instruments
    from pytest_greencompute.pairing.commits import Bases
    from pytest_greencompute.pairing.demands import Demands
    from pytest_greencompute.pairing.tests import Contest
    from pytest_greencompute.pairing.told import Told
    from pytest_greencompute.pairing.worker import Worker
    from pytest_greencompute.results.session import Facts
    from pytest_greencompute.values.footprint import Footprint
    from pytest_greencompute.values.readings import Reading
    from pytest_greencompute.values.run import Run


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
        worker: Worker | None = None,
        alarms: int = 1,
        side_options: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.worker = worker
        self.max_seconds, self.needs_p99 = 60.0, False
        self.count: tuple[str, ...] = ()
        self.bases: Bases | None = None
        self._alarms = max(1, alarms)
        self.root = root
        self.home = settings.folder or root
        self.environ = environ
        self.extra_meters = dict(extra_meters or {})
        self.problem = ""
        self.seconds = 0.0
        self.instruments: Instruments | None = None
        self.machine = Machine()
        self.loosened: tuple[str, ...] = ()
        self._clock = clock
        self._tell = tell
        self._waiting = waiting
        self._today = today or datetime.datetime.now(tz=datetime.timezone.utc).date()
        self._first: dict[str, Reading] = {}
        self._last: dict[str, Reading] = {}
        self._start_ns = 0
        self._total_problem = ""
        self._refusal = ""
        self.saved: Sequence[Sequence[Run]] = ()
        self._bench: Bench | None = None
        self._signal: Any = None
        if settings.baseline is not None and settings.enabled:
            from pytest_greencompute.store.runs import store_of

            self.saved = store_of(self.home).named(settings.baseline).runs()
        if settings.base_refs and settings.enabled:
            from pytest_greencompute.pairing.commits import Bases

            links = settings.base_link if self.home == root else [str(self.home / link) for link in settings.base_link]
            self.bases = Bases(root, environ, settings.base_refs, settings.base_python, links, side_options, self.home)
            self.bases.resolve()

    # --- opening and the total ---

    @property
    def clock(self) -> Clock:
        if self._clock is None:
            from pytest_greencompute.machine.clock import RealClock

            self._clock = RealClock()
        return self._clock

    @property
    def footprint(self) -> Footprint | None:
        """What energy is turned into; None where nobody asked."""
        return self.settings.footprint

    def open(self) -> None:
        """Open the meters once; a session without any goes on, and says why each energy is unmeasured."""
        if self.instruments is not None:
            return
        from pytest_greencompute.machine import facts as machine
        from pytest_greencompute.measuring.script import open_instruments
        from pytest_greencompute.meters.instruments import Instruments
        from pytest_greencompute.meters.registry import ORDER_BY_DEFAULT

        options: dict[str, Any] = {"lock_folder": self.settings.lock_folder, "allowed_marks": self.settings.allow}
        try:
            self.instruments = open_instruments(
                self.settings.meters or ORDER_BY_DEFAULT,
                clock=self.clock,
                environ=self.environ,
                extra=self.extra_meters,
                cpu_watts_per_core=self.settings.cpu_watts_per_core,
                family=None if self.worker is None else os.getppid(),  # the process that compares, whose other side shares the device
                domains=self.settings.domains,
                **options,
            )
        except NoMeterError as error:
            self.problem = str(error).removeprefix("No meter works here. ")
            self.instruments = Instruments((), self.clock, refusals=error.refusals, **options)
        self.machine = machine.facts(self.environ, self.root)
        self._refusal = self._missing_gpu()
        self.problem = self._refusal or self.problem
        self._start_ns = self.clock.now_ns()
        self._handle_termination()
        self._first = self._last = self._read_total()
        if self.bases is not None:
            self.bases.open()

    def _missing_gpu(self) -> str:
        """Why no energy may be judged where a GPU is here that could not be metered: its joules would be missing; or empty."""
        from pytest_greencompute.errors import NothingThereError
        from pytest_greencompute.meters.base import traits_of
        from pytest_greencompute.meters.registry import meter
        from pytest_greencompute.values.readings import WHOLES

        assert self.instruments is not None
        if self.settings.domains != ("auto",) or any(source.domain in WHOLES for source in self.instruments.sources):
            return ""
        refusals = [each for each in self.instruments.refusals if not isinstance(each[1], NothingThereError)]
        refused = [error for name, error in refusals if traits_of(meter(name, self.extra_meters)).reads_gpus]
        return f"a GPU is here that could not be metered: {refused[0]} Or judge other energy by name: domains = 'cpu'" if refused else ""

    @property
    def why_unmeasured(self) -> str:
        """Why a run has no energy; the whole reason is said once, at the end of the session. Empty where it has."""
        if not self.problem:
            return ""
        # Of a device that is here and refuses, the remedy is worth saying at every budget; of hardware that is not here, once.
        return self._refusal or "no energy meter works here"

    def note_total(self) -> None:
        """Read the counters once more: the total ends here unless another metered test follows."""
        if self.instruments is not None:
            self._last = self._read_total()
            self.seconds = (self.clock.now_ns() - self._start_ns) / 1e9

    def _read_total(self) -> dict[str, Reading]:
        assert self.instruments is not None
        try:
            return self.instruments.read()
        except MeterError as error:
            self._total_problem = str(error)
            return self._last

    def facts(self) -> Facts:
        """What this session is, besides its runs. Cheap: it reads nothing."""
        from pytest_greencompute.results.session import Facts, Refusal

        parts, why = self._total()
        meters = self.instruments
        return Facts(
            machine=self.machine,
            sources=() if meters is None else tuple(meters.sources),
            refusals=() if meters is None else tuple(Refusal.of(*each) for each in meters.refusals),
            problem=self.problem,
            seconds=self.seconds,
            total_j=sum(parts.values()) if parts else None,
            by_domain=parts,
            why_no_total=why,
            loosened=self.loosened,
        )

    def _total(self) -> tuple[dict[str, float], str]:
        """Joules by domain from the first metered test's set-up to the end of the last; or none, and why there is no honest figure."""
        if self.instruments is None or not self._first or self._total_problem:
            return {}, self.problem or self._total_problem
        dropped = self.instruments.dropped_j
        read = [domain for domain in self._last if domain in self._first]
        spent = {domain: self._last[domain].energy_j - self._first[domain].energy_j + dropped.get(domain, 0.0) for domain in read}
        # What a model forgets when a process ends was used all the same; a counter that starts anew has lost something nobody knows.
        reset = [source.domain for source in self.instruments.sources if source.domain in dropped and source.method != "modelled"]
        stopped = self.instruments.stopped(self._first)
        if reset or stopped or min(spent.values(), default=0.0) < 0:
            from pytest_greencompute.values.units import ENERGY, show

            at_least = show(sum(spent.values()) + sum(stopped.values()), ENERGY)
            how = "was reset" if reset or not stopped else "stopped working"
            return {}, f"the energy counter of {' and '.join(reset or stopped) or 'a domain'} {how}; at least {at_least} were used"
        return spent, ""

    def _handle_termination(self) -> None:
        """Make SIGTERM end the session as Ctrl-C does, so that a cancelled CI job still writes what it has."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._signal = signal.signal(signal.SIGTERM, terminate)

    def close(self) -> None:
        """Close the meters and put the signal handler back; may be called twice."""
        if self._signal is not None:
            signal.signal(signal.SIGTERM, self._signal)
            self._signal = None
        if self.instruments is not None:
            self.instruments.close()
        if self.bases is not None:
            self.bases.close()

    # --- other commits ---

    def contend(self, test: MeteredTest) -> None:
        """Start the test at the other commits, if there are any: they import what they need while this side's fixtures load."""
        if self.bases is None:
            return
        from pytest_greencompute.pairing.tests import Contest
        from pytest_greencompute.protocol.messages import Tell

        budget, settings = self.budget(test), self.settings
        test.told = test.plan(budget)
        aim = self.bench().aim.at(budget.confidence)
        tell = self.tell(test)
        test.contest = Contest(
            self.bases,
            test.node_id,
            self.told_to_sides(budget),
            budget,
            aim,
            settings.launches,
            self._alarms,
            settings.base_turns == "launches",
            lambda what: tell(Tell(what)),
        )
        with self.lock() if settings.base_turns == "launches" else contextlib.nullcontext():
            test.contest.start()

    def told_to_sides(self, budget: Budget) -> Told:
        """What a process that measures one side needs to know of the settings."""
        from pytest_greencompute.settings.sides import told_to_sides

        return told_to_sides(self.settings, budget, self.root, self.home)

    def _compare_stances(self, test: MeteredTest, contest: Contest) -> None:
        """Note which limits of the test are laxer here than at the other commits."""
        from pytest_greencompute.judging.laxer import laxer

        if test.demands is not None:
            found: list[str] = []
            for ref, demands in contest.demands().items():
                unread = test.demands.unread or demands.unread
                if unread:
                    found.append(f"{test.subject}: whether limits are laxer than at {ref} is not known: {unread}")
                else:
                    found += laxer(self._stance(test, demands), self._stance(test, test.demands), test.subject)
            self.loosened = tuple(dict.fromkeys((*self.loosened, *found)))

    def _stance(self, test: MeteredTest, demands: Demands) -> Stance:
        """What was demanded at a commit, under this session's options and on its hardware."""
        from pytest_greencompute.judging.budget import COMMAND_LINE
        from pytest_greencompute.judging.laxer import Stance

        # Another version does not tell of pytest's own file: then its options are taken to be those of the command line.
        given = self.settings.terms if demands.settings is None or test.demands is None else self._given_here(test.demands.lines)
        lines = (replace(line, terms=given.over(line.terms)) if line.where == COMMAND_LINE else line for line in demands.lines)
        budget = self.budget(replace(test, lines=tuple(lines), reread=None))
        return Stance(budget, demands.accept, demands.policy, demands.settings or {}, demands.group)

    def _given_here(self, lines: Sequence[Line]) -> Terms:
        """The terms that the command line gives, without those that pytest's configuration file adds to it."""
        from pytest_greencompute.judging.budget import COMMAND_LINE, TERMS, Terms

        terms, added = self.settings.terms, next((line.terms for line in lines if line.where == COMMAND_LINE), Terms())
        return Terms(**{name: getattr(terms, name) for name in TERMS if getattr(terms, name) != getattr(added, name)})

    def part(self, test: MeteredTest) -> None:
        """End the test's processes at the other commits."""
        if test.contest is not None:
            test.contest.close()
            test.contest = None

    # --- judging ---

    def budget(self, test: MeteredTest) -> Budget:
        """What holds for a test on the hardware that is open."""
        from pytest_greencompute.judging.budget import resolve
        from pytest_greencompute.judging.judge import hardware_of

        lines = test.now()
        if self.machine == Machine() and any(line.on for line in lines):
            from pytest_greencompute.machine import facts as machine

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
        from pytest_greencompute.estimates.estimate import Aim
        from pytest_greencompute.judging.judge import Bench
        from pytest_greencompute.values.footprint import Footprint

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
            commits=bool(settings.base_refs),
        )
        return self._bench

    def judge(self, test: MeteredTest, *, ended: bool = True) -> list[Verdict]:
        """Judge all that a test measured, keep the results on it, and return the verdicts.

        ``ended``: its body came to its end, so that what it did not measure is missing.
        """
        if ended and test.contest is not None:
            try:
                test.contest.confirm(nothing=not test.runs and not test.windows)
            finally:
                self.told()
            self._compare_stances(test, test.contest)
        return judged(test, self.budget(test), self.bench(), self.settings, ended=ended)

    def enforce(self, verdicts: Sequence[Verdict], *, only_failures: bool = False) -> None:
        """Raise BudgetsFailedError or BudgetsSkippedError with the sentences of the verdicts that ask for it."""
        enforce(verdicts, self.settings, only_failures=only_failures)

    def provenance(self) -> Provenance:
        """What ran where, for every run of this session."""
        footprint = None if self.footprint is None else self.footprint.factors
        return Provenance(machine=self.machine, footprint=footprint, traced=", ".join(tracers()) or None)

    # --- what the fixture needs ---

    def tell(self, test: MeteredTest) -> Telling:
        """Progress of one test, for whoever shows it."""
        from pytest_greencompute.measuring.effort import tell_nobody

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
        assert self.instruments is not None
        return self.instruments.locked(self._waiting)
