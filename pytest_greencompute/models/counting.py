"""What queries cost in computing, counted without an energy meter: floating-point operations, memory, page faults.

Each is counted in a pass of its own over the queries, after all that is timed or metered. Laws: an operation that torch's counter cannot
count is named, and makes the figure the least that it can be; where nothing was counted there is no figure, never a zero.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import thread as _pools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.models.generator import padding_of
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.protocol.parts import spread
from pytest_greencompute.values.run import Bound, Count
from pytest_greencompute.values.units import MEMORY as MEMORY_SIZE
from pytest_greencompute.values.units import show

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

FLOPS, MEMORY, FAULTS = "flops_per_query", "peak_memory", "page_faults_per_query"
PADDING = "padding_share"
PASS_S = 10.0  # a pass that would take longer counts some of the queries
MOST_NAMED = 4
THREADS = "other threads"
EARLY_TORCH = "code that torch.compile has compiled can be counted from torch 2.6 on"
# What works past torch's modes, by where it is called: module, class, methods, and what a reader knows it by. Looked up, not imported.
PAST_TORCH = (
    (
        "onnxruntime",
        "InferenceSession",
        ("run", "run_async", "run_with_iobinding", "run_with_ort_values", "run_with_ortvaluevector"),
        "ONNX Runtime",
    ),
    ("torch._inductor.package.package", "AOTICompiledModel", ("__call__",), "AOTInductor"),
    ("torch.cuda.graphs", "CUDAGraph", ("replay",), "CUDA graphs"),
    ("concurrent.futures.process", "ProcessPoolExecutor", ("submit",), "other processes"),
    ("multiprocessing.connection", "Connection", ("send", "send_bytes"), "other processes"),
)
# Operators by the policy of their namespace: what none of these is, is foreign code, and is named whatever it is called.
COUNTABLE = {"aten", "prims", "torchvision"}  # only what MATRIX matches can hold much work
WITHOUT_WORK = {"prim", "profiler", "c10d", "_c10d_functional", "_c10d_functional_autograd", "rngprims"}
# Operators that torch's counter has no formula for, though they multiply matrices, convolve, transform or solve.
MATRIX = re.compile(
    r".*mm(_.*)?"
    r"|.*mv|.*dot(_.*)?"
    r"|.*conv(?!ert).*"
    r"|.*linear.*"
    r"|.*(rnn|lstm|gru)(_.*)?"
    r"|_?fft_.*|_?linalg_.*"
    r"|.*(attention|transformer|matmul|mkldnn|cdist|pdist|euclidean_dist|trilinear|dyn_quant|tensordot|einsum|matrix_exp|matrix_power).*"
    r"|.*(cholesky|solve|svd|inverse|eigh?|det|qr|ormqr|orgqr|geqrf|lstsq)(_.*)?"
)
# Of those, the ones that do no more than an element-wise operation, and what turns numbers into another type anywhere.
CHEAP = re.compile(
    r".*upsample.*|_thnn_.*_cell(_.*)?|slice_inverse|resolve_(conj|neg)|_?cufft_.*|.*flatten_weight"
    r"|fft_r?fftfreq|fft_i?fftshift|_?linalg_(check_errors|vector_norm|cross|diagonal|_powsum)"
    r"|_?(de|re|fake_)?quantize(_.*)?|_?choose_qparams.*"
)


async def count_figures(names: Sequence[str], workload: Workload, clock: Clock) -> dict[str, Count]:
    """Count what ``names`` asks for; the model runs up to two more passes over the queries.

    What goes wrong while counting, the model's own errors included, is a Count without a value: it has answered all queries before.
    """
    found: dict[str, Count] = {}
    if {MEMORY, FAULTS} & set(names):
        found |= await _trying(_held(workload, clock), (MEMORY, FAULTS))
    if FLOPS in names:
        found |= await _trying(_flops(workload, clock), (FLOPS,))
    if PADDING in names:
        found |= await _trying(_padding(workload, clock), (PADDING,))
    return {name: found[name] for name in names}


def notes_of(counts: Mapping[str, Count], queries: int) -> tuple[str, ...]:
    """What a reader should know of figures that were counted over some of the queries."""
    some = {name: count.queries for name, count in counts.items() if 0 < count.queries < queries}
    return tuple(f"{name} was counted over {few} of {queries} queries, since a whole pass takes too long" for name, few in some.items())


async def _trying(count: Awaitable[dict[str, Count]], names: Sequence[str]) -> dict[str, Count]:
    try:
        return await count
    except Exception as error:  # noqa: BLE001 - the figure is what is lost, not the test
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return {name: Count(None, note=f"counting ended with {said[:200]}") for name in names}


async def _walk(workload: Workload, clock: Clock) -> int:
    """Run every batch once, or of a pass that takes too long a share, from all over the list; how many queries that were.

    A share is a power of two of batches, so that processes that are about as fast as each other count the same queries. The first batch
    says nothing of the others' time, since torch imports some of its counting with it.
    """
    order = spread(workload.batches, workload.batches)
    start_ns, done, queries = clock.now_ns(), 0, 0
    while done < workload.batches:
        more = min(max(done, 1), workload.batches - done)
        ahead_s = (clock.now_ns() - start_ns) / 1e9 * (1.0 if done < 2 else (done - 1 + more) / (done - 1))
        if done and ahead_s > PASS_S:
            break
        start_ns = clock.now_ns() if done == 1 else start_ns
        queries += (await workload.arun(replace(order, start=done, count=more), clock)).queries
        done += more
    return queries


# --- padding --------------------------------------------------------------------------------------------------------------------------


async def _padding(workload: Workload, clock: Clock) -> dict[str, Count]:
    tally = padding_of(workload.model)
    if tally is None:
        return {PADDING: Count(None, note="only a Generator (pytest_greencompute.models.generator) counts padding")}
    before = replace(tally)
    queries = await _walk(workload, clock)
    positions = tally.positions - before.positions
    return {PADDING: Count((tally.padded - before.padded) / max(positions, 1), "tokens", queries=queries)}


# --- floating-point operations ----------------------------------------------------------------------------------------


async def _flops(workload: Workload, clock: Clock) -> dict[str, Count]:
    return {FLOPS: await _counted_flops(workload, clock)}


async def _counted_flops(workload: Workload, clock: Clock) -> Count:
    """As torch's FlopCounterMode counts: two for each multiplication and addition of a matrix product, nothing element-wise."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return Count(None, note="only torch operations can be counted, and torch is not loaded")
    try:
        counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode
    except (ImportError, AttributeError):
        return Count(None, note="this torch has no FlopCounterMode; torch 2.2 has")
    if not hasattr(torch.compiler, "set_stance") and _has_compiled():
        return Count(None, note=EARLY_TORCH)
    seen: dict[Any, int] = {}
    elsewhere: set[str] = set()
    with warnings.catch_warnings(), as_written(torch), _other_threads(torch, elsewhere), _past_torch(elsewhere):
        warnings.simplefilter("ignore")  # the model's own were heard before; what is left is about the counting
        # Of two modes the inner one works first: what the outer one sees is what the counter has taken apart and lets run.
        with _seeing(seen), counter(display=False, custom_mapping=formulas(torch)) as counting:
            queries = await _walk(workload, clock)
    by_name: dict[str, int] = {}
    for operator, calls in seen.items():
        if getattr(operator, "_overloadpacket", None) not in counting.flop_registry:
            by_name[_name(operator)] = by_name.get(_name(operator), 0) + calls
    return tally(counting.get_total_flops(), by_name, queries, ran=bool(seen), elsewhere=elsewhere)


