"""What a run was asked, as short texts that two processes agree on: queries, references, and the functions that score and count.

Runs that were asked other things must not be compared, so a text differs where what was asked differs. A false alarm is as bad, so it holds
nothing that differs by itself: no address, no folder (a commit's worktree and a test's temporary folder have others in each session), no
order of a set, and of arrays of fractions their shape apart from their values, which tests often draw anew.
"""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import hashlib
import inspect
import math
import os
import re
import sys
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from pytest_greencompute.models.answers import ADDRESS, Attributes
from pytest_greencompute.models.queries import is_of_project
from pytest_greencompute.values.provenance import Digests

DIGITS = 10  # hexadecimal digits of a fingerprint that people see
MOST_ELEMENTS = 1 << 16  # of an array that are looked at
MOST_LOOKED_UP = 256  # queries of a sequence whose items cost something to have (a dataset that decodes them)
MOST_HELD = 4096  # of a list, dict or set that a function refers to; of a larger one, how many
DEEPEST = 8
AS_AN_ARRAY = 8  # a list of so many fractions is an array of them
INNER = {staticmethod: "__func__", classmethod: "__func__", property: "fget", functools.cached_property: "func"}
PORT = re.compile(r"(?<=localhost):\d+|(?<=127\.0\.0\.1):\d+")  # a server under test has another at each start
CHANGING = frozenset(name for kind in (list, dict, set, deque) for name in vars(kind)) - frozenset(  # methods that change what is in it
    ("copy", "count", "get", "index", "items", "keys", "values", "fromkeys", "isdisjoint", "issubset", "issuperset", "union", "difference")
)
ROOTS = tuple("/\\ABCDEFGHIJKLMNOPQRSTUVWXYZ") if os.name == "nt" else ("/",)
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def of_queries(queries: Sequence[Any]) -> Digests:
    """Queries: ``alike`` tells the work they ask for, whatever their order; ``exact`` adds their order and the values of fractions.

    ``opaque`` names the types of queries that show nothing of what they hold.
    """
    looking = _Looking()
    if isinstance(queries, list | tuple | range) or hasattr(queries, "shape"):
        texts = [looking.at(query) for query in queries]
    else:  # whatever gives slices
        step = math.ceil(len(queries) / MOST_LOOKED_UP)
        texts = [looking.at(queries[index : index + 1]) for index in range(0, len(queries), step)]
    alike, exact = _digest(sorted(work for work, _ in texts)), _digest(work + values for work, values in texts)
    return Digests(alike, exact, ", ".join(sorted(looking.opaque)) or None)


def of_function(function: object) -> str:
    """A function's name and a digest of what it computes: its code, what it refers to by name, and the values that it was made with."""
    name = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None) or type(function).__name__
    return f"{name} ({_digest([_Functions().text(function)])})"


def of_scoring(references: Sequence[Any] | None, score: object) -> tuple[str | None, str | None]:
    """What the answers are held against, and how; None and None where there are no references."""
    if references is None:
        return None, None
    return of_queries(references).exact, score if isinstance(score, str) else of_function(score)


def of_counter(tokens: object) -> str:
    """A way to count tokens, as ``tokens=`` has it."""
    if isinstance(tokens, str):
        return tokens
    if callable(getattr(tokens, "encode", None)) and callable(getattr(tokens, "decode", None)):
        name = str(getattr(tokens, "name_or_path", "") or "")
        return f"{type(tokens).__name__} {PurePath(name).name} {getattr(tokens, 'vocab_size', '')}".strip()
    return of_function(tokens)


