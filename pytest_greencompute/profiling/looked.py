"""What a pass works on, seen operator by operator: FLOPs, types, devices and shapes by module, and the facts of the whole.

One pass of its own, which nobody times: torch's dispatch modes make it several times as long.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_greencompute.explaining.factors import CALLS, FLOPS, ITEMS, SESSION_CALLS, SESSION_ITEMS, SESSION_TOKENS, TOKENS
from pytest_greencompute.explaining.profile import Factor
from pytest_greencompute.models.counting import as_written, formulas, in_place_of
from pytest_greencompute.profiling.hooked import Hooked, all_modules, names_of
from pytest_greencompute.profiling.marks import owned

MOST_NAMED = 3  # types of one row
RARE = 0.01  # of the parameters, or of a row's operators: types with less are not named
NEEDED = ("torch.utils.flop_counter", "torch.utils._python_dispatch", "torch.profiler")
COPIES = {"_to_copy", "copy_"}
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "item"}  # operators at which the processor waits for what a device has to say


@dataclass(slots=True)
class OwnWork:
    """What one module does itself in a pass, without those that it calls."""

    flops: float = 0.0
    dtypes: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    shape: str = ""


@dataclass(slots=True)
class Inputs:
    """What the outermost modules were given in a pass: by module, ``calls`` and ``items`` (the first dimension); ``positions`` of tokens,
    of which ``masked`` came with a mask, that says ``padded``; and ``elements`` of other inputs.
    """

    calls: Counter[int] = field(default_factory=Counter)
    items: Counter[int] = field(default_factory=Counter)
    positions: int = 0
    padded: int = 0
    masked: int = 0
    elements: int = 0
    gradients: bool = False
    training: bool = False
    kept: dict[int, tuple[int, Any]] = field(default_factory=dict)  # address of ids -> who had them first, and the ids, so that they stay


@dataclass(slots=True)
class Looked:
    """What a pass over so many ``queries`` showed."""

    factors: tuple[Factor, ...] = ()
    work: Mapping[str, OwnWork] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    queries: int = 0


def get_ready() -> None:
    """Import what looking needs, which takes seconds and is no part of it."""
    if "torch" in sys.modules:
        for name in NEEDED:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def look(run: Callable[[], int]) -> Looked:
    """Look at one pass, which says how many queries it had. Without torch there is little to see."""
    torch: Any = sys.modules.get("torch")
    given, sessions = Inputs(), Counter[str]()
    if torch is None or not hasattr(torch, "utils"):
        with _sessions(sessions):
            queries = run()
        return Looked(_of_sessions(sessions, queries), queries=queries)
    modules, notes = all_modules()
    watch = _Watch(torch, given)
    hooked = Hooked(modules, watch.flops, entered=watch.entered)
    watch.marks = hooked.marks
    with warnings.catch_warnings(), as_written(torch), _sessions(sessions):
        warnings.simplefilter("ignore")
        with watch.looking(), watch.counting, hooked.hooks():
            queries = run()
    found = owned(hooked.marks, 0.0, watch.flops())
    names = names_of(modules, found)
    work = {name: watch.of(number, modules[number], found.own.get(number, 0.0)) for number, name in names.items()}
    factors = (*_of_given(given, queries), *_of_sessions(sessions, queries), *watch.factors(modules, found.roots, queries))
    return Looked(factors, work, notes, queries)


class _Watch:
    """Notes each operator with the module that it is called in."""

    def __init__(self, torch: Any, given: Inputs) -> None:
        self._torch, self._given = torch, given
        counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode
        self.counting = counter(display=False, custom_mapping=formulas(torch))
        self.marks: Sequence[Any] = ()
        self._open: list[int] = []
        self._read = 0
        self._work: dict[int, OwnWork] = {}
        self._operators = self._copied = self._waits = 0
        self._shapes: dict[int, str] = {}
        self._aside = False

    def flops(self) -> float:
        """Operations so far."""
        return float(self.counting.get_total_flops())

    def entered(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module is about to be called. What is looked up of its inputs is no work of the model's."""
        self._aside = True
        try:
            tensors = [each for each in _tensors((args, kwargs), self._torch) if each.dim()]
            if tensors and (key := id(module)) not in self._shapes:
                self._shapes[key] = "x".join(map(str, tensors[0].shape))
            self._now()
            if len(self._open) == 1:  # its own mark has been made
                _note(self._given, module, tensors, _by_name(args, kwargs), self._torch)
        finally:
            self._aside = False

    def _now(self) -> int | None:
        """The number of the module that is being called."""
        for number, begins, *_ in self.marks[self._read :]:
            if begins:
                self._open.append(number)
            elif number in self._open:
                while self._open.pop() != number:
                    continue
        self._read = len(self.marks)
        return self._open[-1] if self._open else None

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """In here operators are seen, those too that others are taken apart into."""
        base: Any = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode
        seen = self._seen

        class Looking(base):  # type: ignore[misc]  # torch's class is known only here
            supports_higher_order_operators = True

            def __torch_dispatch__(
                self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
            ) -> Any:
                made = func(*args, **(kwargs or {}))
                seen(func, args, made)
                return made

        with Looking():
            yield

    def _seen(self, func: Any, args: tuple[Any, ...], made: Any) -> None:
        if self._aside:
            return
        self._operators += 1
        name = getattr(getattr(func, "_schema", None), "name", "").rpartition("::")[2]
        given, back = [*_tensors(args, self._torch)], [*_tensors((made,), self._torch)]
        if name in WAITS:
            self._waits += 1
        if name in COPIES and given and back and given[-1].device != back[0].device:
            self._copied += back[0].numel() * back[0].element_size()
            self._waits += back[0].device.type == "cpu"
        number = self._now()
        if number is not None and given:
            work = self._work.setdefault(number, OwnWork())
            floating = next((each for each in given if each.is_floating_point()), given[0])
            work.dtypes[_plain(floating.dtype)] += 1
            work.devices[str(floating.device)] += 1

    def of(self, number: int, module: Any, flops: float) -> OwnWork:
        """What a module did, with its own FLOPs."""
        work = self._work.get(number, OwnWork())
        work.flops, work.shape = flops, self._shapes.get(id(module), "")
        return work

    def factors(self, modules: Sequence[Any], roots: Mapping[int, int], queries: int) -> tuple[Factor, ...]:
        """The facts that the whole pass shows."""
        flops = self.flops()
        found = [Factor(FLOPS, flops / queries)] if flops else []
        outermost = [modules[number] for number in roots]
        params: Counter[tuple[str, str]] = Counter()
        for each in {id(param): param for module in outermost for param in module.parameters()}.values():
            params[_plain(each.dtype), str(each.device)] += each.numel()
        for index, name in enumerate(("dtype", "device")):
            sums: Counter[str] = Counter()
            for key, numel in params.items():
                sums[key[index]] += numel
            if sums:
                found.append(Factor(name, named(sums)))
        kinds = {str(how) for each in outermost if (how := getattr(getattr(each, "config", None), "_attn_implementation", None))}
        found += [Factor("attention", ", ".join(sorted(kinds)))] if kinds else []
        if self._operators:
            found.append(Factor("operators per query", self._operators / queries))
            found.append(Factor("copied per query", self._copied / queries, "B"))
            found.append(Factor("synchronisations per query", self._waits / queries))
        return (*found, Factor("threads", float(self._torch.get_num_threads())))


