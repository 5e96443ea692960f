"""AI Energy Score as one measurement: whole passes over the queries at batch size 1, each pass a sample, without a time limit.

What comes before and around the passes is that of every run (``measuring``): one pass unmetered, which collects the answers, then the
tick, the warm-up and the lag. A pass that is over can be kept, and a later session goes on after it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.asks import Ask, Measured, Plan, Steps, Tell, Turn, Wait, Worked
from pytest_greencompute.clock import Clock
from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.estimate import Estimate, Missing, changed_answers
from pytest_greencompute.instruments import Instruments
from pytest_greencompute.measured import MeasuredRun
from pytest_greencompute.measuring import Effort, Task, Telling, run_metered, tell_nobody
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.protocol import Ready, get_ready
from pytest_greencompute.rated import Followed, energy_of, rating_of
from pytest_greencompute.rating import LEADERBOARDS, NEWEST, PASSES, PROTOCOL, WH_PER_1000_QUERIES, Rating
from pytest_greencompute.samples import Run
from pytest_greencompute.schedule import Layout, block_seconds, phases
from pytest_greencompute.sets import LOST_SETS, begin, one_set

if TYPE_CHECKING:
    import numpy as np

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

BATCH_SIZE = 1
TELL_EVERY_S = 0.5
_JUST_UNDER = 1 - 1e-9  # of a whole number of passes, so that rounding up cannot make one more of it


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asked for: the task and class to be rated in, how many passes, and what the user claims of queries and answers.

    Invariant: the newest leaderboard has the task and class, there is at least one pass, a claim is True or False. Raises SettingsError.
    """

    task: str
    model_class: str | None = None
    passes: int = PASSES
    protocol_queries: bool = False
    output_of_protocol: bool = False

    def __post_init__(self) -> None:
        LEADERBOARDS[NEWEST].range_of(self.task, self.model_class)
        if type(self.passes) is not int or self.passes < 1:
            raise SettingsError(f"passes is {self.passes!r}.", remedy=f"Write a whole number of at least 1; the protocol has {PASSES}.")
        for name in ("protocol_queries", "output_of_protocol"):
            claim = getattr(self, name)
            if type(claim) is not bool:  # any text would be taken for a yes
                raise SettingsError(f"{name} is {claim!r}.", remedy="Write True if it holds, else False.")

    @property
    def followed(self) -> Followed:
        """What the run's provenance is to say."""
        claims = (self.task if claim else "" for claim in (self.protocol_queries, self.output_of_protocol))
        return Followed(self.task, self.model_class, *claims)


class ScoredRun(MeasuredRun):
    """A measured run with its stars. GPUs alone count wherever one is metered."""

    __slots__ = ()

    @property
    def rating(self) -> Rating:
        """The stars, and in what they are only indicative. Not metered: the rest of the test is skipped, saying why.

        Raises NotRatedError where the energy was modelled, or where there is none.
        """
        if not self.raw.metered:
            self._unmetered("rating")
        return rating_of(self.raw, self._aim)[0]

    @property
    def wh_per_1000_queries(self) -> float:
        """Wh of GPU energy per 1,000 queries, modelled energy included. Raises MeterError, with the reason, where there is none."""
        if not self.raw.metered:
            self._unmetered("wh_per_1000_queries")
        found = energy_of(self.raw, self._aim)
        if isinstance(found, Missing):
            raise MeterError(f"There is no wh_per_1000_queries: {found.reason}.")
        return found[0].value / WH_PER_1000_QUERIES


def measure_score(
    task: Task,
    asked: Asked,
    instruments: Instruments,
    effort: Effort,
    *,
    earlier: Run | None = None,
    keep: Callable[[Run], None] = lambda _: None,
    said: tuple[str, ...] = (),
    problem: str = "",
) -> tuple[Run, list[Any]]:
    """The passes, as a run with one block each, and the answers of the pass before them.

    ``earlier`` is what an interrupted session kept of the same run: its passes count. ``keep`` is given the run after every pass but the
    last; ``said`` are notes of how it began. ``problem`` says why there is no meter, if there is none: then no pass is metered. Errors
    as for ``measuring.metering``.
    """
    done, before_s = (0, 0.0) if earlier is None else (len(earlier.blocks), earlier.seconds)

    def protocol(plan: Plan, rng: np.random.Generator, first_pass: Worked) -> Steps:
        return measure_passes(plan, rng, first_pass, 0 if problem else asked.passes, earlier, said)

    def turn(index: int, run: Run) -> bool:
        if index > done:
            keep(replace(run, seconds=before_s + run.seconds))
        return True

    if callable(task.model) and effort.tell is not tell_nobody:
        progress = Progress(task.model, len(task.queries), instruments.clock, effort.tell)  # type: ignore[arg-type]  # they were collected
        task, effort = replace(task, model=progress), replace(effort, tell=progress.tell)
    provenance = {**effort.provenance, PROTOCOL: asked.followed.as_json()}
    effort = replace(effort, keep_answers=True, provenance=provenance, turn=turn, protocol=protocol)
    run, outputs = run_metered(task, instruments, effort, problem)
    notes = () if earlier is None else _other_answers(earlier, run)
    return replace(run, seconds=before_s + run.seconds, notes=run.notes + notes), outputs


