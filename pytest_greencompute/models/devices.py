"""Waiting for accelerators, found without importing them: only a torch that the test has loaded is asked.

Work on an accelerator is queued; without a synchronisation a clock or a meter sees the queueing, not the work. Some libraries hand out
arrays that are still to be computed, on a processor, too: these are waited for one by one.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable
from typing import Any

from pytest_greencompute.models.answers import DEEP, held_in
from pytest_greencompute.models.precision import is_module

QUEUEING = ("jax", "mlx", "cupy")  # libraries whose arrays may be returned before they are computed


def synchronizer() -> Callable[[], None]:
    """A function that waits until every accelerator in use has finished. Look again after the first pass: models load lazily."""
    torch = sys.modules.get("torch")
    waits = [] if torch is None else [wait for find in (_cuda, _mps, _xpu) for wait in find(torch)]
    if not waits:
        return _nothing
    if len(waits) == 1:
        return waits[0]

    def wait_for_each() -> None:
        for wait in waits:
            wait()

    return wait_for_each


def _nothing() -> None:
    """Nothing runs asynchronously."""


def _cuda(torch: Any) -> list[Callable[[], None]]:
    """One wait per CUDA (or ROCm) device, only if this process has started CUDA: asking must not start it."""
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return []
    return [_waiting(cuda.synchronize, index) for index in range(cuda.device_count())]


def _waiting(synchronize: Callable[[int], object], index: int) -> Callable[[], None]:
    def wait() -> None:
        synchronize(index)

    return wait


def _mps(torch: Any) -> list[Callable[[], None]]:
    backend = getattr(getattr(torch, "backends", None), "mps", None)
    if backend is None or not backend.is_available():
        return []
    return [torch.mps.synchronize]


def _xpu(torch: Any) -> list[Callable[[], None]]:
    xpu = getattr(torch, "xpu", None)
    if xpu is None or not getattr(xpu, "is_initialized", bool)():
        return []
    return [_waiting(xpu.synchronize, index) for index in range(xpu.device_count())]


def wait_for(answer: Any, deep: int = DEEP) -> bool:
    """Wait until the arrays of ``QUEUEING`` in an answer are computed; whether there are any. MLX computes none unless asked."""
    library = type(answer).__module__.partition(".")[0]
    if callable(wait := getattr(answer, "block_until_ready", None)):  # JAX
        wait()
        return True
    if library == "mlx":
        sys.modules["mlx.core"].eval(answer)
        return True
    if library == "cupy" and hasattr(answer, "device"):
        answer.device.synchronize()
        return True
    if library == "builtins" and not isinstance(answer, dict | list | tuple):
        return False
    found = [wait_for(each, deep - 1) for each in held_in(answer)] if deep else []  # all of them are waited for
    return any(found)


def wait_for_all() -> None:
    """Wait for all accelerators, and for all arrays that JAX has: of a window nobody knows the answers."""
    synchronizer()()
    live: Callable[[], list[Any]] | None = getattr(sys.modules.get("jax"), "live_arrays", None)
    wait_for([] if live is None else live())


def may_queue() -> bool:
    """Whether a library is loaded whose arrays are to be waited for."""
    return any(name in sys.modules for name in QUEUEING)


def fixed_place(model: object) -> str:
    """The device of a torch module that is not on the first GPU that its process sees; empty for one that is, and for what is no module."""
    if not is_module(model):
        return ""
    module: Any = model
    places = {str(each.device) for each in itertools.chain(module.parameters(), module.buffers())}
    return next(iter(sorted(places - {"cuda", "cuda:0"})), "")


def free_memory() -> None:
    """Give back what nobody uses any more of a GPU's memory, where torch keeps it."""
    gc.collect()
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        cuda.empty_cache()
