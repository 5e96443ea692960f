"""What is repeated must be what was answered: memory and used-up queries are refused, warm-up and compiling are not, chance is noted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import csv
import functools
import importlib
import io
import itertools
import queue
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.judging import comparable
from pytest_greencompute.measuring.driver import arun_metered, run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.script import measure, precise_enough
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.devices import wait_for
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

MEMORY, USED_UP = "answers from memory", "uses up or changes its queries"
TEXTS = [f"text number {index}" for index in range(24)]


class Bench:
    """A GPU of 300 W whose clock moves by what is worked on it."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=Sensor(update_s=0.1, window_s=0.1))
        self.instruments = Instruments([self.gpu.energy_counter()], self.clock)
        self.calls = 0

    def work(self, seconds: float = 0.02) -> None:
        self.calls += 1
        self.gpu.work(seconds, 300.0)

    def task(self, model: Callable[[Any], Any], queries: Any = TEXTS, **fields: Any) -> Task:
        def called(batch: Any) -> Any:
            self.gpu.work(1e-4, 80.0)  # a call is never for nothing
            return model(batch)

        return Task(model if fields.get("awaits") else called, queries, **fields)

    def run(self, model: Callable[[Any], Any], queries: Any = TEXTS, **fields: Any) -> Run:
        return run_metered(self.task(model, queries, **fields), self.instruments, Effort(enough=precise_enough(Aim())))[0]


def joules(run: Run) -> float:
    found = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(found, Estimate)
    return found.value


def said(run: Run, words: str) -> bool:
    return any(words in note for note in run.notes)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Memory


def by_dict(bench: Bench) -> Callable[[Any], Any]:
    known: dict[str, str] = {}

    def answer(text: str) -> str:
        if text not in known:
            bench.work()
            known[text] = text.upper()
        return known[text]

    return lambda batch: [answer(text) for text in batch]


def by_lru_cache(bench: Bench) -> Callable[[Any], Any]:
    @functools.lru_cache
    def answer(batch: tuple[str, ...]) -> list[str]:
        bench.work(0.02 * len(batch))
        return [text.upper() for text in batch]

    return lambda batch: answer(tuple(batch))


class Remembering:
    """A cache on the instance."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._cache = bench, dict[str, str]()

    def __call__(self, batch: list[str]) -> list[str]:
        for text in batch:
            if text not in self._cache:
                self._bench.work()
                self._cache[text] = text.upper()
        return [self._cache[text] for text in batch]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 24])
@pytest.mark.parametrize("remembering", [by_dict, by_lru_cache, Remembering])
def test_a_model_that_answers_from_memory_is_refused_however_few_its_batches(
    bench: Bench, remembering: Callable[[Bench], Any], batch_size: int
) -> None:
    with pytest.raises(SettingsError, match=MEMORY) as caught:
        bench.run(remembering(bench), batch_size=batch_size)
    assert 'repeats="cached"' in str(caught.value)


@pytest.mark.parametrize("queries", [1, 2, 3])
@pytest.mark.parametrize("remembering", [by_dict, by_lru_cache, Remembering])
def test_so_it_is_with_a_handful_of_queries(bench: Bench, remembering: Callable[[Bench], Any], queries: int) -> None:
    with pytest.raises(SettingsError, match=MEMORY):
        bench.run(remembering(bench), TEXTS[:queries])


def test_half_of_the_work_remembered_is_too_much(bench: Bench) -> None:
    """Embeddings are kept, the rest is done again: a third of the first pass's time."""
    remembered = by_dict(bench)

    def model(batch: list[str]) -> list[str]:
        bench.work(0.008)
        return list(remembered(batch))

    with pytest.raises(SettingsError, match=MEMORY):
        bench.run(model)


def test_so_is_a_half_of_each_batch_or_every_third_batch(bench: Bench) -> None:
    """Half of the energy, a third of it: a memory that is found in the model is refused, another noted."""
    remembered = by_dict(bench)
    with pytest.raises(SettingsError, match="in part from memory"):
        bench.run(lambda batch: bench.work() or remembered(batch))
    third = by_dict(bench)
    with pytest.raises(SettingsError, match="in part from memory"):
        bench.run(lambda batch: third(batch) if int(batch[0].split()[-1]) % 3 == 0 else bench.work() or batch)
    seen: set[int] = set()
    run = bench.run(lambda batch: bench.work(0.02 if hash(batch[0]) in seen else 0.04) or seen.add(hash(batch[0])) or batch)
    assert said(run, "what is done only once for a query")


