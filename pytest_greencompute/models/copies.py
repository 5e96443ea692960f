"""A model with other torch modules in the place of its own: a copy; the user's own stays as it is.

Nothing here imports torch: whoever has a module has loaded it.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import CannotError
from pytest_greencompute.models.held import held_by, names_in
from pytest_greencompute.models.precision import is_module

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Call = Callable[..., Any]


def modules_of(model: Call) -> tuple[Any, ...]:
    """The torch modules that a model is or holds, without their parts."""
    if "torch" not in sys.modules:
        return ()
    found = [held for held in held_by(model, is_module) if is_module(held)]
    parts = {id(part) for module in found for part in list(module.modules())[1:]}
    return tuple(module for module in found if id(module) not in parts)


@dataclass(slots=True)
class Reached:
    """Which modules were called, by ``id``, and whether any of them with gradients."""

    called: set[int]
    gradients: bool = False


def watched(call: Callable[[], object], modules: Sequence[Any]) -> Reached:
    """What ``call`` does with the modules; the hooks that see it are gone afterwards."""
    seen = Reached(set())

    def see(module: Any, _args: Any) -> None:
        seen.called.add(id(module))
        seen.gradients = seen.gradients or sys.modules["torch"].is_grad_enabled()

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_pre_hook(see).remove)
        call()
    return seen


def with_modules(model: Call, others: Mapping[int, Any]) -> Call:
    """A copy of ``model`` that calls ``others``, by the ``id`` of its own modules, in their place.

    What holds none of these modules is shared with the model. Raises CannotError for a model that cannot be copied.
    """
    try:
        found: Call = _copied(model, dict(others))
    except CannotError:
        raise
    except Exception as error:
        raise CannotError(f"the model cannot be copied ({type(error).__name__}: {str(error)[:100]})") from error
    return found


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    if not any(id(held) in memo for held in held_by(value, is_module)):
        return value
    if isinstance(value, types.FunctionType):
        return _function(value, memo)
    if isinstance(value, types.MethodType):
        return types.MethodType(_copied(value.__func__, memo), _copied(value.__self__, memo))
    if isinstance(value, functools.partial):
        given = (_copied(each, memo) for each in value.args)
        return functools.partial(_copied(value.func, memo), *given, **{key: _copied(each, memo) for key, each in value.keywords.items()})
    return copy.deepcopy(value, memo)


def _function(function: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    """A function that closes over copies, and whose code finds copies under the names of globals."""
    own = dict(function.__globals__)
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    made = types.FunctionType(function.__code__, own, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__, made.__dict__ = function.__kwdefaults__, dict(function.__dict__)
    memo[id(function)] = made  # before what it holds: it may call itself
    for cell, before in zip(cells, function.__closure__ or (), strict=True):
        if before != types.CellType():
            cell.cell_contents = _copied(before.cell_contents, memo)
    for name in {*names_in(function.__code__)}:
        if name in own:
            own[name] = _copied(own[name], memo)
    return made
