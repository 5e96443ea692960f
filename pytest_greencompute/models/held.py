"""What a model holds on to, without calling any of it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from pytest_greencompute.models.answers import Attributes

WALKED = 2000  # objects that are looked at


def held_by(model: Any, closed: Callable[[Any], bool] = lambda _: False) -> Iterator[Any]:
    """What a model can reach: itself, closures, the globals that its code names, attributes, what these hold. Nothing of it is called.

    What is ``closed`` is reached, and not looked into.
    """
    waiting: list[Any] = [model]
    known: dict[int, Any] = {}  # they must live, or another would get the same id
    while waiting and len(known) < WALKED:
        held = waiting.pop(0)
        if id(held) in known or isinstance(held, str | bytes | int | float | type(None) | types.ModuleType):
            continue
        known[id(held)] = held
        yield held
        waiting += [] if closed(held) else _parts(held)


def _parts(held: Any) -> list[Any]:
    if isinstance(held, types.FunctionType):
        cells = [cell.cell_contents for cell in held.__closure__ or () if cell != types.CellType()]
        return [*cells, *_named(held.__code__, held.__globals__), *(held.__defaults__ or ()), *vars(held).values()]
    if isinstance(held, types.MethodType):
        return [held.__func__, held.__self__]
    if isinstance(held, functools.partial):
        return [held.func, *held.args, *held.keywords.values()]
    if isinstance(held, list | tuple):
        return [*held[:16]]
    if isinstance(held, dict):
        return [*held.values()][:16]
    call = getattr(type(held), "__call__", None)  # noqa: B004
    slots = [getattr(held, name, None) for kind in type(held).__mro__ for name in getattr(kind, "__slots__", ()) if name != "__dict__"]
    return [*getattr(held, "__dict__", {}).values(), *slots, *([call] if isinstance(call, types.FunctionType) else [])]


def _named(code: types.CodeType, names: Attributes) -> list[Any]:
    return [names[name] for name in names_in(code) if name in names]


def names_in(code: types.CodeType) -> list[str]:
    """The names of globals and attributes that code uses, also in the functions that it makes."""
    return [*code.co_names, *(name for const in code.co_consts if isinstance(const, types.CodeType) for name in names_in(const))]