def tally(total: int, others: Mapping[str, int], queries: int, *, ran: bool, elsewhere: Iterable[str] = ()) -> Count:
    """The figure out of ``total`` operations over ``queries``, and the calls by name of those operators that have no formula.

    ``ran``: whether any operator was seen at all; ``elsewhere``: where else work was done, which torch's modes do not see.
    """
    left_out = {name: calls for name, calls in others.items() if has_work(name)}
    unseen = f"work in {', '.join(sorted(elsewhere))} is not counted" if elsewhere else ""
    notes = [unseen] if unseen else []
    notes += [f"not counted: {_some(left_out)}"] if left_out else []
    note = "; ".join(notes)
    if not ran and unseen:
        return Count(None, note=f"no torch operation ran in this thread; {unseen}")
    if not ran:
        return Count(None, note="no torch operation ran in this thread, so there was nothing to count")
    if not total:
        return Count(None, note=note or f"none of the torch operations that ran is one that is counted ({_some(others)})")
    return Count(total / queries, "torch", note, queries, "least" if note else "")


def has_work(operator: str) -> bool:
    """Whether an operator that is not counted ("aten::mv") may hold work that should have been: by the tables above."""
    namespace, _, name = operator.partition("::")
    if namespace in WITHOUT_WORK or CHEAP.fullmatch(name.rstrip("_")):
        return False
    return namespace not in COUNTABLE or MATRIX.fullmatch(name.rstrip("_")) is not None


