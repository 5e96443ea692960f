"""Which row of one side is which of the other: by name, and where a part was renamed or wrapped, by what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_greencompute.explaining.profile import Cost, How, Level

ALIKE = 0.6  # of the names below two parts that both have, so that one is the other renamed
TIMES = 3.0  # a renamed part takes at most so many times as long as before


@dataclass(frozen=True, slots=True)
class Aligned:
    """One row on both sides; None on the side that has it not. ``name`` and ``inside`` are those of the head, where it has the row.

    ``how`` its shares are told, the same on both sides.
    """

    name: str
    inside: str
    base: Cost | None
    head: Cost | None
    how: How = "time"

    @property
    def renamed(self) -> str:
        """What the base calls it, where that is another name."""
        return self.base.name if self.base is not None and self.base.name != self.name else ""


def align(base: Level | None, head: Level | None) -> tuple[Aligned, ...]:
    """The rows of both sides, the head's in their order, then those that are gone. None: that side has no such level."""
    before = {each.name: each for each in (base.costs if base else ())}
    now = {each.name: each for each in (head.costs if head else ())}
    names = {name: name for name in before if name in now}  # base -> head
    _match_renamed(before, now, names)
    was = {here: there for there, here in names.items()}
    rows = [Aligned(name, cost.inside, before[was[name]] if name in was else None, cost) for name, cost in now.items()]
    gone = [cost for name, cost in before.items() if name not in names]
    taken = set(now)
    for cost in gone:
        name = cost.name if cost.name not in taken else f"{cost.name} (before)"
        rows.append(Aligned(name, names.get(cost.inside, cost.inside), cost, None))
    return tuple(rows)


def _match_renamed(before: Mapping[str, Cost], now: Mapping[str, Cost], names: dict[str, str]) -> None:
    """Add to ``names`` what was renamed: the largest parts first, each with all that it holds under the same names."""
    lost = {name: _below(name, before) for name in before if name not in names}
    found = {name: _below(name, now) for name in now if name not in set(names.values())}
    likely = [
        (len(lost[one] & found[other]), one, other)
        for one, other in _candidates(before, now, lost, found)
        if _is_renamed(before[one], now[other], lost[one], found[other])
    ]
    for _, one, other in sorted(likely, key=lambda each: (-each[0], each[1], each[2])):
        if one in names or other in names.values():
            continue
        for suffix in lost[one] & found[other]:
            if f"{one}{suffix}" not in names and f"{other}{suffix}" not in names.values():
                names[f"{one}{suffix}"] = f"{other}{suffix}"


def _below(name: str, rows: Mapping[str, Cost]) -> frozenset[str]:
    """What is in a row, as what its names have after the row's own; the row itself is the empty text."""
    return frozenset(each.removeprefix(name) for each in rows if each == name or each.startswith(f"{name}."))


def _candidates(
    before: Mapping[str, Cost], now: Mapping[str, Cost], lost: Mapping[str, object], found: Mapping[str, object]
) -> Iterable[tuple[str, str]]:
    """Pairs that may be one: the outermost of the unmatched parts of either side with every unmatched part of the other."""
    outer_lost = [name for name in lost if before[name].inside not in lost]
    outer_found = [name for name in found if now[name].inside not in found]
    pairs = [(one, other) for one in outer_lost for other in found]
    return dict.fromkeys([*pairs, *((one, other) for one in lost for other in outer_found)])


def _is_renamed(one: Cost, other: Cost, below: frozenset[str], there: frozenset[str]) -> bool:
    """Whether the one is the other with a new name: most of what is in it is in both. A row that holds nothing, by its work alone."""
    if len(below) == 1 and len(there) == 1:
        same = one.calls == other.calls and one.flops is not None and one.flops == other.flops and one.flops > 0
        return same and max(one.mean_s, other.mean_s) <= TIMES * min(one.mean_s, other.mean_s)
    return len(below & there) >= ALIKE * len(below | there) and len(below & there) > 1
