"""Levers of torch: how its modules are run, and copies of them that are cheaper to run."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pytest_greencompute.advising.levers import LEVERS, Value
from pytest_greencompute.errors import CannotError
from pytest_greencompute.levers.changed import Changed, LeverRow
from pytest_greencompute.models.copies import Call, modules_of, watched, with_modules
from pytest_greencompute.models.precision import Converted, device_of, is_module, module_at, precision_of

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PRECISIONS = {"cpu": ("bf16", "int8"), "cuda": ("bf16", "fp16")}
ATTENTION = ("sdpa", "eager")


def modules(changed: Changed) -> tuple[Any, ...]:
    """The torch modules of a task's model. Raises CannotError where there is none."""
    found = modules_of(changed.task.model)
    if not found:
        raise CannotError("no torch module is found in the model")
    return found


def _threads(changed: Changed) -> Sequence[Value]:
    torch = sys.modules.get("torch")
    if torch is None or any(device_of(module) != "cpu" for module in modules(changed)):
        raise CannotError("no torch module runs on the CPU here")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [each for each in sorted({1, cores}) if each != torch.get_num_threads()]


def _with_threads(changed: Changed, value: Value) -> Changed:
    return changed.inside(lambda model: _within(lambda: _these_threads(int(value)), model))


@contextmanager
def _these_threads(number: int) -> Iterator[None]:
    torch: Any = sys.modules["torch"]
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _within(context: Callable[[], Any], model: Call) -> Call:
    def call(batch: Any) -> Any:
        with context():
            return model(batch)

    return call


def _with_gradients(changed: Changed) -> Sequence[Value]:
    if not watched(lambda: changed.call(changed.first_batch), modules(changed)).gradients:
        raise CannotError("the model is called without gradients already")
    return [True]


def _without_gradients(changed: Changed, _: Value) -> Changed:
    return changed.inside(lambda model: _within(sys.modules["torch"].inference_mode, model))


def _precisions(changed: Changed) -> Sequence[Value]:
    first = modules(changed)[0]
    return [each for each in PRECISIONS.get(device_of(first), ("bf16",)) if each != precision_of(first)]


def _at_precision(changed: Changed, value: Value) -> Changed:
    model = changed.task.model
    if is_module(model):
        return changed.having(model=Converted(*_converted(model, str(value))))
    return with_others(changed, lambda module: module_at(module, str(value))[0])


def _converted(module: Any, precision: str) -> tuple[Any, str, float]:
    found, weights = module_at(module, precision)
    return found, precision, weights


def with_others(changed: Changed, other: Callable[[Any], Any]) -> Changed:
    """With ``other(module)`` in the place of each torch module that the model calls. Raises CannotError where none can be."""
    own = modules(changed)
    called = watched(lambda: changed.call(changed.first_batch), own).called
    others = {id(module): other(module) for module in own if id(module) in called}
    if not others:
        raise CannotError("no torch module of the model is called by its forward")
    found = changed.having(model=with_modules(changed.task.model, others))
    reached = watched(lambda: found.call(found.first_batch), [each for each in others.values() if is_module(each)])
    if len(reached.called) < len(others):
        raise CannotError("the model cannot be copied: a copy of it calls the module of the first")
    return found


def _attentions(changed: Changed) -> Sequence[Value]:
    known = [each for each in modules(changed) if callable(getattr(each, "set_attn_implementation", None))]
    if not known:
        raise CannotError("no transformers model is found in the model")
    return [each for each in ATTENTION if each != getattr(known[0].config, "_attn_implementation", None)]


def _attending(changed: Changed, value: Value) -> Changed:
    def other(module: Any) -> Any:
        found = copied(module)
        found.set_attn_implementation(str(value))
        return found

    return with_others(changed, other)


def copied(module: Any) -> Any:
    """Its weights are shared with the first: what is changed is how they are used."""
    return copy.deepcopy(module, {id(each): each for each in (*module.parameters(), *module.buffers())})


def _compiled(changed: Changed, _: Value) -> Changed:
    """Its ``forward`` is compiled, and not the module: ``generate`` of a compiled module would call the one inside."""

    def other(module: Any) -> Any:
        found = copied(module)
        found.forward = sys.modules["torch"].compile(found.forward, dynamic=True)
        return found

    return with_others(changed, other)


ROWS = (
    LeverRow(LEVERS["precision"], _precisions, _at_precision),
    LeverRow(LEVERS["attention"], _attentions, _attending),
    LeverRow(LEVERS["compile"], lambda changed: [True] if modules(changed) else [], _compiled),
    LeverRow(LEVERS["threads"], _threads, _with_threads),
    LeverRow(LEVERS["inference_mode"], _with_gradients, _without_gradients),
)
