"""The comparison with another commit, made again from the samples of both sides that a part holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Budget
from pytest_greencompute.judging.judge import Against
from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.pairing.feed import Feed
from pytest_greencompute.pairing.layouts import blocking, metered_otherwise
from pytest_greencompute.pairing.runs import BaseOfTest, Match
from pytest_greencompute.pairing.verdicts import KIND, against_base
from pytest_greencompute.results.result import Pairs, Result
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

MOST_PAIRS, MOST_LAUNCHES = 10_000, 100  # that a comparison may have been planned for
NEARLY = 1e-9  # by which a pair that is written may differ from that of the samples
OTHERS = "its pairs are not those of its samples, so the comparison cannot be made again"


def refs_of(shown: Result) -> list[str]:
    """The other commits that a run was held against."""
    return list(dict.fromkeys([*shown.bases, *(each.where for each in shown.verdicts if each.kind == KIND)]))


def against_again(shown: Result, run: Run, ref: str, head: Figures, budget: Budget, subject: str) -> Against | None:
    """One of them as the ladder takes it; None where the part does not hold its samples. Raises SettingsError for plans beyond any.

    Its FAIL does not share its error with the other parts': fresh launches have confirmed it, and only that session could ask for them.
    """
    base = shown.bases.get(ref)
    if base is None:
        return None
    match = Match(BaseOfTest(ref, None), {}, head.aim, run=base)
    match.problem = metered_otherwise(blocking(run, base, head.aim))
    told = {each.metric: each for each in shown.against if each.ref == ref}
    for name, pairs in told.items():
        metric = METRICS[name]
        rule = Rule(budget.tolerance(metric), budget.confidence, metric.better, budget.floor(metric))
        match.tests[name] = _planned(pairs, rule)
    if not match.problem and not _same_pairs(match, run, base, told):
        match.problem = OTHERS
    for name, pairs in told.items() if not match.problem else ():
        _replay(match.tests[name], [pairs.pairs, *pairs.again])
    return against_base(match, head, subject)


def _planned(pairs: Pairs, rule: Rule) -> PairedTest:
    if not 0 < pairs.first <= pairs.most <= MOST_PAIRS or not 0 < pairs.launches <= MOST_LAUNCHES:
        raise SettingsError(
            f"a comparison with {pairs.ref} was planned for {pairs.first} of {pairs.most} pairs.", remedy="Measure it again."
        )
    return PairedTest(rule, pairs.most, pairs.launches, first=pairs.first)


def _replay(test: PairedTest, launches: Iterable[Sequence[tuple[float, float]]]) -> None:
    """Tell a test the pairs of launches that were measured before, in order, as far as it asks for them; then no more will come."""
    for index, pairs in enumerate(launches):
        if index:
            test.relaunched()
        for pair in pairs:
            test.tell(*pair)
        test.stop()


def _same_pairs(match: Match, run: Run, base: Run, told: dict[str, Pairs]) -> bool:
    """Whether the pairs of the first launch that the part tells of are those of its samples."""
    fed = {name: _Kept() for name in told}
    sets = 1 + max((block.set_index for block in run.blocks), default=-1)
    Feed(fed, match.aim).tell(base, run, sets)
    return all(_alike(kept.pairs, told[name].pairs) for name, kept in fed.items())


class _Kept:
    """Pairs as they are fed, all of them."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []

    def tell(self, base: float, head: float) -> None:
        self.pairs.append((base, head))


def _alike(found: list[tuple[float, float]], told: tuple[tuple[float, float], ...]) -> bool:
    """Whether what was told are the first of the pairs: the first launch ends early where all is certain."""
    together = zip(found, told, strict=False)
    return len(told) <= len(found) and all(
        math.isclose(a, b, rel_tol=NEARLY) for one, other in together for a, b in zip(one, other, strict=True)
    )
