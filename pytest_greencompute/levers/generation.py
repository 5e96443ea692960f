"""Levers of a model that writes: how much it may write, and where it stops."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_greencompute.advising.levers import LEVERS, Value
from pytest_greencompute.errors import CannotError
from pytest_greencompute.levers.changed import Changed, LeverRow
from pytest_greencompute.models.generator import Generator

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PARTS = (2, 4)  # of today's limit
REASONING = "enable_thinking"  # what chat templates of models that reason call it


def _generator(changed: Changed) -> Generator:
    model = changed.task.model
    if not isinstance(model, Generator):
        raise CannotError("the model is no Generator")
    return model


def _limits(changed: Changed) -> Sequence[Value]:
    limit = _generator(changed).options["max_new_tokens"]
    return [limit // part for part in PARTS if limit // part >= 1]


def _limited(changed: Changed, value: Value) -> Changed:
    return changed.having(model=_generator(changed).having(max_new_tokens=int(value)))


def _lines(changed: Changed) -> Sequence[Value]:
    if _generator(changed).options.get("stop_strings"):
        raise CannotError("the generator has stop sequences already")
    return [True]


def _one_line(changed: Changed, _: Value) -> Changed:
    return changed.having(model=_generator(changed).having(stop_strings=["\n"]))


def _reasoned(changed: Changed) -> Sequence[Value]:
    generator = _generator(changed)
    if REASONING not in str(getattr(generator.tokenizer, "chat_template", None)):
        raise CannotError(f"the tokenizer's chat template has no {REASONING}")
    if generator.template.get(REASONING) is False:
        raise CannotError("the generator's reasoning is off already")
    return [True]


def _unreasoned(changed: Changed, _: Value) -> Changed:
    generator = _generator(changed)
    return changed.having(model=generator.having(template={**generator.template, REASONING: False}))


def _static(changed: Changed, _: Value) -> Changed:
    return changed.having(model=_generator(changed).having(cache_implementation="static"))


ROWS = (
    LeverRow(LEVERS["max_new_tokens"], _limits, _limited),
    LeverRow(LEVERS["stop_at_line"], _lines, _one_line),
    LeverRow(LEVERS["reasoning_off"], _reasoned, _unreasoned),
    LeverRow(LEVERS["static_cache"], lambda changed: [True] if _generator(changed) else [], _static),
)
