"""A model and its queries: what is taken as queries, how batches are cut, what an answer must be."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.awaiting import finished
from pytest_greencompute.models.queries import collected
from pytest_greencompute.models.scoring import check_references, check_score, scores
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.protocol.parts import part, whole_pass
from pytest_greencompute.testing.simulated import SimulatedClock


class Dataset:
    """Map-style, as torch's: a length and one item at a time."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> int:
        if not isinstance(index, int):
            raise TypeError("one index at a time")
        if index >= 5:
            raise IndexError(index)
        return index


class Table:
    """As Hugging Face's datasets: a slice is a dict of columns."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int | slice) -> dict[str, Any]:
        return {"text": list(range(5))[index], "label": [0] * 5}


# Queries


@pytest.mark.parametrize("queries", [[0, 1, 2, 3, 4], (0, 1, 2, 3, 4), range(5), np.arange(5), deque(range(5)), Dataset(), {0, 1, 2, 3, 4}])
def test_whatever_has_a_length_is_taken_as_it_is_without_a_note(queries: Any) -> None:
    listed, notes = collected(queries)
    assert notes == ()
    assert len(listed) == 5
    assert [*listed[1:3]] == [1, 2]


def test_a_large_sequence_is_not_copied() -> None:
    for queries in ([1, 2, 3], np.arange(3), range(10**9)):
        assert collected(queries)[0] is queries


def test_rows_of_a_table_are_queries_of_their_own() -> None:
    listed, _ = collected(Table())
    assert listed[2] == {"text": 2, "label": [0] * 5}
    assert len(listed[1:3]) == 2


def test_an_iterator_is_collected_and_noted() -> None:
    listed, notes = collected(map(str, range(3)))
    assert listed == ["0", "1", "2"]
    assert notes == ("queries came from a map: all 3 were collected before measuring",)


@pytest.mark.parametrize("queries", ["text", b"bytes", {"a": 1}, 5, None, [], (), iter([]), np.array([]), np.array(5), object()])
def test_what_is_no_list_of_queries_is_refused(queries: Any) -> None:
    with pytest.raises(SettingsError, match=r"queries is a|list of queries is empty"):
        collected(queries)


# Batches


@given(st.integers(1, 200), st.integers(1, 40), st.floats(0.001, 2), st.integers(0, 20))
def test_a_part_runs_the_queries_it_says(queries: int, batch_size: int, batch_s: float, index: int) -> None:
    ran: Counter[int] = Counter()
    sizes: list[int] = []

    def model(batch: list[int]) -> list[int]:
        ran.update(batch)
        sizes.append(len(batch))
        return batch

    workload = Workload(model, list(range(queries)), batch_size, None)
    made = part(index, workload.batches, batch_s, 1.0)
    worked = workload.run(made, SimulatedClock())
    assert worked.queries == sum(ran.values())
    assert len(sizes) == len(made)
    assert max(sizes) <= batch_size


def test_the_first_pass_runs_every_query_once_in_order_the_last_batch_smaller() -> None:
    seen: list[list[int]] = []
    workload = Workload(lambda batch: seen.append(list(batch)) or [each * 2 for each in batch], list(range(7)), 3, None)  # type: ignore[func-returns-value]
    outputs, worked = workload.first_pass(SimulatedClock())
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]
    assert outputs == [0, 2, 4, 6, 8, 10, 12]
    assert worked.queries == 7
    assert workload.first_pass(SimulatedClock(), keep=4)[0] == [0, 2, 4, 6]


def test_a_timed_part_stamps_each_batch_and_stops_when_the_time_is_over() -> None:
    clock = SimulatedClock()

    def model(batch: list[int]) -> list[int]:
        clock.sleep(0.1 * len(batch))
        return batch

    workload = Workload(model, list(range(7)), 3, None)
    worked = finished(workload.arun_timed(whole_pass(workload.batches), clock, None))
    assert [(each.queries, round(each.seconds, 6)) for each in worked.latencies] == [(3, 0.3), (3, 0.3), (1, 0.1)]
    assert worked.queries == 7
    assert len(finished(workload.arun_timed(whole_pass(workload.batches), clock, 0.0)).latencies) == 1
    assert len(finished(workload.arun_timed(whole_pass(workload.batches), clock, 0.35)).latencies) == 2


@pytest.mark.parametrize("answers", [np.arange(3), (1, 2, 3), [None, None, None], np.zeros((3, 4))])
def test_answers_may_be_any_sequence_of_the_right_length(answers: Any) -> None:
    outputs, _ = Workload(lambda _: answers, [1, 2, 3], 3, None).first_pass(SimulatedClock())
    assert len(outputs) == 3


def test_a_single_number_without_a_row_is_refused_and_its_usual_cause_named() -> None:
    # The last batch holds one query, whose row squeeze() takes away, too.
    workload = Workload(lambda batch: np.asarray(batch)[:, None].squeeze(), [1, 2, 3], 2, None)
    with pytest.raises(SettingsError, match=r"a ndarray of shape \(\) for query 2\. .*squeeze\(-1\)"):
        workload.first_pass(SimulatedClock())


# Scores


def test_accuracy_counts_answers_that_equal_their_reference() -> None:
    assert scores(["a", "b"], ["a", "c"], "accuracy") == (1.0, 0.0)
    assert scores([np.array([1, 2]), np.array([1, 3])], [np.array([1, 2]), np.array([1, 2])], "accuracy") == (1.0, 0.0)
    assert scores([np.int64(1)], [1], "accuracy") == (1.0,)


def test_a_score_of_ones_own_may_be_a_bool_or_a_number() -> None:
    assert scores([1, 2], [1, 1], lambda answer, reference: answer == reference) == (1.0, 0.0)
    assert scores([1, 2], [1, 1], lambda answer, reference: np.float32(answer / 4)) == (0.25, 0.5)


def test_references_and_score_are_checked_before_anything_runs() -> None:
    assert check_references(None, 3) is None
    assert check_references((each for each in "abc"), 3) == ["a", "b", "c"]
    with pytest.raises(SettingsError, match="2 references for 3 queries"):
        check_references(["a", "b"], 3)


@pytest.mark.parametrize("references", [5, "abc", {"a": 1}, np.float64(1.0)])
def test_what_is_no_list_of_references_is_refused(references: Any) -> None:
    said = f"references is a {type(references).__name__}. Pass a list with one entry per query, or leave it out."
    with pytest.raises(SettingsError) as refused:
        check_references(references, 3)
    assert str(refused.value) == said
    check_score("accuracy")
    check_score(lambda answer, reference: 1.0)
    with pytest.raises(SettingsError, match="score is 'f1'"):
        check_score("f1")
