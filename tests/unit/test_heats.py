"""What a heat of a search for advice shows of a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from making import block, run, source

from pytest_greencompute.advising.levers import LEVERS, Configuration, Setting
from pytest_greencompute.advising.search import Heat, Purpose
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.choice import Candidate, Choice
from pytest_greencompute.session.heats import Exam, Heats
from pytest_greencompute.values.run import Run


def heats_with(monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], *seen: Run) -> tuple[Heats, Configuration]:
    """Heats in which today's configuration and another one were seen so."""
    other = Configuration((Setting(LEVERS["batch_size"], 8),))
    choice = Choice(tuple(Candidate(name, each) for name, each in zip(("as it is", other.name), seen, strict=True)), Aim(), None, limits)
    task: Any = None
    exam = Exam(task, seen[0], ())
    asking: Any = None
    heats = Heats(asking, (), exam, exam, None, limits, without_accuracy=False, called="advice")
    monkeypatch.setattr(heats, "_measured", lambda *_: choice)
    return heats, other


@pytest.mark.parametrize(
    ("purpose", "missed"), [("screen", ""), ("confirm", "has no latency_p95 to hold against the limit of 1 s")], ids=["screen", "confirm"]
)
def test_a_demand_of_which_nothing_is_known_in_the_end_is_missed(purpose: Purpose, missed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"latency_p95": 1.0}
    untimed = run([block({"gpu:0": 20.0}, set_index=index) for index in range(10)], sources=(source(),))
    heats, other = heats_with(monkeypatch, limits, untimed, untimed)
    (trial,) = heats.trials(Heat(purpose, (Configuration(), other)))
    assert trial.ratio is not None
    assert trial.missed == missed


@pytest.mark.parametrize(("scores", "as_good"), [((1.0, 0.0, 1.0), True), ((1.0, 1.0, 1.0), True), ((0.0, 1.0, 1.0), False), (None, False)])
def test_answers_are_as_good_where_no_query_scores_less(
    scores: tuple[float, ...] | None, as_good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run([block({"gpu:0": 20.0}, set_index=index) for index in range(10)], sources=(source(),), scores=(1.0, 0.0, 1.0))
    heats, other = heats_with(monkeypatch, {}, before, replace(before, scores=scores))
    (trial,) = heats.trials(Heat("screen", (Configuration(), other)))
    assert trial.as_good is as_good
