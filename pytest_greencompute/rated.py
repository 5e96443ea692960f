"""The stars of a run: what its provenance says of how the energy came about, and the rating that follows. Pure."""

from __future__ import annotations

from pytest_greencompute.estimate import Aim, Missing, Outcome
from pytest_greencompute.samples import Run


def stars_of(run: Run, aim: Aim) -> Outcome:
    """The stars of a run that followed the protocol, or why it has none."""
    del run, aim
    return Missing("it did not follow the protocol of AI Energy Score: energy_meter.energy_score() does")
