"""What a bisect found, in words and as JSON."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_greencompute.bisecting.belief import Extent
from pytest_greencompute.bisecting.search import LEAST, Ended, Suspects
from pytest_greencompute.commits.git import Commit
from pytest_greencompute.report.columns import INDENT, UNLIMITED
from pytest_greencompute.report.explained import lines as lines_of
from pytest_greencompute.results.profile_json import explained_to_json
from pytest_greencompute.results.result import Explained
from pytest_greencompute.store.bisects import MeasuredSoFar
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.provenance import Json
from pytest_greencompute.values.units import show

SCHEMA = "greencompute.bisect/1"
ALL_OF_IT = 0.8  # of the rise: a commit that explains as much leaves no other to look for
STATUS: dict[Ended, int] = {"found": 0, "no rise": 1, "better": 1, "unclear": 3}
NAMED = 12  # commits of a range


@dataclass(frozen=True, slots=True)
class Bisected:
    """A search that has ended: the ``commits`` by number, what was measured, and the ``answer``; ``how`` are the options that another
    search would have, too. ``inside``: within the branch of which merge this was. ``explained``: why the guilty commit is worse than the
    one before, or ``why_not`` that is not known.
    """

    test: str
    metric: Metric
    commits: Sequence[Commit]
    measured: MeasuredSoFar
    answer: Suspects
    claim: float
    tolerance: float
    how: Sequence[str] = ()
    inside: Commit | None = None
    explained: Explained | None = None
    why_not: str = ""

    @property
    def suspects(self) -> Sequence[Commit]:
        """The commits of which one is guilty."""
        return self.commits[self.answer.first : self.answer.last + 1]

    @property
    def exit_status(self) -> int:
        """0 found, 1 bad is not worse than good, 3 not sure enough."""
        return STATUS[self.answer.ending]


def named(commit: Commit) -> str:
    """A commit for people."""
    return f"{commit.sha[:10]} {commit.subject}".rstrip()


def percent(change: float) -> str:
    """A change (a logarithm) for people: +9.1 %."""
    share = 100 * math.expm1(change)
    return f"{share:+.1f} %" if abs(share) < 9.95 else f"{share:+.0f} %"


def called(commit: Commit) -> str:
    """A commit as the user named it, and which that is; a number that was cut off is no name."""
    return commit.sha[:10] if commit.sha.startswith(commit.ref) else commit.label


def counted(count: int, what: str) -> str:
    """'3 pairs'."""
    return f"{count} {what}{'' if count == 1 else 's' if what[-1] != 'h' else 'es'}"


def _level(level: Extent) -> str:
    return f"{percent(level.value)} [{percent(level.low)}, {percent(level.high)}]"


def _sure(probability: float) -> str:
    shown = math.floor(1000 * probability) / 10  # never more than it is
    return f"{shown:.1f} %"


def lines(found: Bisected) -> list[str]:
    """All for people."""
    return [*answer_lines(found), *why_lines(found), *what_next(found)]


def answer_lines(found: Bisected) -> list[str]:
    """The answer for people, and what it rests on."""
    said = {"found": _found, "unclear": _unclear, "no rise": _no_rise, "better": _better}[found.answer.ending](found)
    return [*said, *_effort(found), *_skipped(found)]


def _worse(found: Bisected) -> str:
    return "rose" if found.metric.better == "lower" else "fell"


def _found(found: Bisected) -> list[str]:
    answer, suspects = found.answer, found.suspects
    sure, label = _sure(answer.probability), found.metric.label
    if len(suspects) == 1:
        head = f"{named(suspects[0])}: here {label} {_worse(found)}, with a probability of {sure}."
    else:
        head = f"{label.capitalize()} {_worse(found)} in one of these {len(suspects)} commits, with a probability of {sure}:"
    return [head, *(_listed(suspects) if len(suspects) > 1 else ()), *_explained(found)]


def _listed(commits: Sequence[Commit]) -> Iterator[str]:
    yield from (f"  {named(each)}" for each in commits[:NAMED])
    if len(commits) > NAMED:
        yield f"  and {len(commits) - NAMED} more, up to {named(commits[-1])}"


def _explained(found: Bisected) -> Iterator[str]:
    answer, (good, bad) = found.answer, (found.commits[0], found.commits[-1])
    yield f"  It explains {percent(answer.explained)} of the {_level(answer.rise)} from {called(good)} to {called(bad)}."
    if answer.before.low > LEAST:
        yield f"  Before it there were already {_level(answer.before)}."


def _unclear(found: Bisected) -> list[str]:
    answer = found.answer
    if answer.rise.low <= 0:
        return [
            f"After {counted(len(found.measured.launches), 'launch')} it is not clear whether {called(found.commits[-1])} is worse than"
            f" {called(found.commits[0])}: {_level(answer.rise)}.",
            "  `greencompute noise` says what this machine can show.",
        ]
    return [f"Not narrowed down further in {counted(len(found.measured.launches), 'launch')}.", *_found(found)]


def _figures(found: Bisected) -> str:
    """Both figures, from the launches of the bad commit."""
    bad = found.commits[-1]
    pairs = [pair for each in found.measured.launches if each.sha == bad.sha for pair in each.pairs]
    there, here = (show(statistics.median(side), found.metric.dimension) for side in zip(*pairs, strict=True))
    return f"{here} at {called(bad)}, {there} at {called(found.commits[0])}"


def _no_rise(found: Bisected) -> list[str]:
    return [
        f"There is nothing to be found: {found.metric.label} is {_figures(found)} ({_level(found.answer.rise)}).",
        f"  {percent(math.log1p(found.tolerance))} would have been seen.",
    ]


def _better(found: Bisected) -> list[str]:
    return [
        f"The good commit is the worse one: {found.metric.label} is {_figures(found)} ({_level(found.answer.rise)}).",
        "  Swap what you call good and bad only if the history runs that way; else name an older good commit.",
    ]


def _effort(found: Bisected) -> Iterator[str]:
    launches = found.measured.launches
    seconds = sum(each.checkout_s + each.launch_s + each.pairs_s for each in launches)
    pairs, commits = sum(len(each.pairs) for each in launches), len({each.sha for each in launches})
    took = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    yield f"  Metered: {', '.join(found.measured.devices)}."
    beside = f"{counted(pairs, 'pair')} in {counted(len(launches), 'launch')} beside the good one, {took}"
    yield f"  Measured: {commits} of {len(found.commits) - 1} commits, {beside}."


def _skipped(found: Bisected) -> Iterator[str]:
    for each in found.commits:
        if each.sha in found.measured.skipped:
            yield f"  Skipped {named(each)}: {found.measured.skipped[each.sha]}"


def edge(found: Bisected) -> tuple[Commit, Commit] | None:
    """The last commit that is fine and the one after which all is worse; None where there are none."""
    answer = found.answer
    if answer.ending not in {"found", "unclear"} or (answer.ending == "unclear" and answer.rise.low <= 0):
        return None
    return found.commits[answer.first - 1], found.commits[answer.last]


def why_lines(found: Bisected, width: int = UNLIMITED) -> Iterator[str]:
    """What the guilty commit does, where that is explained, for a terminal of ``width``."""
    if edge(found) is not None and found.explained is not None:
        yield found.explained.where or "No place can be named."
        yield from (f"{' ' * INDENT}{line}" for line in lines_of(found.explained, width - INDENT))


def what_next(found: Bisected) -> Iterator[str]:
    """The commands that a user would run next."""
    at = edge(found)
    if at is None:
        return
    answer, (before, last) = found.answer, at
    yield "Next:"
    yield f"  git show {last.sha[:10]}" if len(found.suspects) == 1 else f"  git log -p {before.sha[:10]}..{last.sha[:10]}"
    if found.explained is None:
        if found.why_not:
            yield f"  not explained: {found.why_not}"
        pytest = f"pytest {shlex.quote(found.test)} --energy-budget --energy-base-ref {before.sha[:10]}{_meter(found)}"
        yield f"  git switch --detach {last.sha[:10]} && {pytest}"
    if answer.explained < ALL_OF_IT * answer.rise.value:
        yield f"The other part of the rise ({percent(answer.rise.value - answer.explained)}) is yet to be explained:"
        ahead, behind = answer.before.value, answer.rise.value - answer.before.value - answer.explained
        where = (found.commits[0], before) if ahead > behind else (last, found.commits[-1])
        options = " ".join(map(shlex.quote, found.how))
        yield f"  greencompute bisect --good {where[0].sha[:10]} --bad {where[1].sha[:10]} {options}".rstrip()


def _meter(found: Bisected) -> str:
    """The option of pytest's for the meters that were asked for."""
    return f" --energy-meter {shlex.quote(found.how[found.how.index('--meter') + 1])}" if "--meter" in found.how else ""