def test_a_little_that_is_done_once_is_no_memory_of_a_part(bench: Bench) -> None:
    """A third of a millisecond of each batch, as a first call costs, though the model keeps its texts."""
    known: set[str] = set()

    def model(batch: list[str], kept: dict[str, str] = {}) -> list[str]:  # noqa: B006  it is to remember
        bench.work(0.0003 if batch[0] in kept else 0.0006)
        kept.update(zip(batch, batch, strict=True))
        known.update(batch)
        return batch

    assert not said(bench.run(model), "asked again")
    assert known == set(TEXTS)


@pytest.mark.parametrize(("module", "refused"), [("model", True), ("torch.shapes", False), ("numba.core", False)])
def test_what_a_library_remembers_is_shapes_and_no_answers(bench: Bench, module: str, refused: bool) -> None:
    def shape_of(text: str) -> str:
        bench.work()
        return text

    shape_of.__module__ = module
    remembered = functools.lru_cache(shape_of)

    def model(batch: list[str]) -> list[str]:
        bench.work()
        return list(map(remembered, batch))

    if refused:
        with pytest.raises(SettingsError, match="in part from memory"):
            bench.run(model)
    else:
        assert said(bench.run(model), "what is done only once for a query")


def test_queries_that_are_asked_twice_do_not_hide_a_memory(bench: Bench) -> None:
    with pytest.raises(SettingsError, match=MEMORY):
        bench.run(by_dict(bench), TEXTS[:12] * 2)
    with pytest.raises(SettingsError, match=MEMORY):
        bench.run(Remembering(bench), [text for text in TEXTS[:12] for _ in range(2)])


def test_an_async_model_with_a_memory_is_refused(bench: Bench) -> None:
    remembered = by_dict(bench)

    async def model(batch: list[str]) -> list[str]:
        bench.gpu.work(1e-4, 80.0)  # a call is never for nothing: millions of them would fill a second
        await asyncio.sleep(0)
        return list(remembered(batch))

    with pytest.raises(SettingsError, match=MEMORY):
        asyncio.run(arun_metered(bench.task(model, awaits=True), bench.instruments, Effort(enough=precise_enough(Aim()))))


def test_memory_that_is_declared_is_measured_noted_and_in_the_provenance(bench: Bench) -> None:
    run = bench.run(by_dict(bench), repeats="cached")
    assert joules(run) < 0.01
    assert said(run, 'repeats="cached"')
    assert run.provenance.repeats == "cached"
    fresh = Bench()
    other = fresh.run(lambda batch: fresh.work() or batch)
    assert joules(other) == pytest.approx(6.0, rel=0.02)
    assert not said(other, "repeats")
    (found,) = [each for each in comparable.differences(*map(comparable.record, (run, other))) if each.name == "repeats"]
    assert (found.ours, found.theirs, found.blocks) == ("cached", "fresh", True)


def test_another_word_than_cached_is_refused(bench: Bench) -> None:
    with pytest.raises(SettingsError, match="repeats is 'warm'"):
        bench.run(by_dict(bench), repeats="warm")
    with pytest.raises(SettingsError, match="repeats is True"):
        run_once(Task(by_dict(bench), TEXTS, repeats=True), bench.clock)  # type: ignore[arg-type]


# What makes early batches slow


@pytest.mark.parametrize("queries", [1, 2, 5, 24, 200])
def test_loading_and_compiling_in_the_first_batches_is_warm_up(bench: Bench, queries: int) -> None:
    def model(batch: list[int]) -> list[int]:
        bench.work(5.0 if bench.calls == 0 else 0.5 if bench.calls < 3 else 0.02)
        return batch

    run = bench.run(model, list(range(queries)))
    assert joules(run) == pytest.approx(6.0, rel=0.02)
    assert run.notes == ()


