"""Which operators and kernels the queries' work consists of, as torch.profiler tells them.

The profiler keeps every event in memory and adds some microseconds to each operator, so it looks at few passes, after one that nobody
counts (it starts then), and its seconds are for comparing rows with each other: what a pass takes without it is measured elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pytest_greencompute.errors import CannotError
from pytest_greencompute.explaining.profile import Cost, Level, Ticking

MOST_EVENTS = 200_000  # that one pass may have: some 2 kB each while it is looked through
REPEATS = 4  # passes
MOST_ROWS = 100
MOST_SHAPES = 3  # of an operator that are named, the most frequent
SAYS = "KINETO_LOG_LEVEL"
_DEVICES = (("cuda", "CUDA"), ("xpu", "XPU"))


@dataclass(slots=True)
class _Row:
    """One operator or kernel in one pass."""

    seconds: float = 0.0
    calls: int = 0
    flops: int = 0
    dtypes: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    device: str = "cpu"


def profile_operators(run: Callable[[], object], queries: int, limit_s: float, clock: Ticking = "cpu") -> Level:
    """Own seconds, calls and FLOPs of each operator of torch, per query, with the types and shapes that it was given.

    On the clock "device" rows are what ran on the device, kernels by their names; else operators by their wall time on the processor.
    ``run`` makes one pass over that many queries; it is called at least twice, and as long as ``limit_s`` seconds last.
    Raises CannotError where torch is not loaded, no operator ran, a pass has too many of them, or takes longer than that.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        raise CannotError("There are no operators to be seen: torch is not loaded.")
    _profiled(torch, lambda: None)  # a process's first start of it takes seconds, which no pass has taken
    start = time.perf_counter()
    _profiled(torch, run)  # the first pass does not count
    passes: list[tuple[float, dict[str, _Row]]] = []
    first_s = time.perf_counter() - start
    if first_s > limit_s:
        raise CannotError("A pass takes too long to look at its operators, too.")
    while not passes or (len(passes) < REPEATS and time.perf_counter() - start + first_s < limit_s):
        seconds, events = _profiled(torch, run)
        passes.append((seconds, _rows(events, on_device=clock == "device")))
    if not any(rows for _, rows in passes):
        raise CannotError("No operator of torch ran in the pass.")
    return Level(
        "operators", "device" if clock == "device" else "wall", tuple(seconds / queries for seconds, _ in passes), _costs(passes, queries)
    )


def _profiled(torch: Any, run: Callable[[], object]) -> tuple[float, Any]:
    """One pass: its wall seconds, and its events."""
    profiler: Any = importlib.import_module("torch.profiler")
    kinds = profiler.ProfilerActivity
    on = [getattr(kinds, kind) for name, kind in _DEVICES if hasattr(kinds, kind) and getattr(torch, name).is_available()]
    with warnings.catch_warnings(), _silently():
        warnings.simplefilter("ignore")  # about the profiler, not the model
        with profiler.profile(activities=[kinds.CPU, *on], record_shapes=True, with_flops=True) as profiling:
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
        events = profiling.events()
    if len(events) > MOST_EVENTS:
        raise CannotError(f"A pass has {len(events)} operators, more than can be told apart in memory.", remedy="Give fewer queries.")
    return seconds, events


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """In here torch's profiler prints nothing, unless the user has said how much: 2.13 has a line for each start and stop."""
    said = SAYS in os.environ
    os.environ.setdefault(SAYS, "6")
    try:
        yield
    finally:
        if not said:
            os.environ.pop(SAYS, None)


def _rows(events: Iterable[Any], *, on_device: bool) -> dict[str, _Row]:
    """What ran, by name: on a device its kernels and copies, else the operators by their own time."""
    rows: dict[str, _Row] = {}
    for event in events:
        device = str(event.device_type).rpartition(".")[2].lower()
        if (device != "cpu") != on_device or getattr(event, "is_user_annotation", False):
            continue
        row = rows.setdefault(event.name, _Row(device=device))
        row.seconds += (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6
        row.calls += event.count
        row.flops += event.flops or 0
        row.dtypes.update(name for name in getattr(event, "input_dtypes", None) or () if _is_tensor(name))
        row.shapes[_shape(event.input_shapes)] += 1
    return rows


def _is_tensor(dtype: str) -> bool:
    return bool(dtype) and dtype not in {"Scalar", "ScalarList", "TensorList"}


def _shape(shapes: Iterable[Iterable[int]] | None) -> str:
    """ "8x128, 128x512" of the tensors among the inputs."""
    return ", ".join("x".join(map(str, shape)) for shape in shapes or () if shape)


def _costs(passes: list[tuple[float, dict[str, _Row]]], queries: int) -> tuple[Cost, ...]:
    """The rows that took longest over all passes; scaled down where threads of torch made them more than the pass."""
    scales = [min(1.0, seconds / total) if (total := sum(row.seconds for row in rows.values())) else 1.0 for seconds, rows in passes]
    names = Counter[str]()
    for _, rows in passes:
        for name, row in rows.items():
            names[name] += max(row.seconds, 0.0)  # type: ignore[assignment]  # a Counter adds up whatever adds up
    costs = []
    for name, _ in names.most_common(MOST_ROWS):
        found = [rows.get(name, _Row()) for _, rows in passes]
        dtypes, shapes = sum((each.dtypes for each in found), Counter[str]()), sum((each.shapes for each in found), Counter[str]())
        flops = sum(each.flops for each in found)
        costs.append(
            Cost(
                name,
                tuple(max(each.seconds, 0.0) * scale / queries for each, scale in zip(found, scales, strict=True)),
                sum(each.calls for each in found) / len(found) / queries,
                flops / len(found) / queries if flops else None,
                dtype=", ".join(sorted(dtypes)),
                device=next((each.device for each in found if each.calls), ""),
                shape="; ".join(shape for shape, _ in shapes.most_common(MOST_SHAPES) if shape),
            )
        )
    return tuple(costs)
