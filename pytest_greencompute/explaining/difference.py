"""Where the difference went: each part of a level with its joules on both sides, and the places that the difference is told by.

A part's joules are its share of a pass, by time or by replay, times the joules per query that the verdict measured. A place is told only
where its difference is certain at the verdict's confidence, over all parts of its level together (Bonferroni); what is left of the
difference is *not attributed*. The scatter of a share is that of the repeated passes, joined with that of the other parts of its side (as
an empirical Bayes variance: Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004), 3), and with what launches of the same code differ by. The
intervals of shares and of the whole difference are joined by how far their limits are (MOVER: Zou and Donner, Stat. Med. 27 (2008), 1693).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.explaining.alignment import align
from pytest_greencompute.explaining.profile import OUTSIDE, How, Level, LevelKind, Profile, Ticking
from pytest_greencompute.explaining.replayed import by_replay
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.explaining.tree import Branch, Shares, Weighing, forest
from pytest_greencompute.stats.distributions import student_t_quantile

# By how much a part's share differs between two launches of the same code (standard deviations): in proportion to it, and however small.
LAUNCH, LAUNCH_LEAST = 0.03, 0.001
PRIOR, PRIOR_DF = 0.05, 6  # relative scatter of a part's passes where nothing better is known, and how many passes that is worth
FAINT = 1e-4  # of a pass: no clock tells less
SEEN = 0.005  # of a pass: parts that take less say nothing of the scatter of others
LEAST = 0.02  # of the whole difference, or of the figure where there is none: smaller places are not told
MOST = 0.8  # of a part's difference: where one thing inside has so much of it, that is the place
UNIFORM = 0.35  # of a part's growth (logarithm), by which things inside may differ from it and have grown with it


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a level on both sides, with all that is inside, in joules per query; ``low`` and ``high`` bound the difference.

    ``alike``: how many rows of that name it is. ``calls``, ``flops`` and ``operators`` are per query, of its own rows (None: not counted);
    ``dtype``, ``device`` and ``shape`` are of (base, head). ``state``: "new", "gone" or empty. ``was``: the base's name for it, where
    that differs. ``how`` its joules are told: "replay" where all of its rows were replayed.
    """

    kind: LevelKind
    name: str
    base_j: float
    head_j: float
    low: float
    high: float
    alike: int = 1
    calls: tuple[float | None, float | None] = (None, None)
    flops: tuple[float | None, float | None] = (None, None)
    dtype: tuple[str, str] = ("", "")
    device: tuple[str, str] = ("", "")
    shape: tuple[str, str] = ("", "")
    state: str = ""
    was: str = ""
    own: bool = False
    parts: tuple[Place, ...] = ()
    operators: tuple[float | None, float | None] = (None, None)
    how: How = "time"

    @property
    def difference_j(self) -> float:
        return self.head_j - self.base_j

    @property
    def certain(self) -> bool:
        """Whether it differs at all."""
        return self.low > 0 or self.high < 0

    def walk(self) -> Iterator[Place]:
        """It, and all that is inside, outer ones first."""
        yield self
        for each in self.parts:
            yield from each.walk()


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """One level on both sides. ``tree`` are its outermost parts; ``places`` those by which the difference is told, the largest first, which
    share nothing; ``unattributed_j`` is what is left of the difference.
    """

    kind: LevelKind
    clock: Ticking
    tree: tuple[Place, ...]
    places: tuple[Place, ...]
    unattributed_j: float
    notes: tuple[str, ...] = ()

    def short(self, name: str) -> str:
        """A module's name without the class of the outermost one, where there is but one: "layer.0" of "BertModel.layer.0"."""
        outermost = {each.name for each in self.tree} - {OUTSIDE}
        head, dot, rest = name.partition(".")
        return rest if self.kind == "modules" and dot and outermost == {head} else name


def levels(base: Profile, head: Profile, risen: Risen) -> tuple[LevelDifference, ...]:
    """Every level that a side has. Where only one side has it, or the clocks differ, there is nothing to compare: its notes say so."""
    found = []
    for kind in dict.fromkeys([*(each.kind for each in head.levels), *(each.kind for each in base.levels)]):
        one, other = base.level(kind), head.level(kind)
        if one is None or other is None or one.clock == other.clock:
            found.append(_level(kind, one, other, risen))
    return tuple(found)


def _level(kind: LevelKind, base: Level | None, head: Level | None, risen: Risen) -> LevelDifference:
    told = head or base
    assert told is not None
    weighing = Weighing(base.seconds if base else (), head.seconds if head else (), risen.base_j, risen.head_j)
    parts = forest(by_replay(align(base, head), base, head), weighing)
    every = [each for part in parts for each in _walk(part)]
    judge = _Judge.of(kind, every, risen, one_sided=base is None or head is None)
    tree = tuple(judge.place(each) for each in parts)
    least = LEAST * abs(risen.difference_j if risen.certain else risen.head_j)
    ranked = sorted(
        (each for each in _told(tree) if each.certain and abs(each.difference_j) >= least), key=lambda each: -abs(each.difference_j)
    )
    if base is None or head is None:
        ranked = []
    left_j = risen.difference_j - math.fsum(each.difference_j for each in ranked)
    notes = tuple(dict.fromkeys((*(base.notes if base else ()), *(head.notes if head else ()))))
    return LevelDifference(kind, told.clock, tree, tuple(ranked), left_j, notes)