def _other_answers(earlier: Run, run: Run) -> tuple[str, ...]:
    """A note where a model that went on answers otherwise than before: it may draw its answers at random, or be another model."""
    changed = changed_answers(earlier.answers, run.answers, METRICS["answers_changed"], 0.99)
    count = round(changed.value * run.queries) if isinstance(changed, Estimate) else 0
    return (f"{count} of {run.queries} answers are not those of the interrupted session: make sure that the model is",) if count else ()


def measure_passes(
    plan: Plan, rng: np.random.Generator, first_pass: Worked, passes: int, earlier: Run | None = None, said: tuple[str, ...] = ()
) -> Steps:
    """Whole passes until there are ``passes``, those of an ``earlier`` run included, with idle power after each; a lost one is said."""
    in_order = phases(passes, rng)  # stratified over the passes: a sensor may see part of the time only
    ready: Ready = yield from _retold(get_ready(plan, first_pass), passes * first_pass.seconds)
    plan, measured = ready.plan, ready.measured
    if not plan.sources or not passes:
        return measured
    layout, note = _lay_out(plan, ready.batch_s, passes)
    # The first pass may have loaded and compiled, and the warm-up may have run short queries: nothing that takes longer than both is usual.
    expected_s = max(first_pass.seconds / plan.batches, ready.batch_s)
    sets, first = yield from begin(plan, layout, expected_s, rng)
    measured = replace(measured, idles=first, notes=said + measured.notes + note)
    if earlier is not None:
        measured = replace(
            measured,
            blocks=earlier.blocks,
            warmup=earlier.warmup + measured.warmup,
            idles=earlier.idles + measured.idles,
            notes=tuple(dict.fromkeys((*earlier.notes, *measured.notes))),
        )
    lost = 0
    while (index := len(measured.blocks)) < passes:
        if not (yield Turn(index, measured)):
            break
        left_s = (passes - index) * _pass_seconds(measured, len(layout.part(0)) * ready.batch_s)
        yield Tell(f"pass {index + 1} of {passes}", left_s, left_s, measured)
        try:
            blocks, idles = yield from one_set(sets, index, measured.idles, in_order[index : index + 1])
        except MeterLostError as error:
            lost += 1
            if lost >= LOST_SETS:
                raise MeterError(f"{lost} passes were lost: {error.message}", remedy=error.remedy) from error
            measured = replace(measured, notes=(*measured.notes, f"pass {index + 1} was lost and run again: {error.message}"))
            yield Wait(plan.lag_s)  # the lost pass's energy may still be arriving
            continue
        measured = replace(measured, blocks=measured.blocks + blocks, idles=measured.idles + idles)
    return measured


def _lay_out(plan: Plan, batch_s: float, passes: int) -> tuple[Layout, tuple[str, ...]]:
    """A block for each pass; one that is too short for the meter's ticks runs its pass several times, which a note says."""
    pass_s = plan.batches * batch_s
    times = max(1, math.ceil(block_seconds(plan.tick_s, plan.lag_s) / pass_s))
    note = (f"one pass is too short to be metered: each was run {times} times in a row",) if times > 1 else ()
    return Layout(plan.batches, batch_s, times * pass_s * _JUST_UNDER, 1, passes), note


def _pass_seconds(measured: Measured, expected_s: float) -> float:
    return statistics.fmean(block.busy_s for block in measured.blocks) if measured.blocks else expected_s


def _retold(steps: Generator[Ask, Any, Any], after_s: float) -> Generator[Ask, Any, Any]:
    """``steps`` with the seconds left that are true here, since they count on a time limit; ``after_s``: what comes after them."""
    answer: Any = None
    while True:
        try:
            ask = steps.send(answer)
        except StopIteration as done:
            return done.value
        answer = yield (replace(ask, least_s=after_s, most_s=after_s) if isinstance(ask, Tell) else ask)


class Progress:
    """A model that says how far its pass is, between two queries, twice a second at most: a pass may take hours.

    A call costs it a look at the clock, which is nothing to a query of a millisecond. Stands between the protocol and whoever ``tell``s.
    """

    __slots__ = ("_clock", "_done", "_model", "_queries", "_since_ns", "_step", "_tell", "_told_ns")

    def __init__(self, model: Callable[[Any], Any], queries: int, clock: Clock, tell: Telling) -> None:
        self._model, self._queries, self._clock, self._tell = model, queries, clock, tell
        self._step: Tell | None = None
        self._done = self._since_ns = self._told_ns = 0

    def tell(self, step: Tell) -> None:
        """What the protocol says; with something measured, or about to be, a pass begins."""
        self._step = step if step.measured is not None else None
        self._done, self._since_ns = 0, self._clock.now_ns()
        self._told_ns = self._since_ns
        self._tell(step)

    def __call__(self, batch: Any) -> Any:
        answer = self._model(batch)
        if self._step is not None:
            self._done += 1
            now_ns = self._clock.now_ns()
            if now_ns - self._told_ns >= TELL_EVERY_S * 1e9:
                self._told_ns = now_ns
                left_s = max(self._step.most_s - (now_ns - self._since_ns) / 1e9, 0.0)
                far = f"{self._step.what}, {self._done % self._queries * 100 // self._queries} %"  # short: the time left stands behind it
                self._tell(replace(self._step, what=far, least_s=left_s, most_s=left_s))
        return answer
