"""The first picture of the page: a bar for each run beside 100 %, which is its budget or the run that it is held against. Pure.

Places are in per cent of a bar's width, so that the page can have any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greencompute.report.escape import printable, shortened
from pytest_greencompute.report.shares import Share, share_of, worst_first
from pytest_greencompute.results.result import Result

AT_LEAST, AT_MOST = 1.25, 2.5  # the axis ends between these: what is further away would flatten all else
ROOM = 1.05
FIRST = 24  # bars that are seen at once; the others are folded
NAME = 32  # characters of a name


@dataclass(frozen=True, slots=True)
class Bar:
    """One run: words beside the bar, and the bar, of which ``fill`` is None where there is nothing to draw.

    ``beyond``: it goes on after the end. ``interval`` is drawn from place to place, None where there is none; an end that is open or beyond
    is at the edge, and the others are ``ends``. ``open``: one of them is. ``fine``: where the tolerance ends, None where there is none.
    """

    name: str
    short: str
    word: str
    red: bool
    said: str
    amount: str
    fill: float | None = None
    beyond: bool = False
    interval: tuple[float, float] | None = None
    ends: tuple[float, ...] = ()
    open: bool = False
    fine: float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """The bars, worst first: those that are seen at once, and the ``folded`` ones. 100 % is at ``limit``. ``free`` runs have no verdict."""

    bars: tuple[Bar, ...]
    folded: tuple[Bar, ...]
    limit: float
    free: int
    caption: str


def picture(runs: Sequence[Result]) -> Picture | None:
    """None where no run has a verdict."""
    shares = [(run, share) for run in runs if (share := share_of(run)) is not None]
    if not shares:
        return None
    end = _end([share for _, share in shares])
    ranked = sorted(shares, key=lambda each: worst_first(each[1], red=each[0].red))
    bars = tuple(_bar(run, share, end) for run, share in ranked)
    return Picture(bars[:FIRST], bars[FIRST:], _place(1.0, end), len(runs) - len(shares), _caption([share for _, share in shares]))


def _end(shares: Sequence[Share]) -> float:
    """Where the axis ends, 1 being 100 %."""
    furthest = max((each for share in shares for each in (share.value, share.high, share.fine) if each is not None), default=0.0)
    return min(max(furthest * ROOM, AT_LEAST), AT_MOST)


def _place(value: float, end: float) -> float:
    return round(100 * min(max(value / end, 0.0), 1.0), 2)


def _bar(run: Result, share: Share, end: float) -> Bar:
    words = (run.called, shortened(printable(run.called), NAME), share.word, run.red, share.said, share.amount)
    if share.value is None:
        return Bar(*words)
    fill, beyond = _place(share.value, end), share.value > end
    fine = None if share.fine is None or share.fine > end else _place(share.fine, end)
    if share.low is None and share.high is None:
        return Bar(*words, fill, beyond, fine=fine)
    interval = 0.0 if share.low is None else _place(share.low, end), 100.0 if share.high is None else _place(share.high, end)
    ends = tuple(_place(each, end) for each in (share.low, share.high) if each is not None and each <= end)
    return Bar(*words, fill, beyond, interval, ends, open=None in (share.low, share.high), fine=fine)


def _caption(shares: Sequence[Share]) -> str:
    """What a bar is, in words."""
    budgets, others = (any((share.of == "budget") == which for share in shares if share.of) for which in (True, False))
    what = " or ".join(
        [*(["how much of its budget it takes"] if budgets else []), *(["how many times the other run it is"] if others else [])]
    )
    tolerated = any(share.fine is not None for share in shares)
    within = " A run may be worse than another up to the dotted line, the tolerance." if tolerated else ""
    return f"Each run by the verdict that decides, worst first: {what}. The thin line is the interval, dashed where it is open.{within}"
