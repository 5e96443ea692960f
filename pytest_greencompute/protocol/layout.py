"""How many queries, blocks, sets and phases: the plan of a measurement, pure.

Terms: a *pass* runs every batch once, a *part* is what one block runs (``parts``). A *set* is the blocks whose phases cover a tick
period evenly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.protocol.parts import Part, part, shortened
from pytest_greencompute.stats.phases import PHASES

if TYPE_CHECKING:
    import numpy as np

BLOCK_TICKS = 10
ALONE_OF_NINE_TICKS = 4  # nine phases cancel what a short block leaves of one; in a given time more sets say more than longer ones
WHOLE_TICKS = 5  # where counters see all of the time, so that only the ends of a block blur it: sooner three that show their spread
PAIR_TICKS = 5  # where sides take turns: both have the same phases, so what a short block leaves of them is in both, and pairs come sooner
NINE_TICKS = 2  # likewise, where nine of them with phases of their own make a sample
BLOCK_SECONDS = 0.5
TICKS_SECONDS = 20.0  # of ticks are enough, however few: where they are seconds apart others sample, at times that are known to a hundredth
ALONE_OF_NINE_SECONDS = 0.4
PAIR_SECONDS = 0.2  # likewise: what drifts on a shared machine drifts within half a second, and short turns have more of it in common
SET_BLOCKS = PHASES  # nine, odd: ten leave 4 % of error at 50 ms loads on a 100/25 ms sensor
BLOCK_LAGS = 2
WARMUP_CHUNK_S = 0.22  # not less than 0.2 s where a share falls short
WARMUP_CHUNKS = 6  # the last three against the three before them
# Where nothing ticks: pairs of turns scatter by the same for turns of 0.02 s and of 2 s, so the shortest say most in their time.
TURN_SECONDS = 0.02
STAMPED_S = 0.002  # shorter batches are not timed within a block: stamping them would be part of what is measured
PERCENTILE = 0.95  # the highest of a latency that is bounded on both sides, unless a higher one has a limit
LATENCY_SHARE = 0.3  # of the time limit, at most
SHORT_TIMING_S = 2.0
SETTLE_S = 1.2  # longer than any running mean: the first pass must not be in the idle power that the probe sees
PROBE_TICKS = 5
LAG_FLAT_TICKS = 8  # a running mean would still be falling after so many
LAG_LOOK_S = 3.0
LAG_TICKS = 20
MANY_TICKS = 200  # a block of so many ticks is off by at most half a per cent, whatever its phase
_HALVES = (0.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875)  # van der Corput's sequence
_DRAWN = 0.25
# How long batches are timed: until a percentile is bounded; briefly, where nothing limits one and it is only shown; not at all.
Timing = Literal["whole", "short", "none"]


def block_seconds(tick_s: float, lag_s: float = 0.0, *, in_pairs: bool = False, of_nine: bool = False, whole: bool = False) -> float:
    """Busy time that one block should have: ten ticks, half a second, and twice the lag, which is spent after it. In pairs it is less, and
    less again for one ``of_nine`` that are a sample together; where counters see all of the time (``whole``) half as many ticks will do,
    unless a read at the end of each is dear.
    """
    if in_pairs:
        ticks, seconds = NINE_TICKS if of_nine else PAIR_TICKS, PAIR_SECONDS
    else:
        ticks, seconds = WHOLE_TICKS if whole else BLOCK_TICKS, BLOCK_SECONDS
        if of_nine:
            ticks, seconds = ALONE_OF_NINE_TICKS, ALONE_OF_NINE_SECONDS
    return max(seconds_of_ticks(ticks, tick_s), seconds, BLOCK_LAGS * lag_s)


def seconds_of_ticks(ticks: int, tick_s: float) -> float:
    """How long so many ticks take, or as many of them as are enough."""
    return min(ticks * tick_s, max(TICKS_SECONDS, tick_s))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the sets of a measurement look: ``size`` blocks a set, ``sets`` at most, each block busy for about ``target_s`` seconds.

    After each set ``timed`` batches are timed one by one, where latencies are to be compared set by set. Blocks that are turns of their own
    (``turns``) hold timed batches instead, unless those are too short for that (``stamped``).
    ``batches`` in a pass and ``batch_s``, the seconds of one, decide which part a block runs: two sides that share a layout run the same.
    ``fewer``: a side that is far slower than the other runs so many times fewer of them a block. Raises SettingsError for numbers that lay
    nothing out.
    """

    batches: int
    batch_s: float
    target_s: float
    size: int
    sets: int = 1
    timed: int = 0
    fewer: int = 1

    def __post_init__(self) -> None:
        counts, seconds = (self.batches, self.size, self.sets, self.fewer), (self.batch_s, self.target_s)
        whole = all(isinstance(each, int) for each in (*counts, self.timed))
        if not whole or not all(0 < each < math.inf for each in (*counts, *seconds)) or self.timed < 0:
            raise SettingsError(f"Sets cannot be laid out like this: {self}.")

    @property
    def turns(self) -> int:
        """In how many turns a side runs a set: block by block, but at once where its blocks' phases cover a tick."""
        return 1 if self.size == SET_BLOCKS else self.size

    @property
    def short(self) -> bool:
        """Whether turns may be shorter than a pair, so that several are a set: only where nothing ticks."""
        return self.size == 1 and self.target_s < PAIR_SECONDS

    @property
    def stamped(self) -> bool:
        """Whether each batch of a block is timed."""
        return self.turns > 1 and self.batch_s >= STAMPED_S

    def part(self, number: int) -> Part:
        """What block ``number`` runs, counted over all sets."""
        return shortened(part(number, self.batches, self.batch_s, self.target_s), number, self.fewer)


def lag_ticks(tick_s: float) -> int:
    """How many ticks are watched after work for a lag of the counter."""
    return max(LAG_TICKS, math.ceil(LAG_LOOK_S / tick_s))


def blocks_per_set(tick_s: float, block_s: float, lag_s: float = 0.0, *, whole: bool = False) -> int:
    """Nine phases where the tick matters, one where it does not.

    It does not where there is none, where a block holds so many that a phase is lost in it, where energy arrives with a lag (that is
    a running mean over more than a tick, which sees all of the time), and where the counters are known to see all of the time (``whole``).
    """
    return 1 if tick_s == 0 or lag_s > 0 or whole or block_s >= MANY_TICKS * tick_s else SET_BLOCKS


def single_phase(index: int, start: float, drawn: float) -> float:
    """The phase in [0, 1) of single block number ``index``: any, but half a tick and a quarter away from those just before it, about.

    Phases drawn alone may happen to lie where a load in step with the tick shows alike, and three such blocks would agree very well on a
    wrong figure. ``start`` is drawn once, ``drawn`` for each block (both in [0, 1)): to what repeats many times a tick, steps must differ.
    """
    return (start + _HALVES[index % len(_HALVES)] + _DRAWN * drawn) % 1.0


def phases(blocks: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Stratified phases (k + u) / blocks in [0, 1), u drawn once for the set, in random order."""
    shift = float(rng.random())
    return tuple(float(k + shift) / blocks for k in rng.permutation(blocks))
