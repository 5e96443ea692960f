"""Rows that are too short for a clock, by what their calls used when they were replayed alone under the meter. Pure.

Such a row's share of a pass is the joules of one call times its calls, over those of a whole pass by the same meter. Replayed with warm
caches it may use less than in place: what is missing then stays in no row, and so under *not attributed*. It may use more than its time
says, too, since half of what a mark costs is taken for the row's around it: that much is taken back from there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from pytest_greencompute.explaining.alignment import Aligned
from pytest_greencompute.explaining.profile import OUTSIDE, Cost, Level
from pytest_greencompute.explaining.tree import NUMBER


def by_replay(rows: Sequence[Aligned], base: Level | None, head: Level | None) -> tuple[Aligned, ...]:
    """The rows, by replay where that is known on each side that has them: of all that are alike, or of none, so that like is held against
    like.
    """
    possible = _possible(base), _possible(head)
    groups = defaultdict[object, list[Aligned]](list)
    for row in rows:
        groups[NUMBER.sub("*", row.name), row.base is None, row.head is None].append(row)
    used = {
        row.name
        for group in groups.values()
        if all(each is None or each.name in known for row in group for each, known in zip((row.base, row.head), possible, strict=True))
        for row in group
    }
    if not used:
        return tuple(rows)
    told = (
        _told(base, [row.base.name for row in rows if row.base is not None and row.name in used]),
        _told(head, [row.head.name for row in rows if row.head is not None and row.name in used]),
    )
    return tuple(
        replace(
            row,
            base=row.base and told[0][row.base.name],
            head=row.head and told[1][row.head.name],
            how="replay" if row.name in used else "time",
        )
        for row in rows
    )


def _possible(level: Level | None) -> set[str]:
    """The rows of a side that can be told by replay: not those that would take more from the row around them than that has."""
    if level is None:
        return set()
    rows = {each.name: each for each in level.costs}
    found = {name: told for name, cost in rows.items() if (told := _by_joules(cost, level)) is not None}
    more = defaultdict[str, float](float)
    for name, told in found.items():
        more[_around(rows[name])] += max(told.mean_s - rows[name].mean_s, 0.0)

    def fits(name: str) -> bool:
        around = _around(rows[name])
        return found[name].mean_s <= rows[name].mean_s or (around in rows and around not in found and more[around] <= rows[around].mean_s)

    return {name for name in found if fits(name)}


def _told(level: Level | None, names: Collection[str]) -> dict[str, Cost]:
    """The rows of a side, those of ``names`` by replay."""
    rows = {each.name: each for each in (level.costs if level else ())}
    for name in names:
        cost, told = rows[name], _by_joules(rows[name], level)
        assert told is not None
        rows[name] = told
        if (more := told.mean_s - cost.mean_s) > 0:
            around = rows[_around(cost)]
            left = max(1 - more / around.mean_s, 0.0)
            rows[around.name] = replace(around, seconds=tuple(each * left for each in around.seconds))
    return rows


def _around(cost: Cost) -> str:
    return cost.inside or OUTSIDE


def _by_joules(cost: Cost, level: Level | None) -> Cost | None:
    """A row with its seconds by its share of the pass's joules; None where those are not known."""
    if level is None or cost.replayed is None or level.metered is None or not cost.calls:
        return None
    share = cost.replayed.mean * cost.calls / level.metered.mean
    shares = _scattered(share, share * math.hypot(cost.replayed.relative, level.metered.relative), len(level.seconds))
    return replace(cost, seconds=tuple(each * whole for each, whole in zip(shares, level.seconds, strict=True)))


def _scattered(mean: float, error: float, count: int) -> tuple[float, ...]:
    """As many figures as there are passes, whose mean has that value and, as the mean of a sample, that standard error."""
    odd = count % 2
    away = min(error * math.sqrt(count if odd else count - 1), mean) if count > 1 else 0.0
    return (*(mean + sign * away for _ in range(count // 2) for sign in (1, -1)), *([mean] * odd))
