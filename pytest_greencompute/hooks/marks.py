"""In which line of a file a mark stands. pytest keeps none, so the source is read; where that does not tell, nothing is guessed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Written:
    """A mark as pytest has it, and whose it is: a function that begins in line ``first`` (decorators included), of one of ``classes``."""

    name: str
    args: Sequence[object]
    kwargs: Mapping[str, object]
    first: int
    classes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of ``….energy_budget(…)`` in a source, and what it stands in: the function whose decorators hold it, the class, or neither."""

    node: ast.Call
    function: int | None
    owner: str | None


def line_of(mark: Written, path: Path) -> int | None:
    """The line where ``mark`` was written in the file at ``path``: on the function, its class, or the module. None where it was not."""
    near = [call for call in _calls(path, mark.name) if call.function in (mark.first, None)]
    for exact in (True, False):
        same = [call for call in near if _says(call.node, mark, exact=exact)]
        ranked = (
            [call for call in same if call.function == mark.first],
            [call for name in mark.classes for call in same if call.function is None and call.owner == name],
            [call for call in same if call.function is None and call.owner is None],
        )
        if found := next((calls[0].node.lineno for calls in ranked if calls), None):
            return found
    return None


@lru_cache(maxsize=64)
def _calls(path: Path, name: str) -> tuple[_Call, ...]:
    try:
        source = path.read_bytes()
        tree = ast.parse(source) if name.encode() in source else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):
        return ()
    return tuple(_within(tree, name, None, None))


def _within(node: ast.AST, name: str, function: int | None, owner: str | None) -> Iterator[_Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTIONS):  # of a function only the decorators: what its body writes marks something else
            first = min(each.lineno for each in (child, *child.decorator_list))
            for decorator in child.decorator_list:
                yield from _within(ast.Expression(decorator), name, first, owner)
            continue
        # A mark without arguments need not be called.
        call = ast.Call(child, [], [], lineno=child.lineno) if isinstance(child, ast.Attribute) else child
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == name:
            yield _Call(call, function, owner)
            continue
        yield from _within(child, name, function, child.name if isinstance(child, ast.ClassDef) else owner)


def _says(call: ast.Call, mark: Written, *, exact: bool) -> bool:
    """Whether the call made the mark: the same keys and values; where not ``exact``, values that are not written out may be any."""
    named = {each.arg: each.value for each in call.keywords if each.arg is not None}
    whole = len(named) == len(call.keywords) and not any(isinstance(each, ast.Starred) for each in call.args)
    if (exact and not whole) or (whole and (len(call.args) != len(mark.args) or named.keys() != mark.kwargs.keys())):
        return False
    return all(key in mark.kwargs and _may_be(value, mark.kwargs[key], exact=exact) for key, value in named.items())


def _may_be(value: ast.expr, known: object, *, exact: bool) -> bool:
    try:
        return bool(ast.literal_eval(value) == known)
    except ValueError:
        return not exact
