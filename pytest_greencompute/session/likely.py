"""What the progress line says that a test's verdicts will still take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_greencompute.judging.prospect import Likely, likely_words, sets_to_clear
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.measuring.time_limit import TimeLimit, seconds_a_set
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import sets_of
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:
    from pytest_greencompute.pairing.runs import Pairing


def likely_of(run: Run, verdicts: Iterable[Verdict], limit: TimeLimit, pairing: Pairing | None) -> str:
    """'PASS likely in 8 s', from the run so far, its ``verdicts`` by now, and its comparison with other commits; empty where nothing is
    open, or too little is known.
    """
    set_s, done = seconds_a_set(run), len(sets_of(run.blocks))
    found = [_of_figure(verdict, done, set_s) for verdict in verdicts if verdict.estimate is not None]
    if pairing is not None:
        pairing.outlook.see(run)
        found += pairing.outlook.likely(pairing.matches)
    return likely_words(found, limit.left_s) if any(each.seconds for each in found) else ""


def _of_figure(verdict: Verdict, done: int, set_s: float) -> Likely:
    """A verdict on a figure's own limit: the word of the side on which the figure lies, once its interval has narrowed."""
    if verdict.word != "INCONCLUSIVE" or verdict.estimate is None or verdict.limit is None:
        return Likely(verdict.metric, verdict.word, 0.0)
    sets = sets_to_clear(verdict, done)
    over = (verdict.estimate.value > verdict.limit) == (METRICS[verdict.metric].better == "lower")
    return Likely(verdict.metric, "INCONCLUSIVE" if math.isinf(sets) else "FAIL" if over else "PASS", sets * set_s)
