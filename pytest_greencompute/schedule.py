"""How many queries, blocks, sets and phases: the plan of a measurement, pure.

Terms: a *pass* runs every batch once. A *part* is what one block runs: whole passes, or one share of a fixed partition
of a pass where a pass is longer than a block should be. A *set* is the blocks whose phases cover a tick period evenly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BLOCK_TICKS = 10
BLOCK_SECONDS = 0.5
SET_BLOCKS = 9  # odd; 10 leaves 4 % of error at 50 ms loads on a 100/25 ms sensor
MANY_TICKS = 200  # a block of so many ticks is off by at most half a per cent, whatever its phase


@dataclass(frozen=True, slots=True)
class Part:
    """Batches ``first``, ``first + step``, … below ``batches``, run ``passes`` times. All at least 1, ``first`` at least 0."""

    batches: int
    first: int = 0
    step: int = 1
    passes: int = 1

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.passes):
            yield from range(self.first, self.batches, self.step)

    def __len__(self) -> int:
        return self.passes * len(range(self.first, self.batches, self.step))


def block_seconds(tick_s: float) -> float:
    """Busy time that one block should have: ten ticks and half a second at least."""
    return max(BLOCK_TICKS * tick_s, BLOCK_SECONDS)


def parts(batches: int, batch_s: float, target_s: float) -> tuple[Part, ...]:
    """What the blocks run, in turn, so that each takes about ``target_s``.

    A partition takes every n-th batch, so that a sorted query list (short to long) gives alike parts.
    """
    pass_s = max(batches * batch_s, 1e-9)
    if pass_s <= target_s:
        return (Part(batches, passes=math.ceil(target_s / pass_s)),)
    shares = min(batches, max(1, int(pass_s / target_s)))
    return tuple(Part(batches, first=index, step=shares) for index in range(shares))


def blocks_per_set(tick_s: float, block_s: float) -> int:
    """Nine phases where the tick matters, one where it does not: no tick, or so many in a block that a phase is lost in it."""
    return 1 if tick_s == 0 or block_s >= MANY_TICKS * tick_s else SET_BLOCKS


def phases(blocks: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Stratified phases (k + u) / blocks in [0, 1), u drawn once for the set, in random order."""
    shift = float(rng.random())
    return tuple(float(k + shift) / blocks for k in rng.permutation(blocks))
