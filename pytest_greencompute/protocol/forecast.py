"""How long the rest of a measurement will take, known before it begins. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from pytest_greencompute.protocol.coverage import burst_seconds
from pytest_greencompute.protocol.layout import (
    LAG_FLAT_TICKS,
    LATENCY_SHARE,
    PROBE_TICKS,
    SETTLE_S,
    SHORT_TIMING_S,
    WARMUP_CHUNK_S,
    WARMUP_CHUNKS,
)
from pytest_greencompute.protocol.messages import Plan
from pytest_greencompute.protocol.sets import lay_out, phase_matters, sets_ahead
from pytest_greencompute.protocol.tail import REST_S, SHOWS_REST_S
from pytest_greencompute.stats.distributions import values_to_bound

Stage = Literal["probe", "warm-up", "lag", "rest", "coverage", "latency"]
LEAST_PROOF, PROVEN_S = 2, 1.0  # chunks, and seconds of steady work that the first pass is part of
_WHILE_IDLE: tuple[Stage, ...] = ("probe", "warm-up", "lag", "coverage", "latency")
_AS_IT_RESTS: tuple[Stage, ...] = ("rest", "warm-up", "coverage", "latency")
_AFTER_LITTLE_WORK: tuple[Stage, ...] = ("warm-up", "rest", "coverage", "latency")


def ahead(plan: Plan, batch_s: float, *, from_step: Stage, first_pass_s: float | None = None, spent: float = 0.0) -> tuple[float, float]:
    """Seconds until the verdicts may first be certain, and until the time limit, from this step on, of which ``spent`` are over.

    ``batch_s`` is what a batch takes, as far as it is known by now; ``first_pass_s`` what the first pass took (default: so much a batch).
    """
    chunks = least_chunks(plan.batches * batch_s if first_pass_s is None else first_pass_s)
    latency_s = _latency_seconds(plan, batch_s)
    seconds = {
        "probe": SETTLE_S + (PROBE_TICKS + 1.5) * plan.tick_s if plan.ticking and plan.settle else 0.0,
        "warm-up": chunks * max(WARMUP_CHUNK_S, batch_s),
        "lag": (LAG_FLAT_TICKS + 1.5) * plan.tick_s if plan.ticking and plan.find_lag else 0.0,
        "rest": REST_S + 1.5 * plan.tick_s,
        "coverage": burst_seconds(plan, batch_s) if plan.ticking and plan.find_whole else 0.0,
        "latency": latency_s,
    }
    little = plan.batches * batch_s < SHOWS_REST_S
    order = _WHILE_IDLE if not plan.before else _AFTER_LITTLE_WORK if little else _AS_IT_RESTS
    left = sum(seconds[step] for step in order[order.index(from_step) :])
    before_sets = max(left - spent, 0.0)
    if not plan.sources:
        return before_sets, before_sets
    least, most = sets_ahead(plan, lay_out(plan, batch_s, latency_s), batch_s)
    if plan.find_whole and phase_matters(plan, batch_s):  # nobody knows yet: as many times too long for one phase as too short for nine
        seen = replace(plan, whole=True)
        least = math.sqrt(least * sets_ahead(seen, lay_out(seen, batch_s, latency_s), batch_s)[0])
    return before_sets + least, before_sets + most


def least_chunks(first_pass_s: float) -> int:
    """How many chunks of warm-up at least: with a first pass whose batches took as long, two may show that nothing trends any more."""
    return min(max(LEAST_PROOF, math.ceil((PROVEN_S - first_pass_s) / WARMUP_CHUNK_S - 1e-9)), WARMUP_CHUNKS)


def latency_batches(plan: Plan) -> tuple[int, float]:
    """How many batches are timed, and the seconds that this may take at most."""
    want, limit_s = values_to_bound(plan.percentile, 0.99), LATENCY_SHARE * plan.max_seconds
    shown = (0, 0.0) if plan.sources else (want, min(limit_s, SHORT_TIMING_S))  # beside energy, the warm-up's batches are shown
    return {"whole": (want, limit_s), "short": shown, "none": (0, 0.0)}[plan.timing]


def _latency_seconds(plan: Plan, batch_s: float) -> float:
    want, limit = latency_batches(plan)
    if not want:
        return 0.0
    passes = -(-want // plan.batches)  # whole passes, unless the list is long
    return min(limit + batch_s, max(want, min(passes * plan.batches, 4 * want)) * batch_s)
