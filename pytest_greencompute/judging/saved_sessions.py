"""Two sets of saved sessions held against each other, run by run: the verdicts that a session against a baseline would have given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.judging.budget import Budget
from pytest_greencompute.judging.judge import Bench, against_baseline, judge_against
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.values.run import Run

Sessions = Sequence[Sequence[Run]]


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a test on both sides: its verdicts, or why there are none (``only``: "a" or "b", the side that has it)."""

    test: str
    name: str | None
    verdicts: tuple[Verdict, ...] = ()
    only: str = ""

    @property
    def subject(self) -> str:
        node = self.test.partition("::")[2] or self.test
        return node if self.name is None else f"{node} ({self.name})"


def compared(base: Sessions, head: Sessions, bench: Bench, budget_of: Callable[[Run], Budget]) -> list[ComparedRun]:
    """Every metered run of ``head`` against ``base``, whose name is ``bench.baseline``; then the runs that only ``base`` has.

    Several sessions of ``head`` are several launches; the figures shown are those of the newest.
    """
    found = []
    theirs, ours = _by_run(base), _by_run(head)
    bench = replace(bench, sessions=base)
    for (test, name), runs in ours.items():
        if (test, name) not in theirs:
            found.append(ComparedRun(test, name, only="b"))
            continue
        budget, subject = budget_of(runs[-1]), ComparedRun(test, name).subject
        figures = bench.figures(runs[-1], budget.confidence)
        against = against_baseline(figures, budget, bench, subject, runs[:-1])
        verdicts = judge_against(figures, budget.limits.get(name, {}), budget, against, subject)
        found.append(ComparedRun(test, name, tuple(replace(each, run=name) for each in verdicts)))
    return found + [ComparedRun(test, name, only="a") for test, name in theirs if (test, name) not in ours]


def _by_run(sessions: Sessions) -> dict[tuple[str, str | None], list[Run]]:
    found: dict[tuple[str, str | None], list[Run]] = {}
    for session in sessions:
        for run in session:
            if run.metered:
                found.setdefault((run.test, run.name), []).append(run)
    return found
