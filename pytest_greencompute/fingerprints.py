"""What a run was asked, as short texts that two processes agree on: queries, references, and the functions that score and count.

Runs that were asked other things must not be compared, so a text differs where what was asked differs. A false alarm is as bad, so it holds
nothing that differs by itself: no address, no folder (a commit's worktree and a test's temporary folder have others in each session), no
order of a set, and of arrays of fractions their shape apart from their values, which tests often draw anew.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import math
import os
import re
import sysconfig
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

DIGITS = 10  # hexadecimal digits of a fingerprint that people see
MOST_ELEMENTS = 1 << 16  # of an array that are looked at
MOST_LOOKED_UP = 256  # queries of a sequence whose items cost something to have (a dataset that decodes them)
DEEPEST = 8
AS_AN_ARRAY = 8  # a list of so many fractions is an array of them
LIBRARIES = tuple(dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")))
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
ROOTS = tuple("/\\ABCDEFGHIJKLMNOPQRSTUVWXYZ") if os.name == "nt" else ("/",)
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def of_queries(queries: Sequence[Any]) -> dict[str, Any]:
    """Queries: ``alike`` tells the work they ask for, whatever their order; ``exact`` adds their order and the values of fractions.

    ``opaque`` names the types of queries that show nothing of what they hold.
    """
    looking = _Looking()
    if isinstance(queries, list | tuple | range) or hasattr(queries, "shape"):
        texts = [looking.at(query) for query in queries]
    else:  # whatever gives slices
        step = math.ceil(len(queries) / MOST_LOOKED_UP)
        texts = [looking.at(queries[index : index + 1]) for index in range(0, len(queries), step)]
    found = {"alike": _digest(sorted(work for work, _ in texts)), "exact": _digest(work + values for work, values in texts)}
    return found | ({"opaque": ", ".join(sorted(looking.opaque))} if looking.opaque else {})


def of_function(function: object) -> str:
    """A function's name and a digest of what it computes: its code, what it refers to by name, and the values that it was made with."""
    name = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None) or type(function).__name__
    return f"{name} ({_digest([_Functions().text(function)])})"


def of_scoring(references: Sequence[Any] | None, score: object) -> dict[str, str]:
    """What the answers are held against, and how; nothing where there are no references."""
    if references is None:
        return {}
    return {"references": str(of_queries(references)["exact"]), "score": score if isinstance(score, str) else of_function(score)}


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

    def _pairs(self, held: Mapping[str, Any], depth: int) -> str:
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


def attributes_of(value: Any) -> dict[str, Any]:
    """What an object holds under names of its own that are no secret."""
    written = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
    slots = [name for each in written for name in ((each,) if isinstance(each, str) else each)]
    held = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots if hasattr(value, name)}}
    return {name: held[name] for name in sorted(held) if not name.startswith("_")}


class _Functions:
    """The text of a function: its source without comments, names of its own and documentation, and what that refers to."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._looking = _Looking()

    def text(self, function: Any) -> str:
        """Whatever can be called. One that was met before is not told again."""
        if id(function) in self._seen:
            return "…"
        self._seen.add(id(function))
        if isinstance(function, functools.partial):
            given = [self._value(each) for each in (*function.args, *(item for pair in sorted(function.keywords.items()) for item in pair))]
            return f"{self.text(function.func)}({','.join(given)})"
        if isinstance(function, MethodType):
            return f"{self._held_by(function.__self__, function.__func__)}.{self.text(function.__func__)}"
        if isinstance(function, FunctionType):
            return self._of_code(function)
        call = _call_of(function)
        if isinstance(call, FunctionType):
            return f"{self._held_by(function, call)}.{self.text(call)}"
        return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"

    def _of_code(self, function: FunctionType) -> str:
        tree = _tree_of(function)
        code = function.__code__
        own = ast.unparse(tree) if tree is not None else f"{code.co_code!r}{_constants(code)}"
        changing = set() if tree is None else _rebound(tree)
        cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
        held = {name: cell.cell_contents for name, cell in cells if name not in changing and _is_full(cell)}
        names = _names(code)
        known = {name: function.__globals__[name] for name in sorted(names - changing) if name in function.__globals__}
        given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        texts = [*map(self._value, given), *(f"{name}={self._value(each, names)}" for name, each in {**held, **known}.items())]
        return f"{own}|{','.join(texts)}"

    def _held_by(self, owner: object, function: Any) -> str:
        """The values that an object has for its method, but for those that the method itself sets."""
        tree = _tree_of(function) if isinstance(function, FunctionType) else None
        changing = set() if tree is None else _rebound(tree)
        held = {name: self._value(each) for name, each in attributes_of(owner).items() if name not in changing}
        return f"{type(owner).__qualname__}{held}"

    def _value(self, value: Any, names: Iterable[str] = ()) -> str:
        """A value that a function refers to. What may change while it runs, such as a cache, is told by its type alone."""
        if isinstance(value, PLAIN):
            return self._looking.at(value)[0]
        if isinstance(value, tuple | frozenset):
            each = [self._value(one) for one in value]
            return f"({','.join(each if isinstance(value, tuple) else sorted(each))})"
        if isinstance(value, ModuleType):
            mine = [getattr(value, name) for name in sorted(names) if _is_users(value.__dict__.get(name))]
            return f"{value.__name__}{[self.text(one) for one in mine]}"
        if isinstance(value, functools.partial | MethodType) or _is_users(value) or _is_users(_call_of(value)):
            return self.text(value)
        return getattr(value, "__qualname__", type(value).__qualname__)


def _call_of(value: object) -> Any:
    """What runs where an object is called like a function."""
    return next((vars(kind)["__call__"] for kind in type(value).__mro__ if "__call__" in vars(kind)), None)


def _is_users(value: object) -> bool:
    """Whether it is a function of the project, and not of a library: what those do is told by their versions."""
    path = value.__code__.co_filename if isinstance(value, FunctionType) else ""
    return bool(path) and not path.startswith(LIBRARIES) and "site-packages" not in path


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


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _tree_of(function: FunctionType) -> ast.AST | None:
    """The function as its file has it, without its name and documentation; None where there is no such file."""
    code = function.__code__
    try:
        nodes = list(ast.walk(_parsed("".join(inspect.findsource(code)[0]))))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
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
