"""One test of this tree measured against itself, in pairs and in several launches: what ``greencompute noise`` tells of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.estimates.by_metric import of_set
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.layouts import common
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.runs import by_turns
from pytest_greencompute.pairing.started import Side
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.values.metrics import METRICS

ENERGY = METRICS["energy_per_query"]


@dataclass(frozen=True, slots=True)
class Itself:
    """Pairs of joules per query by launch, how many sets a comparison has time for, and the seconds of a pair and of loading both."""

    launches: list[list[tuple[float, float]]]
    most_pairs: int
    pair_s: float
    loading_s: float


def measure(
    root: Path,
    environ: Mapping[str, str],
    node_id: str,
    told: Told,
    aim: Aim,
    clock: Clock,
    *,
    launches: int,
    name: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Itself:
    """Launch the test ``launches`` times beside itself and measure all the sets that it has time for. Raises NotMeasuredError."""
    side = Bases(root, environ, ()).head(node_id)
    found: list[list[tuple[float, float]]] = []
    seconds: list[tuple[float, float]] = []
    most = 0
    for number in range(launches):
        say(f"launch {number + 1} of {launches}")
        pairs, most, spent = _one_launch(side, told, aim, clock, name)
        found.append(pairs)
        seconds.append(spent)
    count = max(1, sum(map(len, found)))
    return Itself(found, most, sum(measuring for _, measuring in seconds) / count, sum(loading for loading, _ in seconds) / launches)


def _one_launch(
    side: Side, told: Told, aim: Aim, clock: Clock, name: str | None
) -> tuple[list[tuple[float, float]], int, tuple[float, float]]:
    """The pairs, how many there could be, and the seconds of loading and of measuring."""
    start_ns = clock.now_ns()
    with contextlib.ExitStack() as launched:
        both = [launched.enter_context(contextlib.closing(Process(side, told))) for _ in range(2)]
        for each in both:
            each.wait_here(name)
        layout = common(both[0].prepare(), both[1].prepare())
        for each in both:
            each.lay_out(layout)
        loaded_ns = clock.now_ns()
        for _ in by_turns(both[0], both[1], layout.sets):
            pass
        runs = [each.end() for each in both]
        pairs = [(of_set(runs[0], ENERGY, index, aim), of_set(runs[1], ENERGY, index, aim)) for index in range(layout.sets)]
        whole = [(a, b) for a, b in pairs if a and b]
        return whole, layout.sets, ((loaded_ns - start_ns) / 1e9, (clock.now_ns() - loaded_ns) / 1e9)