def _by_name(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a call is given by name: its keywords, and those of a mapping among its arguments."""
    found: dict[str, Any] = {}
    for each in (*args, kwargs):
        if isinstance(each, Mapping):
            found |= each
    return found


def _note(given: Inputs, module: Any, tensors: Sequence[Any], by_name: Mapping[str, Any], torch: Any) -> None:
    """What an outermost module is given: ids of tokens are whole numbers, and the mask of the same shape says which are padding."""
    key = id(module)
    given.calls[key] += 1
    given.gradients |= torch.is_grad_enabled() and any(each.requires_grad for each in module.parameters())
    given.training |= bool(module.training)
    if not tensors:
        return
    whole = [each for each in tensors if not each.is_floating_point() and each.dtype != torch.bool]
    ids = by_name.get("input_ids", whole[0] if whole else None)
    first = tensors[0] if ids is None else ids
    given.items[key] += int(first.shape[0])
    if ids is None:
        given.elements += int(first.numel())
        return
    had, _ = given.kept.setdefault(ids.data_ptr(), (key, ids))
    if had != key:  # another module before it had the same
        return
    given.positions += int(ids.numel())
    mask: Any = by_name.get("attention_mask")
    if getattr(mask, "shape", None) == ids.shape:
        given.masked += int(ids.numel())
        given.padded += int(ids.numel() - mask.bool().sum())


def _of_given(given: Inputs, queries: int) -> tuple[Factor, ...]:
    found = []
    if given.calls:
        most = max(given.calls, key=lambda each: given.items[each])
        found.append(Factor(CALLS, max(given.calls.values()) / queries))
        if given.items[most]:
            found.append(Factor(ITEMS, given.items[most] / given.calls[most]))
        found.append(Factor("gradients", "on" if given.gradients else "off"))
        found.append(Factor("training", "on" if given.training else "off"))
    if given.positions:
        found.append(Factor(TOKENS, given.positions / queries))
    if given.masked:
        found.append(Factor("padding", given.padded / given.masked, "share"))
    if given.elements:
        found.append(Factor("elements per query", given.elements / queries))
    return tuple(found)


@contextlib.contextmanager
def _sessions(seen: Counter[str]) -> Iterator[None]:
    """Counts the calls of ONNX Runtime's sessions, and what they are given."""
    owner = getattr(sys.modules.get("onnxruntime"), "InferenceSession", None)

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def called(session: Any, names: Any, feed: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
            arrays = [each for each in feed.values() if getattr(each, "ndim", 0)]
            seen["calls"] += 1
            if arrays:
                seen["items"] += int(arrays[0].shape[0])
                ids = next((each for each in arrays if each.dtype.kind in "iu"), None)
                seen["tokens" if ids is not None else "elements"] += int((arrays[0] if ids is None else ids).size)
            return method(session, names, feed, *rest, **more)

        return called

    with in_place_of(owner, "run", noting):
        yield


def _of_sessions(seen: Counter[str], queries: int) -> tuple[Factor, ...]:
    if not seen["calls"]:
        return ()
    found = [
        Factor(SESSION_CALLS, seen["calls"] / queries),
        Factor(SESSION_ITEMS, seen["items"] / seen["calls"]),
    ]
    names = {"tokens": SESSION_TOKENS, "elements": "sessions' elements per query"}
    return (*found, *(Factor(name, seen[key] / queries) for key, name in names.items() if seen[key]))


def _tensors(given: Any, torch: Any, depth: int = 3) -> Iterator[Any]:
    """The tensors in what a call has, a few levels deep."""
    if isinstance(given, torch.Tensor):
        yield given
    elif depth and isinstance(given, Mapping):
        for each in given.values():
            yield from _tensors(each, torch, depth - 1)
    elif depth and isinstance(given, tuple | list):
        for each in given:
            yield from _tensors(each, torch, depth - 1)


def _plain(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def named(counts: Counter[str]) -> str:
    """The most frequent, those apart that hardly occur: "bfloat16, float32"."""
    whole = counts.total()
    return ", ".join(sorted(name for name, count in counts.most_common(MOST_NAMED) if count >= RARE * whole))
