"""What is to blame for a difference, the likeliest first: the most specific thing that is true of it, at whatever level. Pure.

A growth that is everywhere in the model has its cause in what was asked of it or how it was set up, so a factor is named; one that is in
one place has it there: a module, or the function that works there. Which of them comes first is decided here alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_greencompute.explaining.difference import LEAST, LevelDifference, Place
from pytest_greencompute.explaining.explanation import Explanation
from pytest_greencompute.explaining.factors import (
    CACHED,
    CALLS,
    ITEMS,
    NEW,
    PROMPT,
    SESSION_CALLS,
    SESSION_ITEMS,
    SESSION_TOKENS,
    TOKENS,
    ChangedFactor,
)
from pytest_greencompute.explaining.profile import MODULES, OUTSIDE, LevelKind
from pytest_greencompute.explaining.sentence import signed

EVERYWHERE = 0.75  # of what the model cost before: where so much of it grew, the growth is in no one place
GREW = 1 / 3  # of the whole's growth (logarithm): what grew less is not part of it
MOSTLY = 0.5  # of the growth: a factor that accounts for so much can be its cause
NEAR = 0.25  # of the growth: two factors that account for it to within that say the same
SAME = 0.01  # by which counts of the same work may differ
APART = 3.0  # times as much as the rest: so much has grown what is to blame for less than most of the difference
INSIDE = 0.6  # of a module's difference: a function that has so much of it is the place
NEWLY = 1 / 3  # likewise of one that was not there before: that it is new is a fact, and a sampler sees only a part of what it costs
BATCH, PADDING = "batch size", "padding"
MISSED = 0.1  # of the prompts: a share in a server's cache that changed by less is chance
SILENT = {"threads", "gradients", "training"}  # settings that make modules and what calls them dearer, and give them no other work


@dataclass(frozen=True, slots=True)
class Blame:
    """One place or one factor, with the joules per query that it has of the difference, between ``low`` and ``high``.

    ``text`` is a sentence without its subject's article and without a full stop; ``called`` is "kind: name".
    """

    called: str
    text: str
    difference_j: float
    low: float
    high: float
    place: Place | None = None
    changed: ChangedFactor | None = None


def blamed(explanation: Explanation) -> tuple[Blame, ...]:
    """What the difference is blamed on: the first is to be named, and after a factor come the places where it shows.

    Empty where there is no difference, or nothing that can be told from noise has grown with it.
    """
    if not explanation.risen.certain or explanation.unseen:
        return ()
    places = _places(explanation)
    factor = _factor(explanation, places)
    return (*([factor] if factor else []), *(_of_place(each, explanation) for each in places))


def where(explanation: Explanation) -> str:
    """'Where: encoder.layer.*.intermediate (12 alike): +0.86 J of +0.92 J [88 %, 99 %]; now float32, was bfloat16.' Empty where no place
    can be named. Where what was looked at does not show the difference, it says that.
    """
    if explanation.unseen:
        return f"Where: {explanation.unseen}."
    found = blamed(explanation)
    return f"Where: {found[0].text}." if found else ""


def _level(explanation: Explanation, kind: LevelKind) -> LevelDifference | None:
    """A level that both sides have: of one that only one side has, nothing is new or gone."""
    if explanation.base.level(kind) is None or explanation.head.level(kind) is None:
        return None
    return next((each for each in explanation.levels if each.kind == kind), None)


# --- places -----------------------------------------------------------------------------------------------------------------------------


def _places(explanation: Explanation) -> list[Place]:
    """Places of all levels that share nothing, those that changed as the whole did, the largest first."""
    modules, functions = _level(explanation, "modules"), _level(explanation, "functions")
    rise = explanation.risen.difference_j
    within = next((each.parts for each in (functions.tree if functions else ()) if each.name == MODULES), ())
    likely = _by_work(modules) or [each for each in (modules.places if modules else ()) if each.name != OUTSIDE and each.certain]
    found = [*_inner(likely, within), *(each for each in _outer(modules, functions, rise) if each.certain)]
    grown = [each for each in found if each.difference_j / rise >= LEAST]
    return sorted(dict.fromkeys(grown), key=lambda each: -abs(each.difference_j))


def _by_work(modules: LevelDifference | None) -> list[Place]:
    """The modules that have other work to do than before, and so need no clock to be told from the others; none where those are
    everywhere, or have not most of the difference.
    """
    tree = [each for each in (modules.tree if modules else ()) if each.name != OUTSIDE]
    spread = _Spread.of(tree, _has_other_work)
    if not spread.accounts or spread.everywhere:
        return []
    return [place for each in tree for place in _narrowed(each)]


def _narrowed(place: Place) -> list[Place]:
    """The parts of a place whose work is another, each as far outside as that is true of nearly all of it."""
    spread = _Spread.of([place], _has_other_work)
    if not spread.true:
        return []
    return [place] if spread.everywhere or not place.parts else [part for each in place.parts for part in _narrowed(each)]


def _has_other_work(place: Place) -> bool:
    """Whether it is new or gone, or has other FLOPs, operators, calls or types: facts, which nothing disturbs."""
    counts = [(one, other) for one, other in (place.calls, place.flops, place.operators) if one is not None and other is not None]
    types = place.dtype if all(place.dtype) else ("", "")
    return bool(place.state) or types[0] != types[1] or any(abs(one - other) > SAME * max(one, other) for one, other in counts)


@dataclass(frozen=True, slots=True)
class _Spread:
    """How much something is true of: the innermost parts of which it is true, and the ``rest``."""

    true: tuple[Place, ...]
    rest: tuple[Place, ...]

    @classmethod
    def of(cls, places: Iterable[Place], holds: Callable[[Place], bool]) -> _Spread:
        """Among the innermost parts of the places."""
        leaves = [(leaf, holds(leaf) or new) for place in places for leaf, new in _leaves_of(place)]
        return cls(tuple(leaf for leaf, true in leaves if true), tuple(leaf for leaf, true in leaves if not true))

    @property
    def everywhere(self) -> bool:
        """Whether it is true of nearly all of the work."""
        true, rest = (math.fsum(max(leaf.base_j, leaf.head_j) for leaf in leaves) for leaves in (self.true, self.rest))
        return true > 0 and true >= EVERYWHERE * (true + rest)

    @property
    def accounts(self) -> bool:
        """Whether it is true of what has most of the difference, or a good part of it while the rest hardly changed in proportion: what
        disturbed a whole side makes everything grow a little.
        """
        (base, head), (rest_base, rest_head) = (
            [math.fsum(getattr(leaf, side) for leaf in leaves) for side in ("base_j", "head_j")] for leaves in (self.true, self.rest)
        )
        whole = head - base + rest_head - rest_base
        part = (head - base) / whole if whole else 0.0
        apart = abs(_logarithm(base, head)) >= APART * abs(_logarithm(rest_base, rest_head))
        return part >= MOSTLY or (part >= MOSTLY / 2 and apart)


def _leaves_of(place: Place, *, new: bool = False) -> Iterator[tuple[Place, bool]]:
    """Its innermost parts, and whether each lies in something that is new or gone."""
    new = new or bool(place.state)
    if not place.parts:
        yield place, new
    for each in place.parts:
        yield from _leaves_of(each, new=new)


def _outer(modules: LevelDifference | None, functions: LevelDifference | None, rise: float) -> list[Place]:
    """The functions outside of modules; without a level of functions, all that is outside as one."""
    outside = [each for each in (modules.tree if modules else ()) if each.name == OUTSIDE]
    if functions is None or modules is None:
        return outside if functions is None else list(functions.tree)
    if modules.clock != functions.clock and math.fsum(each.difference_j for each in outside) / rise < MOSTLY:
        return []  # modules run on a device: what waits for them there is no place of its own
    return [each for each in functions.tree if each.name != MODULES]


def _inner(modules: Sequence[Place], functions: Iterable[Place]) -> list[Place]:
    """The modules; a function that has most of the difference of one, or of all of them together, stands in their place."""
    likely = [each for each in functions if each.certain and _is_no_module(each)]
    together = math.fsum(each.difference_j for each in modules)
    for each in likely:
        least = NEWLY if each.state == "new" else INSIDE
        if least <= each.difference_j / (together or math.inf) <= 1 / INSIDE:
            return [each]
    same = [(module, next((each for each in likely if _same(each, module)), None)) for module in modules]
    return [module if function is None else function for module, function in same]


def _same(function: Place, module: Place) -> bool:
    return INSIDE <= function.difference_j / module.difference_j <= 1 / INSIDE


def _is_no_module(function: Place) -> bool:
    """Whether a function within modules says more than the module does: its own ``forward`` does not, unless that calls something new."""
    if function.own or function.name.startswith(MODULES):
        return False
    return not function.name.endswith(".forward") or (function.state == "new" and " from " in function.name)


# --- factors ----------------------------------------------------------------------------------------------------------------------------


def _factor(explanation: Explanation, places: Sequence[Place]) -> Blame | None:
    """The factor that made everything grow, or that is another one where no place has most of the difference or other work; None where some
    have, or no factor accounts for it.
    """
    risen = explanation.risen
    grew = math.log(risen.head_j / risen.base_j)
    model = _model(explanation)
    work, time = (_Spread.of(model, holds) for holds in (_has_other_work, lambda each: _growth(each) / grew >= GREW))
    told = math.fsum(each.difference_j for each in places) / risen.difference_j
    known = {each.name: each for each in explanation.changed}
    if told >= MOSTLY and not (work if work.accounts else time).everywhere:
        if work.accounts or _has_other_work(places[0]):
            return None
        known = {name: each for name, each in known.items() if name in SILENT}  # the same work takes longer there
    found = next((name for name, holds in CAUSES if name in known and holds(known, grew)), None)
    if found is None:
        return None
    changed = known[found]
    difference = risen.difference_j if told < MOSTLY else math.fsum(each.difference_j for each in places)
    text = f"{found}: {_value(changed.head)}, was {_value(changed.base)}: {_joules(difference, explanation)}"
    return Blame(f"factor: {found}", text, difference, risen.low, risen.high, changed=changed)


def _model(explanation: Explanation) -> list[Place]:
    """What shows whether a growth is everywhere: the modules, where those have most of it; else all functions."""
    modules, functions = _level(explanation, "modules"), _level(explanation, "functions")
    inner = [each for each in (modules.tree if modules else ()) if each.name != OUTSIDE]
    most = math.fsum(each.difference_j for each in inner) / explanation.risen.difference_j >= MOSTLY
    return inner if most or functions is None else [each for each in functions.tree if each.name != MODULES]


def _growth(place: Place) -> float:
    return _logarithm(place.base_j, place.head_j)


def _logarithm(base: float, head: float) -> float:
    return math.log(max(head, 1e-12) / max(base, 1e-12))


_Known = dict[str, ChangedFactor]


def _part(known: _Known, name: str, grew: float) -> float:
    """How much of the growth a factor accounts for that the figure is proportional to; 0 where it is not known or did not change."""
    one = known.get(name)
    if one is None or not isinstance(one.base, float | int) or not isinstance(one.head, float | int) or min(one.base, one.head) <= 0:
        return 0.0
    return math.log(one.head / one.base) / grew


def _filled(known: _Known, grew: float) -> float:
    """How much of the growth the padding accounts for: so many tokens more for as many that say something."""
    one = known.get(PADDING)
    if one is None or not isinstance(one.base, float | int) or not isinstance(one.head, float | int) or max(one.base, one.head) >= 1:
        return 0.0
    return math.log((1 - one.base) / (1 - one.head)) / grew


def _smaller(known: _Known, grew: float) -> bool:
    return abs(_part(known, BATCH, grew) + _part(known, CALLS, grew)) <= NEAR * abs(_part(known, BATCH, grew))


def _padded(known: _Known, grew: float) -> bool:
    return _filled(known, grew) >= MOSTLY and abs(_filled(known, grew) - _part(known, TOKENS, grew)) <= NEAR


def _again(known: _Known, grew: float) -> bool:
    calls = _part(known, CALLS, grew)
    return calls >= MOSTLY and abs(calls - _part(known, TOKENS, grew)) <= NEAR


def _more_and_smaller(calls: str, items: str) -> Callable[[_Known, float], bool]:
    """Calls beside the usual ones, each of fewer items: that there are more tokens, too, comes from them."""
    return lambda known, grew: _part(known, calls, grew) >= MOSTLY and _part(known, items, grew) <= -NEAR


def _misses(known: _Known, _grew: float) -> bool:
    one = known[CACHED]
    return isinstance(one.base, float) and isinstance(one.head, float) and abs(one.head - one.base) >= MISSED


def _proportional(name: str) -> Callable[[_Known, float], bool]:
    return lambda known, grew: _part(known, name, grew) >= MOSTLY


def _always(_known: _Known, _grew: float) -> bool:
    return True


# What can make everything grow, and when it is the cause: causes before what they bring about, the numbers that account for the growth
# before settings of which nobody knows what they cost.
CAUSES: tuple[tuple[str, Callable[[_Known, float], bool]], ...] = (
    (BATCH, _smaller),
    (PADDING, _padded),
    (NEW, _proportional(NEW)),
    (PROMPT, _proportional(PROMPT)),
    (CALLS, _again),
    (CALLS, _more_and_smaller(CALLS, ITEMS)),
    (TOKENS, _proportional(TOKENS)),
    (CALLS, _proportional(CALLS)),
    (SESSION_CALLS, _more_and_smaller(SESSION_CALLS, SESSION_ITEMS)),
    (SESSION_TOKENS, _proportional(SESSION_TOKENS)),
    (SESSION_CALLS, _proportional(SESSION_CALLS)),
    (CACHED, _misses),
    ("dtype", _always),
    ("threads", _always),
    ("gradients", _always),
    ("training", _always),
    ("attention", _always),
    ("device", _always),
    ("flops per query", _proportional("flops per query")),
)


# --- words ------------------------------------------------------------------------------------------------------------------------------


def _of_place(place: Place, explanation: Explanation) -> Blame:
    alike = f" ({place.alike} alike)" if place.alike > 1 else ""
    facts = "; ".join(_facts(place))
    level = _level(explanation, place.kind)
    name = place.name if level is None else level.short(place.name)
    text = f"{name}{alike}: {_joules(place.difference_j, explanation)}{_share(place, explanation)}{f'; {facts}' if facts else ''}"
    return Blame(f"{place.kind}: {place.name}", text, place.difference_j, place.low, place.high, place=place)


def _joules(difference_j: float, explanation: Explanation) -> str:
    return f"{signed(difference_j)} of {signed(explanation.risen.difference_j)}"


def _share(place: Place, explanation: Explanation) -> str:
    ends = sorted(max(0.0, end / explanation.risen.difference_j) for end in (place.low, place.high))
    return f" [{ends[0]:.0%}, {ends[1]:.0%}]"


def _facts(place: Place) -> list[str]:
    """What else is to be said of it, as people say it."""
    texts = (_of_all(place, "dtype"), _of_all(place, "device"))
    found = [f"now {head}, was {base}" for base, head in texts if base and head and base != head]
    before, now = place.calls
    if place.state:
        found.append({"new": "new", "gone": "gone"}[place.state])
    elif before and now and abs(math.log(now / before)) > 0.05:
        found.append(f"{now:.3g} calls per query, were {before:.3g}")
    return found


def _of_all(place: Place, what: str) -> tuple[str, str]:
    """The types or devices of all that is in it, on either side."""
    sides = ({each for part in place.walk() for each in getattr(part, what)[side].split(", ") if each} for side in (0, 1))
    base, head = (", ".join(sorted(each)) for each in sides)
    return base, head


def _value(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float | int) else str(value)
