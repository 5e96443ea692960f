"""Whether what is repeated is what was answered: each batch's first time and answers, held against those of a later pass.

The first pass gives the answers, later ones the energy. Where later ones are answered from a memory, or their queries are used up, that
energy is of something else. What makes early batches slow (loading, compiling) is told from it by how many batches it concerns.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.alike import share_alike
from pytest_greencompute.models.answers import digests
from pytest_greencompute.models.held import held_by
from pytest_greencompute.models.queries import Made, state_of, states_of, worn
from pytest_greencompute.models.workload import Stamp, Workload

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

EARLY = 3  # the first batches load, allocate and start threads
MANY = 8  # not all of so many batches beyond those are slowed by what happens once
MOST = 0.8  # of the batches
TIMES = 3.0  # faster than at first: no warm-up does that to most of many batches
TIMES_OF_FEW = 10.0
SAVED_S = 0.001  # where all batches together lost less than this, only the clock's noise may have changed
LOOKED_UP_S = 100e-6  # hardly more than a look into a table takes
FETCHED_S, TIMES_FETCHED = 0.001, 30.0  # a look into a file or a database
# Libraries that compile or tune for each new shape: each of a few batches may have been the first of its own.
COMPILERS = ("jax", "tensorflow", "numba", "cupy", "onnxruntime", "openvino", "triton", "mlx", "tvm")
LIBRARIES = frozenset(("torch", "numpy", "transformers", *COMPILERS))
PART_S = 0.05  # a part of the work is told from first-call costs by how much it is
TIMES_OF_PART, PART = 1.7, 0.25  # faster, in so much of many batches and by so much of their time: worth a look for a memory
WAITED = 0.5  # of a batch's time
COMPARED, COMPARED_S = 16, 0.05  # answers that are compared in any case, and seconds for more
LARGE = 4096  # numbers in an answer; of more, some are compared
MAKE_THEM = "Pass a function that makes them: measure(model, lambda: [open(path) for path in paths])."
DECLARE_IT = (
    'Measure without its memory, or say that it is part of the product: repeats="cached". '
    "If the queries are used up instead, pass a function that makes them: lambda: [open(path) for path in paths]."
)
CACHED = 'repeats="cached": answers from memory are part of the figures'


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """A batch that was asked again: how often as fast as at first, and whether it was the very objects that came back."""

    first: Stamp
    later: Stamp
    same_objects: bool

    @property
    def work_s(self) -> tuple[float, float]:
        """What it took at first and later: of the processor's time where it is mostly that, which other processes do not lengthen."""
        first, later = self.first, self.later
        if first.processor_s is None or later.processor_s is None or first.processor_s < WAITED * first.seconds:
            return first.seconds, later.seconds
        return first.processor_s, later.processor_s

    def faster(self, times: float) -> bool:
        """Whether it took less than a part of its first time; but not where the first only waited longer, for a disk or a processor."""
        first, later = self.first, self.later
        if first.seconds < times * later.seconds:
            return False
        if first.processor_s is None or later.processor_s is None:
            return True
        return later.processor_s < WAITED * later.seconds or first.processor_s > min(times, 2.0) * later.processor_s