def _some(calls: Mapping[str, int]) -> str:
    most = sorted(calls.items(), key=lambda each: -each[1])
    named = [f"{name} ({times} call{'' if times == 1 else 's'})" for name, times in most[:MOST_NAMED]]
    more = [f"{len(most) - MOST_NAMED} other operators"] if len(most) > MOST_NAMED else []
    return ", ".join([*named, *more])


def _name(operator: Any) -> str:
    """'aten::mv' of an overload; operators of a higher order have a name, and no schema."""
    schema = getattr(operator, "_schema", None)
    return str(schema.name) if schema is not None else f"higher_order::{operator.name()}"


def _seeing(seen: dict[Any, int]) -> contextlib.AbstractContextManager[Any]:
    """Counts the calls of each operator into ``seen``."""
    base: Any = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode

    class Seeing(base):  # type: ignore[misc]  # torch's class is known only here
        supports_higher_order_operators = True

        def __torch_dispatch__(self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
            seen[func] = seen.get(func, 0) + 1
            return func(*args, **(kwargs or {}))

    made: contextlib.AbstractContextManager[Any] = Seeing()
    return made


@contextlib.contextmanager
def as_written(torch: Any) -> Iterator[None]:
    """Compiled code runs as it is written. Torch 2.13 gives up for good on compiled code that it meets with a mode switched on."""
    stance = getattr(torch.compiler, "set_stance", None) if "torch._dynamo" in sys.modules else None
    with contextlib.nullcontext() if stance is None else stance("force_eager"):
        yield


def _has_compiled() -> bool:
    """Whether torch.compile has made code in this process."""
    counters: Mapping[str, Any] = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    return bool(counters.get("stats") or counters.get("frames"))


@contextlib.contextmanager
def _other_threads(torch: Any, found: set[str]) -> Iterator[None]:
    """Notes in ``found`` that torch works in other threads meanwhile: torch's modes see their own thread alone.

    In a thread that runs already its modules are seen and what a pool gives it to do, in one that starts every operation is.
    """
    mine = threading.get_ident()

    def before(*_: Any) -> None:
        if threading.get_ident() != mine:
            found.add(THREADS)

    def seen_in(run: Callable[..., Any]) -> Callable[..., Any]:
        def run_seen(*args: Any) -> Any:
            seen: dict[Any, int] = {}
            try:
                with _seeing(seen):
                    return run(*args)
            finally:
                if seen:
                    found.add(THREADS)

        return run_seen

    hook = torch.nn.modules.module.register_module_forward_pre_hook(before)
    try:
        with in_place_of(threading.Thread, "run", seen_in), in_place_of(getattr(_pools, "_WorkItem", None), "run", seen_in):
            yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _past_torch(found: set[str]) -> Iterator[None]:
    """Notes in ``found`` what works meanwhile without torch's modes seeing it: ``PAST_TORCH``."""

    def noting(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def noted(method: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **kwargs: Any) -> Any:
                found.add(words)
                return method(*args, **kwargs)

            return called

        return noted

    with contextlib.ExitStack() as held:
        for module, name, methods, words in PAST_TORCH:
            owner = getattr(sys.modules.get(module), name, None)
            for method in methods:
                held.enter_context(in_place_of(owner, method, noting(words)))
        yield


@contextlib.contextmanager
def in_place_of(owner: Any, name: str, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """For a while what ``made`` makes of a method stands in its place."""
    method = getattr(owner, name, None)
    if method is None:
        yield
        return
    own = vars(owner).get(name)
    setattr(owner, name, made(method))
    try:
        yield
    finally:
        if own is None:  # it is inherited
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def formulas(torch: Any) -> dict[Any, Callable[..., int]]:
    """Formulas for what torch's own table lacks and every CPU runner meets, by the shapes of the arguments."""
    aten = torch.ops.aten
    table: dict[tuple[Any, str], Callable[..., int]] = {
        (aten, "_scaled_dot_product_flash_attention_for_cpu"): attention_flops,
        (aten, "_grouped_mm"): grouped_flops,
        (torch.ops.transformers, "grouped_mm_fallback"): grouped_flops,
        (aten, "mv"): lambda matrix, _vector, **_: 2 * math.prod(matrix),
        (aten, "addmv"): lambda _bias, matrix, _vector, **_: 2 * math.prod(matrix),
        (aten, "dot"): lambda vector, _other, **_: 2 * math.prod(vector),
        (aten, "mkldnn_rnn_layer"): recurrent_flops,
    }
    return {getattr(of, name): formula for (of, name), formula in table.items() if hasattr(of, name)}


def attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Scores (query times key) and their weighted sum of values; shapes are batch, heads, positions, width."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def grouped_flops(first: Sequence[int], second: Sequence[int], *_: Any, **__: Any) -> int:
    """Products of matrices that stand beside each other in one tensor, as experts do; a tensor of two dimensions is cut into groups."""
    groups = first[0] if len(first) == len(second) == 3 else 1
    return 2 * groups * first[-2] * first[-1] * second[-1]


def recurrent_flops(steps: Sequence[int], of_input: Sequence[int], of_state: Sequence[int], *_: Any, **__: Any) -> int:
    """One layer in one direction: at every step both weight matrices are multiplied by a vector."""
    return 2 * math.prod(steps[:-1]) * (math.prod(of_input) + math.prod(of_state))


# --- memory and page faults -------------------------------------------------------------------------------------------


async def _held(workload: Workload, clock: Clock) -> dict[str, Count]:
    """Peak memory and page faults of one pass: reading either costs the other nothing."""
    devices = list(_devices(sys.modules.get("torch")))
    for device in devices:
        device.reset()
    bound = _reset_process_peak()
    before = _faults()
    queries = await _walk(workload, clock)
    after = _faults()
    peaks = {device.name: peak for device in devices if (peak := device.peak())}
    if before is None or after is None:
        faults = Count(None, note="this system does not tell how many page faults a process has taken")
    else:
        faults = Count((after - before) / queries, "process", queries=queries)
    each = ", ".join(f"{name} {show(peak, MEMORY_SIZE)}" for name, peak in peaks.items()) if len(peaks) > 1 else ""
    memory = Count(sum(peaks.values()), "+".join(peaks), each, queries) if peaks else _process_peak(bound, queries)
    return {MEMORY: memory, FAULTS: faults}


@dataclass(frozen=True, slots=True)
class _Device:
    """An accelerator whose memory torch manages: ``of`` is torch.cuda, or a part of torch that is like it."""

    name: str
    of: Any
    index: int

    def reset(self) -> None:
        self.of.reset_peak_memory_stats(self.index)

    def peak(self) -> int:
        return int(self.of.max_memory_allocated(self.index))


def _devices(torch: Any) -> Iterator[_Device]:
    """The accelerators that this process has started; asking must not start one."""
    for kind in ("cuda", "xpu"):
        of = getattr(torch, kind, None)
        if of is not None and getattr(of, "is_initialized", bool)() and hasattr(of, "max_memory_allocated"):
            for index in range(of.device_count()):
                yield _Device(f"{kind}:{index}", of, index)


def _reset_process_peak() -> Bound:
    """Forget the highest memory so far, which Linux can; "most" where it cannot: the peak that can be read is that of the whole life."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return "most"
    return ""


def _process_peak(bound: Bound, queries: int) -> Count:
    """The highest resident memory of this process since it was reset; else since the process began."""
    if not bound:
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
            return Count(int(status.split("VmHWM:")[1].split()[0]) * 1024, "process", queries=queries)
    usage = _usage()
    if usage is None:
        return Count(None, note="this system does not tell how much memory a process has held")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS alone says bytes
    return Count(
        usage.ru_maxrss * unit, "process", "the highest of the process's whole life, since this system cannot forget it", queries, "most"
    )


def _faults() -> int | None:
    """Page faults of this process, those that needed no disk and those that did; None where the system does not tell."""
    usage = _usage()
    return None if usage is None else usage.ru_minflt + usage.ru_majflt


def _usage() -> Any:
    """What the system accounts to this process; None where Python has no ``resource`` (Windows)."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF)