def _walk(part: Branch) -> Iterator[Branch]:
    yield part
    for each in part.parts:
        yield from _walk(each)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Turns parts into places: ``scatter`` is the usual relative scatter of a part's passes on each side, ``quantile`` how many standard
    errors an interval reaches.
    """

    kind: LevelKind
    risen: Risen
    scatter: tuple[float, float]
    quantile: float

    @classmethod
    def of(cls, kind: LevelKind, every: Sequence[Branch], risen: Risen, *, one_sided: bool) -> _Judge:
        """For all parts of a level."""
        passes = [len(side) for side in ((every[0].base, every[0].head) if every else ()) if side]
        degrees = 2 * PRIOR_DF + sum(each - 1 for each in passes) if not one_sided else PRIOR_DF
        chance = (1 - risen.confidence) / (2 * max(len(every), 1))
        scatter = (_usual([each.base for each in every]), _usual([each.head for each in every]))
        return cls(kind, risen, scatter, student_t_quantile(1 - chance, degrees))

    def place(self, part: Branch) -> Place:
        """The place that a part is, with all that is inside."""
        risen, base, head = self.risen, part.base_share, part.head_share
        of_shares = risen.base_j**2 * self._variance(part.base, self.scatter[0])
        of_shares += risen.head_j**2 * self._variance(part.head, self.scatter[1])
        of_shares += ((head - base) * risen.base_sd) ** 2
        reach = self.quantile * math.sqrt(of_shares)
        # The head's joules are the base's and the difference, whose error is one and the same for all parts: its interval is the verdict's.
        down, up = head * (risen.difference_j - risen.low), head * (risen.high - risen.difference_j)
        base_j, head_j = base * risen.base_j, head * risen.head_j
        befores = [row.base for row in part.rows if row.base is not None]
        nows = [row.head for row in part.rows if row.head is not None]

        def texts(name: str) -> tuple[str, str]:
            one, other = (", ".join(dict.fromkeys(text for each in costs if (text := getattr(each, name)))) for costs in (befores, nows))
            return one, other

        def counts(name: str) -> tuple[float | None, float | None]:
            sides = ([getattr(each, name) for each in costs] for costs in (befores, nows))
            one, other = (None if not values or None in values else math.fsum(values) for values in sides)
            return one, other

        return Place(
            self.kind,
            part.name,
            base_j,
            head_j,
            head_j - base_j - math.hypot(reach, down),
            head_j - base_j + math.hypot(reach, up),
            part.alike,
            counts("calls"),
            counts("flops"),
            texts("dtype"),
            texts("device"),
            texts("shape"),
            part.state,
            part.rows[0].renamed if part.alike == 1 else "",
            parts=self._inside(part),
            operators=counts("operators"),
            how="replay" if not part.parts and all(row.how == "replay" for row in part.rows) else "time",
        )

    def _inside(self, part: Branch) -> tuple[Place, ...]:
        """What is inside, and where there is something, what the part does itself besides."""
        if not part.parts:
            return ()
        own = self.place(part.own())
        return (*(self.place(each) for each in part.parts), _as_own(own))

    def _variance(self, shares: Shares, usual: float) -> float:
        """Of the mean of a part's shares on one side."""
        if not shares:
            return 0.0
        mean, degrees = statistics.fmean(shares), len(shares) - 1
        own = statistics.variance(shares) if degrees else 0.0
        rest = mean * (1 - mean)  # what scatters in a part is missing or added in all others
        prior = (usual * rest) ** 2 + FAINT**2
        joined = (PRIOR_DF * prior + degrees * own) / (PRIOR_DF + degrees)
        return joined / len(shares) + (LAUNCH * rest) ** 2 + LAUNCH_LEAST**2


def _as_own(place: Place) -> Place:
    return replace(place, device=("", ""), shape=("", ""), state="", was="", own=True, parts=())


def _usual(sides: Sequence[Shares]) -> float:
    """The median relative scatter of the passes of those parts that take some time, and not all of it."""
    means = [(shares, statistics.fmean(shares)) for shares in sides if len(shares) > 1]
    found = [statistics.stdev(shares) / (mean * (1 - mean)) for shares, mean in means if SEEN < mean < 1 - SEEN]
    return max(statistics.median(found), FAINT) if found else PRIOR


def _told(parts: Sequence[Place]) -> list[Place]:
    """The places that the difference is told by, out of parts that lie side by side: each as far inside as one thing has most of it."""
    return [place for part in parts for place in _within(part)]


def _within(part: Place) -> list[Place]:
    """A part as a place, or what is inside of it; nothing where no difference is certain."""
    inside = [each for each in part.parts if any(inner.certain for inner in each.walk())]
    if not inside or part.state:
        return [part] if part.certain else []
    found = [place for each in inside for place in _within(each)]
    if not part.certain:
        return found
    if len(found) > 1 and _grew_alike(part):
        return [part]
    together = math.fsum(each.difference_j for each in found)
    return found if abs(together) >= MOST * abs(part.difference_j) else [part]


def _grew_alike(part: Place) -> bool:
    """Whether all that is inside and costs something grew as the part did: then the part is the place, and not each thing in it."""
    grew = _growth(part)
    of_parts = [_growth(each) for each in part.parts if max(each.base_j, each.head_j) > SEEN * max(part.base_j, part.head_j) * 4]
    return all(abs(each - grew) <= UNIFORM * abs(grew) for each in of_parts)


def _growth(place: Place) -> float:
    return math.log(max(place.head_j, 1e-12) / max(place.base_j, 1e-12))
