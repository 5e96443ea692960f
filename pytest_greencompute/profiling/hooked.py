"""All torch modules of this process under marks for a while: hooks on each, which are gone afterwards, and names by the outermost ones.

Modules are found as the objects that they are, so it does not matter how the model holds them. Not hooked is what torch has compiled, which
would be compiled anew with the hooks in it, and what is inside a layer that works otherwise when it has hooks.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_greencompute.profiling.marks import Mark, Owned, marking

# Layers that take another way where they, or what is in them, have hooks (torch/nn/modules/transformer.py): ``forward`` is marked instead.
BY_FORWARD = {("torch.nn.modules.transformer", "TransformerEncoderLayer")}
COMPILED = "OptimizedModule"
ORIGINAL = "_orig_mod."


@dataclass
class Hooked:
    """Marks at the calls of ``modules``, by their place in the list, into ``marks`` while it is entered. ``notes``: what has none, and why.

    ``now`` reads the clock; ``entered`` is told the module and what it was called with, before the clock is read.
    """

    modules: Sequence[Any]
    now: Callable[[], Any]
    marks: list[Mark] = field(default_factory=list)
    entered: Callable[[Any, tuple[Any, ...], dict[str, Any]], None] | None = None
    notes: tuple[str, ...] = ()

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """In here each call is marked. Nothing of it is left in any module."""
        with contextlib.ExitStack() as held:
            for number, module in enumerate(self.modules):
                begins, ends = marking(number, self.marks, self.now)
                if kind_of(module) in BY_FORWARD:
                    held.enter_context(_around_forward(module, begins, ends))
                    continue
                if self.entered is not None:
                    handle = module.register_forward_pre_hook(self._told, with_kwargs=True)
                    held.callback(handle.remove)
                # First of all that happen before, last of all after: hooks of others are part of the module's work.
                held.callback(module.register_forward_pre_hook(begins, prepend=True).remove)
                held.callback(module.register_forward_hook(ends, always_call=True).remove)
            yield

    def _told(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self.entered is not None
        self.entered(module, args, kwargs)


@contextlib.contextmanager
def _around_forward(module: Any, begins: Callable[..., None], ends: Callable[..., None]) -> Iterator[None]:
    """For a while a marked ``forward`` stands in place of the module's."""
    forward = module.forward
    own = "forward" in vars(module)

    def marked(*args: Any, **kwargs: Any) -> Any:
        begins()
        try:
            return forward(*args, **kwargs)
        finally:
            ends()

    vars(module)["forward"] = marked
    try:
        yield
    finally:
        if own:
            vars(module)["forward"] = forward
        else:
            del vars(module)["forward"]


def all_modules() -> tuple[list[Any], tuple[str, ...]]:
    """The torch modules of this process that may be marked, and notes on those that may not."""
    torch: Any = sys.modules.get("torch")
    base = getattr(getattr(torch, "nn", None), "Module", None)
    if base is None:
        return [], ()
    found = [each for each in gc.get_objects() if issubclass(type(each), base)]
    compiled = [each for each in found if is_compiled(each)]
    scripted = [each for each in found if isinstance(each, torch.jit.ScriptModule)]
    by_forward = [each for each in found if kind_of(each) in BY_FORWARD]
    outer = {id(each) for each in compiled if type(each).__name__ == COMPILED}
    left_out = {id(each) for each in (*_within(compiled), *_within(by_forward), *scripted)}
    left_out |= {id(each) for each in compiled if id(each) not in outer}
    notes = []
    if compiled:
        notes.append("compiled modules are one row each, by the outermost: what is inside runs as one piece of code")
    if scripted:
        notes.append("modules of TorchScript are told as what calls them")
    if by_forward:
        notes.append("torch's TransformerEncoderLayer is one row: it works otherwise where what is in it is looked at")
    return [each for each in found if id(each) not in left_out], tuple(notes)


def _within(modules: Sequence[Any]) -> Iterator[Any]:
    """What is inside of them, at any depth."""
    for each in modules:
        inner = each.modules()
        next(inner)
        yield from inner


def is_compiled(module: Any) -> bool:
    """Whether ``torch.compile`` wrapped it, or compiled it in place."""
    return type(module).__name__ == COMPILED or getattr(module, "_compiled_call_impl", None) is not None


def kind_of(module: Any) -> tuple[str, str]:
    return type(module).__module__, type(module).__name__


def names_of(modules: Sequence[Any], seen: Owned) -> dict[int, str]:
    """The names of the modules that were called, by number: "BertModel.encoder.layer.0", after the outermost one that holds it.

    One that no outermost module holds is called by its class. A second module of a name has "#2" behind it.
    """
    numbers = {id(each): number for number, each in enumerate(modules)}
    held = {id(inner) for number in seen.roots for inner in _within([modules[number]])}
    names: dict[int, str] = {}
    taken: dict[str, int] = {}
    for root in seen.roots:
        if id(modules[root]) in held:
            continue
        title = _unused(_class_of(modules[root]), taken)
        for path, module in modules[root].named_modules():
            number = numbers.get(id(module))
            if number is not None and number in seen.calls and number not in names:
                written = path.replace(ORIGINAL, "").removesuffix(ORIGINAL.rstrip("."))
                names[number] = f"{title}.{written}" if written else title
    for number in seen.calls:
        if number not in names:
            names[number] = _unused(_class_of(modules[number]), taken)
    return names


def _class_of(module: Any) -> str:
    return type(getattr(module, ORIGINAL.rstrip("."), module)).__name__ if type(module).__name__ == COMPILED else type(module).__name__


def _unused(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}#{taken[name]}"


def holder_of(name: str, names: set[str]) -> str:
    """The row that a module lies in: the nearest that holds it and was called, too; empty for an outermost one."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in names:
            return name
    return ""
