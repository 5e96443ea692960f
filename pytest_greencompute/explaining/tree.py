"""The rows of both sides as one tree, each part with what it holds, and repeated blocks that changed alike as one part.

A part's seconds are those of all that is in it, pass by pass. "encoder.layer.*" stands for blocks that differ in their number alone.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_greencompute.explaining.alignment import Aligned
from pytest_greencompute.explaining.profile import Cost

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
APART = 0.3  # of what a block costs, by which it must differ from the others of its number to stand by itself
FEWEST = 2
Shares = tuple[float, ...]  # of each pass of a side


@dataclass(frozen=True, slots=True)
class Branch:
    """A row, or several alike, with all that is inside: ``base`` and ``head`` are its shares of each pass, ``own`` those of its rows alone.

    ``rows`` are the rows that it is named for, ``parts`` what is inside them.
    """

    name: str
    rows: tuple[Aligned, ...]
    base: Shares
    head: Shares
    parts: tuple[Branch, ...] = ()

    @property
    def alike(self) -> int:
        """How many rows are one here."""
        return len(self.rows)

    @property
    def base_share(self) -> float:
        return statistics.fmean(self.base) if self.base else 0.0

    @property
    def head_share(self) -> float:
        return statistics.fmean(self.head) if self.head else 0.0

    @property
    def state(self) -> str:
        """ "new" or "gone" where the other side has none of its rows, else empty."""
        if all(row.base is None for row in self.rows):
            return "new"
        return "gone" if all(row.head is None for row in self.rows) else ""

    def own(self) -> Branch:
        """Its rows alone, without what is inside."""
        base, head = (
            tuple(max(whole - math.fsum(inner), 0.0) for whole, *inner in zip(mine, *theirs, strict=True))
            for mine, theirs in ((self.base, [each.base for each in self.parts]), (self.head, [each.head for each in self.parts]))
        )
        return Branch(self.name, self.rows, base, head)


@dataclass(frozen=True, slots=True)
class Weighing:
    """How a row's seconds become shares of a pass: the seconds of the passes of both sides, none for a side without the level; and how many
    joules a whole pass is on each side, by which blocks are held against each other.
    """

    base_s: tuple[float, ...]
    head_s: tuple[float, ...]
    base_j: float
    head_j: float

    def of(self, rows: Iterable[Aligned]) -> tuple[Shares, Shares]:
        """The shares of rows together."""
        listed = list(rows)
        return (
            _shares([each.base for each in listed if each.base is not None], self.base_s),
            _shares([each.head for each in listed if each.head is not None], self.head_s),
        )


def _shares(costs: Sequence[Cost], passes: Sequence[float]) -> Shares:
    return tuple(min(math.fsum(each.seconds[index] for each in costs) / whole, 1.0) for index, whole in enumerate(passes))


def forest(rows: Sequence[Aligned], weighing: Weighing) -> tuple[Branch, ...]:
    """The outermost parts of a level, the largest first."""
    names = {each.name for each in rows}
    inside: dict[str, list[Aligned]] = {}
    for each in rows:
        inside.setdefault(each.inside if each.inside in names else "", []).append(each)
    outermost = inside.pop("", [])
    reached = {row.name for each in outermost for row in (each, *_all_below(each.name, inside))}
    if len(reached) < len(rows):  # rows that lie in each other, which only somebody who edits a file writes
        inside = {name: within for name, within in inside.items() if name in reached}
        outermost += [each for each in rows if each.name not in reached]
    return _parts(outermost, inside, weighing)


def _parts(rows: Sequence[Aligned], inside: Mapping[str, Sequence[Aligned]], weighing: Weighing) -> tuple[Branch, ...]:
    """Rows that lie side by side, those alike together."""
    patterns: dict[str, list[Aligned]] = {}
    for each in rows:
        patterns.setdefault(NUMBER.sub("*", each.name), []).append(each)
    parts = [_part(pattern, group, inside, weighing) for pattern, same in patterns.items() for group in _alike(same, inside, weighing)]
    return tuple(sorted(parts, key=lambda each: -max(each.base_share, each.head_share)))


def _part(pattern: str, rows: Sequence[Aligned], inside: Mapping[str, Sequence[Aligned]], weighing: Weighing) -> Branch:
    within = [each for row in rows for each in inside.get(row.name, ())]
    everything = [*rows, *(each for row in rows for each in _all_below(row.name, inside))]
    name = rows[0].name if len(rows) == 1 else pattern
    return Branch(name, tuple(rows), *weighing.of(everything), _parts(within, inside, weighing))


def _all_below(name: str, inside: Mapping[str, Sequence[Aligned]]) -> list[Aligned]:
    found, ahead = [], [name]
    while ahead:
        for each in inside.get(ahead.pop(), ()):
            found.append(each)
            ahead.append(each.name)
    return found


def _alike(rows: Sequence[Aligned], inside: Mapping[str, Sequence[Aligned]], weighing: Weighing) -> list[list[Aligned]]:
    """Rows whose names differ in numbers alone, in groups that hold the same and changed alike."""
    if len(rows) < FEWEST:
        return [list(rows)]
    kinds: dict[object, list[Aligned]] = {}
    for each in rows:
        below = frozenset(NUMBER.sub("*", other.name.removeprefix(each.name)) for other in _all_below(each.name, inside))
        kinds.setdefault((each.base is None, each.head is None, _type(each), below), []).append(each)
    groups = []
    for same in kinds.values():
        joules = {each.name: _joules(each, inside, weighing) for each in same}
        usual = tuple(statistics.median(each) for each in zip(*joules.values(), strict=True))
        near = [each for each in same if _is_near(joules[each.name], usual)]
        groups += [near] if near else []
        groups += [[each] for each in same if each not in near]
    return groups


def _type(row: Aligned) -> tuple[str, str]:
    """What the row's work is done in, on either side: a block that is done in another type is no other one's like."""
    return "" if row.base is None else row.base.dtype, "" if row.head is None else row.head.dtype


def _joules(row: Aligned, inside: Mapping[str, Sequence[Aligned]], weighing: Weighing) -> tuple[float, float]:
    base, head = weighing.of([row, *_all_below(row.name, inside)])
    return (statistics.fmean(base) if base else 0.0) * weighing.base_j, (statistics.fmean(head) if head else 0.0) * weighing.head_j


def _is_near(joules: tuple[float, float], usual: tuple[float, ...]) -> bool:
    allowed = APART * max(usual)
    change, usual_change = joules[1] - joules[0], usual[1] - usual[0]
    return abs(change - usual_change) <= allowed and abs(joules[0] - usual[0]) <= 2 * allowed
