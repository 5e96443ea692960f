"""The passes in which a model is looked at: first without anything, then a kind of look after the other, all over the same few batches.

Nothing here is metered but what is replayed. What cannot be looked at is a note of the profile, never an error: the verdict stands
without it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.explaining.factors import SECONDS
from pytest_greencompute.explaining.profile import Factor, Level, LevelKind, Profile, Ticking
from pytest_greencompute.machine.clock import Clock, RealClock
from pytest_greencompute.measuring.task import Prepared, Task
from pytest_greencompute.models.tallies import set_aside
from pytest_greencompute.models.workload import Workload, is_out_of_memory
from pytest_greencompute.profiling.functions import profile_functions
from pytest_greencompute.profiling.looked import Looked, OwnWork, get_ready, look, named
from pytest_greencompute.profiling.modules import profile_modules
from pytest_greencompute.profiling.operators import profile_operators
from pytest_greencompute.profiling.replay import ReplayMeter, replayed
from pytest_greencompute.protocol.parts import Part, spread

LIMIT_S = 7.5  # of one side
WIDE = 4  # times as many batches are counted as are timed: what batches are like differs, and counts need no repetition
WIDE_SHARE = 0.25  # of the time that is left, by the batches' usual time; counting takes longer
SAME_SHARE = 0.6  # likewise, to count as many as the other side did: other batches have other factors
PASS_SHARE = 1 / 48  # of the limit, at most, for one pass: as many are made, and looking takes its time
OVER = 0.2  # of the limit, kept for a look that takes longer than it was to
REPLAY_SHARE = 0.5  # of the time that is left once modules are timed, and only where some of them are too short
LONGEST_REASON = 200
Collector = Callable[[Callable[[], object], int, float, Ticking], Level]


@dataclass(frozen=True, slots=True)
class LookFor:
    """A kind of look: who takes it, and its share of the time that is left when its turn comes."""

    kind: LevelKind
    collect: Collector
    share: float


LOOKS: tuple[LookFor, ...] = (
    LookFor("modules", profile_modules, 0.45),
    LookFor("functions", profile_functions, 0.7),
    LookFor("operators", profile_operators, 0.9),
)


class OutOfTimeError(GreencomputeError):
    """The passes took longer than they may."""


@dataclass
class _Passes:
    """One pass after the other over the same ``batches``, until ``until_s``, and ``over_s`` more for who has begun."""

    workload: Workload
    clock: Clock
    batches: int
    until_s: float
    over_s: float = 0.0
    queries: int = 0

    def run(self) -> int:
        """One pass: how many queries it answered. Raises OutOfTimeError where there is no time for it."""
        if time.perf_counter() > self.until_s + self.over_s:
            raise OutOfTimeError("The time for explaining was over.")
        self.queries = self.workload.run(from_the_middle(self.workload.batches, self.batches), self.clock).queries
        return self.queries

    def wide(self, batch_s: float, counted: int | None) -> _Passes:
        """Passes over more batches, where a batch of that many seconds leaves the time for them. ``counted``: over as many queries as the
        other side's, all of them or none more.
        """
        left_s, most = self.until_s - time.perf_counter(), self.workload.batches
        if counted is not None:
            wanted = self.batches_of(counted)
            return replace(self, batches=max(wanted if wanted * batch_s <= SAME_SHARE * left_s else 0, self.batches))
        return replace(self, batches=min(max(int(WIDE_SHARE * left_s / batch_s), self.batches), WIDE * self.batches, most))

    def batches_of(self, queries: int) -> int:
        """How many batches so many queries fill, of those that there are."""
        return max(1, min(-(-queries // self.workload.batch_size), self.workload.batches))


def from_the_middle(batches: int, count: int) -> Part:
    """``count`` batches, spread over the list from its middle on: a lone one of a sorted list is neither its shortest nor its longest."""
    walk = spread(batches, count)
    return replace(walk, start=batches // 2 * pow(walk.step, -1, batches) % batches)


def profile(
    task: Task,
    *,
    ticking: Ticking = "cpu",
    limit_s: float = LIMIT_S,
    some: int | None = None,
    counted: int | None = None,
    clock: Clock | None = None,
    looks: tuple[LookFor, ...] = LOOKS,
    metering: ReplayMeter | None = None,
    replay: Sequence[str] | None = None,
) -> Profile:
    """Look at a model while it answers some of its queries, for ``limit_s`` seconds at most, one pass more or less.

    ``ticking`` is the clock that the meter pays for; ``some`` how many queries a pass has and ``counted`` over how many factors are counted
    (default: as many as there is time for), so that both sides of a comparison answer the same. With ``metering`` modules that are too
    short to be told by time are replayed under it: those that ``replay`` names (default: chosen here). Raises SettingsError for a task that
    is none; errors of the model are notes.
    """
    prepared, real = Prepared(task), clock or RealClock()
    if task.awaits:
        return Profile(notes=("the model is awaited: nothing of it is told apart",), queries=prepared.workload.queries)
    get_ready()
    notes = list[str]()
    passes = _Passes(prepared.workload, real, 1, time.perf_counter() + (1 - OVER) * limit_s, OVER * limit_s)
    factors: tuple[Factor, ...] = ()
    levels: list[Level] = []
    looked = Looked()
    with set_aside(task.watched), _noting(notes, "the queries"):
        pace = _settled(passes, limit_s, some)
        factors = _plain(passes, pace)
        if (few := passes.queries) < prepared.workload.queries:
            notes.append(f"looked at over {few} of {prepared.workload.queries} queries")
        ticking, said = _clock_here(ticking)
        notes += said
        with _noting(notes, "factors"):
            looked = look(replace(passes.wide(pace.batch_s, counted), over_s=math.inf).run)  # without it all that is known is a figure
        notes += looked.notes
        factors = (*factors, *looked.factors)
        for each in looks:
            left_s = passes.until_s - time.perf_counter()
            with _noting(notes, each.kind):
                level = each.collect(passes.run, passes.queries, max(left_s, 0.0) * each.share, ticking)
                levels.append(with_work(level, looked.work, looked.queries) if each.kind == "modules" else level)
            if each.kind == "modules" and levels and metering is not None:
                with _noting(notes, "replay"):
                    left_s = max(passes.until_s - time.perf_counter(), 0.0)
                    levels[-1] = replayed(passes.run, levels[-1], passes.queries, REPLAY_SHARE * left_s, metering, replay)
    return Profile(factors, tuple(levels), tuple(dict.fromkeys(notes)), passes.queries, looked.queries)


def _clock_here(ticking: Ticking) -> tuple[Ticking, tuple[str, ...]]:
    """The clock that the meter pays for, where the model works by it; wall time where no CUDA device is in use here."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if ticking == "device" and (cuda is None or not cuda.is_initialized()):
        return "wall", ("no CUDA device is used by this process itself: shares are those of wall time",)
    return ticking, ()


