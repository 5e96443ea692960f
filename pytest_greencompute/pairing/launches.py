"""Base and head launched by turns, one process at a time, where both do not fit into the memory: launches are the samples.

This happens before the test is set up, when nothing of it is loaded. The order is base, head, head, base, …, so that steady drift cancels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_greencompute.estimates.by_metric import of_set
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.pairs import LAUNCHES_FOR_FAIL, UNANIMOUS, judge_runs
from pytest_greencompute.judging.percentiles import percentile_sections
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.layouts import UNLIKE, blocking, common, in_turns, metered_otherwise, timed_by_set, with_timing
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.started import NotMeasuredError, Side
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.run import Run

ORDER = ("base", "head", "head", "base")
Timed = Callable[[str | None], Sequence[Metric]]


@dataclass
class Launched:
    """The launches of both sides, run by run (by name). ``problem``: why there are not as many as there should be.

    ``demands`` are those of the base on the test.
    """

    base: list[Mapping[str | None, Run]] = field(default_factory=list)
    head: list[Mapping[str | None, Run]] = field(default_factory=list)
    problem: str = ""
    missing: bool = False
    demands: Demands | None = None

    def of(self, name: str | None, aim: Aim) -> tuple[list[Run], list[Run], str]:
        """The launches of the run called ``name``, base's and head's, and why they cannot be compared, or an empty text."""
        base, head = ([launch[name] for launch in side if name in launch] for side in (self.base, self.head))
        if self.problem or not head:
            return base, head, self.problem or "this side did not measure it as a process of its own"
        if not base:
            return base, head, f"its test measures no run {f'named {name!r}' if name else 'without a name'}"
        return base, head, metered_otherwise(blocking(head[0], base[0], aim))


def launch_by_turns(
    start: Callable[[Side], Process],
    base: Side,
    head: Side,
    *,
    launches: int,
    compared: Timed,
    say: Callable[[str], None],
    apart: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Launched:
    """Launch both sides, four times each or ``launches`` if that is more. ``compared``: the metrics of the run of that name; they load
    ``apart``.
    """
    launched = Launched()
    layouts: dict[str | None, Layout] = {}
    count = max(launches, LAUNCHES_FOR_FAIL)
    for number in range(2 * count):
        which = ORDER[number % len(ORDER)]
        side, done = (base, launched.base) if which == "base" else (head, launched.head)
        say(f"{side.label}, launch {len(done) + 1} of {count}")
        try:
            process = start(side)
            done.append(_whole_launch(process, layouts, compared, count, apart))
            launched.demands = process.demands if which == "base" else launched.demands
        except NotMeasuredError as error:
            launched.problem = f"launch {len(done) + 1} of {side.label}: {error.message.rstrip('.')}"
            launched.missing = error.means_missing and which == "base"
            break
    return launched


def _whole_launch(
    process: Process,
    layouts: dict[str | None, Layout],
    compared: Timed,
    launches: int,
    apart: Callable[[], contextlib.AbstractContextManager[None]],
) -> Mapping[str | None, Run]:
    """Every run of one process, each with the layout that the first launch of it had, unless it is far faster."""
    runs: dict[str | None, Run] = {}
    with contextlib.closing(process):
        while True:
            with apart():
                if process.has_ended():
                    return runs
            name = process.run_name
            theirs = process.prepare()
            fewer = replace(theirs, sets=max(UNANIMOUS, theirs.sets // launches))
            layout = layouts.setdefault(
                name, with_timing(in_turns(fewer) if fewer.short and process.takes_turns else fewer, compared(name))
            )
            if theirs.batches != layout.batches:
                raise NotMeasuredError(f"it measures {theirs.batches} batches and another launch {layout.batches}: other queries")
            if theirs.batch_s * UNLIKE < layout.batch_s:  # its blocks would be too short to be read
                layout = common(layout, theirs)
            process.lay_out(layout)
            for turn in range(layout.sets * layout.turns):
                process.run_set(turn)
            runs[name] = process.end()


def judge_launches(metric: Metric, base: Sequence[Run], head: Sequence[Run], rule: Rule, aim: Aim) -> Verdict:
    """The launches of both sides, by ``pairs.judge_runs``: a launch is the sample."""
    sides = [[_samples(run, metric, aim) for run in runs] for runs in (base, head)]
    return judge_runs(
        *sides,
        tolerance=rule.tolerance,
        confidence=rule.confidence,
        better=rule.better,
        floor=rule.floor,
        budgets=rule.budgets,
    )


def _samples(run: Run, metric: Metric, aim: Aim) -> list[float]:
    """One number a set, or one a section of sets where a percentile needs more batches than a set has."""
    sets = 1 + max((block.set_index for block in run.blocks), default=-1)
    if metric.kind == "latency":
        return percentile_sections(timed_by_set(run, sets), metric.fraction or 0.0)
    found = (of_set(run, METRICS[metric.name], index, aim) for index in range(sets))
    return [value for value in found if value is not None]