@pytest.mark.parametrize("shapes", [3, 8, 12])
def test_compiling_for_each_of_several_shapes_is_warm_up(bench: Bench, shapes: int) -> None:
    known: set[int] = set()

    def model(batch: list[int]) -> list[int]:
        bench.work(0.02 if batch[0] % shapes in known else 2.0)
        known.add(batch[0] % shapes)
        return batch

    run = bench.run(model, list(range(4 * shapes)))
    assert joules(run) == pytest.approx(6.0, rel=0.02)
    assert run.notes == ()


@pytest.mark.alone
@pytest.mark.parametrize("dynamic", [None, False], ids=["one for all", "one for each"])
@pytest.mark.parametrize("lengths", [[16], [16, 40], range(16, 112, 16), range(16, 112, 8)], ids=len)
def test_torch_compiling_for_each_shape_is_warm_up(lengths: Sequence[int], dynamic: bool | None) -> None:
    torch = pytest.importorskip("torch")
    torch._dynamo.reset()
    net = torch.nn.Sequential(torch.nn.Embedding(100, 256), torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 4))
    compiled = torch.compile(net, backend="aot_eager", dynamic=dynamic)

    def model(batch: Any) -> Any:
        with torch.inference_mode():
            return compiled(torch.stack(batch)).mean(1)

    queries = [torch.arange(length) % 100 for length in lengths]
    run = measure(model, queries, meters=["cputime"], cpu_watts_per_core=10, max_seconds=0.5)
    assert not [note for note in run.notes if "asked again" in note]


def test_microseconds_are_not_judged_by_the_noise_of_the_clock(bench: Bench) -> None:
    def model(batch: list[int]) -> list[int]:
        bench.work(30e-6 if bench.calls < 20 else 2e-6)
        return batch

    bench.run(model, list(range(20)))


def test_waiting_longer_for_a_disk_at_first_is_no_memory(bench: Bench) -> None:
    """The processor worked as long as later: pages that are in memory now, or a machine that was busy."""
    from pytest_greencompute.models.repeats import AskedAgain
    from pytest_greencompute.models.workload import Stamp

    assert not AskedAgain(Stamp(0.1, 0.01), Stamp(0.011, 0.01), same_objects=False).faster(3.0)
    assert AskedAgain(Stamp(0.1, 0.1), Stamp(0.00001, 0.00001), same_objects=False).faster(3.0)
    assert AskedAgain(Stamp(0.1, 0.001), Stamp(0.00001, 0.00001), same_objects=False).faster(3.0)  # a server was waited for
    assert AskedAgain(Stamp(0.1), Stamp(0.01), same_objects=False).faster(3.0)
    assert not AskedAgain(Stamp(0.1), Stamp(0.05), same_objects=False).faster(3.0)


@pytest.mark.parametrize("jostled", [False, True])
def test_threads_that_waited_for_each_other_on_a_busy_machine_are_no_memory(bench: Bench, *, jostled: bool) -> None:
    """Other work in the first pass alone: torch's threads spun for each other, which later took 0.3 ms instead of 50."""
    from pytest_greencompute.models.repeats import Repeats
    from pytest_greencompute.models.workload import Stamp, Workload

    workload = Workload(lambda batch: batch, TEXTS, 1, None)
    seen = Repeats(workload, cached=False)
    for _ in TEXTS:
        workload.stamps.append(Stamp(0.05, 0.09, jostled=jostled))
    seen.answered([[index, 0.5] for index in range(24)])
    for index in range(24):
        seen.answered_again(index, Stamp(0.003, 0.006), [[index, 0.5]])
    if jostled:
        seen.judge()
        assert "on a busy machine cannot tell" in seen.notes[0]
    else:
        with pytest.raises(SettingsError, match=MEMORY):
            seen.judge()


# Queries that are used up


@dataclass
class Record:
    text: str


def popped(record: dict[str, str]) -> str:
    return record.pop("text", "")


def cut(record: Record) -> str:
    text, record.text = record.text, ""
    return text


def drained(queue: Any) -> str:
    return "".join(queue.popleft() for _ in range(len(queue)))


