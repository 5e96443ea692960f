"""One test under the session's meters: how far each of its runs is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.judging.judge import judge_run, limits_for, times_open
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.measuring.effort import Effort, Telling, tell_nobody
from pytest_greencompute.measuring.script import precise_enough
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.layout import PERCENTILE
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.session.likely import likely_of
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.stats.distributions import values_to_bound
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import asked_by, highest_percentile
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:
    from pytest_greencompute.pairing.runs import Pairing


@dataclass(frozen=True)
class UnderMeters:
    """What measuring a run of ``test`` needs of ``session``, whose meters are open and locked."""

    session: Session
    test: MeteredTest

    @property
    def instruments(self) -> Instruments:
        """The open meters."""
        found = self.session.instruments
        assert found is not None
        return found

    @property
    def problem(self) -> str:
        """Why there is no energy; empty where there is."""
        return self.session.why_unmeasured

    def effort(self, name: str | None, pairing: Pairing | None = None) -> Effort:
        """How the run called ``name`` is measured, by turns with the other commits of ``pairing``."""
        session, test = self.session, self.test
        budget, bench, limit = session.budget(test), session.bench(), session.limit(test)
        sides = 1 if pairing is None else 1 + len(pairing.matches)
        test.planned[name] = test.plan(budget)
        # The figure is read by people too: certain of a distant limit, but known to a half only, is not worth printing. Beside another
        # commit they read the ratio.
        precise, presentable = precise_enough(bench.aim), precise_enough(bench.aim, 0.1)

        def has_ratio() -> bool:
            return pairing is not None and any(not match.problem for match in pairing.matches)

        def judged(run: Run) -> list[Verdict]:
            key, figures = limits_for(run, budget, only=True), bench.figures(run, budget.confidence)
            return [
                each for each in judge_run(figures, key, budget, bench, test.subject) if METRICS[each.metric].kind in {"energy", "rate"}
            ]

        def enough(run: Run) -> bool:
            """Whether all that more blocks could make certain is certain."""
            key, figures, verdicts = limits_for(run, budget, only=True), bench.figures(run, budget.confidence), judged(run)
            certain = all(each.word != "INCONCLUSIVE" for each in verdicts)
            # A run that others will be compared with must be precise, not only certain of its own verdicts.
            compared = session.settings.save or test.group is not None
            alone = not verdicts and pairing is None
            done = precise(run) if compared or alone else certain and (has_ratio() or presentable(run))
            done = done and not times_open(figures, key, budget, bench, test.subject)
            # Batches that are timed within the blocks must be enough for a latency that is limited.
            done = done and not (whole and run.latencies and run.latencies[-1].set_index is not None and len(run.latencies) < timed)
            return done if pairing is None else pairing.may_end(certain=done)

        limits = {**budget.limits.get(None, {}), **budget.limits.get(name, {})}
        # A latency that nothing limits is only shown; what is saved may be held against a limit later.
        limited = {*limits, *(() if test.group is None else test.group.limits)}
        whole = bool(session.settings.save) or any(METRICS[each].kind == "latency" for each in limited)
        percentile = highest_percentile(limited, PERCENTILE)
        timed = values_to_bound(percentile, budget.confidence)
        effort = Effort(
            max(limit.left_s, 0.0) / sides,
            percentile,
            timing="whole" if whole else "short",
            tell=_with_limit(session.tell(test), limit, sides),
            enough=enough,
            figure=lambda run: _figure(run, bench.aim),
            outlook=lambda run: likely_of(run, judged(run), limit, pairing),
            turn=lambda _, run: run is None or not limit.is_up(run),
            keep_answers=bool(pairing or session.settings.save or session.settings.baseline or test.group),
            count=asked_by(limits),
            provenance=session.provenance(),
        )
        if pairing is None:
            return effort
        effort = replace(effort, answered=pairing.answered, alone=pairing.alone)
        return replace(effort, agree=pairing.agree, turn=pairing.turn, in_pairs=True)

    def effort_of(self, candidate: str, run: str, limits: Mapping[str, float], counted: Sequence[str]) -> Effort:
        """How a candidate, whose run is called ``run``, is measured: until the comparison is settled or its time is up.

        ``limits`` are what the candidates must meet, ``counted`` is what is to be counted of them all.
        """
        tell = self.session.tell(self.test)
        effort = self.effort(run)
        own = asked_by(self.session.budget(self.test).limits.get(run, {}))
        shared_s = max(self.session.limit(self.test).left_at_first_s, 0.0)  # all candidates have alike, whoever got ready first
        effort = replace(
            effort, max_seconds=shared_s, enough=lambda _: False, keep_answers=True, count=tuple(dict.fromkeys((*own, *counted)))
        )
        if any(METRICS[each].kind == "latency" for each in limits):
            effort = replace(effort, timing="whole", percentile=highest_percentile(limits, effort.percentile))
        return replace(effort, tell=lambda step: tell(replace(step, what=f"{candidate}: {step.what}")))


def _with_limit(tell: Telling, limit: TimeLimit, sides: int) -> Telling:
    """What is left is never more than the test may still cost; where sides take turns, each takes as long."""
    if tell is tell_nobody:
        return tell

    def told(step: Tell) -> None:
        within = step.most_s and step.measured is not None
        tell(replace(step, least_s=min(sides * step.least_s, limit.left_s), most_s=max(limit.left_s, 0.0)) if within else step)

    return told


def _figure(run: Run, aim: Aim) -> str:
    """The energy per query so far, for the progress line; nothing where there is none yet."""
    found = estimate(run, METRICS["energy_per_query"], aim)
    return f"{found} per query" if isinstance(found, Estimate) else ""
