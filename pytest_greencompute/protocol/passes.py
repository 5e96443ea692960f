"""Whole passes over the queries, each of them a sample: the protocol of AI Energy Score. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.protocol.layout import Layout, block_seconds, phases
from pytest_greencompute.protocol.measurement import Ready, get_ready
from pytest_greencompute.protocol.messages import Ask, Measured, Plan, Steps, Tell, Turn, Wait
from pytest_greencompute.protocol.parts import Worked
from pytest_greencompute.protocol.sets import LOST_SETS, begin, one_set
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:
    import numpy as np

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

_JUST_UNDER = 1 - 1e-9  # of a whole number of passes, so that rounding up cannot make one more of it


def measure_passes(
    plan: Plan, rng: np.random.Generator, first_pass: Worked, passes: int, earlier: Run | None = None, said: tuple[str, ...] = ()
) -> Steps:
    """Whole passes until there are ``passes``, those of an ``earlier`` run included, with idle power after each; a lost one is said."""
    in_order = phases(passes, rng)  # stratified over the passes: a sensor may see part of the time only
    ready: Ready = yield from _retold(get_ready(plan, first_pass), passes * first_pass.seconds)
    plan, measured = ready.plan, replace(ready.measured, latencies=())  # the protocol has none
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
            blocks, idles, _ = yield from one_set(sets, index, measured.idles, in_order[index : index + 1])
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