def to_json(found: Bisected) -> dict[str, Json]:
    """For scripts. Changes are shares (0.09: 9 % worse), pairs in the metric's SI unit."""
    answer = found.answer
    return {
        "schema": SCHEMA,
        "exit_status": found.exit_status,
        "ending": answer.ending,
        "test": found.test,
        "metric": found.metric.name,
        "good": _commit(found.commits[0]),
        "bad": _commit(found.commits[-1]),
        "commits": len(found.commits) - 1,
        "suspects": [_commit(each) for each in found.suspects] if answer.ending in {"found", "unclear"} else [],
        "probability": answer.probability if answer.ending in {"found", "unclear"} else None,
        "claim": found.claim,
        "rise": _shares(answer.rise),
        "before": _shares(answer.before),
        "explained": math.expm1(answer.explained),
        **({} if found.explained is None else {"explanation": explained_to_json(found.explained)}),
        "merge": None if found.inside is None else _commit(found.inside),
        "devices": list(found.measured.devices),
        "launches": [
            {
                "commit": each.sha,
                "pairs": [list(pair) for pair in each.pairs],
                "seconds": each.checkout_s + each.launch_s + each.pairs_s,
            }
            for each in found.measured.launches
        ],
        "skipped": [{"commit": sha, "reason": reason} for sha, reason in found.measured.skipped.items()],
    }


def _commit(commit: Commit) -> dict[str, Json]:
    return {"ref": commit.ref, "sha": commit.sha, "subject": commit.subject}


def _shares(level: Extent) -> dict[str, Json]:
    return {name: math.expm1(getattr(level, name)) for name in ("value", "low", "high")}
