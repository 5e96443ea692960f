"""AI Energy Score as one measurement: whole passes over the queries at batch size 1, each pass a sample, without a time limit.

What comes before and around the passes is that of every run (``driver``): one pass unmetered, which collects the answers, then the
tick, the warm-up and the lag. A pass that is over can be kept, and a later session goes on after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.estimates.answers import changed_answers
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.estimates.stars import ScoreRequest
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort, Telling, tell_nobody
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.messages import Plan, Steps, Tell
from pytest_greencompute.protocol.parts import Worked
from pytest_greencompute.protocol.passes import measure_passes
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:
    import numpy as np

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

TELL_EVERY_S = 0.5


def measure_score(
    task: Task,
    asked: ScoreRequest,
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
    as for ``driver.metering``.
    """
    done, before_s = (0, 0.0) if earlier is None else (len(earlier.blocks), earlier.seconds)

    def protocol(plan: Plan, rng: np.random.Generator, first_pass: Worked) -> Steps:
        return measure_passes(plan, rng, first_pass, 0 if problem else asked.passes, earlier, said)

    def turn(index: int, run: Run | None) -> bool:
        if run is not None and index > done:
            keep(replace(run, seconds=before_s + run.seconds))
        return True

    if callable(task.model) and effort.tell is not tell_nobody:
        progress = Progress(task.model, len(task.queries), instruments.clock, effort.tell)  # type: ignore[arg-type]  # they were collected
        task, effort = replace(task, model=progress), replace(effort, tell=progress.tell)
    provenance = replace(effort.provenance, followed=asked.followed)
    effort = replace(effort, keep_answers=True, provenance=provenance, turn=turn, protocol=protocol)
    run, outputs = run_metered(task, instruments, effort, problem)
    notes = () if earlier is None else _other_answers(earlier, run)
    return replace(run, seconds=before_s + run.seconds, notes=run.notes + notes), outputs


def _other_answers(earlier: Run, run: Run) -> tuple[str, ...]:
    """A note where a model that went on answers otherwise than before: it may draw its answers at random, or be another model."""
    changed = changed_answers(earlier.answers, run.answers, METRICS["answers_changed"], 0.99)
    count = round(changed.value * run.queries) if isinstance(changed, Estimate) else 0
    return (f"{count} of {run.queries} answers are not those of the interrupted session: make sure that the model is",) if count else ()


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