def _digest(texts: Iterable[str]) -> str:
    whole = hashlib.blake2b(digest_size=DIGITS // 2)
    for text in texts:
        whole.update(text.encode("utf-8", "replace") + b"\0")
    return whole.hexdigest()


def _plain(value: Any) -> str:
    if isinstance(value, PurePath) or (isinstance(value, str) and value[:1] in ROOTS and PurePath(value).is_absolute()):
        return repr(PurePath(value).name)
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


class _Looking:
    """Reads values without changing them: an iterator or an open file is not read at all."""

    def __init__(self) -> None:
        self.opaque: set[str] = set()
        self._values: list[str] = []

    def at(self, value: Any) -> tuple[str, str]:
        """What ``value`` is, and apart from it the values of its fractions."""
        self._values = []
        return self._text(value, 0), ";".join(self._values)

    def _text(self, value: Any, depth: int) -> str:
        try:
            return self._known(value, depth)
        except Exception:  # noqa: BLE001  another's object may do anything when it is looked at
            return self._opaque(value)

    def _opaque(self, value: Any) -> str:
        self.opaque.add(type(value).__name__)
        return type(value).__qualname__

    def _known(self, value: Any, depth: int) -> str:
        if isinstance(value, (*PLAIN, PurePath)):
            return _plain(value)
        if depth > DEEPEST or hasattr(value, "__next__"):
            return self._opaque(value)
        if hasattr(value, "tolist") or hasattr(value, "__array_interface__"):
            return self._array(value)
        if isinstance(value, set | frozenset | list | tuple):
            return self._several(value, depth + 1)
        if isinstance(value, Mapping) or hasattr(value, "keys"):  # a table has keys and is no mapping
            return self._pairs({self._text(key, depth + 1): value[key] for key in value.keys()}, depth + 1)  # noqa: SIM118
        return self._object(value, depth + 1)

    def _several(self, value: Collection[Any], depth: int) -> str:
        if isinstance(value, set | frozenset):
            return f"{{{','.join(sorted(self._text(each, depth) for each in value))}}}"
        if len(value) >= AS_AN_ARRAY and all(isinstance(each, float) for each in value):
            return self._array(value)
        return f"[{','.join([self._text(each, depth) for each in value])}]"

    def _pairs(self, held: Attributes, depth: int) -> str:
        return f"{{{','.join([f'{name}={self._text(each, depth)}' for name, each in held.items()])}}}"

    def _object(self, value: Any, depth: int) -> str:
        if isinstance(value, FunctionType | MethodType | BuiltinFunctionType | functools.partial):
            return of_function(value)
        if held := attributes_of(value):
            return f"{type(value).__qualname__}{self._pairs(held, depth)}"
        text = repr(value)
        return self._opaque(value) if ADDRESS.search(text) else text

    def _array(self, value: Any) -> str:
        """An array or a tensor: whole numbers and texts by what they are, fractions by their shape."""
        import numpy as np

        if hasattr(value, "detach"):  # a tensor, maybe elsewhere, maybe of a type that numpy lacks
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        found = np.asarray(value)
        if found.dtype == object:
            return self._text(found.tolist(), 1)
        flat = found.ravel()[:: math.ceil(found.size / MOST_ELEMENTS) or 1]
        if found.dtype.kind not in "fc":
            whole = flat.astype("int64") if found.dtype.kind in "biu" else flat
            return f"{found.dtype.kind}{found.shape}{hashlib.blake2b(np.ascontiguousarray(whole).tobytes(), digest_size=8).hexdigest()}"
        # Sums of sizes, which differ in their last digits only from one library's version to the next.
        sizes = np.abs(flat).astype("float64")
        self._values += [f"{sizes.sum():.4g}", f"{sizes @ np.linspace(1, 2, sizes.size):.4g}" if sizes.size else ""]
        return f"f{found.shape}"


def attributes_of(value: Any) -> Attributes:
    """What an object holds under names of its own that are no secret."""
    written = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
    slots = [name for each in written for name in ((each,) if isinstance(each, str) else each)]
    held = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots if hasattr(value, name)}}
    return {name: held[name] for name in sorted(held) if not name.startswith("_")}