class Repeats:
    """What is seen of one measurement's first pass and of its batches when they are asked again. ``notes`` are there once judged."""

    __slots__ = (
        "_after",
        "_again",
        "_before",
        "_cached",
        "_first",
        "_judged",
        "_later",
        "_others",
        "_outputs",
        "_short",
        "_spent_s",
        "_workload",
        "notes",
    )

    def __init__(self, workload: Workload, *, cached: bool) -> None:
        """Before the first pass: the queries as they are now. ``cached``: memory is part of the product."""
        self._workload, self._cached, self._judged = workload, cached, False
        self._before = self._after = states_of(workload.listed)
        self._outputs: list[Any] = []
        self._again: dict[int, AskedAgain] = {}
        self._first: list[str] = []
        self._later: list[str] = []
        self._others = 0
        self._spent_s = 0.0
        self._short = ""
        self.notes: tuple[str, ...] = (CACHED,) if cached else ()

    def answered(self, outputs: list[Any]) -> None:
        """The first pass has ended with these answers."""
        self._outputs, self._after = outputs, states_of(self._workload.listed)

    def answered_again(self, index: int, later: Stamp, answers: list[Any] | SettingsError) -> None:
        """Batch ``index`` was asked again; the error, where it gave no list of as many answers."""
        if isinstance(answers, SettingsError):
            self._short = self._short or answers.message
            return
        if index in self._again:
            return
        first = self._workload.stamps[index]
        before = self._outputs[index * self._workload.batch_size :][: len(answers)]
        self._again[index] = AskedAgain(first, later, all(map(one_object, before, answers)))
        start = time.perf_counter()
        for one, other in zip(map(_few, before), map(_few, answers), strict=True):
            if len(self._first) >= COMPARED and self._spent_s + time.perf_counter() - start > COMPARED_S:
                break
            self._others += share_alike([one], [other]) == 0  # None where they show nothing of themselves
            self._first.append(digests([one]))
            self._later.append(digests([other]))
        self._spent_s += time.perf_counter() - start

    def judge(self) -> None:
        """Judge what was seen, once. Raises SettingsError where later passes do other work than that which was answered."""
        if self._judged:
            return
        self._judged = True
        others, faster = self._others, self._faster()
        emptied = len(set(self._later)) == 1 < len(set(self._first))
        # A file that is read from its beginning each time stands elsewhere after the first pass, and is not used up.
        moved = self._worn(places=True) and (len(set(self._later)) == 1 or self._after != states_of(self._workload.listed))
        lost = self._worn(places=True) if self._is_sure(faster) else self._worn() and _looked_up(faster)
        part = () if faster else self._part()
        if self._short or emptied or (others and (moved or self._worn())) or lost or (part and self._filled()):
            how_many = f"{others} of {len(self._first)} answers were others"
            said = self._short or f"{how_many if others else _how_much(faster or part)} when asked again."
            raise SettingsError(f"The model uses up or changes its queries: {said}", remedy=MAKE_THEM)
        if others:
            self.notes += (f"{others} of {len(self._first)} answers were others when their queries were asked again",)
        elif self._worn():
            self.notes += (
                "the model changes its queries: later passes, which give the energy, were asked what the first had made of them",
            )
        if faster and not self._cached:
            self._refuse_memory(faster)
        if part and not self._cached:
            self._refuse_part(part)
        self._outputs, self._before, self._after = [], [], []

    def _worn(self, *, places: bool = False) -> bool:
        """Whether the first pass changed the queries (``places``: or read on in them); those made for each pass are others anyway."""
        return not isinstance(self._workload.listed, Made) and any(
            worn(before, after, places=places) for before, after in zip(self._before, self._after, strict=True)
        )

    def _filled(self) -> bool:
        """Whether the first pass changed the queries or put something into them."""
        listed = self._workload.listed
        return self._worn() or (not isinstance(listed, Made) and any(map(functools.partial(worn, places=False), self._after, self._before)))

    def _faster(self) -> tuple[AskedAgain, ...]:
        """The batches that were answered again, where most of them took far less time; none where that is usual."""
        seen = {index: each for index, each in self._again.items() if not each.first.compiled}
        late = {index: each for index, each in seen.items() if index >= EARLY}
        if len(late) >= MANY:
            found = self._new(late, [index for index, each in late.items() if each.faster(TIMES)])
        else:
            late = {index: each for index, each in seen.items() if index > 0} or seen
            found = list(late.values()) if all(each.faster(TIMES_OF_FEW) for each in late.values()) else []
        saved_s = sum(each.first.seconds - each.later.seconds for each in found)
        return tuple(found) if saved_s > SAVED_S else ()

    def _new(self, late: Mapping[int, AskedAgain], faster: Sequence[int]) -> list[AskedAgain]:
        """The ``faster`` ones if they are most of those that asked something new in the first pass: what is asked twice is in a memory."""
        if len(faster) < MOST * len(late) and len(faster) > (1 - MOST) * len(late):
            known: dict[Any, int] = {}
            for index in range(self._workload.batches):
                known.setdefault(repr(state_of(self._workload.batch(index))), index)
            late = {index: late[index] for index in known.values() if index in late}
        new = [index for index in faster if index in late]
        return [late[index] for index in new] if len(new) >= max(MOST * len(late), MANY / 2) else []

    def _part(self) -> tuple[AskedAgain, ...]:
        """Of many batches those that took clearly less time, where that is a good part of all; else none."""
        late = [each for index, each in self._again.items() if index >= EARLY and not (each.first.compiled or each.first.jostled)]
        found = [each for each in late if each.work_s[0] >= TIMES_OF_PART * each.work_s[1]]
        saved_s = sum(each.work_s[0] - each.work_s[1] for each in found)
        much = saved_s > max(PART_S, PART * sum(each.work_s[0] for each in late))
        return tuple(found) if len(late) >= MANY and len(found) >= PART * len(late) and much else ()

    def _is_sure(self, faster: Sequence[AskedAgain]) -> bool:
        """Whether these are enough to be no first-call costs."""
        calm = sum(not each.first.jostled for each in faster)
        return (calm >= MANY / 2 and len(self._again) > MANY) or (calm >= EARLY and not _compilers())

    def _refuse_memory(self, faster: Sequence[AskedAgain]) -> None:
        """Raises SettingsError where it was a memory that made these batches faster.

        A few batches may each have been the first of something; where only a look into a table is that fast, a note says what is unknown.
        """
        said = _how_much(faster)
        if self._is_sure(faster) or all(each.same_objects for each in faster) or self._memory(faster):
            raise SettingsError(f"The model answers from memory: {said} when asked again.", remedy=DECLARE_IT)
        busy = any(each.first.jostled for each in faster)
        if _looked_up(faster) or self._filled() or busy:
            few = f"{len(self._again)} batch{'' if len(self._again) == 1 else 'es'}{' on a busy machine' if busy else ''}"
            kept = "what the model has put into its queries" if self._filled() else "answers kept in memory"
            self.notes += (f"{said} when asked again: {few} cannot tell first-call costs from {kept}",)

    def _refuse_part(self, part: Sequence[AskedAgain]) -> None:
        """Raises SettingsError where a memory was found that made some batches, or some of the work of each, faster.

        Else a note says so of most; some may have been slowed by a busy machine.
        """
        said = f"{_how_much(part)} when asked again"
        if self._memory(part):
            raise SettingsError(f"The model answers in part from memory: {said}.", remedy=DECLARE_IT)
        if len(part) >= MOST * sum(index >= EARLY for index in self._again):
            self.notes += (f"{said}: what is done only once for a query is in no figure",)

    def _memory(self, faster: Sequence[AskedAgain]) -> bool:
        known = [index for index, each in self._again.items() if each in faster] if len(faster) >= EARLY else [*self._again]
        batches = [self._workload.batch(index) for index in known[:EARLY]]
        return _remembers(self._workload.model, [_keys(batch) for batch in batches], len(self._again), looked_up=_looked_up(faster))


