"""Runs made by hand, for the unit tests: every number is chosen, so every figure can be worked out on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.values.readings import Block, Idle, Source, Span
from pytest_greencompute.values.run import Latency, Run
from pytest_greencompute.values.units import ENERGY, Dimension

SECOND = 1_000_000_000


def source(domain: str = "gpu:0", **fields: Any) -> Source:
    """A counter that ticks every 0.1 s."""
    return Source(**{"meter": "made", "method": "counter", "device": "Made GPU", "tick_s": 0.1, **fields, "domain": domain})


def block(
    energy_j: float | dict[str, float],
    *,
    set_index: int = 0,
    queries: int = 10,
    busy_s: float = 1.0,
    gap_s: float = 0.2,
    marks: Sequence[str] = (),
    phase: float = 0.0,
    at_s: float = 1.0,
) -> Block:
    """A block of ``busy_s`` of work from ``at_s`` on, in the middle of a span ``gap_s`` longer; ``energy_j`` of gpu:0, or by domain."""
    by_domain = energy_j if isinstance(energy_j, dict) else {"gpu:0": energy_j}
    start = round(at_s * SECOND)
    end = start + round(busy_s * SECOND)
    half = round(gap_s / 2 * SECOND)
    spans = {domain: Span(joules, start - half, end + half) for domain, joules in by_domain.items()}
    return Block(set_index, phase, queries, start, end, spans, tuple(marks))


def idle(watts: float, domain: str = "gpu:0", seconds: float = 0.5) -> Idle:
    return Idle(domain, watts * seconds, seconds)


def run(blocks: Iterable[Block] = (), **fields: Any) -> Run:
    """A metered run of a hundred queries with one GPU."""
    made: dict[str, Any] = {"test": "tests/test_x.py::test_y", "name": None, "queries": 100, "batch_size": 1, "metered": True}
    return Run(**{**made, "sources": (source(),), "blocks": tuple(blocks), **fields})


def latencies(seconds: Iterable[float]) -> tuple[Latency, ...]:
    return tuple(Latency(1, each) for each in seconds)


def figure(
    value: float, low: float | None = None, high: float | None = None, *, dimension: Dimension = ENERGY, n: int = 9, **fields: Any
) -> Estimate:
    """An estimate on gpu:0 (energy) or without a domain."""
    where = {"domain": "gpu:0", "method": "counter"} if dimension is ENERGY else {}
    return Estimate(value, low, high, dimension, n, 0.99, **{**where, **fields})