class _Functions:
    """The text of a function: its source without comments, names of its own and documentation, and what that refers to.

    That are values and functions of the project: globals, what a closure, a ``partial`` or a default holds, and of objects the attributes
    and methods that the code names. What may change while it runs, such as a cache, is told by its type alone.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._looking = _Looking()
        self._set: set[str] = set()  # names and attributes that the code sets itself
        self._open: set[str] = set()  # those whose contents it may change, or hands on

    def text(self, function: Any, owner: object = None) -> str:
        """Whatever can be called, as a method of ``owner``. One that was met before is not told again."""
        if id(function) in self._seen:
            return "…"
        self._seen.add(id(function))
        if isinstance(function, functools.partial):
            return f"{self.text(function.func, owner)}({','.join(self._bound(function))})"
        if isinstance(inner := _inner(function), FunctionType):
            return self._of_code(inner, owner)
        call = function.__func__ if isinstance(function, MethodType) else _call_of(function)
        if isinstance(call, FunctionType):
            owner = function.__self__ if isinstance(function, MethodType) else function
            return f"{self._held_by(owner, call)}.{self.text(call, owner)}"
        return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"

    def _bound(self, function: functools.partial[Any]) -> list[str]:
        """What a ``partial`` gives to its function, by the names that it has there."""
        self._note(function.func)
        code = getattr(function.func, "__code__", None)
        names = (*(code.co_varnames if code is not None else ()), *[""] * len(function.args))
        return self._named([*zip(names, function.args, strict=False), *sorted(function.keywords.items())], ())

    def _note(self, function: object) -> None:
        """Look at what a function changes before any value is told."""
        tree = _tree_of(function) if isinstance(function, FunctionType) else None
        if isinstance(function, FunctionType) and tree is not None:
            self._set |= _rebound(tree)
            self._open |= _handed_on(tree) | _put_into(_file_of(function.__code__))

    def _of_code(self, function: FunctionType, owner: object) -> str:
        tree, code = _tree_of(function), function.__code__
        own = ast.unparse(tree) if tree is not None else f"{code.co_code!r}{_constants(code)}"
        names = _names(code)
        cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
        held = {name: cell.cell_contents for name, cell in cells if _is_full(cell)}
        known = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
        parts = _parts(owner, names)
        for each in (function, *held.values(), *known.values(), *parts.values()):
            self._note(each)
        first = code.co_argcount - len(function.__defaults__ or ())
        given = [*zip(code.co_varnames[first:], function.__defaults__ or (), strict=False), *(function.__kwdefaults__ or {}).items()]
        texts = self._named([*given, *held.items(), *known.items()], names)
        return f"{own}|{','.join([*texts, *self._of_parts(owner, parts)])}"

    def _held_by(self, owner: object, function: Any) -> str:
        """The values that an object has for its method, but for those that its methods set."""
        if isinstance(owner, type):
            return owner.__qualname__
        if isinstance(function, FunctionType):
            for each in (function, *_parts(owner, _names(function.__code__)).values()):
                self._note(each)
        held = [(name, each) for name, each in attributes_of(owner).items() if not _is_kept(owner, name)]
        return f"{type(owner).__qualname__}{self._named(held, ())}"

    def _named(self, values: Iterable[tuple[str, Any]], names: Collection[str]) -> list[str]:
        return [f"{name}={self._value(each, names, opened=name in self._open)}" for name, each in values if name not in self._set]

    def _of_parts(self, owner: object, parts: Attributes) -> list[str]:
        values = [(name, each) for name, each in parts.items() if not _is_users(each)]
        return [*(self.text(each, owner) for each in parts.values() if _is_users(each)), *self._named(values, ())]

    def _value(self, value: Any, names: Collection[str] = (), depth: int = 0, *, opened: bool = False) -> str:
        """A value that a function refers to by one of ``names``; ``opened``: what is in it may change."""
        if isinstance(value, PLAIN) or (hasattr(value, "__array_interface__") and not opened):
            return PORT.sub("", self._looking.at(value)[0])
        if depth < DEEPEST and (isinstance(value, tuple | frozenset) or (type(value) in (list, dict, set) and not opened)):
            return self._several(value, names, depth + 1)
        if isinstance(value, ModuleType):
            mine = [getattr(value, name) for name in sorted(names) if _is_users(value.__dict__.get(name))]
            return f"{value.__name__}{[self.text(one) for one in mine]}"
        if isinstance(value, functools.partial | MethodType) or _is_users(_inner(value)) or _is_users(_call_of(value)):
            return self.text(value)
        if isinstance(value, enum.Enum | re.Pattern):
            told = (str(value), value.value) if isinstance(value, enum.Enum) else (value.pattern, value.flags)
            return self._value(told, (), depth + 1)
        parts = {} if id(value) in self._seen else _parts(value, names)
        self._seen.add(id(value))
        for each in parts.values():
            self._note(each)
        return f"{getattr(value, '__qualname__', type(value).__qualname__)}{''.join(self._of_parts(value, parts))}"

    def _several(self, value: Collection[Any], names: Collection[str], depth: int) -> str:
        if len(value) > MOST_HELD:
            return f"{type(value).__qualname__} of {len(value)}"
        listed = [part for pair in value.items() for part in pair] if isinstance(value, dict) else list(value)
        each = [self._value(one, names, depth) for one in listed]
        return f"({','.join(sorted(each) if isinstance(value, set | frozenset) else each)})"


def _call_of(value: object) -> Any:
    """What runs where an object is called like a function."""
    return next((vars(kind)["__call__"] for kind in type(value).__mro__ if "__call__" in vars(kind)), None)


def _is_users(value: object) -> bool:
    """Whether it is a function of the project, and not of a library: what those do is told by their versions."""
    return is_of_project(value.__code__.co_filename if isinstance(value, FunctionType) else "")


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that its function has not set yet
        return False


def _names(code: CodeType) -> set[str]:
    """All names that a function and those inside it refer to."""
    inside = [_names(each) for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*inside)


def _constants(code: CodeType) -> str:
    """The constants of a function without source, by which two of the same instructions differ."""
    nested = [f"{each.co_code!r}{_constants(each)}" for each in code.co_consts if isinstance(each, CodeType)]
    return repr(nested + [_Looking().at(each)[0] for each in code.co_consts if not isinstance(each, CodeType)])


def _rebound(tree: ast.AST) -> set[str]:
    """Names outside of a function, and attributes, that it sets itself: counters and caches."""
    declared = {name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    return declared | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def _handed_on(tree: ast.AST) -> set[str]:
    """Names and attributes that a function does more with than to read what is in them, so that somebody may change it."""
    read: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Load):
            read.add(id(node.value))
        elif isinstance(node, ast.Compare):
            read |= {id(node.left), *map(id, node.comparators)}
        elif isinstance(node, ast.comprehension | ast.For):
            read.add(id(node.iter))
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            read.add(id(node.test))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and hasattr(builtins, node.func.id):
            read |= set(map(id, node.args))
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute) and id(node) not in read]
    return {_name_of(node) for node in named}


def _name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@functools.lru_cache(maxsize=8)
def _put_into(tree: ast.Module) -> frozenset[str]:
    """Names and attributes whose contents some function of a file changes."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    inside = [node for function in functions for node in ast.walk(function)]
    stored = [node.value for node in inside if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)]
    return frozenset(
        map(_name_of, [*stored, *(node.value for node in inside if isinstance(node, ast.Attribute) and node.attr in CHANGING)])
    )


