"""What a heat of a search for advice shows of a configuration."""

from __future__ import annotations

from typing import Any

import pytest
from making import block, run, source

from pytest_greencompute.advising.levers import LEVERS, Configuration, Setting
from pytest_greencompute.advising.search import Heat, Purpose
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.choice import Candidate, Choice
from pytest_greencompute.session.heats import Exam, Heats


@pytest.mark.parametrize(
    ("purpose", "missed"), [("screen", ""), ("confirm", "has no latency_p95 to hold against the limit of 1 s")], ids=["screen", "confirm"]
)
def test_a_demand_of_which_nothing_is_known_in_the_end_is_missed(purpose: Purpose, missed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"latency_p95": 1.0}
    untimed = run([block({"gpu:0": 20.0}, set_index=index) for index in range(10)], sources=(source(),))
    other = Configuration((Setting(LEVERS["batch_size"], 8),))
    choice = Choice((Candidate("as it is", untimed), Candidate(other.name, untimed)), Aim(), None, limits)
    task: Any = None
    exam = Exam(task, untimed, ())
    asking: Any = None
    heats = Heats(asking, (), exam, exam, None, limits, without_accuracy=False, called="advice")
    monkeypatch.setattr(heats, "_measured", lambda *_: choice)
    (trial,) = heats.trials(Heat(purpose, (Configuration(), other)))
    assert trial.ratio is not None
    assert trial.missed == missed