def filled(text: str) -> queue.Queue[str]:
    made = queue.Queue[str]()
    for letter in text:
        made.put(letter)
    return made


READ: list[tuple[str, Callable[[], Any], Callable[[Any], str]]] = [
    ("dict", lambda: [{"text": text} for text in TEXTS], popped),
    ("dataclass", lambda: [Record(text) for text in TEXTS], cut),
    ("deque", lambda: [deque(text) for text in TEXTS], drained),
    ("iterator", lambda: [iter(text) for text in TEXTS], "".join),
    ("generator", lambda: [(letter for letter in text) for text in TEXTS], "".join),
    ("map", lambda: [map(str, text) for text in TEXTS], "".join),
    ("zip", lambda: [zip(text, strict=True) for text in TEXTS], lambda rows: "".join(row[0] for row in rows)),
    ("csv", lambda: [csv.reader([text]) for text in TEXTS], lambda rows: "".join(row[0] for row in rows)),
    ("queue", lambda: [filled(text) for text in TEXTS], lambda full: "".join(full.get() for _ in range(full.qsize()))),
    ("bytes file", lambda: [io.BytesIO(text.encode()) for text in TEXTS], lambda file: file.read().decode()),
    ("text file", lambda: [io.StringIO(text) for text in TEXTS], lambda file: file.read()),
    ("file in a dict", lambda: [{"file": io.StringIO(text), "id": 1} for text in TEXTS], lambda record: record["file"].read()),
    ("generator in a tuple", lambda: [(1, (letter for letter in text)) for text in TEXTS], lambda pair: "".join(pair[1])),
]


def reading(bench: Bench, read: Callable[[Any], str], *, always: float = 0.0) -> Callable[[Any], Any]:
    """A model whose work is that for what it reads, and so much whatever it reads."""

    def model(batch: Any) -> list[str]:
        texts = [read(each) for each in batch]
        bench.work(always + sum(0.02 for text in texts if text))
        return texts

    return model


@pytest.mark.parametrize("always", [0.0, 1.0], ids=["quick", "as slow as ever"])
@pytest.mark.parametrize(("make", "read"), [each[1:] for each in READ], ids=[each[0] for each in READ])
@pytest.mark.parametrize("batch_size", [1, 4, 24])
def test_queries_that_are_used_up_are_refused_and_made_afresh_they_are_right(
    bench: Bench, make: Callable[[], Any], read: Callable[[Any], str], batch_size: int, always: float
) -> None:
    model = reading(bench, read, always=always)
    with pytest.raises(SettingsError, match=USED_UP) as caught:
        bench.run(model, make(), batch_size=batch_size)
    assert "a function that makes them" in str(caught.value)
    run = bench.run(model, make, batch_size=batch_size)
    assert joules(run) == pytest.approx(6.0 + 300 * always / batch_size, rel=0.02)
    assert not said(run, "answers were others")


def test_files_of_one_length_are_used_up_though_their_answers_are_as_alike_as_those_of_what_is_left(bench: Bench) -> None:
    with pytest.raises(SettingsError, match=USED_UP):
        bench.run(lambda batch: bench.work() or [len(file.read()) for file in batch], [io.BytesIO(b"sound") for _ in TEXTS])


@pytest.mark.parametrize("queries", [1, 2, 3])
@pytest.mark.parametrize(
    ("make", "letters"),
    [
        (iter, list),
        (lambda text: map(str, text), list),
        (lambda text: csv.reader([*text]), list),
        (list, lambda left: [left.pop() for _ in range(len(left))]),
        (filled, lambda left: [left.get() for _ in range(left.qsize())]),
    ],
    ids=["iterator", "map", "csv", "list", "queue"],
)
def test_a_handful_that_is_used_up_for_the_same_answer_is_refused(bench: Bench, make: Any, letters: Any, queries: int) -> None:
    def model(batch: list[Any]) -> list[str]:
        bench.work(5e-5 + 0.001 * sum(len(letters(each)) for each in batch))
        return ["done" for _ in batch]

    with pytest.raises(SettingsError, match=USED_UP):
        bench.run(model, [make(text) for text in TEXTS[:queries]])


