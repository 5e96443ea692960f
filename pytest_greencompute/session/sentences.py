"""The sentences that a test fails with."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_greencompute.judging.judge import HELD_AGAINST
from pytest_greencompute.judging.verdict import MORE_SECONDS, Verdict, Word, narrowed_by
from pytest_greencompute.report.escape import printable
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import NAMES

_NEXT = {
    "FAIL": "The limit is in {where}.",
    "UNMEASURED": "`greencompute doctor` lists the meters; --energy-unmeasured warn lets it pass.",
    "INCONCLUSIVE": "--energy-max-seconds gives it more time; --energy-inconclusive warn lets it pass.",
    "PASS": "The figure is modelled, and --energy-modelled fail asks for a measured one.",
    "ACCEPTED": "",
}
# By the kind of the verdict, instead.
_OF_KIND: Mapping[str, Mapping[Word, str]] = {
    "comparison": {"FAIL": "", "UNMEASURED": ""},
    **{kind: row.follow for kind, row in HELD_AGAINST.items()},
}


def sentence_of(verdict: Verdict, settings: Settings) -> str:
    """The reason and what to do next, on one line whatever the names in it hold."""

    follow = _NEXT[verdict.word].format(where=verdict.where or "the baseline")
    if verdict.word == "UNMEASURED" and verdict.metric in NAMES:  # no meter would help
        follow = "--energy-unmeasured warn lets it pass."
    more = MORE_SECONDS if verdict.metric not in METRICS else narrowed_by(METRICS[verdict.metric], verdict.estimate)
    if verdict.word == "INCONCLUSIVE" and more != MORE_SECONDS:  # time would change nothing
        follow = f"{more[0].upper()}{more[1:]} would tell more; --energy-inconclusive warn lets it pass."
    instead = _OF_KIND.get(verdict.kind, {}).get(verdict.word)
    follow = follow if instead is None else instead.format(settings=settings)
    return printable(f"{verdict.reason} {follow}".strip())
