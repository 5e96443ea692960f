"""Every query once, without a meter: what a test does in a session that measures nothing. No meter, estimate or verdict is imported."""

from __future__ import annotations

from typing import Any

from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.task import Prepared, Task
from pytest_greencompute.models.awaiting import finished
from pytest_greencompute.models.tallies import OncePass
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Answered = tuple[Run, list[Any]]  # a run, and the model's answers


def run_once(task: Task, clock: Clock, keep: int | None = None) -> Answered:
    """Every query (or the first ``keep``) once, without a meter: answers and scores only."""
    return finished(arun_once(task, clock, keep))


async def arun_once(task: Task, clock: Clock, keep: int | None = None) -> Answered:
    """As ``run_once``, for a model that may have to be awaited."""
    prepared = Prepared(task)
    with OncePass(task.watched) as seen, prepared.hearing():
        outputs, worked = await prepared.workload.afirst_pass(clock, keep, done=seen.done)
    notes = (
        ()
        if keep is None or keep >= prepared.workload.queries
        else (f"unmetered: the first {keep} of {prepared.workload.queries} queries",)
    )
    fields = {"scores": prepared.scores(outputs), "watching": seen.found(worked.queries), **prepared.counted(outputs)}
    return prepared.run(metered=False, seconds=worked.seconds, notes=notes + seen.notes, **fields), outputs
