"""Whole numbers wherever a count is asked for: Python's, numpy's and torch's are taken, and kept as Python's; True and False are none."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.star_scale import Conditions
from pytest_greencompute.estimates.stars import ScoreRequest
from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.models.generator import WHOLE, Generator, apart
from pytest_greencompute.models.sweeps import checked_axes
from pytest_greencompute.models.tokens import counter_of
from pytest_greencompute.models.traffic import read_traffic
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.serving.request import levels, request_of
from pytest_greencompute.values.units import COUNT, parse, whole


class Size(enum.IntEnum):
    FOUR = 4


FOURS = [4, Size.FOUR, np.int64(4), np.uint8(4), np.array(4), torch.tensor(4)]
NONE = [True, np.True_, torch.tensor(True), np.array(True), 4.0, np.float64(4), "4", None, [4], np.array([4, 4]), 0, -1, np.int64(0)]


def tokens_of(four: Any) -> int:
    counter: Any = counter_of(lambda answer: four)
    return int(counter("a", "query 0").tokens)


def traffic_of(four: Any, folder: Path) -> int:
    path = folder / "traffic.jsonl"
    path.write_text("".join(json.dumps({"text": str(each)}) + "\n" for each in range(9)), encoding="utf-8")
    return len(read_traffic(path, limit=four))


TAKEN: dict[str, Callable[[Any, Path], Any]] = {
    "batch_size": lambda four, _: Workload(list, range(9), four, None).batch_size,
    "a sweep's": lambda four, _: checked_axes(list, {"batch_size": [1, four]})["batch_size"][1],
    "max_new_tokens": lambda four, _: apart(object.__new__(Generator), four)[WHOLE].keywords["max_new_tokens"],  # type: ignore[attr-defined]
    "limit": traffic_of,
    "max_tokens": lambda four, _: request_of("http://127.0.0.1:1", ["a"], max_tokens=four).max_tokens,
    "concurrency": lambda four, _: levels(four)[0],
    "one concurrency of several": lambda four, _: levels([1, four])[1],
    "passes": lambda four, _: ScoreRequest("asr", passes=four).passes,
    "max_pairs": lambda four, _: PairedTest(max_pairs=four).max_pairs,
    "budgets": lambda four, _: Rule(budgets=four).budgets,
}


@pytest.mark.parametrize("what", TAKEN)
def test_a_whole_number_of_any_library_is_a_count_and_becomes_one_of_pythons(what: str, tmp_path: Path) -> None:
    for four in FOURS:
        found = TAKEN[what](four, tmp_path)
        assert (found, type(found)) == (4, int)


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_no_whole_number_is_refused_in_words(what: str, tmp_path: Path) -> None:
    for none in NONE:
        if what == "limit" and none is None:
            continue
        if what.startswith(("concurrency", "one")) and isinstance(none, list):
            continue
        with pytest.raises(SettingsError):
            TAKEN[what](none, tmp_path)


def test_a_zero_is_a_count_where_none_is_one() -> None:
    assert [tokens_of(zero) for zero in (0, np.int64(0), torch.tensor(3))] == [0, 0, 3]
    conditions = Conditions(batch_size=np.int64(0), queries=None)  # type: ignore[arg-type]
    assert (conditions.batch_size, type(conditions.batch_size), conditions.queries) == (0, int, None)
    assert whole(-4, least=None) == -4
    with pytest.raises(SettingsError):
        Conditions(queries=True)


def test_a_limit_and_a_comparison_take_them_too() -> None:
    assert [parse(four, COUNT) for four in FOURS] == [4.0] * len(FOURS)
    with pytest.raises(SettingsError, match="is not a quantity"):
        parse(np.True_, COUNT)
