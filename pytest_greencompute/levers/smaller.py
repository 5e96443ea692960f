"""Smaller models: in the place of today's, or before it, so that it is asked only where the smaller one is not sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_greencompute.advising.levers import LEVERS, Value
from pytest_greencompute.errors import CannotError
from pytest_greencompute.levers.changed import Changed, LeverRow
from pytest_greencompute.levers.queries import listed
from pytest_greencompute.models.copies import Call

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Candidates = Mapping[str, Callable[[Any], Any]]
ANSWERED = (0.5, 0.75, 0.9)  # the share of the queries that the smaller model answers alone


def rows_of(candidates: Candidates) -> tuple[LeverRow, LeverRow]:
    """The row of candidates in the model's place, and that of candidates before it."""

    def names(_: Changed) -> Sequence[str]:
        if not candidates:
            raise CannotError("no candidates= are named")
        return [*candidates]

    def instead(changed: Changed, value: object) -> Changed:
        model = candidates[str(value)]
        return changed.having(model=model, collate=None if takes_queries(model) else changed.task.collate)

    code: dict[Value, str] = {name: said for name, model in candidates.items() if (said := getattr(model, "code", None))}
    sure = {name: model for name, model in candidates.items() if callable(getattr(model, "with_confidence", None))}
    made: dict[Value, str] = {name: str(said).replace("model = ", f"{name} = ", 1) for name, said in code.items()}
    cascade = replace(LEVERS["cascade"], codes=made)
    before = LeverRow(cascade, lambda changed: _limits(changed, sure), lambda changed, value: _before(changed, str(value), sure))
    return LeverRow(replace(LEVERS["model"], codes=code), names, instead), before


def takes_queries(model: Any) -> bool:
    """Whether a model is given the queries themselves, whatever the task makes of a batch of them."""
    return bool(getattr(model, "takes_queries", False))


def _limits(changed: Changed, sure: Mapping[str, Any]) -> list[str]:
    """Each candidate with the limits above which it is sure enough for the shares of the queries that it is to answer alone."""
    if not sure:
        raise CannotError("no candidate says how sure it is (.with_confidence(batch) -> answers, shares)")
    queries, size = listed(changed), changed.task.batch_size
    found = []
    for name, model in sure.items():
        batches = [queries[at : at + size] for at in range(0, len(queries), size)]
        shares = sorted(float(each) for batch in batches for each in _asked(model, batch, changed.task.collate)[1])
        limits = dict.fromkeys(f"{shares[round((1 - answered) * (len(shares) - 1))]:.3g}" for answered in ANSWERED)
        found += [f"{name}@{limit}" for limit in limits if float(limit) > shares[0]]
    if not found:
        raise CannotError("the candidates are as sure of each query as of any other")
    return found


def _asked(model: Any, batch: Sequence[Any], collate: Callable[[Any], Any] | None) -> tuple[list[Any], list[float]]:
    """A candidate's answers, and how sure it is of each."""
    answers, shares = model.with_confidence(batch if collate is None or takes_queries(model) else collate(batch))
    answers, shares = [*answers], [*shares]
    if len(answers) != len(batch) or len(shares) != len(batch):
        raise CannotError(f"with_confidence gives {len(answers)} answers and {len(shares)} shares for {len(batch)} queries")
    return answers, shares


def _before(changed: Changed, value: str, sure: Mapping[str, Any]) -> Changed:
    name, _, limit = value.rpartition("@")
    small, least, collate = sure[name], float(limit), changed.task.collate

    def around(model: Call) -> Call:
        def call(batch: Sequence[Any]) -> list[Any]:
            answers, shares = _asked(small, batch, collate)
            rest = [place for place, share in enumerate(shares) if not share >= least]
            if rest:
                queries = [batch[place] for place in rest]
                for place, answer in zip(rest, model(queries if collate is None else collate(queries)), strict=True):
                    answers[place] = answer
            return answers

        return call

    return changed.having(collate=None).inside(around)
