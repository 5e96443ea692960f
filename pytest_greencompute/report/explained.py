"""Why a run uses more than at another commit, or what one side alone was seen to do: lines, tables and an icicle of joules. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pytest_greencompute.explaining.alignment import align
from pytest_greencompute.explaining.difference import LevelDifference, Place
from pytest_greencompute.explaining.explanation import Explanation
from pytest_greencompute.explaining.profile import Cost, How, Level, Profile
from pytest_greencompute.explaining.replayed import by_replay
from pytest_greencompute.explaining.sentence import called, signed
from pytest_greencompute.report.columns import INDENT, UNLIMITED, wide, within
from pytest_greencompute.report.escape import plot_text, printable
from pytest_greencompute.report.plots import BLUE, GREY, Drawn, Plot
from pytest_greencompute.results.result import Explained, Result
from pytest_greencompute.values.units import ENERGY, TIME, show, significant

CLOCKS = {"cpu": "processor time", "wall": "wall time", "device": "device time"}
PLACES, ROWS = 8, 12  # lines of a level on a terminal
DEEPEST, FAINTEST = 6, 0.004  # levels of the icicle, and the share of a side below which a part is not drawn
NOT_ATTRIBUTED = "not attributed"
MARGIN = "    "
FIGURES = 5  # columns of a table of places that are what it is called and its figures; a sentence may follow
Fit = Callable[[str], str]
Rows = list[tuple[str, ...]]


def headline(made: Explained) -> str:
    """'+860 mJ a query against main (0123abcd): 1.00 J, was 140 mJ'."""
    risen = made.explanation.risen
    now, was = show(risen.head_j, ENERGY), show(risen.base_j, ENERGY)
    return f"{signed(risen.difference_j)} a query against {made.ref}: {now}, was {was}"


def product_rows(explanation: Explanation) -> Rows:
    """The factors whose product is the figure, and those that differ besides: name, base, now, how many times."""
    terms = [(each.unit, each.base, each.head) for each in explanation.terms]
    told = {"tokens per query", "flops per query"}  # which are in the product
    rows: Rows = [(name, significant(base, 3), significant(head, 3), f"{head / base:.3g}") for name, base, head in map(_readable, terms)]
    for each in explanation.changed:
        if each.name not in told:
            numbers = isinstance(each.base, float | int) and isinstance(each.head, float | int) and each.base > 0
            times = f"{each.head / each.base:.3g}" if numbers else ""  # type: ignore[operator]
            rows.append((each.name, _value(each.base), _value(each.head), times))
    return rows


def _readable(term: tuple[str, float, float]) -> tuple[str, float, float]:
    """In a unit whose numbers can be read: 'nJ per FLOP'."""
    name, base, head = term
    for prefix, size in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9), ("p", 1e-12)):
        if name.startswith("J ") and (base >= size or prefix == "p"):
            return f"{prefix}{name}", base / size, head / size
    for prefix, size in (("G", 1e9), ("M", 1e6)):
        if name.startswith("FLOPs") and base >= size:
            return f"{prefix}{name}", base / size, head / size
    return term


def _value(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else significant(value, 3)


PLACE_HEADS = ("where", "base", "now", "difference", "between", "what else")


def place_rows(level: LevelDifference, explanation: Explanation) -> Rows:
    """The places by which a level tells the difference, and what is left of it."""
    rows = [
        (
            called(each, level),
            show(each.base_j, ENERGY),
            show(each.head_j, ENERGY),
            signed(each.difference_j),
            f"{signed(each.low)} and {signed(each.high)}",
            "; ".join(_besides(each)),
        )
        for each in level.places
    ]
    return [*rows, (NOT_ATTRIBUTED, "", "", signed(level.unattributed_j), "", f"of {signed(explanation.risen.difference_j)}")]


def _besides(place: Place) -> Iterator[str]:
    if place.state:
        yield place.state
    if place.was:
        yield f"was called {place.was}"
    for base, head in (place.dtype, place.device):
        if base and head and base != head:
            yield f"now {head}, was {base}"
    before, now = place.calls
    if before and now and not place.state and abs(now / before - 1) > 0.01:
        yield f"{significant(now, 3)} calls a query, were {significant(before, 3)}"
    if place.how == "replay":
        yield "replayed"


def level_title(level: LevelDifference | Level) -> str:
    """'modules, by processor time'."""
    return f"{level.kind}, by {CLOCKS[level.clock]}"


def lines(made: Explained, width: int = UNLIMITED, fit: Fit = str) -> list[str]:
    """All of it for a terminal of ``width``, without its sentence. ``fit`` replaces what it cannot show."""
    explanation = made.explanation
    found = [headline(made)]
    if explanation.terms:
        found += _grid([("factor", "base", "now", "times"), *product_rows(explanation)], width, fit)
    for level in explanation.levels:
        if level.places:
            rows = place_rows(level, explanation)
            shown = [PLACE_HEADS, *rows[:PLACES], *(rows[-1:] if len(rows) > PLACES else ())]
            found += [f"  {level_title(level)}:", *_grid(shown, width, fit)]
    return [printable(each) for each in [*found, *(f"  {note}" for note in _notes(explanation))]]


def session_lines(results: Sequence[Result], width: int = UNLIMITED, fit: Fit = str) -> list[str]:
    """For a terminal: every run that was explained or looked at."""
    found = []
    for run in results:
        for made in run.explained:
            found += [
                printable(f"{run.called}: {made.where or 'no place can be told'}"),
                *(f"  {line}" for line in lines(made, width - INDENT, fit)),
            ]
        if run.profile is not None:
            found += [printable(f"{run.called}:"), *(f"  {line}" for line in profile_lines(run.profile, width - INDENT, fit))]
    return found


def _notes(explanation: Explanation) -> Iterable[str]:
    return dict.fromkeys([*explanation.notes, *(note for level in explanation.levels for note in level.notes)])


def _grid(rows: Sequence[Sequence[str]], width: int, fit: Fit) -> list[str]:
    """What a place is called stays whole, and its figures stay together: beside it, else below it."""
    shown = [[fit(printable(cell)) for cell in row] for row in rows]
    room = width - len(MARGIN)
    figures = range(min(FIGURES, len(shown[0])))
    first = figures if wide(shown, figures) <= room else [0]
    return [f"{MARGIN}{line}" for several in within(shown, room, first, whole=True) for line in several]


# --- one side alone ---------------------------------------------------------------------------------------------------------------------

COST_HEADS = ("where", "a query", "share", "calls", "dtype", "what else")


def cost_rows(level: Level) -> Rows:
    """The rows of a level of one side by what they take, and what none of them took."""
    whole = sum(level.seconds) / len(level.seconds)
    found = [(each.head, each.how) for each in by_replay(align(None, level), None, level) if each.head is not None]
    left = whole - sum(cost.mean_s for cost, _ in found)
    ranked = sorted(found, key=lambda each: -each[0].mean_s)
    return [*(_cost_row(*each, whole) for each in ranked), (NOT_ATTRIBUTED, show(max(left, 0.0), TIME), _percent(left / whole), "", "", "")]


def _cost_row(cost: Cost, how: How, whole: float) -> tuple[str, ...]:
    calls = "" if cost.calls is None else significant(cost.calls, 3)
    replayed = f"replayed: {show(cost.replayed.mean, ENERGY)} a call" if how == "replay" and cost.replayed is not None else ""
    return cost.name, show(cost.mean_s, TIME), _percent(cost.mean_s / whole), calls, cost.dtype, replayed


def _percent(share: float) -> str:
    return f"{100 * max(share, 0.0):.1f} %"


def profile_lines(profile: Profile, width: int = UNLIMITED, fit: Fit = str) -> list[str]:
    """One side for a terminal of ``width``."""
    found = [f"looked at over {profile.queries} quer{'y' if profile.queries == 1 else 'ies'} a pass"]
    found += _grid([(each.name, f"{_value(each.value)} {each.unit}".rstrip()) for each in profile.factors], width, fit)
    for level in profile.levels:
        rows = cost_rows(level)
        shown = [COST_HEADS, *rows[:ROWS], *(rows[-1:] if len(rows) > ROWS else ())]
        found += [f"  {level_title(level)}:", *_grid(shown, width, fit)]
    notes = dict.fromkeys([*profile.notes, *(note for level in profile.levels for note in level.notes)])
    return [printable(each) for each in [*found, *(f"  {note}" for note in notes)]]


# --- the icicle -------------------------------------------------------------------------------------------------------------------------


def icicles(made: Explained) -> list[Plot]:
    """For each level an icicle of joules, the base beside this tree, both to one scale."""
    return [_icicle(level, made) for level in made.explanation.levels if level.tree]


def _icicle(level: LevelDifference, made: Explained) -> Plot:
    risen = made.explanation.risen
    most = max(risen.base_j, risen.head_j)
    sides = (("base", made.ref, risen.base_j, GREY, (0.0, 0.48)), ("head", "this tree", risen.head_j, BLUE, (0.52, 1.0)))
    data = [
        _trace(level, side, title, joules, color, {"x": list(across), "y": [1 - joules / most, 1]})
        for side, title, joules, color, across in sides
    ]
    rows = tuple(row[:4] for row in _tree_rows(level, made))
    return Plot(
        {"data": data, "layout": {}},
        f"Joules per query of {level.kind}, {made.ref} beside this tree: {show(risen.base_j, ENERGY)} and {show(risen.head_j, ENERGY)}.",
        f"{level_title(level).capitalize()}, to one scale: {made.ref} on the left, this tree on the right; parts right of their whole.",
        ("where", "base", "now", "difference"),
        rows,
    )


def _trace(level: LevelDifference, side: str, title: str, joules: float, color: str, domain: Drawn) -> Drawn:
    ids, labels, parents, values = [side], [plot_text(title)], [""], [joules]

    def add(place: Place, inside: str, depth: int) -> None:
        value = min(place.base_j if side == "base" else place.head_j, joules)
        if place.own or value < FAINTEST * joules or depth > DEEPEST:
            return
        ids.append(key := f"{inside}/{len(ids)}")
        labels.append(plot_text(called(place, level)))
        parents.append(inside)
        values.append(value)
        for each in place.parts:
            add(each, key, depth + 1)

    for each in level.tree:
        add(each, side, 1)
    return {
        "type": "icicle",
        "ids": ids,
        "labels": labels,
        "parents": parents,
        "values": values,
        "branchvalues": "total",
        "tiling": {"orientation": "h"},
        "domain": domain,
        "marker": {"colors": [color] * len(ids)},
        "textinfo": "label+percent root",
        "hovertemplate": "%{label}<br>%{value:.4~s}J<extra></extra>",
    }


def _tree_rows(level: LevelDifference, made: Explained) -> Iterator[tuple[str, ...]]:
    """Every part that is drawn, outer ones first, and what is not attributed."""
    least = FAINTEST * max(made.explanation.risen.base_j, made.explanation.risen.head_j)
    for part in level.tree:
        for each in part.walk():
            if max(each.base_j, each.head_j) >= least:
                yield called(each, level), show(each.base_j, ENERGY), show(each.head_j, ENERGY), signed(each.difference_j)
    yield NOT_ATTRIBUTED, "", "", signed(level.unattributed_j)