def test_an_array_that_the_model_changes_in_place_is_refused() -> None:
    for queries in (np.arange(1.0, 49.0).reshape(24, 2), [np.array([1.0, index]) for index in range(24)]):
        bench = Bench()

        def model(batch: Any, bench: Bench = bench) -> list[float]:
            for row in batch:
                row[:] = row / 2.0
            bench.work()
            return [float(sum(row)) for row in batch]

        with pytest.raises(SettingsError, match=USED_UP):
            bench.run(model, queries)


def test_queries_that_are_changed_for_the_same_answers_are_noted(bench: Bench) -> None:
    def model(batch: Any) -> list[float]:
        batch.sort(axis=1)
        bench.work()
        return [float(row[0]) for row in batch]

    assert said(bench.run(model, np.arange(48.0)[::-1].copy().reshape(24, 2)), "the model changes its queries")
    assert not said(bench.run(model, np.arange(48.0).reshape(24, 2)), "the model changes its queries")


def test_a_part_from_memory_is_seen_beside_other_work_that_lengthens_later_passes() -> None:
    from pytest_greencompute.models.repeats import AskedAgain
    from pytest_greencompute.models.workload import Stamp

    assert AskedAgain(Stamp(0.024, 0.024), Stamp(0.024, 0.012), same_objects=False).work_s == (0.024, 0.012)
    assert AskedAgain(Stamp(0.1, 0.001), Stamp(0.05, 0.001), same_objects=False).work_s == (0.1, 0.05)  # a server was waited for
    assert AskedAgain(Stamp(0.1), Stamp(0.05), same_objects=False).work_s == (0.1, 0.05)


def test_fewer_answers_in_a_later_pass_are_queries_used_up(bench: Bench) -> None:
    streams = [iter([text]) for text in TEXTS]

    def model(batch: list[Iterator[str]]) -> list[str]:
        bench.work()
        return list(itertools.chain.from_iterable(batch))

    with pytest.raises(SettingsError, match=USED_UP):
        bench.run(model, streams, batch_size=4)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have notes since Python 3.11")
def test_an_error_of_a_later_pass_says_that_it_is_one(bench: Bench) -> None:
    def model(batch: list[dict[str, str]]) -> list[str]:
        bench.work()
        return [record.pop("text") for record in batch]

    with pytest.raises(KeyError) as caught:
        bench.run(model, [{"text": text} for text in TEXTS])
    assert "asked again" in caught.value.__notes__[0]


@pytest.mark.parametrize("queries", [1, 2, 24])
def test_what_a_model_can_read_again_may_be_a_file(bench: Bench, queries: int) -> None:
    def model(batch: list[Any]) -> list[str]:
        bench.work(1.0 if bench.calls < 2 else 0.02)
        for file in batch:
            file.seek(0)
        return [file.read() for file in batch]

    run = bench.run(model, [io.StringIO(text) for text in TEXTS[:queries]])
    assert joules(run) == pytest.approx(6.0, rel=0.02)
    assert run.notes == ()


@pytest.mark.parametrize("queries", [1, 2, 24])
def test_a_model_that_writes_its_answer_into_the_query_is_measured(bench: Bench, queries: int) -> None:
    def model(batch: list[dict[str, str]]) -> list[str]:
        for record in batch:
            record["answer"] = record["text"].upper()
        bench.work(1.0 if bench.calls < 2 else 0.02)
        return [record["answer"] for record in batch]

    run = bench.run(model, [{"text": text} for text in TEXTS[:queries]])
    assert joules(run) == pytest.approx(6.0, rel=0.02)
    assert [note for note in run.notes if "put into its queries" not in note] == []  # of two batches nothing tells it from a memory


@pytest.mark.parametrize(("queries", "refused"), [(1, False), (2, False), (24, True)])
def test_what_a_model_keeps_in_its_queries_is_a_memory(bench: Bench, queries: int, *, refused: bool) -> None:
    def model(batch: list[dict[str, Any]]) -> list[Any]:
        bench.work(0.02)
        for record in batch:
            if "upper" not in record:
                bench.work(0.02 if refused else 1.0)
                record["upper"] = record["text"].upper()
        return [record["upper"] for record in batch]

    asked = [{"text": text} for text in TEXTS[:queries]]
    if refused:
        with pytest.raises(SettingsError, match=USED_UP):
            bench.run(model, asked)
    else:
        assert said(bench.run(model, asked), "put into its queries")


