"""Queries of every kind that people have at hand: loaders of batches, tables, columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.queries import Batches, collected
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

torch: Any = pytest.importorskip("torch")
pandas: Any = pytest.importorskip("pandas")
data: Any = pytest.importorskip("torch.utils.data")

ROWS = torch.arange(20.0).reshape(10, 2)
LABELS = torch.arange(10)


def loader(**options: Any) -> Any:
    return data.DataLoader(data.TensorDataset(ROWS, LABELS), **options)


class Stream(data.IterableDataset):  # type: ignore[misc]  # torch is not typed here
    def __iter__(self) -> Iterator[Any]:
        return iter(ROWS)


class Bench:
    """A GPU that uses a joule a query, whatever the batch is."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, idle_w=10.0)
        self.sizes: list[int] = []

    def model(self, batch: Any) -> list[float]:
        rows = batch[0] if isinstance(batch, list | tuple) else batch
        self.sizes.append(len(rows))
        self.gpu.work(0.01 * len(rows), 100.0)
        return [float(row.sum()) for row in rows]

    def run(self, queries: Any, **fields: Any) -> Run:
        instruments = Instruments([self.gpu.energy_counter()], self.clock)
        return run_metered(Task(self.model, queries, **fields), instruments, Effort(max_seconds=3))[0]


def test_a_query_of_a_dataloader_is_a_row_and_no_batch() -> None:
    bench = Bench()
    run = bench.run(loader(batch_size=4), references=LABELS.tolist())
    assert (run.queries, run.batch_size) == (10, 4)
    assert set(bench.sizes) == {4, 2}  # its own batches, none cut or joined
    energy = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(energy, Estimate)
    assert energy.value == pytest.approx(1.0, rel=0.02)
    assert {latency.queries for latency in run.latencies} == {4, 2}
    assert any("loading is in no figure" in note for note in run.notes)


def test_the_answers_of_a_dataloader_are_in_its_order_and_a_shuffled_one_is_loaded_once() -> None:
    run, outputs = run_once(Task(Bench().model, loader(batch_size=4)), SimulatedClock())
    assert outputs == [float(row.sum()) for row in ROWS]
    assert run.queries == 10
    shuffled, _ = collected(loader(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1)))
    assert isinstance(shuffled, Batches)
    order = [label for batch in shuffled.batches for label in batch[1].tolist()]
    assert order != sorted(order) == LABELS.tolist()
    assert [label for first in range(0, 10, 4) for label in shuffled[first : first + 4][1].tolist()] == order


def test_the_last_short_batch_may_be_dropped_and_collate_is_applied() -> None:
    run, outputs = run_once(
        Task(Bench().model, loader(batch_size=4, drop_last=True), collate=lambda batch: batch[0], references=LABELS.tolist()[:8]),
        SimulatedClock(),
    )
    assert (run.queries, len(outputs)) == (8, 8)


def test_where_only_some_queries_are_run_no_batch_is_cut() -> None:
    bench = Bench()
    _, outputs = run_once(Task(bench.model, loader(batch_size=4)), SimulatedClock(), keep=5)
    assert bench.sizes == [4, 4]
    assert len(outputs) == 8


def test_answers_to_other_batches_are_told_apart() -> None:
    def digest(queries: Any) -> str:
        bench = Bench()
        effort = Effort(max_seconds=1, keep_answers=True)
        run, _ = run_metered(Task(bench.model, queries), Instruments([bench.gpu.energy_counter()], bench.clock), effort)
        return str(run.provenance.queries)

    assert digest(loader(batch_size=4)) == digest(loader(batch_size=4)) != digest(loader(batch_size=5))


@pytest.mark.parametrize(
    ("queries", "batch_size", "says"),
    [
        (lambda: loader(batch_size=None), 1, "no batch_size.*DataLoader\\(dataset, batch_size=…\\)"),
        (lambda: loader(batch_sampler=[[0, 1], [2]]), 1, "no batch_size"),
        (lambda: data.DataLoader(Stream(), batch_size=4), 1, "drop_last=True"),
        (lambda: loader(batch_size=4), 8, "batches hold 4 queries.*Leave batch_size out"),
        (lambda: loader(batch_size=4, sampler=data.SubsetRandomSampler([])), 1, "empty"),
    ],
)
def test_loaders_whose_batches_cannot_be_counted_are_refused(queries: Any, batch_size: int, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        run_once(Task(Bench().model, queries(), batch_size), SimulatedClock())


def test_a_stream_that_drops_its_last_batch_can_be_counted() -> None:
    listed, _ = collected(data.DataLoader(Stream(), batch_size=4, drop_last=True))
    assert isinstance(listed, Batches)
    assert (len(listed), listed.size) == (8, 4)


def test_a_column_is_a_list_and_a_table_is_sliced_by_position() -> None:
    texts = pandas.Series(["a", "b", "c"], index=[7, 8, 9])
    assert run_once(Task(lambda batch: [text.upper() for text in batch], texts, 2), SimulatedClock())[1] == ["A", "B", "C"]
    table = pandas.DataFrame({"x": [1, 2, 3], "y": [4, 5, 6]}, index=[7, 8, 9])
    seen: list[Any] = []

    def model(batch: Any) -> Any:
        seen.append(batch)
        return (batch["x"] + batch["y"]).tolist()

    assert run_once(Task(model, table, 2), SimulatedClock())[1] == [5, 7, 9]
    assert [type(each) for each in seen] == [pandas.DataFrame] * 2
    with pytest.raises(SettingsError, match="empty"):
        collected(pandas.DataFrame({"x": []}))


def test_a_column_is_an_answer_a_row_whatever_its_index_and_a_table_is_none() -> None:
    table = pandas.DataFrame({"x": [1, 2, 3]}, index=[7, 8, 9])
    assert run_once(Task(lambda batch: batch["x"] * 2, table, 2), SimulatedClock())[1] == [2, 4, 6]
    with pytest.raises(SettingsError, match=r"returned a DataFrame for queries 0 to 1\. .* one answer per query"):
        run_once(Task(lambda batch: batch, table, 2), SimulatedClock())