@dataclass(frozen=True, slots=True)
class _Pace:
    """What one pass took, on both clocks."""

    seconds: float
    processor_s: float
    batch_s: float


def _paced(passes: _Passes) -> _Pace:
    wall, processor = time.perf_counter(), time.process_time()
    passes.run()
    seconds, processor_s = max(time.perf_counter() - wall, 1e-6), time.process_time() - processor
    return _Pace(seconds, processor_s, seconds / passes.batches)


def _settled(passes: _Passes, limit_s: float, some: int | None) -> _Pace:
    """Decide how many batches a pass has: those of ``some`` queries, or as many as there is time for."""
    passes.run()  # what is only made, loaded or compiled once
    pace, most = _paced(passes), passes.workload.batches
    wanted = _batches(pace.batch_s, limit_s, most) if some is None else passes.batches_of(some)
    if wanted == passes.batches:
        return pace
    passes.batches = wanted
    return _paced(passes)


def _batches(batch_s: float, limit_s: float, most: int) -> int:
    """How many batches a pass has: a power of two, so that sides that are about as fast as each other have as many."""
    fit, count = limit_s * PASS_SHARE / batch_s, 1
    while 2 * count <= min(fit, most):
        count *= 2
    return most if fit >= most else count


def _plain(passes: _Passes, pace: _Pace) -> tuple[Factor, ...]:
    """What a pass takes, and what is known of it beforehand."""
    return (
        Factor("batch size", float(passes.workload.batch_size)),
        Factor(SECONDS, pace.seconds / passes.queries, "s"),
        Factor("processors", pace.processor_s / pace.seconds),
    )


def with_work(level: Level, work: Mapping[str, OwnWork], queries: int) -> Level:
    """The rows of modules with what they work on in a pass over that many queries."""
    costs = []
    for cost in level.costs:
        done = work.get(cost.name)
        if done is None:
            costs.append(cost)
        else:
            types, devices = named(done.dtypes), named(done.devices)
            flops, operators = done.flops / queries, done.dtypes.total() / queries
            costs.append(replace(cost, flops=flops, operators=operators, dtype=types, device=devices, shape=done.shape))
    return replace(level, costs=tuple(costs))


@contextlib.contextmanager
def _noting(notes: list[str], what: str) -> Iterator[None]:
    """What goes wrong in here is a note, and nothing else."""
    try:
        yield
    except GreencomputeError as error:
        notes.append(f"{what}: {error}")
    except Exception as error:  # noqa: BLE001  the explanation is what is lost, not the verdict
        said = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
        notes.append(f"{what}: {'out of memory' if is_out_of_memory(said) else 'not looked at'} ({said})")
