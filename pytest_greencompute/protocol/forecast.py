"""How long the rest of a measurement will take, known before it begins. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pytest_greencompute.protocol.coverage import burst_seconds
from pytest_greencompute.protocol.layout import (
    LAG_FLAT_TICKS,
    LATENCY_SHARE,
    PROBE_TICKS,
    SETTLE_S,
    SHORT_TIMING_IN_PAIRS_S,
    SHORT_TIMING_S,
    WARMUP_CHUNK_S,
    WARMUP_CHUNKS,
)
from pytest_greencompute.protocol.messages import Plan
from pytest_greencompute.protocol.sets import lay_out, phase_matters, sets_ahead
from pytest_greencompute.stats.distributions import values_to_bound

Stage = Literal["probe", "warm-up", "lag", "coverage", "latency"]
_ORDER: tuple[Stage, ...] = ("probe", "warm-up", "lag", "coverage", "latency")


def ahead(plan: Plan, batch_s: float, *, from_step: Stage, spent: float = 0.0) -> tuple[float, float]:
    """Seconds until the verdicts may first be certain, and until the time limit, from this step on, of which ``spent`` are over.

    ``batch_s`` is what a batch takes, as far as it is known by now.
    """
    latency_s = _latency_seconds(plan, batch_s)
    seconds = {
        "probe": SETTLE_S + (PROBE_TICKS + 1.5) * plan.tick_s if plan.ticking and plan.settle else 0.0,
        "warm-up": WARMUP_CHUNKS * max(WARMUP_CHUNK_S, batch_s),
        "lag": (LAG_FLAT_TICKS + 1.5) * plan.tick_s if plan.ticking and plan.find_lag else 0.0,
        "coverage": burst_seconds(plan, batch_s) if plan.ticking and plan.find_whole else 0.0,
        "latency": latency_s,
    }
    left = sum(seconds[step] for step in _ORDER[_ORDER.index(from_step) :])
    before_sets = max(left - spent, 0.0)
    if not plan.sources:
        return before_sets, before_sets
    least, most = sets_ahead(plan, lay_out(plan, batch_s, latency_s), batch_s)
    if plan.find_whole and phase_matters(plan, batch_s):  # nobody knows yet: half-way between nine phases and one
        seen = replace(plan, whole=True)
        least = (least + sets_ahead(seen, lay_out(seen, batch_s, latency_s), batch_s)[0]) / 2
    return before_sets + least, before_sets + most


def latency_batches(plan: Plan) -> tuple[int, float]:
    """How many batches are timed, and the seconds that this may take at most."""
    short_s = SHORT_TIMING_IN_PAIRS_S if plan.in_pairs else SHORT_TIMING_S
    want, limit_s = values_to_bound(plan.percentile, 0.99), LATENCY_SHARE * plan.max_seconds
    return {"whole": (want, limit_s), "short": (want, min(limit_s, short_s)), "none": (0, 0.0)}[plan.timing]


def _latency_seconds(plan: Plan, batch_s: float) -> float:
    want, limit = latency_batches(plan)
    if not want:
        return 0.0
    passes = -(-want // plan.batches)  # whole passes, unless the list is long
    return min(limit + batch_s, max(want, min(passes * plan.batches, 4 * want)) * batch_s)
