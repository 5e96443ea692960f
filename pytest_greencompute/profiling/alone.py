"""One torch module alone: some of its calls, kept as they were made, and a copy of it that can be called like that again and again.

A copy has attributes and buffers of its own and shares the weights, which a call reads. So the user's module is called here no oftener than
by passes, and nothing is written to it. What a copy cannot stand in for is refused, with the reason.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.profiling.hooked import BY_FORWARD, is_compiled, kind_of

MOST_CALLS = 8  # of a module that are kept, from all over a pass, since calls differ in length
MOST_BYTES = 256 << 20  # of all inputs that are kept, and of the buffers of one copy: what is short has little, and a device may be full
MOST_HELD = 20_000  # objects of a module that are looked at for what a call changes
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
PLAIN = (int, float, complex, str, bytes, type(None))  # bool is an int
KeptCall = tuple[tuple[Any, ...], dict[str, Any]]


class RefusedError(GreencomputeError):
    """A module that cannot be replayed, and why."""


class Modes(NamedTuple):
    """How torch was set where a module was called: ``autocast`` is the kind of device and the type that it casts to, None for off."""

    gradients: bool
    inference: bool
    autocast: tuple[str, Any] | None


@dataclass
class CallKeeper:
    """Hooks around a module that is called ``calls`` times in a pass: some of the calls, whose inputs have ``room`` bytes at most, and
    ``why`` it cannot be replayed.
    """

    calls: int
    room: int
    kept: list[KeptCall] = field(default_factory=list)
    modes: set[Modes] = field(default_factory=set)
    why: str = ""
    _seen: int = 0
    _open: int = 0
    _wanted: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        count = min(MOST_CALLS, self.calls)
        self._wanted = frozenset(int((index + 0.5) * self.calls / count) for index in range(count))

    @contextlib.contextmanager
    def hooks(self, module: Any) -> Iterator[None]:
        """In here calls are kept. Nothing of it is left in the module."""
        with contextlib.ExitStack() as held:
            held.callback(module.register_forward_pre_hook(self._begins, with_kwargs=True).remove)
            held.callback(module.register_forward_hook(self._ends, always_call=True).remove)
            yield

    def _begins(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._open:
            self.why = "it calls itself"
        if self._seen in self._wanted and not self.why:
            try:
                self._keep(args, kwargs)
            except Exception as error:  # noqa: BLE001  it stands in the midst of the user's model
                self.why = reason(error)
                self.kept.clear()
        self._seen += 1
        self._open += 1

    def _ends(self, *_: Any) -> None:
        self._open -= 1

    def _keep(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        torch: Any = sys.modules["torch"]
        self.modes.add(Modes(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), _autocast(torch, args, kwargs)))
        with plainly(torch):
            self.kept.append((self._copied(args), self._copied(kwargs)))

    def _copied(self, given: Any) -> Any:
        """What a call was given, with tensors of its own. Raises RefusedError."""
        torch: Any = sys.modules["torch"]
        if isinstance(given, torch.Tensor):
            if type(given) not in {torch.Tensor, torch.nn.Parameter} or given.layout is not torch.strided:
                raise RefusedError("it is given tensors of a special kind")
            self.room -= given.numel() * given.element_size()
            if self.room < 0:
                raise RefusedError("its inputs are too large to be kept")
            return given.detach().clone().requires_grad_(given.requires_grad)
        if isinstance(given, (*PLAIN, torch.dtype, torch.device)) or type(given) is torch.Size:
            return given
        if type(given) in {list, tuple}:
            return type(given)(map(self._copied, given))
        if type(given) is dict:
            return {key: self._copied(each) for key, each in given.items()}
        raise RefusedError(f"it is given a {type(given).__name__}, which may change")


def _autocast(torch: Any, *given: Any) -> tuple[str, Any] | None:
    first = next((each for each in state_of(given) if isinstance(each[0], torch.Tensor)), None)
    kind = "cpu" if first is None else first[0].device.type
    if not hasattr(torch, "get_autocast_dtype"):  # before 2.4 it is asked otherwise by each device
        if torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled():
            raise RefusedError("this torch does not tell what it is cast to")
        return None
    return (kind, torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None


@contextlib.contextmanager
def plainly(torch: Any) -> Iterator[None]:
    """In here tensors are made that any mode can use."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@dataclass(frozen=True, slots=True)