def check_calls(function: Any, given: tuple[Any, ...], first_s: float, later_s: float, *, used_up: bool, same: bool) -> tuple[str, ...]:
    """Notes on a function that is called again and again with what is ``given``. Raises SettingsError for one that then does other work.

    ``used_up``: its first call changed its arguments; ``same``: it gave back the same object.
    """
    if first_s < TIMES_OF_FEW * later_s:
        return ()
    said = f"its first call took {1e3 * first_s:.3g} ms, later ones {1e3 * later_s:.3g} ms"
    much = first_s - later_s > SAVED_S
    if used_up and much:
        raise SettingsError(f"The function uses up its arguments: {said}.", remedy="Make them for each round: pedantic(…, setup=…).")
    if (same and much) or _remembers(function, [_keys(given)], 1, looked_up=later_s <= LOOKED_UP_S):
        remedy = 'Call it without its memory, or say that it is wanted: benchmark.extra_info["energy_repeats"] = "cached".'
        raise SettingsError(f"The function answers from memory: {said}.", remedy=remedy)
    return (f"{said}: nothing tells what a first call costs from answers kept in memory",) if much and later_s <= LOOKED_UP_S else ()


def _remembers(model: Any, asked: Sequence[Sequence[Any]], calls: int, *, looked_up: bool) -> bool:
    """Whether something that a model holds remembers what it was ``asked``, by any of the keys of each, in so many ``calls``.

    What one call alone has put into an ``lru_cache`` may be the model that it loaded, unless nothing more is done (``looked_up``).
    """
    for held in held_by(model):
        if isinstance(held, functools._lru_cache_wrapper):
            if str(getattr(held, "__module__", "")).partition(".")[0] in LIBRARIES:  # they remember shapes, not answers
                continue
            info = held.cache_info()
            if info.misses >= calls and info.hits >= calls and (calls > 1 or looked_up):
                return True
        elif isinstance(held, dict) and all(any(key in held for key in keys) for keys in asked):
            return True
    return False


def _keys(batch: Any) -> list[Any]:
    """By what a memory may know a batch or its first query: numbers are keys of too much else."""
    if not isinstance(batch, list | tuple) or not batch:
        return []
    return [key for key in (batch[0], tuple(batch)) if isinstance(key, str | bytes | tuple) and _hashable(key)]


def _looked_up(faster: Sequence[AskedAgain]) -> bool:
    """Whether hardly more was done than to look something up."""
    if not faster:
        return False
    first_s, later_s = _medians(faster)
    return later_s <= LOOKED_UP_S or (later_s <= FETCHED_S and first_s >= TIMES_FETCHED * later_s)


def _how_much(faster: Sequence[AskedAgain]) -> str:
    first_s, later_s = _medians(faster)
    return f"a batch took {1e3 * first_s:.3g} ms at first and {1e3 * later_s:.3g} ms"


def _medians(seen: Sequence[AskedAgain]) -> tuple[float, float]:
    return statistics.median(each.first.seconds for each in seen), statistics.median(each.later.seconds for each in seen)


def one_object(one: Any, other: Any) -> bool:
    """Whether a number or an array came back as the very object of the first time; equal texts may be one object whoever made them."""
    return one is other and (isinstance(one, float | complex) or bool(getattr(one, "shape", None)))


def _few(answer: Any, deep: int = 3) -> Any:
    """An answer, or some of what it holds where that is very much."""
    if isinstance(answer, dict) and deep:
        return {key: _few(each, deep - 1) for key, each in itertools.islice(answer.items(), LARGE)}
    if isinstance(answer, list | tuple) and deep:
        return [len(answer), *(_few(each, deep - 1) for each in answer[:: len(answer) // 1000])] if len(answer) > LARGE else answer
    shape: Any = getattr(answer, "shape", None)
    flat: Any = answer.reshape(-1) if shape and hasattr(answer, "reshape") else ()
    return [tuple(shape), flat[:: len(flat) // 1000].tolist()] if len(flat) > LARGE else answer


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _compilers() -> bool:
    """Whether anything is loaded that may compile or tune what it runs for each new shape."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and (torch.cuda.is_initialized() or torch.backends.mps.is_available())
    return on_gpu or any(name in sys.modules for name in COMPILERS)
