"""One launch of a commit beside a good one, neither of which is this tree: what ``greencompute bisect`` gathers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.pairing.against_itself import behaviours_of
from pytest_greencompute.pairing.feed import Feed
from pytest_greencompute.pairing.layouts import blocking, common, in_turns, metered_otherwise, with_timing
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.runs import by_turns
from pytest_greencompute.pairing.started import NotMeasuredError
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.run import Run

NO_PAIR = "no complete set was measured on both sides"


class GoodNotMeasuredError(NotMeasuredError):
    """It is the good commit that has no figure, for the reason ``why``, so that no other can be compared with it."""

    def __init__(self, why: GreencomputeError) -> None:
        super().__init__(why.message, remedy=why.remedy)
        self.why = why


@dataclass(frozen=True, slots=True)
class _Good:
    """The good side, whose lost sets are no fault of the other."""

    process: Process

    def run_set(self, index: int) -> Run | None:
        with _is_good():
            return self.process.run_set(index)


@dataclass(frozen=True, slots=True)
class BesideGood:
    """The pairs of a launch, good first, in the metric's unit; the seconds until both were ready and of the pairs; and the devices."""

    pairs: tuple[tuple[float, float], ...]
    launch_s: float
    pairs_s: float
    devices: tuple[str, ...]
    learnt: tuple[Behaviour, ...]


@dataclass
class _PairsKept:
    """Keeps the pairs that it is told."""

    pairs: list[tuple[float, float]] = field(default_factory=list)

    def tell(self, base: float, head: float) -> None:
        self.pairs.append((base, head))


def launch_beside(
    good: Callable[[], Process],
    other: Callable[[], Process],
    metric: Metric,
    aim: Aim,
    clock: Clock,
    *,
    pairs: int,
    name: str | None = None,
    learnt: Sequence[Behaviour] = (),
    good_first: bool = True,
) -> BesideGood:
    """Launch both afresh and measure so many pairs, or as many as a side has time for. ``good`` and ``other`` start their processes;
    ``name`` is that of the run, ``learnt`` what is known of the devices. Raises GoodNotMeasuredError, or NotMeasuredError for the other.
    """
    begun, kept = clock.now_ns(), _PairsKept()
    with contextlib.ExitStack() as launched:
        with _is_good():
            a = launched.enter_context(contextlib.closing(good()))
        b = launched.enter_context(contextlib.closing(other()))
        b.wait_until_collected()  # what cannot be imported is to be known before anything loads
        _check_single(b)
        with _is_good():
            a.wait_until_collected()
            _check_single(a)
            a.wait_here(name)
        b.wait_here(name)
        with _is_good():
            one = a.prepare(learnt)
        layout = common(one, b.prepare(learnt))
        if a.takes_turns and b.takes_turns:
            layout = in_turns(layout)
        layout = with_timing(layout, [metric])
        for each in (a, b):
            each.lay_out(layout)
        ready, feed = clock.now_ns(), Feed({metric.name: kept}, aim)
        for sets in by_turns(_Good(a), b, layout) if good_first else by_turns(b, _Good(a), layout):
            feed.tell(a.measured, b.measured, sets)
            if len(kept.pairs) >= pairs:
                break
        with _is_good():
            base = a.end()
        head = b.end()
    found = [pair for pair in kept.pairs if min(pair) > 0]
    problem = metered_otherwise(blocking(head, base, aim), metric.name)
    if problem or not found:
        raise NotMeasuredError(problem or NO_PAIR)
    seconds = (ready - begun) / 1e9, (clock.now_ns() - ready) / 1e9
    return BesideGood(tuple(found), *seconds, _devices(base), behaviours_of(base, layout))


def _check_single(process: Process) -> None:
    """Raises NotMeasuredError where the test that is asked for is several, of which one would stand for all."""
    asked, found = process.side.node_id, process.node
    if asked.partition("::")[2] != found.partition("::")[2]:
        raise NotMeasuredError(f"{asked} is no single test there: its first is {found}", remedy="Name one test, with its parameters.")


@contextlib.contextmanager
def _is_good() -> Iterator[None]:
    try:
        yield
    except NotMeasuredError as error:
        raise GoodNotMeasuredError(error) from error


def _devices(run: Run) -> tuple[str, ...]:
    return tuple(
        sorted({" ".join(filter(None, (each.domain, each.device, each.uuid, f"({each.meter}, {each.method})"))) for each in run.sources})
    )
