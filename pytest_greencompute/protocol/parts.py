"""Parts: what one block runs of the batches, and what running it took. Pure.

A *pass* runs every batch once. A *part* is whole passes, or a share of one where a pass is longer than a block should be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_greencompute.values.readings import Span
from pytest_greencompute.values.run import Latency

SHORTER = 0.98  # a share of a pass may fall so far short, so that four batches of just under half a tick are two ticks, not five
LONGER = 1.25  # a block of whole passes may take so much longer than it should; else it is a share


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
    return spread(batches, max(1, math.ceil(SHORTER * target_s / batch_s)), index)


def shortened(each: Part, index: int, times: int) -> Part:
    """Part number ``index`` with so many ``times`` fewer batches, one at least: whole passes, or a share of one."""
    count = max(1, each.count // times)
    if times == 1:
        return each
    return Part(each.batches, count - count % each.batches) if count >= each.batches else spread(each.batches, count, index)


@dataclass(frozen=True, slots=True)
class Worked:
    """What a Work did: monotonic times of its ends, queries run, latencies if timed, readings of the continuous counters.

    ``first_s``: for each batch of ``latencies``, what it took in the first pass, where the same batches were asked again.
    ``asleep_s``: how long the machine was suspended meanwhile; ``crowd``: in words, how much is at work on it at the end, where that is
    more than it has cores.
    """

    start_ns: int
    end_ns: int
    queries: int
    latencies: tuple[Latency, ...] = ()
    first_s: tuple[float, ...] = ()
    around: Mapping[str, Span] = field(default_factory=dict)
    asleep_s: float = 0.0
    crowd: str = ""

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9
