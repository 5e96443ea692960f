"""One test of this tree measured against itself, in pairs and in several launches: what ``greencompute noise`` tells of."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_greencompute.estimates.by_metric import of_set
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.noise import JoulesInPairs
from pytest_greencompute.judging.prospect import Prospect
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.pairing.layouts import common, in_turns
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.runs import by_turns
from pytest_greencompute.protocol.forecast import latency_batches
from pytest_greencompute.protocol.layout import Layout, Timing
from pytest_greencompute.protocol.messages import Plan
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

ENERGY = METRICS["energy_per_query"]


@dataclass(frozen=True, slots=True)
class Took:
    """The seconds of one launch of both: loading them, getting each ready, and the pairs. ``cold``: nothing was known of the devices."""

    loading_s: float
    ready_s: tuple[float, float]
    pairs_s: float
    cold: bool


@dataclass(frozen=True, slots=True)
class Itself:
    """Pairs of joules per query by launch, the layout of their sets, what each launch took, and what timing the batches takes, which the
    side that compares does beside.
    """

    launches: Sequence[JoulesInPairs]
    layout: Layout
    took: Sequence[Took]
    timing_s: float = 0.0

    @property
    def pair_s(self) -> float:
        """Seconds of a pair, with the idle power between."""
        return sum(each.pairs_s for each in self.took) / (self.layout.sets * len(self.took))

    @property
    def loading_s(self) -> float:
        """Seconds until both have loaded."""
        return statistics.fmean(each.loading_s for each in self.took)

    @property
    def ready_s(self) -> float:
        """Seconds until both are ready in the first launch, in which the one learns of the devices for the other."""
        one = statistics.fmean(each.ready_s[0] for each in self.took if each.cold)
        return one + self.timing_s + statistics.fmean(each.ready_s[1] for each in self.took if not each.cold)

    @property
    def ready_again_s(self) -> float:
        """Seconds until both are ready in a fresh launch."""
        return statistics.fmean(sum(each.ready_s) for each in self.took if not each.cold)

    def seconds(self, prospect: Prospect) -> float:
        """How long a comparison takes that takes so many pairs and launches: loading, getting ready, and the pairs."""
        return self.loading_s + self.ready_s + prospect.seconds(self.pair_s, self.loading_s + self.ready_again_s)


def measure(
    start: Callable[[], Process],
    aim: Aim,
    clock: Clock,
    *,
    launches: int,
    say: Callable[[str], None],
    name: str | None = None,
    timing: Timing = "short",
) -> Itself:
    """Launch a test ``launches`` times (two at least) beside itself, and measure all the sets that it has time for.

    ``start`` starts a process of it; ``timing`` is how much of the latency pass a comparison wants. Raises NotMeasuredError.
    """
    found: list[JoulesInPairs] = []
    took: list[Took] = []
    learnt: tuple[Behaviour, ...] = ()
    for number in range(launches):
        say(f"launch {number + 1} of {launches}")
        runs, layout, spent = _one_launch(start, clock, name, learnt, cold=number == 0)
        learnt = learnt or behaviours_of(runs[0], layout)
        pairs = [(of_set(runs[0], ENERGY, index, aim), of_set(runs[1], ENERGY, index, aim)) for index in range(layout.sets)]
        found.append([(a, b) for a, b in pairs if a and b])
        took.append(spent)
    want, most_s = latency_batches(Plan(layout.batches, (), timing=timing, in_pairs=True))
    return Itself(found, layout, took, min(want * layout.batch_s, most_s))


def _one_launch(
    start: Callable[[], Process], clock: Clock, name: str | None, learnt: Sequence[Behaviour], *, cold: bool
) -> tuple[list[Run], Layout, Took]:
    """Both runs, the layout that they shared, and what it took."""
    at = [clock.now_ns()]
    with contextlib.ExitStack() as launched:
        both = [launched.enter_context(contextlib.closing(start())) for _ in range(2)]
        for each in both:
            each.wait_here(name)
        at.append(clock.now_ns())
        layouts = []
        for each in both:
            layouts.append(each.prepare(learnt))
            at.append(clock.now_ns())
        layout = in_turns(common(*layouts))
        for each in both:
            each.lay_out(layout)
        for _ in by_turns(both[0], both[1], layout):
            pass
        runs = [each.end() for each in both]
        loading_s, one_s, other_s, pairs_s = ((b - a) / 1e9 for a, b in zip(at, [*at[1:], clock.now_ns()], strict=True))
        return runs, layout, Took(loading_s, (one_s, other_s), pairs_s, cold)


def behaviours_of(run: Run, layout: Layout) -> tuple[Behaviour, ...]:
    """What a launch has found out about the devices' counters, for the next."""
    return tuple(
        # The same work comes again: if it drew too little to show a lag, it has none to wait for.
        Behaviour(source.domain, source.uuid, source.tick_s, source.jitter_s, source.lag_s, layout.size == 1, lag_shown=True)
        for source in run.sources
        if source.tick_s > 0
    )