def test_a_function_must_make_as_many_and_the_same_queries(bench: Bench) -> None:
    count = itertools.count(20)
    with pytest.raises(SettingsError, match="made 20 at first and 21"):
        bench.run(lambda batch: bench.work() or batch, lambda: list(range(next(count))))
    luck = random.Random(1)
    with pytest.raises(SettingsError, match="makes others each time"):
        bench.run(lambda batch: bench.work() or batch, lambda: [luck.random() for _ in range(20)])
    with pytest.raises(SettingsError, match="empty"):
        bench.run(lambda batch: batch, list)


def test_files_that_were_made_for_a_pass_are_closed_after_it(bench: Bench) -> None:
    made: list[io.StringIO] = []

    def files() -> list[io.StringIO]:
        made.extend(io.StringIO(text) for text in TEXTS)
        return made[-24:]

    bench.run(reading(bench, lambda file: file.read()), files)
    assert len(made) > 5 * 24
    assert all(file.closed for file in made)


def test_made_queries_are_made_once_where_nothing_is_metered(bench: Bench) -> None:
    made = []
    run, outputs = run_once(Task(lambda batch: batch, lambda: made.append(1) or TEXTS, references=TEXTS), bench.clock)  # type: ignore[func-returns-value]
    assert outputs == TEXTS
    assert made == [1]
    assert run.scores == (1.0,) * 24


def test_a_file_that_is_read_piece_by_piece_is_used_up(bench: Bench) -> None:
    files = [io.StringIO("\n".join(f"{text} {line}" for line in range(20000))) for text in TEXTS]

    def model(batch: list[Any]) -> list[str]:
        bench.work()
        return [file.readline() for file in batch]

    with pytest.raises(SettingsError, match=USED_UP):
        bench.run(model, files)


# Chance


@pytest.mark.parametrize("queries", [2, 24])
def test_chance_is_noted_where_files_are_read_from_their_beginning_too(bench: Bench, queries: int) -> None:
    luck = random.Random(1)

    def model(batch: list[Any]) -> list[str]:
        bench.work(1.0 if bench.calls == 0 else 0.02)
        for file in batch:
            file.seek(0)
        return [f"{file.read()} {luck.random()}" for file in batch]

    run = bench.run(model, [io.StringIO(text) for text in TEXTS[:queries]])
    assert said(run, "answers were others")


def test_answers_drawn_at_random_are_noted(bench: Bench) -> None:
    luck = random.Random(1)

    def model(batch: list[str]) -> list[str]:
        bench.work()
        return [f"{text} {luck.random()}" for text in batch]

    run = bench.run(model)
    assert joules(run) == pytest.approx(6.0, rel=0.02)
    assert said(run, "24 of 24 answers were others when their queries were asked again")


# Answers that are none yet


def a_future() -> concurrent.futures.Future[int]:
    return concurrent.futures.Future()


def a_future_of_torch() -> Any:
    return importlib.import_module("torch").futures.Future()


async def a_coroutine() -> int:
    return 1


async def a_stream() -> Any:
    yield 1


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: (one, 0.5), lambda one: {"text": one}], ids=["bare", "tuple", "dict"])
@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (a_coroutine, "gather"),
        (a_future, "result"),
        (lambda: (each for each in "ab"), "list"),
        (lambda: map(str, [1]), "list"),
        (lambda: iter([1]), "list"),
        (a_stream, "list"),
        (lambda: lambda: 1, "call it"),
        (lambda: functools.partial(len, "ab"), "call it"),
        (lambda: Bench().work, "call it"),
        (lambda: SimpleNamespace(text=a_future()), "result"),
        (a_future_of_torch, "wait"),
    ],
)
def test_an_answer_that_has_not_been_computed_is_refused_metered_or_not(
    bench: Bench, make: Callable[[], Any], remedy: str, wrap: Callable[[Any], Any]
) -> None:
    for run in (lambda task: run_once(task, bench.clock), lambda task: run_metered(task, bench.instruments, Effort())):
        with pytest.raises(SettingsError, match="has not been computed") as caught:
            run(Task(lambda batch: [wrap(make()) for _ in batch], TEXTS, batch_size=2))
        assert remedy in caught.value.remedy


