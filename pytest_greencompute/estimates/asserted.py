"""The figures of a run as a test asserts on them: an error where there is none to be certain of."""

from __future__ import annotations

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome, figure, is_bound
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


def outcome(run: Run, aim: Aim, metric: str) -> Outcome:
    """The estimate, or the reason why there is none."""
    return Figures(run, aim).of(METRICS[metric])


def certain(run: Run, aim: Aim, metric: str) -> Estimate:
    """The estimate. Raises MeterError, with the reason, where there is none, and where it is only a bound."""
    found = outcome(run, aim, metric)
    if isinstance(found, Missing):
        raise MeterError(f"There is no {metric}: {found.reason}.")
    if METRICS[metric].exact and is_bound(found):  # an assert would take it for the whole
        raise MeterError(f"There is no certain {metric}: {figure(METRICS[metric], found)} ({found.note}).")
    return found
