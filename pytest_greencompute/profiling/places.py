"""What a place in Python code is called: the user's function that a stack is in, and which library it has called. Values in, values out.

CodeNames are relative to the project, so that two checkouts of it agree: "chat.py:tokenize", "re.compile from chat.py:tokenize". What a
library does inside is not the user's to change, so all of it counts under what the user's function has called; where no function of the
user's is in the stack, the library's own function has the name. Below a call of a torch module the table of modules says more: that is
"torch modules from chat.py:encode".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Literal

from pytest_greencompute.explaining.profile import MODULES
from pytest_greencompute.models.queries import is_of_project

_OURS = str(Path(__file__).parents[1])
_CALLS_A_MODULE = {"_wrapped_call_impl", "_call_impl"}  # torch.nn.Module.__call__
_WITHIN = re.compile(r"(\.<locals>)?\.<(listcomp|setcomp|dictcomp|genexpr)>")  # part of the function around, as from Python 3.12 on
_ROOTS = re.compile(r".*/(?:site-packages|dist-packages|python\d[\d.]*)/(?:lib-dynload/)?")

CodeKind = Literal["user", "library", "module", "ours", "text"]


@dataclass(frozen=True, slots=True)
class CodeName:
    """A function: ``name`` as people write it, ``local`` if it was made within another one (a decorator's, mostly)."""

    kind: CodeKind
    name: str
    local: bool = False


@dataclass(frozen=True, slots=True)
class CodePlace:
    """A row: its name, and whether it lies below a call of a torch module."""

    name: str
    in_module: bool = False


class CodeNames:
    """The names of functions of a project at ``root``; each is worked out once."""

    __slots__ = ("_known", "_places", "_root")

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        # By address, with the code itself so that no other gets that: code is equal to its like in another file, and hashing it takes long.
        self._known: dict[int, tuple[CodeName, CodeType]] = {}
        self._places: dict[tuple[int, ...], CodePlace | None] = {}

    def of(self, code: CodeType) -> CodeName:
        """What a function is called, and whose it is."""
        if id(code) not in self._known:
            self._known[id(code)] = self._named(code), code
        return self._known[id(code)][0]

    def _named(self, code: CodeType) -> CodeName:
        path, own = code.co_filename, _WITHIN.sub("", getattr(code, "co_qualname", code.co_name))
        if path.startswith(_OURS):
            return CodeName("ours", own)
        if path.startswith("<") and not path.startswith("<stdin"):
            return CodeName("text", own)  # frozen into Python, or made from text: it counts under who called it
        if code.co_name in _CALLS_A_MODULE and path.replace("\\", "/").endswith("torch/nn/modules/module.py"):
            return CodeName("module", MODULES)
        short = own.replace(".<locals>", "")
        if is_of_project(path) and "torchinductor" not in path:
            return CodeName("user", f"{self._relative(Path(path))}:{short}")
        return CodeName("library", f"{_library(path)}.{short}", "<locals>" in own)

    def _relative(self, path: Path) -> str:
        """The file by its path in the project; else in the folder that it is imported from."""
        for folder in (self._root, *sorted((Path(each).resolve() for each in sys.path if each), key=lambda each: -len(each.parts))):
            if folder in path.parents:
                return path.relative_to(folder).as_posix()
        return path.name

    def place(self, stack: Iterable[CodeType]) -> CodePlace | None:
        """The row that a stack counts under, from its innermost function outwards; None where it holds none but ours."""
        codes = tuple(stack)
        key = tuple(map(id, codes))
        if key not in self._places:
            self._places[key] = _place([self.of(code) for code in codes])
        return self._places[key]


def called(library: CodeName, user: CodeName) -> str:
    """The row of what a user's function has called."""
    return f"{library.name} from {user.name}"


def _place(stack: list[CodeName]) -> CodePlace | None:
    stack = [each for each in stack if each.kind != "text"]
    if not stack or stack[0].kind == "ours":
        return None
    user = next((index for index, each in enumerate(stack) if each.kind == "user"), len(stack))
    module = next((index for index, each in enumerate(stack[:user]) if each.kind == "module"), None)
    inside = any(each.kind == "module" for each in stack[user:])
    libraries = [each for each in stack[:user] if each.kind == "library"]
    if user == len(stack) and module is not None:
        above = next((each for each in reversed(libraries) if not each.local), None)
        return CodePlace(MODULES if above is None else f"{MODULES} from {above.name}", in_module=True)
    if user == len(stack):
        return CodePlace(libraries[0].name) if libraries else None
    if module is not None:
        return CodePlace(called(stack[module], stack[user]), in_module=True)
    entry = next((each for each in reversed(libraries) if not each.local), None)
    return CodePlace(stack[user].name if entry is None else called(entry, stack[user]), in_module=inside)


def _library(path: str) -> str:
    """The package of a library's file: "re", "transformers"."""
    return _ROOTS.sub("", path.replace("\\", "/")).partition("/")[0].removesuffix(".py")
