"""The loop: drives a protocol with a real or simulated clock, counters and a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from pytest_greencompute.errors import MeterLostError
from pytest_greencompute.machine.clock import Clock, is_real
from pytest_greencompute.machine.facts import crowd
from pytest_greencompute.machine.processes import workers
from pytest_greencompute.machine.spinning import Spinning
from pytest_greencompute.measuring.believed import believed
from pytest_greencompute.measuring.effort import Effort, Telling, tell_nobody
from pytest_greencompute.measuring.once import Answered
from pytest_greencompute.measuring.task import Prepared, Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.answers import digests, untold
from pytest_greencompute.models.awaiting import aside, finished
from pytest_greencompute.models.counting import count_figures, notes_of
from pytest_greencompute.models.fingerprints import of_counter, of_queries, of_scoring
from pytest_greencompute.models.queries import Batches, plain
from pytest_greencompute.models.repeats import Repeats
from pytest_greencompute.models.tallies import Inside, OncePass, set_aside
from pytest_greencompute.models.tokens import check_markers
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.protocol.layout import PAIR_SECONDS, TURN_SECONDS
from pytest_greencompute.protocol.messages import (
    Agree,
    Ask,
    Enough,
    Learn,
    Marks,
    Measured,
    Phase,
    Plan,
    Probe,
    Rest,
    Spun,
    Steps,
    Tell,
    Ticks,
    Turn,
    Wait,
    Work,
)
from pytest_greencompute.protocol.sets import RESET_REMEDY, between
from pytest_greencompute.values.provenance import ByDomain, Device, Moments, Provenance
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

COOLED_S = 0.2  # a device that has had nothing to do for longer is warmed up again
WARM_AGAIN_S = 0.6
Pause = tuple[Agree | Turn, Run | None]  # what other sides must answer, with the run so far at a turn
Metering = Generator[Pause, Any, Answered]


@dataclass(frozen=True, slots=True)
class Doing:
    """What may have to be awaited: whoever drives calls ``work``, and sends what that returns in the end or throws what it raises."""

    work: Callable[[], Coroutine[Any, Any, Any]]


_Steps = Generator[Doing | Pause, Any, Answered]


def run_metered(task: Task, instruments: Instruments, effort: Effort, problem: str = "") -> Answered:
    """The whole protocol, its run and the answers. Arguments and errors as for ``metering``; ``effort`` speaks for other sides."""
    return finished(arun_metered(task, instruments, effort, problem))


async def arun_metered(task: Task, instruments: Instruments, effort: Effort, problem: str = "") -> Answered:
    """As ``run_metered``, for a model that may have to be awaited; the event loop is free while counters are waited for."""
    steps = _metering(task, instruments, effort, problem)
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            ask = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as done:
            measured: Answered = done.value
            return measured
        error = None
        if not isinstance(ask, Doing):
            answer = _answered(effort, *ask)
            continue
        try:
            answer = await ask.work()
        except BaseException as raised:  # noqa: BLE001  it is thrown to where the work was asked for
            error = raised


def _answered(effort: Effort, ask: Agree | Turn, run: Run | None) -> Any:
    """What the other sides say, by ``effort``."""
    if isinstance(ask, Agree):
        return effort.agree(ask.layout)
    return effort.turn(ask.index, run)


def metering(task: Task, instruments: Instruments, effort: Effort, problem: str = "") -> Metering:
    """The whole protocol, pausing wherever other sides have a say: to be sent a layout, and before each set whether it may run.

    ``problem`` says why there is no meter, if there is none: then latency and accuracy alone are measured, without a pause. The model is
    not awaited. Raises SettingsError for bad input, MeterError for a meter that fails, and whatever the model raises, untouched.
    """
    assert not task.awaits
    return cast("Metering", _metering(task, instruments, effort, problem))


def _doing(work: Callable[[], Coroutine[Any, Any, Any]], *, awaits: bool) -> Generator[Doing, Any, Any]:
    """What ``work`` returns: done on the spot, unless there is something in it to be awaited."""
    return (yield Doing(work)) if awaits else finished(work())


def _metering(task: Task, instruments: Instruments, effort: Effort, problem: str) -> _Steps:
    """``metering``, with all that may have to be awaited handed out, too."""
    import numpy as np

    prepared = Prepared(task)
    workload, clock = prepared.workload, instruments.clock
    repeats = Repeats(workload, cached=task.repeats == "cached")
    asked = _asked(prepared, effort.provenance)  # before the model has had the queries, which it may change
    opaque = None if asked.queries is None else asked.queries.opaque
    if effort.keep_answers and opaque:
        prepared.notes += (f"queries are {opaque} objects, which show nothing of what is in them: others would not be noticed",)
    start_ns, before = clock.now_ns(), instruments.read_before()
    with OncePass(task.watched) as seen, prepared.hearing():
        telling = _first_pass_of(workload.queries, clock, effort.tell)
        first_pass = partial(workload.afirst_pass, clock, tell=telling, done=seen.done)
        outputs, first = yield from _doing(first_pass, awaits=task.awaits)
    repeats.answered(outputs)
    effort.answered()
    scored, answers = prepared.scores(outputs), _digests(prepared, outputs) if effort.keep_answers else ""
    counted = prepared.counted(outputs)
    remarks, instruments.remarks = instruments.remarks, ()
    answered = prepared.run(
        metered=True,
        scores=scored,
        answers=answers,
        notes=seen.notes + remarks,
        problem=problem,
        watching=seen.found(workload.queries),
        provenance=asked,
        **counted,
    )
    inside = Inside()
    run = _SoFar(answered, start_ns, instruments, repeats, inside, instruments.conditions(), instruments.facts())
    driver = _Driver(workload, instruments, effort, run, task, inside, repeats)
    plan = replace(_plan(task, workload.batches, instruments, effort), before=before)
    with contextlib.closing(instruments.beside()) as beside:
        measured = yield from driver.drive(effort.protocol(plan, np.random.default_rng(effort.seed), first))
    repeats.judge()
    done = run(replace(measured, notes=(*measured.notes, *_marked(measured), *driver.spinning.notes)))
    done = believed(done, beside, instruments.allowed)
    names = tuple(dict.fromkeys((*effort.count, *prepared.count)))
    with set_aside(task.watched):
        return (yield from _doing(partial(_with_counts, done, names, workload, clock, effort.tell), awaits=task.awaits)), outputs


@dataclass(frozen=True, slots=True)
class _SoFar:
    """The run so far: ``answered`` is what the first pass gave, to which what has been measured since is added.

    ``before`` and ``devices`` are the instruments' conditions and facts as they were after the first pass.
    """

    answered: Run
    start_ns: int
    instruments: Instruments
    repeats: Repeats
    inside: Inside
    before: ByDomain
    devices: Mapping[str, Device]

    def __call__(self, measured: Measured) -> Run:
        answered, instruments = self.answered, self.instruments
        sources = instruments.kept(measured.sources)
        return replace(
            answered,
            seconds=(instruments.clock.now_ns() - self.start_ns) / 1e9,
            sources=sources,
            blocks=measured.blocks,
            warmup=measured.warmup,
            idles=measured.idles,
            latencies=measured.latencies,
            notes=answered.notes + self.repeats.notes + measured.notes + instruments.left_out,
            looks=measured.looks,
            watching=self.inside.shared(answered.watching, measured.blocks),
            provenance=replace(
                answered.provenance,
                devices={source.domain: self.devices[source.domain] for source in sources},
                conditions=Moments(self.before, instruments.conditions()),
            ),
        )


def _plan(task: Task, batches: int, instruments: Instruments, effort: Effort) -> Plan:
    return Plan(
        batches,
        instruments.sources,
        effort.max_seconds,
        effort.percentile,
        instruments.lag_unknown,
        instruments.allowed,
        timing=effort.timing if task.timed else "none",
        in_pairs=effort.in_pairs,
        turn_s=_turn_seconds(instruments) if effort.in_pairs else TURN_SECONDS,
        uncounted=instruments.uncounted,
        settle=instruments.unprobed,
        whole=bool(instruments.whole) and not effort.by_turns,
        find_whole=instruments.whole is None and not effort.by_turns,
        whole_before=instruments.whole_before,
        faint=instruments.faint,
        rough=effort.rough,
    )


def _turn_seconds(instruments: Instruments) -> float:
    """How short a turn may be: idle workers that spin on are waited for after each, and CPU time of others comes in steps of 10 ms."""
    if not is_real(instruments.clock):
        return TURN_SECONDS
    waited_s = instruments.rest().seconds
    return PAIR_SECONDS if any(workers()) else min(PAIR_SECONDS, max(TURN_SECONDS, waited_s))


def _asked(prepared: Prepared, provenance: Provenance) -> Provenance:
    """The provenance with what was asked: runs that were asked other things are not compared (``judging.comparable``)."""
    task, listed = prepared.task, plain(prepared.workload.listed)
    references, score = of_scoring(prepared.references, task.score)
    return replace(
        provenance,
        queries=of_queries(listed.batches if isinstance(listed, Batches) else listed),
        references=references,
        score=score,
        tokens=None if task.tokens is None else of_counter(task.tokens),
        reasoning=None if task.tokens is None else " ".join(check_markers(task.reasoning)),
        repeats="cached" if task.repeats == "cached" else None,
        batch_size=prepared.workload.batch_size,
    )


def _digests(prepared: Prepared, outputs: list[Any]) -> str:
    """The digests of the answers; empty where they cannot be told apart, which a note says."""
    found = digests(outputs)
    if not found and outputs:
        what = f"answers are {untold(outputs)} objects, which show nothing of what is in them"
        prepared.notes += (f"{what}: whether they change cannot be told without a __repr__",)
    return found


async def _with_counts(run: Run, names: tuple[str, ...], workload: Workload, clock: Clock, tell: Telling) -> Run:
    """The run with what is to be counted beside it, now that nothing is timed or metered any more."""
    if not names:
        return run
    tell(Tell(f"counting {', '.join(names)}"))
    counts = await count_figures(names, workload, clock)
    return replace(run, counts=counts, notes=(*run.notes, *notes_of(counts, workload.queries)))


def _first_pass_of(queries: int, clock: Clock, tell: Telling) -> Callable[[int], None]:
    """Says how far the first pass is, once a batch, with the seconds that the rest of it will take."""
    start_ns = clock.now_ns()
    if tell is tell_nobody:
        return lambda _: None

    def told(done: int) -> None:
        left_s = (clock.now_ns() - start_ns) / 1e9 / done * (queries - done) if done else 0.0
        tell(Tell(f"first pass, {done} of {queries} queries", left_s, left_s))

    return told


def _telling(effort: Effort, run: Callable[[Measured], Run]) -> Telling:
    """``effort.tell`` with the figure so far and what the verdicts will take in words, where somebody listens."""
    if effort.tell is tell_nobody:
        return tell_nobody

    def told(step: Tell) -> None:
        if step.measured is not None and step.measured.blocks:
            so_far = run(step.measured)
            step = replace(step, figure=effort.figure(so_far), outlook=effort.outlook(so_far))
        effort.tell(step)

    return told


def _marked(measured: Measured) -> tuple[str, ...]:
    """A note where some blocks were spoiled, and too few to leave no figure."""
    marks = sorted({mark for block in measured.blocks for mark in block.marks})
    count = sum(bool(block.marks) for block in measured.blocks)
    return (f"{count} of {len(measured.blocks)} blocks were marked ({', '.join(marks)})",) if marks else ()


class _Driver:
    """Answers the protocol's asks, one by one."""

    __slots__ = ("_crowd", "_effort", "_fallen", "_inside", "_instruments", "_repeats", "_run", "_task", "_tell", "_workload", "spinning")

    def __init__(
        self,
        workload: Workload,
        instruments: Instruments,
        effort: Effort,
        run: Callable[[Measured], Run],
        task: Task,
        inside: Inside,
        repeats: Repeats,
    ) -> None:
        self._workload = workload
        self._instruments = instruments
        self._effort = effort
        self._run = run
        self._tell = _telling(effort, run)
        self._task = task
        self._inside = inside
        self._repeats = repeats
        self.spinning = Spinning(real=is_real(instruments.clock))
        self._fallen: Mapping[str, float] | None = None  # before the other side's turn, until the counters have been read after it
        self._crowd: Callable[[], str] = crowd if is_real(instruments.clock) else str  # simulated time has no machine

    def drive(self, steps: Steps) -> Generator[Doing | Pause, Any, Measured]:
        """Answer until the protocol returns, but for what concerns other sides, or may have to be awaited: that is passed on.

        A meter lost on the way is thrown into the protocol, so that it can give up that set.
        """
        answer: Any = None
        lost: MeterLostError | None = None
        while True:
            try:
                ask = steps.send(answer) if lost is None else steps.throw(lost)
            except StopIteration as done:
                measured: Measured = done.value
                self._let_others()
                return measured
            if isinstance(ask, Agree | Turn):
                if isinstance(ask, Agree):  # another side must not be held against what a memory takes
                    self._repeats.judge()
                self._let_others()
                if isinstance(ask, Turn):
                    self._fallen = self._fallen_j()
                so_far = ask.measured if isinstance(ask, Turn) else None
                answer, lost = (yield ask, None if so_far is None else self._run(so_far)), None
                continue
            try:
                answer = (yield from _doing(partial(self._do, ask), awaits=self._task.awaits)) if self._may_wait(ask) else self._answer(ask)
                lost = None
                if self._fallen is not None and isinstance(ask, Ticks | Work):  # which read the counters, after a turn of the other side
                    self._check_went_on(self._fallen)
                    self._fallen = None if isinstance(ask, Work) else self._fallen  # by then each was read
            except MeterLostError as error:
                lost = error

    def _fallen_j(self) -> dict[str, float]:
        """By how much counters have run backwards, where sides take turns; that of a model forgets processes that end."""
        models = {source.domain for source in self._instruments.sources if source.method == "modelled"}
        fallen = self._instruments.dropped_j if self._effort.in_pairs else {}
        return {domain: joules for domain, joules in fallen.items() if domain not in models}

    def _check_went_on(self, before: Mapping[str, float]) -> None:
        """Raises MeterLostError where a counter has run backwards since ``before``: the other side has not measured with the device as it
        is now.
        """
        for domain, joules in self._fallen_j().items():
            if joules > before.get(domain, 0.0):
                self._fallen = None  # once
                raise MeterLostError(f"the energy counter of {domain} ran backwards between the sets of both sides.", remedy=RESET_REMEDY)

    def _let_others(self) -> None:
        """Leave no idle workers spinning, where another side measures now."""
        if self._effort.by_turns or self._effort.in_pairs:
            self.spinning.after(self._instruments.rest())

    def _may_wait(self, ask: Ask) -> bool:
        return isinstance(ask, Work) or (self._task.awaits and isinstance(ask, Probe | Ticks | Phase | Wait))

    async def _do(self, ask: Ask) -> Any:
        return await self._work(ask) if isinstance(ask, Work) else await aside(partial(self._answer, ask))

    def _answer(self, ask: Ask) -> Any:
        answers: Mapping[type, Callable[[Any], Any]] = {
            Ticks: lambda ticks: self._instruments.ticks(ticks.since),
            Phase: lambda phase: self._instruments.wait_for_phase(phase.fraction),
            Wait: lambda wait: self._instruments.clock.sleep(wait.seconds),
            Rest: lambda _: self._instruments.rest(),
            Spun: lambda _: self.spinning.since_work(self._instruments.clock.now_ns()),
            Marks: lambda _: self._instruments.marks(),
            Probe: lambda probe: self._instruments.probe(again=probe.again),
            Learn: self._instruments.learn,
            Tell: self._tell,
            Enough: lambda enough: self._effort.enough(self._run(enough.measured)),
        }
        return answers[type(ask)](ask)

    async def _work(self, work: Work) -> Any:
        with set_aside(self._task.watched) as tallies:
            worked = await self._work_through(work)
        self._inside.note(worked.start_ns, tallies)
        return worked

    async def _work_through(self, work: Work) -> Any:
        clock = self._instruments.clock
        if work.again:
            if self._effort.timing == "short":  # whose latencies these are
                self._effort.alone()
            return await self._workload.arun_again(work.part, clock, self._repeats.answered_again)
        self._repeats.judge()  # before anything is measured
        if work.timed and self._effort.alone() > COOLED_S:
            await self._workload.arun_timed(work.part, clock, WARM_AGAIN_S)
        asleep_ns = clock.asleep_ns()
        before = self._instruments.read_continuous()
        self.spinning.begins()
        run = self._workload.arun_timed(work.part, clock, work.seconds) if work.timed else self._workload.arun(work.part, clock)
        worked = await run
        after = self._instruments.read_continuous()
        self.spinning.ends(worked)
        return replace(worked, around=between(before, after), asleep_s=(clock.asleep_ns() - asleep_ns) / 1e9, crowd=self._crowd())