def _parts(owner: object, names: Collection[str]) -> Attributes:
    """The attributes and methods that code means by ``names``, of an object or a class of the project."""
    kind = owner if isinstance(owner, type) else type(owner)
    if not (kind is SimpleNamespace or is_of_project(getattr(sys.modules.get(kind.__module__), "__file__", None))):
        return {}
    found = {}
    for name in sorted(names):
        each = inspect.getattr_static(kind if _is_kept(owner, name) else owner, name, None)
        each = getattr(owner, name, None) if isinstance(each, MemberDescriptorType) else _inner(each)
        if each is not None:
            found[name] = each
    return found


def _is_kept(owner: object, name: str) -> bool:
    """Whether an attribute is the result of a method, kept under the method's name."""
    return isinstance(inspect.getattr_static(type(owner), name, None), functools.cached_property)


def _inner(value: Any) -> Any:
    """The function inside of a static method, a property, a cache and the like; else the value itself."""
    key = next((key for kind, key in INNER.items() if isinstance(value, kind)), "__wrapped__")
    found = getattr(value, key, None) if key != "__wrapped__" else inspect.getattr_static(value, key, None)
    return found if isinstance(found, FunctionType) and not isinstance(value, FunctionType) else value


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _file_of(code: CodeType) -> Any:
    """The whole file that a function stands in; None where there is no such file."""
    try:
        return _parsed("".join(inspect.findsource(code)[0]))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None


def _tree_of(function: FunctionType) -> ast.AST | None:
    """The function as its file has it, without its name and documentation; None where there is no such file."""
    code, tree = function.__code__, _file_of(function.__code__)
    if tree is None:
        return None
    nodes = list(ast.walk(tree))
    if code.co_name == "<lambda>":
        arguments = code.co_varnames[: code.co_argcount]
        lambdas = [each for each in nodes if isinstance(each, ast.Lambda) and each.lineno == code.co_firstlineno]
        same = [each for each in lambdas if tuple(arg.arg for arg in (*each.args.posonlyargs, *each.args.args)) == arguments]
        # Several of one line that take the same are told together: where one of them changes, they are another function.
        return ast.List([*same], ast.Load()) if same else None
    named = [each for each in nodes if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == code.co_name]
    found = [each for each in named if min(line.lineno for line in (each, *each.decorator_list)) == code.co_firstlineno]
    return _without_words(found[0]) if found else None


def _without_words(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    made = type(node)("_", node.args, body or [ast.Pass()], node.decorator_list, node.returns)
    return ast.copy_location(made, node)