def test_so_it_is_what_a_model_that_is_awaited_returns(bench: Bench) -> None:
    async def model(batch: list[str]) -> list[Any]:
        return [a_coroutine() for _ in batch]

    with pytest.raises(SettingsError, match="has not been computed"):
        asyncio.run(arun_metered(bench.task(model, awaits=True), bench.instruments, Effort()))


class Lazy:
    """Does its work when it is asked for its items."""

    def __init__(self, batch: list[str], work: Callable[[], None]) -> None:
        self._batch, self._work = batch, work

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: int) -> str:
        text = self._batch[index]
        self._work()
        return text


def test_answers_that_are_computed_when_they_are_looked_at_are_refused(bench: Bench) -> None:
    with pytest.raises(SettingsError, match="a Lazy, which computes its answers only when it is asked for them"):
        bench.run(lambda batch: Lazy(batch, bench.work), batch_size=4)
    run = bench.run(lambda batch: bench.work() or Lazy(batch, lambda: None))
    assert joules(run) == pytest.approx(6.0, rel=0.02)


class Untold:
    """Shows nothing of what is in it."""

    def __init__(self, text: str) -> None:
        self.text = text


class Queued:
    """An array that a library returns before it is computed: the work is done when somebody waits for it."""

    dtype, shape = "float32", (2,)

    def __init__(self, bench: Bench) -> None:
        self._bench, self._done = bench, False

    def block_until_ready(self) -> None:
        if not self._done:
            self._done = True
            self._bench.work()

    def tolist(self) -> list[float]:
        return [0.25, 0.75]


@pytest.mark.parametrize("holds", [lambda array: array, lambda array: {"logits": (array,)}, lambda array: SimpleNamespace(of=[array])])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_answers_that_are_still_to_be_computed_are_waited_for(
    bench: Bench, holds: Callable[[Any], Any], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace())
    run = bench.run(lambda batch: [holds(Queued(bench)) for _ in batch], batch_size=batch_size)
    assert joules(run) == pytest.approx(0.02 * 300, rel=0.05)
    assert all(each.seconds >= 0.02 * each.queries for each in run.latencies)
    assert run.latencies


def test_so_are_those_of_libraries_that_wait_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    array, of_gpu = type("array", (), {"__module__": "mlx.core"})(), type("ndarray", (), {"__module__": "cupy._core"})()
    of_gpu.device = SimpleNamespace(synchronize=lambda: waited.append("cupy"))
    monkeypatch.setitem(sys.modules, "mlx.core", SimpleNamespace(eval=waited.append))
    assert wait_for([{"a": array}, (of_gpu, 1)])
    assert waited == [array, "cupy"]
    assert not wait_for(["text", 1, np.zeros(3), None, {"a": [1.0]}])


def test_objects_that_nothing_tells_apart_are_answers(bench: Bench) -> None:
    run = bench.run(lambda batch: bench.work() or [Untold(text) for text in batch])
    assert joules(run) == pytest.approx(6.0, rel=0.02)
    assert not said(run, "answers were others")


def test_a_file_is_an_answer(bench: Bench) -> None:
    assert run_once(Task(lambda batch: [io.BytesIO(b"sound") for _ in batch], TEXTS), bench.clock)[0].queries == 24


@pytest.mark.parametrize("made", [iter, lambda text: (each for each in text), lambda text: map(str.upper, text)])
def test_what_can_be_read_once_is_used_up_however_fast_and_alike_the_answers_are(bench: Bench, made: Callable[[str], Any]) -> None:
    """All answers are the same at first, and all are the same later."""
    with pytest.raises(SettingsError, match=USED_UP):
        bench.run(lambda batch: [list(query) for query in batch], [made("abc") for _ in range(40)])
