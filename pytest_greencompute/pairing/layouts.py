"""How many queries and sets a pair has: both sides measure the same, in blocks that suit the slower one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pytest_greencompute.estimates.domains import judges_processor
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.comparable import Unlike, differences, record
from pytest_greencompute.judging.pairs import UNANIMOUS
from pytest_greencompute.judging.percentiles import batches_for
from pytest_greencompute.protocol.layout import PAIR_SECONDS, Layout
from pytest_greencompute.stats.looks import MIN_SAMPLES
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.run import Run

TIMED_SHARE = 0.5  # of a set's time, at most, goes to timing batches one by one
LEAST_TIMED = 20
ALIKE_BATCHES = 20  # of a pair, where turns are short
ENOUGH_PAIRS = 16
UNLIKE = 4  # times as long as a block should be: then the slower side runs fewer batches, since who is so far apart shows in any


def common(one: Layout, other: Layout) -> Layout:
    """A layout for both: blocks long enough for the faster side (turns that may be short, for the shorter one), and as many sets as both
    have time for.
    """
    return replace(
        one,
        batch_s=min(one.batch_s, other.batch_s),
        target_s=(min if one.short and other.short else max)(one.target_s, other.target_s),
        size=max(one.size, other.size),
        sets=min(one.sets, other.sets),
    )


def of_side(shared: Layout, own: Layout) -> Layout:
    """The ``shared`` layout for the side that would choose its ``own``: the same blocks, unless that side is so much slower than the other
    that they would take it many times as long as a block should.
    """
    times = len(shared.part(0)) * own.batch_s / max(shared.target_s, own.batch_s)
    if times <= UNLIKE:
        return shared
    return replace(shared, fewer=int(times), timed=min(shared.timed, max(LEAST_TIMED, shared.timed // int(times))))


def in_turns(layout: Layout) -> Layout:
    """Where turns are short, several of them are a set: as many as hold a usual pair's time, and enough batches that what only some
    queries or calls cost is in every pair; fewer where the time would be over after a few pairs. An even number, so that each side is
    first as often as the other.
    """
    if not layout.short:
        return layout
    per_turn = len(layout.part(0))
    wanted = max(PAIR_SECONDS / layout.target_s, min(ALIKE_BATCHES, layout.batches) / per_turn)
    size = 2 * max(1, math.ceil(min(wanted, layout.sets / ENOUGH_PAIRS) / 2))
    return replace(layout, size=size, sets=max(MIN_SAMPLES, layout.sets // size))


def with_timing(layout: Layout, metrics: Sequence[Metric]) -> Layout:
    """The layout with batches timed after each set, where a latency is compared; the sets are fewer by the time that takes."""
    wanted = [max(LEAST_TIMED, batches_for(metric.fraction or 0.0)) for metric in metrics if metric.kind == "latency"]
    if not wanted or layout.stamped:
        return layout
    set_s = layout.size * layout.target_s
    timed = max(1, min(max(wanted), int(TIMED_SHARE * set_s / layout.batch_s)))
    fewer = max(1, int(layout.sets * set_s / (set_s + timed * layout.batch_s)))
    return replace(layout, timed=timed, sets=min(layout.sets, max(fewer, UNANIMOUS)))


def most_pairs(metric: Metric, layout: Layout) -> int:
    """How many pairs of a metric one launch can give."""
    if metric.kind != "latency":
        return layout.sets
    timed = layout.size * len(layout.part(0)) if layout.stamped else layout.timed
    sets_each = math.ceil(batches_for(metric.fraction or 0.0) / max(1, timed))
    return max(1, layout.sets // sets_each)


def timed_by_set(run: Run, sets: int) -> list[list[float]]:
    """The seconds of the batches that were timed after each of the first ``sets`` sets."""
    by_set: list[list[float]] = [[] for _ in range(sets)]
    for latency in run.latencies:
        if latency.set_index is not None and latency.set_index < sets:
            by_set[latency.set_index].append(latency.seconds)
    return by_set


def blocking(head: Run, base: Run, aim: Aim) -> tuple[Unlike, ...]:
    """Why two runs of one session, or certain figures of them, must not be compared after all: by the rules for saved runs."""
    found = differences(record(head), record(base), cpu_judged=judges_processor(head, aim))
    meters = [tuple(sorted({(each.domain, each.meter, each.method) for each in run.sources})) for run in (head, base)]
    here, there = (", ".join(" ".join(each) for each in sources) or "none" for sources in meters)
    others = (Unlike("meters", here, there, blocks=True),) if here != there else ()
    return (*(each for each in found if each.blocks), *others)


def metered_otherwise(found: Sequence[Unlike], metric: str | None = None) -> str:
    """What is ``blocking`` for the metric of that name in words, or empty. None: what stops all figures, such as another meter."""
    concern = [each for each in found if each.concerns(metric)]
    said = [f"{each.name}: {each.ours} here, {each.theirs} there" for each in concern if each.name != "meters" or len(concern) == 1]
    return f"it was metered otherwise ({'; '.join(said)})" if said else ""