class Alone:
    """A copy of a module, called again as it was in a pass."""

    module: Any
    calls: tuple[KeptCall, ...]
    modes: Modes

    @classmethod
    def of(cls, module: Any, keeper: CallKeeper) -> Alone:
        """For what was kept of it, once one call has shown that it leaves everything as it was. Raises RefusedError, and what it raises."""
        if keeper.why:
            raise RefusedError(keeper.why)
        if not keeper.kept or len(keeper.modes) != 1:
            raise RefusedError("it is called in several ways" if keeper.kept else "it was not called again")
        (modes,) = keeper.modes
        alone = cls(_copy(module), tuple(keeper.kept), modes)
        before = [*state_of(alone.module), *state_of(alone.calls)]
        alone.replay(1)
        after = [*state_of(alone.module), *state_of(alone.calls)]
        if len(before) != len(after) or not all(
            one is other and was == now for (one, was), (other, now) in zip(before, after, strict=True)
        ):
            raise RefusedError("it changes what it holds or is given")
        return alone

    def replay(self, rounds: int) -> None:
        """Make all calls, so many times."""
        torch: Any = sys.modules["torch"]
        module, calls, modes = self.module, self.calls, self.modes
        casting = contextlib.nullcontext() if modes.autocast is None else torch.autocast(modes.autocast[0], dtype=modes.autocast[1])
        with torch.inference_mode(mode=modes.inference), torch.set_grad_enabled(modes.gradients), casting:
            for _ in range(rounds):
                for args, kwargs in calls:
                    module(*args, **kwargs)


def check(module: Any) -> None:
    """Raises RefusedError for a module that does more than a copy of it would."""
    torch: Any = sys.modules["torch"]
    parts = list(module.modules())
    if any(kind_of(each) in BY_FORWARD or is_compiled(each) or isinstance(each, torch.jit.ScriptModule) for each in parts):
        raise RefusedError("it is compiled, or works otherwise when it is looked at")
    of_all = [value for name, value in vars(torch.nn.modules.module).items() if name.startswith("_global") and name.endswith("hooks")]
    if any(of_all) or any(getattr(each, name, None) for each in parts for name in HOOKS):
        raise RefusedError("it has hooks")
    if any("forward" in vars(each) for each in parts):
        raise RefusedError("its forward was replaced")
    inside = {id(each) for each in parts}
    if any(isinstance(each, torch.nn.Module) and id(each) not in inside for each, _ in state_of(module)):
        raise RefusedError("it holds a module that is not its part")


def _copy(module: Any) -> Any:
    torch: Any = sys.modules["torch"]
    if sum(each.numel() * each.element_size() for each in module.buffers()) > MOST_BYTES:
        raise RefusedError("its buffers are too large for a copy")
    with plainly(torch):
        return copy.deepcopy(module, {id(each): each for each in module.parameters()})


def state_of(value: Any) -> list[tuple[Any, object]]:
    """All that is held, with what a call may change of it: how often a tensor was written to, the length of a list, the value of a number.

    What only a look at every byte would show is not seen. Raises RefusedError where there is too much of it.
    """
    torch: Any = sys.modules["torch"]
    found: list[tuple[Any, object]] = []
    known, waiting = set[int](), [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held, PLAIN):
            found.append((None, held))
        elif id(held) not in known:
            known.add(id(held))
            inner = _inside(held, torch)
            found.append((held, len(inner) if not isinstance(held, torch.Tensor) else 0 if held.is_inference() else held._version))
            waiting += inner
        if len(found) > MOST_HELD:
            raise RefusedError("it holds too much to be looked through")
    return found


def _inside(held: Any, torch: Any) -> list[Any]:
    if isinstance(held, torch.Tensor | type | types.FunctionType | types.ModuleType):
        return []
    inner = [*held.values()] if isinstance(held, Mapping) else [*held] if isinstance(held, list | tuple | set | frozenset | deque) else []
    return [*inner, *(vars(held).values() if hasattr(held, "__dict__") else ())]


def reason(error: Exception) -> str:
    """Why a module is not replayed, in few words."""
    return error.message.rstrip(".") if isinstance(error, GreencomputeError) else " ".join(f"{type(error).__name__}: {error}".split())[:80]
