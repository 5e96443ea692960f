"""How much of its budget a run takes, or how many times another run: what bars show, on the page and on a terminal. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_greencompute.judging.by_other_run import change
from pytest_greencompute.judging.judge import HELD_AGAINST
from pytest_greencompute.judging.verdict import ORDER
from pytest_greencompute.results.result import Figure, Result, ShownVerdict
from pytest_greencompute.values.metrics import METRICS, Better, Metric
from pytest_greencompute.values.units import money, show, show_limit, significant

RANK = {name: place for place, name in enumerate(METRICS)}  # energy before all else
OF = {"budget": "budget", "baseline": "baseline", "base_ref": "base"}
TIMES = 10.0  # from here on it is told as a number of times
MOST = 1000.0  # how many of these are told; infinitely many are one of them
FINE = 0.1  # so near to 100 % a tenth of a per cent is shown: it decides
CELLS, BEYOND = 8, 3  # of a bar on a terminal: to 100 %, and after that
PARTS = "·▏▎▍▌▋▊▉█"  # a cell that is not filled, and those filled by eighths
MARK, TOLERATED, CUT = "│", "┊", "»"
AMOUNT = 7  # characters of the number beside it


@dataclass(frozen=True, slots=True)
class Share:
    """What the verdict that decides holds a run against, and how much of that it takes: 1 is as much, more is worse.

    ``value`` is None where nothing can be drawn: no figure, or a limit of zero. ``low`` and ``high`` are None where the interval is open.
    ``of`` is 'budget', 'baseline' or 'base' (of a comparison of candidates: empty), and ``said`` both figures for people. ``fine``: beside
    another run, what is still within the tolerance; None where nothing more than 1 is.
    """

    word: str
    of: str
    said: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    fine: float | None = None

    @property
    def amount(self) -> str:
        """'76 %', '12.5 times'; empty without a value."""
        if self.value is None:
            return ""
        if self.value >= TIMES:
            return f"{significant(self.value, 3)} times" if self.value <= MOST else f"> {MOST:.0f} times"
        return f"{100 * self.value:.{1 if abs(self.value - 1) < FINE else 0}f} %"

    @property
    def bar(self) -> str:
        """'██████▏·│···     77 %': for a terminal; empty without a value. A tolerance has a cell, however large: '████████│▍┊·   102 %'."""
        if self.value is None:
            return ""
        drawn, room, over = f"{_cells(CELLS * self.value, CELLS)}{MARK}", BEYOND, self.value - 1
        if self.fine is not None:
            drawn += f"{_cells(over / (self.fine - 1), 1)}{TOLERATED}"
            room, over = BEYOND - 2, self.value - self.fine
        return f"{drawn}{_cells(CELLS * over, room, CUT)} {self.amount:>{AMOUNT}}"


def _cells(filled: float, room: int, cut: str = "") -> str:
    """``room`` cells, so many of them ``filled``; where it goes on after them, the last is ``cut``."""
    eighths = round(8 * min(max(filled, 0.0), room))
    cells = [PARTS[min(max(eighths - 8 * cell, 0), 8)] for cell in range(room)]
    return "".join([*cells[:-1], cut] if cut and filled > room else cells)


def share_of(run: Result) -> Share | None:
    """By the verdict that decides: the worst word, of those one with a figure, energy first, and a budget before another run."""
    made = [(verdict, _share(run, verdict)) for verdict in run.verdicts]
    return min(made, key=lambda each: _rank(*each))[1] if made else None


def _rank(verdict: ShownVerdict, share: Share) -> tuple[float, ...]:
    return ORDER.index(verdict.word), share.value is None, RANK[verdict.metric], verdict.kind != "budget", -(share.value or 0.0)


def worst_first(share: Share, *, red: bool) -> tuple[float, ...]:
    """The key to sort by: red ones, then the worse words, then those that take the most."""
    return not red, ORDER.index(share.word), -(share.value or 0.0)


def _share(run: Result, verdict: ShownVerdict) -> Share:
    metric, figure, of = METRICS[verdict.metric], run.metrics.get(verdict.metric), OF.get(verdict.kind, "")
    if verdict.word == "UNMEASURED":  # a figure beside it would look like one that was judged
        return Share(verdict.word, of, verdict.reason)
    if verdict.ratio is not None:
        ratio, where = verdict.ratio, HELD_AGAINST[verdict.kind].shown.format(verdict.where)
        high = ratio.high if math.isfinite(ratio.high) else None
        said = f"{metric.label} {change(ratio)} against {where}"
        return Share(verdict.word, of, said, ratio.value, ratio.low or None, high, _fine(verdict, metric.better))
    if figure is None or verdict.limit is None:
        return Share(verdict.word, of, verdict.reason)
    return Share(verdict.word, of, _both(metric, figure, verdict.limit), *_of_limit(figure, verdict.limit, metric.better))


def _fine(verdict: ShownVerdict, better: Better) -> float | None:
    """How many times the other run is still fine; None where nothing but as much is."""
    limit, base = (verdict.limit or 0.0, verdict.base or 0.0) if better == "lower" else (verdict.base or 0.0, verdict.limit or 0.0)
    return limit / base if limit > base > 0 else None


def _both(metric: Metric, figure: Figure, limit: float) -> str:
    """'energy/query 0.612 J of 0.8 J', 'accuracy 0.940, at least 0.92'."""
    dimension = money(figure.currency) if metric.per == "money" else metric.dimension
    value = show(figure.value, dimension, 1 if metric.whole else 3)
    return f"{metric.label} {value}{' of' if metric.better == 'lower' else ', at least'} {show_limit(limit, dimension)}"


def _of_limit(figure: Figure, limit: float, better: Better) -> tuple[float | None, float | None, float | None]:
    """The figure and the ends of its interval as shares of a limit; where more is better, the limit as shares of them."""
    if limit <= 0:
        return None, None, None
    if better == "lower":
        low, high = (None if end is None else end / limit for end in (figure.low, figure.high))
        return figure.value / limit, low, high
    low, high = (None if end is None or end <= 0 else limit / end for end in (figure.high, figure.low))
    return (limit / figure.value if figure.value > 0 else math.inf), low, high
