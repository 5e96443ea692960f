"""What a Python file of a project tells without being run: what it imports, the callables that may be its model, its benchmarks."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

# What people call the function or method that answers a query.
VERBS = (
    *("predict", "classify", "embed", "encode", "answer", "generate", "infer", "score", "rank", "rerank", "translate", "summarize"),
    *("summarise", "transcribe", "detect", "recommend", "complete", "chat", "extract", "segment", "tag"),
)
FIXTURES = ("benchmark", "codspeed_benchmark")
_LIKE = re.compile(rf"(?:{'|'.join(VERBS)})(?:_[a-z0-9_]*)?")
_MODULES = ("Module", "LightningModule", "PreTrainedModel")  # classes whose objects are called
_DEFS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class OwnCallable:
    """A callable of the project that may be its model: ``name`` of ``module``, or the ``method`` of what that class makes."""

    module: str
    name: str
    method: str = ""
    awaited: bool = False

    @property
    def line(self) -> str:
        """How it is imported, and called where that is not plain: 'from shop.model import Ranker  # Ranker(…).rank'."""
        call = f"{self.name}(…).{self.method}" if self.method and self.method != "forward" else f"{self.name}(…)" if self.method else ""
        notes = [each for each in (call, "async: await energy_meter.ameasure(…)" if self.awaited else "") if each]
        return f"from {self.module} import {self.name}" + (f"  # {', '.join(notes)}" if notes else "")


@dataclass(frozen=True, slots=True)
class PythonFile:
    """What one file tells. ``imports`` are the top names of what it imports, ``benchmarks`` node ids below the file's."""

    imports: frozenset[str] = frozenset()
    suggestions: tuple[OwnCallable, ...] = ()
    benchmarks: tuple[str, ...] = ()


def read(text: str, module: str) -> PythonFile:
    """What ``text`` tells, of a file that is imported as ``module`` (empty: it cannot be). Nothing where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in somebody's text is no matter of ours
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return PythonFile()
    return PythonFile(frozenset(_imports(tree)), tuple(_suggestions(tree, module)) if module else (), tuple(_benchmarks(tree)))


def module_name(parts: tuple[str, ...]) -> str:
    """'shop.model' of the parts of its path, ("shop", "model.py"); empty where that is no name that can be imported."""
    *folders, file = parts
    stem = file.removesuffix(".py")
    names = folders if stem == "__init__" else [*folders, stem]
    return ".".join(names) if names and all(name.isidentifier() and not keyword.iskeyword(name) for name in names) else ""


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _suggestions(tree: ast.Module, module: str) -> Iterator[OwnCallable]:
    """Functions first, then classes with their first method that answers."""
    for node in tree.body:
        if isinstance(node, _DEFS) and _LIKE.fullmatch(node.name) and _takes(node, 1):
            yield OwnCallable(module, node.name, awaited=isinstance(node, ast.AsyncFunctionDef))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            called = any(_last_name(base) in _MODULES for base in node.bases)
            methods = [each for each in node.body if isinstance(each, _DEFS) and _takes(each, 2)]
            answering = [each for each in methods if (called and each.name == "forward") or _LIKE.fullmatch(each.name)]
            for method in answering[:1]:
                yield OwnCallable(module, node.name, method.name, isinstance(method, ast.AsyncFunctionDef))


def _takes(node: ast.FunctionDef | ast.AsyncFunctionDef, least: int) -> bool:
    """Whether it can be given so many arguments by their places."""
    return len(node.args.posonlyargs) + len(node.args.args) >= least or node.args.vararg is not None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _benchmarks(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        for test in node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]:
            if isinstance(test, _DEFS) and test.name.startswith("test"):
                given = {each.arg for each in (*test.args.posonlyargs, *test.args.args, *test.args.kwonlyargs)}
                if given.intersection(FIXTURES):
                    yield f"{node.name}::{test.name}" if isinstance(node, ast.ClassDef) else test.name
