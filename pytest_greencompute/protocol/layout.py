"""How many queries, blocks, sets and phases: the plan of a measurement, pure.

Terms: a *pass* runs every batch once. A *part* is what one block runs: whole passes, or a share of one where a pass is longer
than a block should be. A *set* is the blocks whose phases cover a tick period evenly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_greencompute.stats.phases import PHASES

if TYPE_CHECKING:
    import numpy as np

BLOCK_TICKS = 10
PAIR_TICKS = 5  # where sides take turns: both have the same phases, so what a short block leaves of them is in both, and pairs come sooner
BLOCK_SECONDS = 0.5
PAIR_SECONDS = 0.2  # likewise: what drifts on a shared machine drifts within half a second, and short turns have more of it in common
SET_BLOCKS = PHASES  # nine, odd: ten leave 4 % of error at 50 ms loads on a 100/25 ms sensor
BLOCK_LAGS = 2
LONGER = 1.25  # a block of whole passes may take so much longer than it should; else it is a share
WARMUP_CHUNK_S = 0.2
WARMUP_CHUNKS = 6  # the last three against the three before them
LATENCY_BATCHES = 104  # bounds p95 on both sides at 99 %
LATENCY_BATCHES_P99 = 528
LATENCY_SHARE = 0.3  # of the time limit, at most
SHORT_TIMING_S = 2.0
SETTLE_S = 1.2  # longer than any running mean: the first pass must not be in the idle power that the probe sees
PROBE_TICKS = 5
LAG_WORK_S = 1.5
LAG_LOOK_S = 3.0
LAG_TICKS = 20
MANY_TICKS = 200  # a block of so many ticks is off by at most half a per cent, whatever its phase
# How long batches are timed: until a percentile is bounded; briefly, where nothing limits one and it is only shown; not at all.
Timing = Literal["whole", "short", "none"]


@dataclass(frozen=True, slots=True)
class Part:
    """``count`` batches out of ``batches``, from position ``start`` of an endless walk over them in steps of ``step``.

    ``step`` has no common factor with ``batches``, so the walk visits every batch once before it repeats one.
    """

    batches: int
    count: int
    start: int = 0
    step: int = 1

    def __iter__(self) -> Iterator[int]:
        for position in range(self.start, self.start + self.count):
            yield position * self.step % self.batches

    def __len__(self) -> int:
        return self.count

    def times(self, batch: int) -> int:
        """How many times the part runs a batch."""
        position = batch * pow(self.step, -1, self.batches) % self.batches
        first = self.start + (position - self.start) % self.batches
        return max(0, -(-(self.start + self.count - first) // self.batches))


def whole_pass(batches: int) -> Part:
    """Every batch once, in order."""
    return Part(batches, batches)


def block_seconds(tick_s: float, lag_s: float = 0.0, *, in_pairs: bool = False) -> float:
    """Busy time that one block should have: ten ticks, half a second, and twice the lag, which is spent after it. In pairs it is less."""
    ticks, seconds = (PAIR_TICKS, PAIR_SECONDS) if in_pairs else (BLOCK_TICKS, BLOCK_SECONDS)
    return max(ticks * tick_s, seconds, BLOCK_LAGS * lag_s)


def spread(batches: int, count: int, index: int = 0) -> Part:
    """``count`` batches, spread over the list: number ``index`` of the shares that walk over it in steps near the golden section."""
    step = max(1, round(batches * 0.618))
    while math.gcd(step, batches) > 1:
        step += 1
    return Part(batches, count, index * count % batches, step)


def part(index: int, batches: int, batch_s: float, target_s: float) -> Part:
    """What block number ``index`` runs so that it takes about ``target_s``: whole passes, or a share of one.

    All blocks run the same number of batches, since a phase with more work would weigh more in its set. Shares walk over the batches in
    steps near the golden section, so that each has short and long queries of a sorted list alike.
    """
    pass_s = max(batches * batch_s, 1e-9)
    passes = math.ceil(target_s / pass_s)
    if passes * pass_s <= LONGER * target_s:
        return Part(batches, batches * passes)
    return spread(batches, max(1, math.ceil(target_s / batch_s)), index)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the sets of a measurement look: ``size`` blocks a set, ``sets`` at most, each block busy for about ``target_s`` seconds.

    After each set ``timed`` batches are timed one by one, where latencies are to be compared set by set.
    ``batches`` in a pass and ``batch_s``, the seconds of one, decide which part a block runs: two sides that share a layout run the same.
    """

    batches: int
    batch_s: float
    target_s: float
    size: int
    sets: int = 1
    timed: int = 0

    def part(self, number: int) -> Part:
        """What block ``number`` runs, counted over all sets."""
        return part(number, self.batches, self.batch_s, self.target_s)


def lag_ticks(tick_s: float) -> int:
    """How many ticks are watched after work for a lag of the counter."""
    return max(LAG_TICKS, math.ceil(LAG_LOOK_S / tick_s))


def blocks_per_set(tick_s: float, block_s: float, lag_s: float = 0.0) -> int:
    """Nine phases where the tick matters, one where it does not.

    It does not where there is none, where a block holds so many that a phase is lost in it, and where energy arrives with a lag: that is
    a running mean over more than a tick, which sees all of the time.
    """
    return 1 if tick_s == 0 or lag_s > 0 or block_s >= MANY_TICKS * tick_s else SET_BLOCKS


def phases(blocks: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Stratified phases (k + u) / blocks in [0, 1), u drawn once for the set, in random order."""
    shift = float(rng.random())
    return tuple(float(k + shift) / blocks for k in rng.permutation(blocks))
