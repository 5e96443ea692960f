"""What a commit asks of a test, as plain JSON values: so that the process that measures another commit can tell what was asked there."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pytest_greencompute.judging.budget import Limit, Line, Terms
from pytest_greencompute.judging.verdict import Acceptance
from pytest_greencompute.values.metrics import METRICS


def line_to_json(line: Line) -> dict[str, Any]:
    """One line of a budget. A list of runs rather than a table, since the unnamed run has no name."""
    limits = [[run, {name: limit.value for name, limit in by_metric.items()}] for run, by_metric in line.limits.items()]
    cards = [[run, {name: list(limit.cards) for name, limit in by_metric.items()}] for run, by_metric in line.limits.items()]
    told = {"where": line.where, "limits": limits, "cards": cards, "terms": asdict(line.terms)}
    return {**told, "on": dict(line.on), "rank": list(line.rank)}


def line_from_json(told: Mapping[str, Any]) -> Line:
    """What ``line_to_json`` told. A metric that this version does not know is left out."""
    where, cards = told["where"], dict(told.get("cards", ()))  # other versions do not tell of cards
    limits = {
        run: {
            name: Limit(METRICS[name], value, where, tuple(cards.get(run, {}).get(name, ())))
            for name, value in by_metric.items()
            if name in METRICS
        }
        for run, by_metric in told["limits"]
    }
    return Line(where, limits, Terms(**told["terms"]), told["on"], tuple(told.get("rank", ())))


def acceptance_to_json(accepted: Acceptance) -> dict[str, Any]:
    """A failure that a file accepts."""
    told = {**asdict(accepted), "metric": accepted.metric.name, "expires": accepted.expires.isoformat()}
    del told["names"]  # whom it concerns is known where it is told
    return told


def acceptances_from_json(told: Sequence[Mapping[str, Any]]) -> tuple[Acceptance, ...]:
    """What ``acceptance_to_json`` told of each. A metric that this version does not know is left out."""
    return tuple(
        Acceptance(**{**each, "metric": METRICS[each["metric"]], "expires": datetime.date.fromisoformat(each["expires"])})
        for each in told
        if each["metric"] in METRICS
    )
